"""Two folders of images: the authors' pixels, any kind of file, one order, one sentence."""

from __future__ import annotations

import io
import os
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from factories import Recorded
from PIL import Image

from fqgan.data import prepare, unpaired as prepare_unpaired
from fqgan.data.images import normalize, to_bytes, to_rgb
from fqgan.data.unpaired import (
    FOLDERS,
    SETS,
    UnpairedBatches,
    UnpairedConfig,
    UnpairedSet,
    build_domains,
    build_unpaired_batches,
    check_domains,
    fit_as_tested,
    fit_as_trained,
)
from fqgan.metrics.networks import resize_like_tf1
from fqgan.runtime import distributed

LEVEL = 1 / 127.5  # OpenCV computes with whole levels


@pytest.fixture
def domains(tmp_path):
    """5 and 4 training images, 2 and 2 for tests, of 20 by 16 pixels."""
    random = np.random.default_rng(0)
    for name, count in {"trainA": 5, "trainB": 4, "testA": 2, "testB": 2}.items():
        (tmp_path / name).mkdir()
        for number in range(count):
            pixels = random.integers(0, 256, (20, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{number}.png")
    return UnpairedConfig(path=str(tmp_path), resolution=16, workers=1)


def enlarged(size):
    """What the authors enlarge a training image of ``size`` to before they cut from it."""
    return size + (30 if size == 256 else 15)


@pytest.mark.golden
@pytest.mark.cases("ugatit/ugatit_image_pipeline.npz")
def test_pixels_are_the_authors(case):
    recorded = Recorded(case)
    with Image.open(case.with_name("pipeline_image.png")) as image:
        assert np.array_equal(np.asarray(to_rgb(image)), recorded.arrays["rgb"])
        image = to_rgb(image)
    for name in recorded.names:
        kind, _, size = name.rpartition("_")
        if kind == "train_noaug":
            found, expected = fit_as_trained(image, int(size)), recorded.arrays[name]
            np.testing.assert_allclose(found / 127.5 - 1, expected, atol=1e-5)
        elif kind == "test":
            found, expected = fit_as_tested(image, int(size)), recorded.arrays[name][0]
            np.testing.assert_allclose(found / 127.5 - 1, expected, atol=LEVEL)
        elif kind == "augment_resize":
            size, bases = int(size), [n for n in recorded.names if n.startswith("train_noaug_")]
            base = next(n for n in bases if enlarged(int(n.rpartition("_")[2])) == size)
            smaller = recorded[base].permute(2, 0, 1)[None]
            larger = resize_like_tf1(smaller, size, size)[0].permute(1, 2, 0)
            torch.testing.assert_close(larger, recorded[name], rtol=0, atol=1e-5)
    written = to_bytes(recorded["save_in"], truncate=True)
    assert torch.equal(written.flatten(0, 1), torch.from_numpy(recorded.arrays["save_uint8"]))


def test_both_domains_of_both_splits_are_read(domains):
    train, test = build_domains(domains, "train"), build_domains(domains, "test")
    assert [len(images) for images in (*train, *test)] == [5, 4, 2, 2]
    pixels = train.a.read(torch.tensor([0, 3]))
    assert pixels.shape == (2, 3, 16, 16)
    assert pixels.dtype == torch.float32
    assert 0 <= pixels.min() < pixels.max() <= 255


@pytest.mark.parametrize("resize", ["legacy", "modern"])
def test_images_in_memory_are_those_of_the_files(domains, resize):
    index = torch.arange(4)
    files, kept = (
        build_domains(replace(domains, resize=resize, in_memory=flag), "train").b.read(index)
        for flag in (False, True)
    )
    assert torch.equal(files, kept)


def test_resumed_batches_equal_uninterrupted_ones(domains):
    opened = build_domains(domains, "train")

    def batches():
        return build_unpaired_batches(domains, opened, 2, seed=3)

    whole = batches()
    expected = [next(whole) for _ in range(6)]
    first = batches()
    for batch in expected[:2]:
        assert all(map(torch.equal, next(first), batch))
    assert first.images_seen == 4
    second = batches()
    second.load_state_dict(first.state_dict())
    for batch in expected[2:]:
        assert all(map(torch.equal, next(second), batch))
    for used in (whole, first, second):
        used.close()


def test_two_ranks_see_what_one_process_sees_in_turn(domains, monkeypatch):
    opened = build_domains(replace(domains, in_memory=True), "train")
    alone = UnpairedBatches(opened, 1, seed=1, enlarge=4)
    ranks = []
    for rank in range(2):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        monkeypatch.setattr(distributed, "world_size", lambda: 2)
        ranks.append(UnpairedBatches(opened, 1, seed=1, enlarge=4))
    for _ in range(3):
        for rank in ranks:
            assert all(map(torch.equal, next(rank), next(alone)))


def test_domains_of_one_size_are_not_paired():
    opened = build_domains(UnpairedConfig("toy", resolution=16, toy_images=100), "train")
    batch = next(UnpairedBatches(opened, 100))
    order = [
        [int(np.abs(images - one).flatten(1).sum(1).argmin()) for one in drawn[:5]]
        for images, drawn in zip(
            (normalize(opened.a.pixels), normalize(opened.b.pixels)), batch, strict=True
        )
    ]
    assert order[0] != order[1]


def test_only_some_images_of_each_domain_are_used_if_asked(domains):
    assert [len(images) for images in build_domains(replace(domains, limit=3), "train")] == [3, 3]


def encoded(mode, **options):
    """An image file of the ``mode``, a ramp from black to white."""
    ramp = np.linspace(0, 255, 16).round().astype(np.uint8)[None].repeat(16, 0)
    if mode == "I;16":
        image = Image.fromarray(ramp.astype(np.uint16) * 257)
    elif mode == "F":
        image = Image.fromarray(ramp.astype(np.float32))
    else:
        image = Image.fromarray(ramp).convert("RGB").convert(mode)
    stream = io.BytesIO()
    image.save(stream, **options)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("mode", "options"),
    [
        ("RGB", {"format": "PNG"}),  # under a .jpg name, as in selfie2anime
        ("L", {"format": "JPEG"}),
        ("CMYK", {"format": "JPEG"}),
        ("I;16", {"format": "PNG"}),
        ("P", {"format": "PNG"}),
        ("LA", {"format": "PNG"}),
        ("RGBA", {"format": "PNG"}),
    ],
    ids=lambda value: str(value),
)
def test_any_kind_of_picture_is_read_as_the_same_colours(domains, mode, options):
    path = Path(domains.path) / "trainA" / "0.jpg"
    path.write_bytes(encoded(mode, **options))
    images = build_domains(domains, "train").a
    pixels = images.read(torch.tensor([images.entries.index("0.jpg")]))[0]
    ramp = torch.linspace(0, 255, 16).expand(3, 16, 16)
    coarse = {"CMYK": 12, "P": 26}  # inks; a palette of six levels
    assert (pixels - ramp).abs().max() < coarse.get(mode, 4)


def test_floating_point_pixels_are_named(domains):
    path = Path(domains.path) / "trainA" / "0.tif"
    path.write_bytes(encoded("F", format="TIFF"))
    images = build_domains(domains, "train").a
    with pytest.raises(ValueError, match=r"trainA: 0\.tif cannot be read.*mode F.*PNG"):
        images.read(torch.tensor([images.entries.index("0.tif")]))


def test_a_picture_that_lies_on_its_side_is_put_up(domains):
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    image = Image.fromarray(levels)
    exif = image.getexif()
    exif[274] = 6
    image.save(Path(domains.path) / "trainA" / "0.png", exif=exif)
    pixels = build_domains(domains, "train").a.read(torch.tensor([0]))[0, 0]
    assert np.array_equal(pixels, levels.T[:, ::-1])


def test_other_files_are_counted_and_passed_over(domains, caplog):
    (Path(domains.path) / "trainB" / "Thumbs.db").write_bytes(b"")
    (Path(domains.path) / "trainB" / ".hidden.png").write_bytes(b"")
    assert len(build_domains(domains, "train").b) == 4
    assert "1 files are no images" in caplog.text


def test_an_empty_domain_is_named(domains):
    for path in (Path(domains.path) / "trainB").iterdir():
        path.unlink()
    with pytest.raises(ValueError, match="trainB holds no image; put the images of domain B"):
        build_domains(domains, "train")


def test_wrong_folder_names_are_shown_beside_the_right_ones(domains):
    (Path(domains.path) / "testB").rename(Path(domains.path) / "test_b")
    with pytest.raises(FileNotFoundError, match=r"no folder testB \(it has testA, test_b, train"):
        build_domains(domains, "test")
    with pytest.raises(FileNotFoundError, match="is not a folder; it must hold trainA"):
        build_domains(replace(domains, path="nowhere"), "train")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"resolution": 8}, "--data.resolution must be at least 16"),
        ({"toy_images": 1}, "--data.toy-images must be at least 100"),
        ({"limit": -1}, "--data.limit"),
        ({"enlarge": -2}, "--data.enlarge"),
    ],
)
def test_a_bad_option_is_named(options, said):
    with pytest.raises(ValueError, match=said):
        UnpairedConfig(**options)


