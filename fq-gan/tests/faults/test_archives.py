"""Archives that attack: refused before anything lands outside the folder, or at all."""

import io
import tarfile
import zipfile

import pytest

from fqgan.runtime.download import extract


def make_zip(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def make_tar(path, *members):
    with tarfile.open(path, "w:gz") as archive:
        for name, kind, target in members:
            made = tarfile.TarInfo(name)
            made.type, made.linkname, made.size = kind, target, 2 if kind == tarfile.REGTYPE else 0
            archive.addfile(made, io.BytesIO(b"ok") if made.size else None)
    return path


def nothing_landed(folder) -> bool:
    """No file in ``folder`` but the archive itself."""
    return [path.suffix for path in folder.rglob("*") if path.is_file()] in ([".zip"], [".gz"])


@pytest.mark.parametrize("kind", ["zip", "tar"])
@pytest.mark.parametrize("name", ["../out.txt", "/tmp/abs.txt", "a/../../out.txt", "..\\out.txt"])
def test_a_path_that_leaves_the_folder_is_refused(tmp_path, kind, name):
    if kind == "zip":
        made = make_zip(tmp_path / "a.zip", {"fine.txt": "", name: "bad"})
    elif "\\" in name:
        pytest.skip("a tar knows no backslash as a separator")
    else:
        members = (("fine.txt", tarfile.REGTYPE, ""), (name, tarfile.REGTYPE, ""))
        made = make_tar(tmp_path / "a.tar.gz", *members)
    with pytest.raises(ValueError, match="leaves the folder"):
        extract(made, tmp_path / "inner" / "out")
    assert nothing_landed(tmp_path)


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE]
)
def test_links_and_devices_are_refused(tmp_path, kind):
    made = make_tar(tmp_path / "a.tar.gz", ("link", kind, "/etc/passwd"))
    with pytest.raises(ValueError, match="a link or a path that leaves"):
        extract(made, tmp_path / "out")
    assert nothing_landed(tmp_path)


def test_bombs_are_refused(tmp_path):
    made = make_zip(tmp_path / "a.zip", {"zeros": bytes(1 << 25)})
    with pytest.raises(ValueError, match="refused"):
        extract(made, tmp_path / "out")
    assert nothing_landed(tmp_path)
    made = make_zip(tmp_path / "a.zip", {str(i): "" for i in range(20)})
    with pytest.raises(ValueError, match="20 files"):
        extract(made, tmp_path / "out", max_files=10)
    assert nothing_landed(tmp_path)
