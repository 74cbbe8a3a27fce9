"""An archive unpacks inside its folder or not at all."""

import io
import tarfile
import zipfile

import pytest

from fqgan.runtime.archive import extract


def make_zip(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def make_tar(path, *members):
    with tarfile.open(path, "w:gz") as archive:
        for member in members:
            member.size = 2 if member.isfile() else 0
            archive.addfile(member, io.BytesIO(b"ok") if member.isfile() else None)
    return path


def member(name, kind=tarfile.REGTYPE, target=""):
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, target
    return made


def test_both_kinds_unpack(tmp_path):
    made = make_zip(tmp_path / "a.zip", {"x/1.txt": "one"})
    assert (extract(made, tmp_path / "zip") / "x" / "1.txt").read_text() == "one"
    made = make_tar(tmp_path / "a.tar.gz", member("x", tarfile.DIRTYPE), member("x/1.txt"))
    assert (extract(made, tmp_path / "tar") / "x" / "1.txt").read_text() == "ok"


def test_what_is_no_archive_is_named(tmp_path):
    (tmp_path / "a.zip").write_text("<html>quota exceeded</html>")
    with pytest.raises(ValueError, match="no zip or tar archive"):
        extract(tmp_path / "a.zip", tmp_path / "out")
