"""The options of a run open the right images, or say what is wrong."""

import shutil
from dataclasses import replace

import pytest
import torch

from fqgan.data.datasets import LEGACY_DATASETS, DataConfig, build_batches, build_images, data_name
from fqgan.data.hdf5 import write_hdf5
from fqgan.data.images import ArrayImages
from fqgan.data.tfrecords import write_tfrecords
from fqgan.data.toy import toy_images

TOY = DataConfig("toy", toy_images=40)


def test_every_source_gives_images_of_the_asked_size(image_folder, image_zip, tmp_path):
    file = write_hdf5(toy_images(20, resolution=16), tmp_path / "toy.hdf5")
    records = write_tfrecords(toy_images(20, resolution=32), tmp_path / "records")
    for config in (
        DataConfig("images", str(image_folder), resolution=16),
        DataConfig("tfrecords", str(records), resolution=16),
        DataConfig("folder", str(image_folder), resolution=16),
        DataConfig("zip", str(image_zip), resolution=16),
        DataConfig("hdf5", str(file), resolution=16),
        DataConfig("toy", resolution=16, toy_images=20),
    ):
        batches = build_batches(config, build_images(config), 3)
        batch = next(batches)
        assert batch.images.shape == (3, 3, 16, 16)
        assert batch.images.dtype == torch.float32
        batches.close()


def test_images_of_another_size_are_refused(tmp_path):
    file = write_hdf5(toy_images(20, resolution=16), tmp_path / "toy.hdf5")
    with pytest.raises(ValueError, match=r"images of 16 pixels, --data\.resolution asks for 32"):
        build_images(DataConfig("hdf5", str(file), resolution=32))


def test_the_source_that_reads_a_path_is_named_where_another_was_asked_for(
    image_folder, image_zip, tmp_path
):
    flat, packed = tmp_path / "flat", tmp_path / "packed"
    flat.mkdir()
    packed.mkdir()
    first = next(image_folder.rglob("*.png"))
    (flat / "a.png").write_bytes(first.read_bytes())
    shutil.make_archive(str(packed / "0"), "zip", image_folder)
    file = write_hdf5(toy_images(10, resolution=8), tmp_path / "toy.hdf5")
    records = write_tfrecords(toy_images(10, resolution=8), tmp_path / "records")
    for source, path, fitting in (
        ("folder", image_zip, "zip"),
        ("images", image_zip, "zip"),
        ("folder", flat, "images"),
        ("folder", packed, "shards"),
        ("images", packed, "shards"),
        ("folder", records, "tfrecords"),
        ("folder", file, "hdf5"),
        ("hdf5", image_zip, "zip"),
        ("zip", image_folder, "folder"),
        ("shards", image_folder, "folder"),
        ("shards", records, "tfrecords"),
        ("tfrecords", flat, "images"),
        ("tfrecords", packed, "shards"),
    ):
        wanted = rf"--data\.source {source} reads; give --data\.source {fitting}$"
        with pytest.raises(ValueError, match=wanted):
            build_images(DataConfig(source, str(path), resolution=8))
        assert len(build_images(DataConfig(fitting, str(path), resolution=8))) > 0
    assert len(build_images(DataConfig("shards", str(packed / "0.zip"), resolution=8))) > 0
    (flat / "dataset.json").write_text("{}")
    with pytest.raises(ValueError, match="has no sub-folders"):  # not told to drop the labels
        build_images(DataConfig("folder", str(flat), resolution=8))


def test_a_limit_takes_a_fixed_choice():
    images = build_images(replace(TOY, limit=15))
    assert len(images) == 15
    again = build_images(replace(TOY, limit=15, in_memory=True))
    assert isinstance(again, ArrayImages)
    every = torch.arange(15)
    assert torch.equal(images.read(every), again.read(every))


def test_options_out_of_range_are_refused():
    for wrong in (
        {"resolution": 0},
        {"validation_fraction": 1.0},
        {"limit": -1},
        {"toy_images": 9},
    ):
        with pytest.raises(ValueError, match="--data"):
            replace(TOY, **wrong)
    for source, size in (("cifar10", 32), ("mnist", 32), ("celeba", 128)):
        with pytest.raises(ValueError, match=f"{source} has {size} pixels"):
            DataConfig(source, resolution=64)


def test_sources_of_digits_are_opened(tmp_path):
    for source in ("mnist", "mnist-rgb", "svhn"):
        with pytest.raises(FileNotFoundError, match="fqgan prepare"):
            build_images(DataConfig(source, str(tmp_path)))


def test_the_authors_names_are_known():
    assert LEGACY_DATASETS["I128_hdf5"].path == "ILSVRC128.hdf5"
    assert LEGACY_DATASETS["I64ext_hdf5"].resolution == 64
    assert LEGACY_DATASETS["C100"].source == "cifar100"
    assert data_name(LEGACY_DATASETS["I128_hdf5"]) == "ILSVRC128"
    assert data_name(TOY) == "toy"
