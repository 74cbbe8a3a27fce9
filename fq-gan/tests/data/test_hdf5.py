"""HDF5 files in the authors' layout."""

import json

import h5py
import numpy as np
import pytest
import torch

from fqgan.data.folders import read_folder
from fqgan.data.hdf5 import read_hdf5, write_hdf5
from fqgan.data.images import ArrayImages, normalize
from fqgan.data.toy import toy_images


@pytest.fixture
def recorded(golden):
    folder = golden / "biggan" / "dataprep"
    if not (folder / "expected.npz").exists():
        pytest.skip("no recorded HDF5 file")
    with np.load(folder / "expected.npz") as content:
        return folder, {name: content[name] for name in content.files}


@pytest.mark.golden
def test_the_authors_file_is_read_exactly(recorded):
    folder, expected = recorded
    for path in sorted((folder / "data").glob("*.hdf5")):
        images = read_hdf5(path)
        pixels = images.read(torch.arange(len(images)))
        assert np.array_equal(pixels.numpy(), expected["hdf5_imgs"])
        assert images.labels.tolist() == expected["hdf5_labels"].tolist()
        assert np.array_equal(normalize(pixels).numpy(), expected["hdf5_float"])


@pytest.mark.golden
def test_our_file_has_the_authors_layout_and_on_request_their_truncation(recorded, tmp_path):
    folder, expected = recorded
    info = json.loads((folder / "hdf5_info.json").read_text())
    exact, labels = expected["exact_uint8"], expected["labels"]
    names = [str(n) for n in range(labels.max() + 1)]
    images = ArrayImages(torch.from_numpy(exact), torch.from_numpy(labels), names, "recorded")
    chunk = info["imgs"]["chunks"][0]
    for truncate, pixels in ((True, expected["hdf5_imgs"]), (False, exact)):
        path = tmp_path / f"{truncate}.hdf5"
        write_hdf5(images, path, chunk_size=chunk, truncate=truncate)
        with h5py.File(path) as file:
            assert np.array_equal(file["imgs"][:], pixels)
            for name, wanted in info.items():
                found = file[name]
                assert list(found.shape) == wanted["shape"]
                assert str(found.dtype) == wanted["dtype"]
                assert list(found.chunks) == wanted["chunks"]
                assert list(found.maxshape) == wanted["maxshape"]
                assert found.compression == wanted["compression"]
    assert int((exact != expected["hdf5_imgs"]).sum()) == int(expected["truncation_errors"])


@pytest.mark.parametrize("compression", [None, "lzf"])
def test_a_file_gives_back_what_was_written(tmp_path, compression):
    images = toy_images(30, resolution=16)
    path = write_hdf5(images, tmp_path / "toy.hdf5", chunk_size=7, compression=compression)
    read = read_hdf5(path)
    index = torch.tensor([29, 3, 4, 3, 0])
    assert torch.equal(read.read(index), images.read(index))
    assert read.class_names == images.class_names
    assert torch.equal(read_hdf5(path, load=True).read(index), images.read(index))
    assert list(tmp_path.iterdir()) == [path]


def test_a_chunk_larger_than_the_data_set_is_cut(tmp_path):
    write_hdf5(toy_images(10, resolution=8), tmp_path / "toy.hdf5", chunk_size=500)
    with h5py.File(tmp_path / "toy.hdf5") as file:
        assert file["imgs"].chunks == (10, 3, 8, 8)


def test_a_failed_write_leaves_no_file(image_folder, tmp_path):
    (image_folder / "cat" / "broken.png").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"broken\.png"):
        write_hdf5(read_folder(image_folder, resolution=8), tmp_path / "out.hdf5")
    assert not list(tmp_path.glob("out.hdf5*"))


def test_damaged_files_are_named(tmp_path):
    path = write_hdf5(toy_images(40), tmp_path / "toy.hdf5", chunk_size=10)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"toy\.hdf5 is not a whole HDF5 file"):
        read_hdf5(path)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"not a whole HDF5 file"):
        read_hdf5(path)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read_hdf5(tmp_path / "none.hdf5")


def write_raw(path, imgs, labels):
    with h5py.File(path, "w") as file:
        file["imgs"], file["labels"] = imgs, labels


def test_files_of_another_layout_are_named(tmp_path):
    path = tmp_path / "other.hdf5"
    with h5py.File(path, "w") as file:
        file["pictures"] = np.zeros(3)
    with pytest.raises(ValueError, match="lacks the data sets"):
        read_hdf5(path)
    write_raw(path, np.zeros((2, 3, 4, 4), "f4"), np.array([0, 1]))
    with pytest.raises(ValueError, match="uint8"):
        read_hdf5(path)
    write_raw(path, np.zeros((2, 3, 4, 4), "u1"), np.array([0, 1, 1]))
    with pytest.raises(ValueError, match="2 images and 3 labels"):
        read_hdf5(path)
    write_raw(path, np.zeros((2, 3, 4, 4), "u1"), np.array([0, 2]))
    with pytest.raises(ValueError, match="class '1' holds no image"):
        read_hdf5(path)


def test_files_for_stylegans_tool_are_read_with_and_without_labels(tmp_path):
    path, pixels = tmp_path / "faces.h5", np.random.randint(0, 256, (4, 3, 8, 8), dtype=np.uint8)
    with h5py.File(path, "w") as file:
        file["data"] = pixels
    images = read_hdf5(path)
    np.testing.assert_array_equal(images.read(torch.arange(4)), pixels)
    assert images.labels.tolist() == [0, 0, 0, 0]
    np.save(tmp_path / "faces-labels.npy", np.eye(2, dtype=np.float32)[[0, 1, 1, 0]])
    assert read_hdf5(path).labels.tolist() == [0, 1, 1, 0]


@pytest.mark.parametrize("content", [b"", b"junk", b"\x80\x04K\x01."], ids=["", "text", "pickle"])
def test_labels_beside_a_file_that_are_none_are_named_without_advice(tmp_path, content):
    with h5py.File(tmp_path / "faces.h5", "w") as file:
        file["data"] = np.zeros((2, 3, 8, 8), np.uint8)
    (tmp_path / "faces-labels.npy").write_bytes(content)
    with pytest.raises(ValueError, match=r"faces-labels\.npy is no whole array") as raised:
        read_hdf5(tmp_path / "faces.h5")
    assert "allow_pickle" not in str(raised.value)


def test_labels_and_names_of_a_wrong_kind_are_named(tmp_path):
    path, images = tmp_path / "odd.hdf5", np.zeros((2, 3, 4, 4), np.uint8)
    for labels, said in (
        ([b"cat", b"dog"], "'labels' is"),
        ([0.5, 1.5], r"'labels' is float64 \(2,\)"),
        ([[1, 0], [0, 1]], r"'labels' is int64 \(2, 2\)"),
    ):
        write_raw(path, images, labels)
        with pytest.raises(ValueError, match=rf"odd\.hdf5: {said}"):
            read_hdf5(path)
    for names in ("cat, dog", "5"):
        write_raw(path, images, [0, 1])
        with h5py.File(path, "a") as file:
            file["labels"].attrs["class_names"] = names
        with pytest.raises(ValueError, match=r"odd\.hdf5: the attribute 'class_names'"):
            read_hdf5(path)
    with h5py.File(path, "w") as file:
        file.create_group("imgs")
        file["labels"] = [0, 1]
    with pytest.raises(ValueError, match=r"odd\.hdf5: 'imgs' is a group"):
        read_hdf5(path)