def test_the_enlargement_is_the_authors():
    config = UnpairedConfig()
    assert config.enlargement == 30
    assert replace(config, resolution=64).enlargement == 15
    assert replace(config, enlarge=0).enlargement == 0


def test_real_selfies_and_anime_are_read():
    path = Path(os.environ.get("FQGAN_DATA", "none")) / "images" / "selfie2anime"
    if not path.is_dir():
        pytest.skip("FQGAN_DATA/images/selfie2anime is not there")
    domains = build_domains(UnpairedConfig(path=str(path), resolution=64), "test")
    for images in domains:
        pixels = images.read(torch.arange(4))
        assert pixels.shape == (4, 3, 64, 64)
        assert 60 < pixels.mean() < 200


@pytest.fixture
def archive(tmp_path):
    """A zip as the authors' hosts have it: NAME/trainA/... beside a folder of another system."""
    path = tmp_path / "source.zip"
    picture = tmp_path / "picture.png"
    Image.fromarray(np.zeros((20, 20, 3), np.uint8)).save(picture)
    with zipfile.ZipFile(path, "w") as packed:
        for count, folder in enumerate(FOLDERS, start=1):
            for number in range(count):
                packed.write(picture, f"horse2zebra/{folder}/{number}.jpg")
        packed.write(picture, "__MACOSX/horse2zebra/trainA/0.jpg")
    return path


