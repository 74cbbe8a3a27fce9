"""The archive of archives is unpacked class by class, and nothing else is accepted."""

import io
import tarfile

import pytest

from fqgan.data.prepare import unpack_imagenet


def add(archive, name, content):
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def packed(members):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in members.items():
            add(archive, name, content)
    return buffer.getvalue()


def test_classes_become_folders_and_a_second_run_passes_them_over(tmp_path):
    archive = tmp_path / "train.tar"
    inner = packed({"n00000001_1.JPEG": b"one", "n00000001_2.JPEG": b"two"})
    archive.write_bytes(packed({"n00000001.tar": inner, "n00000002.tar": packed({})}))
    assert unpack_imagenet(archive, tmp_path / "out") == 2
    assert (tmp_path / "out" / "n00000001" / "n00000001_2.JPEG").read_bytes() == b"two"
    (tmp_path / "out" / "n00000001" / "n00000001_2.JPEG").write_bytes(b"kept")
    assert unpack_imagenet(archive, tmp_path / "out") == 2
    assert (tmp_path / "out" / "n00000001" / "n00000001_2.JPEG").read_bytes() == b"kept"


@pytest.mark.parametrize("name", ["../n00000001_1.JPEG", "/n00000001_1.JPEG", "run.sh"])
def test_other_names_are_refused(tmp_path, name):
    archive = tmp_path / "train.tar"
    archive.write_bytes(packed({"n00000001.tar": packed({name: b"x"})}))
    with pytest.raises(ValueError, match="which is no image"):
        unpack_imagenet(archive, tmp_path / "out")
    assert not (tmp_path / "out" / "n00000001").exists()
    archive.write_bytes(packed({name: b"x"}))
    with pytest.raises(ValueError, match="give ILSVRC2012_img_train"):
        unpack_imagenet(archive, tmp_path / "out")


def test_a_broken_archive_is_named(tmp_path):
    archive = tmp_path / "train.tar"
    archive.write_bytes(b"x" * 600)
    with pytest.raises(ValueError, match="not a whole tar archive"):
        unpack_imagenet(archive, tmp_path / "out")
