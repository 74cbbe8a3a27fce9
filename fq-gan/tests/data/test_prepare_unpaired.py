"""Unpaired sets are unpacked from wherever they lie in an archive, decoded, and counted."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fqgan.data import prepare, unpaired as prepare_unpaired
from fqgan.data.unpaired import FOLDERS, SETS, UnpairedSet, check_domains


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