def test_an_archive_at_hand_is_unpacked_once(archive, tmp_path, caplog):
    out = tmp_path / "data" / "horses"
    words = ["horse2zebra", "--data-dir", str(out), "--archive", str(archive)]
    prepare.main(words)
    assert check_domains(out) == (1, 2, 3, 4)
    assert "(1067, 1334, 120, 140) are published" in caplog.text
    assert sorted(path.name for path in out.parent.iterdir()) == ["horses"]
    archive.unlink()
    prepare.main(words)  # nothing is left to do


def test_a_set_is_downloaded_and_its_counts_are_compared(archive, tmp_path, monkeypatch, caplog):
    own = UnpairedSet("file:///nowhere.zip", (archive.as_uri(),), (1, 2, 3, 4))
    monkeypatch.setitem(SETS, "cat2dog", own)
    monkeypatch.chdir(tmp_path)
    prepare.main(["cat2dog"])
    assert (tmp_path / "data/cat2dog/testB/3.jpg").is_file()
    assert "published" not in caplog.text


def test_a_damaged_archive_is_not_unpacked(archive, tmp_path, monkeypatch):
    own = UnpairedSet(archive.as_uri(), sha256="0" * 64)
    monkeypatch.setitem(SETS, "maps", own)
    with pytest.raises(OSError, match="damaged or another version"):
        prepare.main(["maps", "--data-dir", str(tmp_path / "maps")])
    assert not (tmp_path / "maps").exists()
    assert all(len(chosen.sha256 or "0" * 64) == 64 for chosen in SETS.values())


def test_a_host_that_is_gone_leaves_the_way_by_hand(tmp_path, monkeypatch):
    monkeypatch.setitem(SETS, "portrait", UnpairedSet("file:///nowhere/portrait.zip"))
    with pytest.raises(OSError, match=r"nowhere.*by hand and put it at .*--archive"):
        prepare.main(["portrait", "--data-dir", str(tmp_path / "portrait")])


def test_an_archive_without_the_folders_is_refused(tmp_path):
    path = tmp_path / "other.zip"
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("trainA/0.jpg", b"")
    words = ["selfie2anime", "--data-dir", str(tmp_path / "s2a"), "--archive", str(path)]
    with pytest.raises(ValueError, match="has no folder trainB; an archive of trainA"):
        prepare.main(words)
    with pytest.raises(FileNotFoundError, match=r"--archive .*absent\.zip does not exist"):
        prepare.main([*words[:-1], str(tmp_path / "absent.zip")])


def test_ones_own_folder_is_checked_to_the_last_image(tmp_path):
    out = str(tmp_path / "toy")
    prepare.main(["toy-domains", "--out", out, "--toy-images", "100", "--resolution", "16"])
    prepare.main(["unpaired", "--path", out])
    assert check_domains(out) == (100, 100, 10, 10)
    (Path(out) / "testB" / "00009.png").write_bytes(b"\x89PNG cut")
    with pytest.raises(ValueError, match=r"testB: 00009\.png cannot be read"):
        prepare.main(["unpaired", "--path", out])


def test_toy_files_hold_the_images_that_training_draws(tmp_path):
    out = tmp_path / "toy"
    prepare.main(["toy-domains", "--out", str(out), "--toy-images", "100", "--resolution", "16"])
    config = prepare_unpaired.UnpairedConfig("toy", resolution=16, toy_images=100)
    drawn = prepare_unpaired.build_domains(config, "test").b
    with Image.open(out / "testB" / "00003.png") as image:
        assert np.array_equal(np.asarray(image).transpose(2, 0, 1), drawn.pixels[3])
