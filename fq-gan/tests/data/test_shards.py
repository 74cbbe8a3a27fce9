"""Image sets in many archives: tar files as webdataset writes them, and zip files."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fqgan.data.datasets import DataConfig, build_batches, build_images
from fqgan.data.shards import archived_files, read_shards


def png(level: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), level, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def write_tar(path: Path, members: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


@pytest.fixture
def shards(tmp_path, monkeypatch) -> Path:
    """Three archives of four images, two of tar and one of zip; the grey level is the number."""
    monkeypatch.setenv("FQGAN_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "shards"
    for number in range(2):
        members = {}
        for i in range(number * 4, number * 4 + 4):
            members |= {f"{i:05d}.png": png(i), f"{i:05d}.cls": f"{i % 2}\n".encode()}
            members[f"{i:05d}.json"] = b"{}"
        write_tar(folder / f"{number}.tar", members)
    with zipfile.ZipFile(folder / "2.zip", "w") as archive:
        for i in range(8, 12):
            archive.writestr(f"{i:05d}.png", png(i))
            archive.writestr(f"{i:05d}.cls", str(i % 2))
    return folder


def test_tar_and_zip_files_are_one_set(shards):
    images = read_shards(shards, resolution=8)
    assert images.class_names == ["0", "1"]
    assert images.labels.tolist() == [0, 1] * 6
    pixels = images.read(torch.tensor([11, 0, 5]))
    assert pixels[:, 0, 0, 0].tolist() == [11, 0, 5]
    assert len(list((shards.parent / "cache" / "shards").iterdir())) == 3
    assert read_shards(shards, resolution=8).entries == images.entries  # from the kept lists


def test_a_list_names_archives_on_several_disks(shards, tmp_path):
    (tmp_path / "other").mkdir()
    (shards / "1.tar").rename(tmp_path / "other" / "1.tar")
    listed = tmp_path / "set.txt"
    listed.write_text("shards/0.tar\nother/1.tar\nshards/2.zip\n")
    assert len(read_shards(listed, resolution=8)) == 12
    listed.write_bytes(b"\xef\xbb\xbfshards/0.tar\r\n\r\nother/1.tar\r\n")
    assert len(read_shards(listed, resolution=8)) == 8
    listed.write_text("shards/0.tar\n\nother/9.tar\n")
    with pytest.raises(ValueError, match=r"set\.txt line 3: there is no archive .*9\.tar"):
        read_shards(listed, resolution=8)


def test_the_position_of_the_sampler_is_kept(shards):
    config = DataConfig("shards", str(shards), resolution=8)
    images = build_images(config)
    whole = build_batches(config, images, 5, seed=3)
    expected = [next(whole).images[:, 0, 0, 0] for _ in range(6)]
    first = build_batches(config, images, 5, seed=3)
    for _ in range(4):
        next(first)
    again = build_batches(config, build_images(config), 5, seed=3)
    again.load_state_dict(first.state_dict())
    for number in (4, 5):
        assert torch.equal(next(again).images[:, 0, 0, 0], expected[number])
    for batches in (whole, first, again):
        batches.close()


def test_folders_inside_are_classes_where_no_member_says_them(tmp_path, monkeypatch):
    monkeypatch.setenv("FQGAN_CACHE", str(tmp_path / "cache"))
    write_tar(tmp_path / "s/a.tar", {"cat/1.png": png(1), "dog/2.png": png(2)})
    write_tar(tmp_path / "s/b.tar", {"dog/3.png": png(3)})
    images = read_shards(tmp_path / "s", resolution=8)
    assert images.class_names == ["cat", "dog"]
    assert images.labels.tolist() == [0, 1, 1]
    write_tar(tmp_path / "flat/a.tar", {"1.png": png(1)})
    assert read_shards(tmp_path / "flat", resolution=8).class_names == ["0"]


def test_bad_archives_are_named(tmp_path, monkeypatch):
    monkeypatch.setenv("FQGAN_CACHE", str(tmp_path / "cache"))
    cases = {
        "no_label": ({"1.png": png(1), "1.cls": b"0", "2.png": png(2)}, "2.png has no class"),
        "word": ({"1.png": png(1), "1.cls": b"cat"}, "got 'cat'"),
        "empty": ({"1.txt": b""}, "holds no image"),
        "nvlabs": ({"dataset.json": b"{}", "a.png": png(1)}, "which only the source zip reads"),
    }
    for name, (members, said) in cases.items():
        write_tar(tmp_path / name / "a.tar", members)
        with pytest.raises(ValueError, match=said):
            read_shards(tmp_path / name, resolution=8)
    (tmp_path / "gz").mkdir()
    with tarfile.open(tmp_path / "gz" / "a.tar", "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("1.png"))
    with pytest.raises(ValueError, match="not a whole, uncompressed tar archive"):
        read_shards(tmp_path / "gz", resolution=8)
    with pytest.raises(FileNotFoundError, match="there is no archive"):
        read_shards(tmp_path, resolution=8)
    broken = {"1.png": b"no image"}
    write_tar(tmp_path / "broken" / "a.tar", broken)
    with pytest.raises(ValueError, match=r"a\.tar/1\.png cannot be read"):
        read_shards(tmp_path / "broken", resolution=8).read(torch.tensor([0]))


def test_archives_are_known_by_more_than_the_ending_zip(shards, tmp_path):
    for name in ("photos.dat", "photos", "PHOTOS.ZIP"):
        (tmp_path / name).write_bytes((shards / "2.zip").read_bytes())
        assert len(read_shards(tmp_path / name, resolution=8)) == 4
        assert len(archived_files(tmp_path / name).entries) == 4
    (tmp_path / "photos.dat").write_bytes(b"neither")
    with pytest.raises(ValueError, match="uncompressed tar archive or zip archive"):
        archived_files(tmp_path / "photos.dat")


def test_a_tar_of_the_folder_dot_is_read(shards, tmp_path):
    members = {"./cat/0.png": png(0), "./dog/1.png": png(1), "./dog/._1.png": b"no image"}
    images = read_shards(write_tar(tmp_path / "dot.tar", members), resolution=8)
    assert (len(images), images.class_names) == (2, ["cat", "dog"])
    labelled = {"./0.png": png(0), "./0.cls": b"1", "./1.png": png(1), "./1.cls": b"0"}
    images = read_shards(write_tar(tmp_path / "labelled.tar", labelled), resolution=8)
    assert images.labels.tolist() == [1, 0]
