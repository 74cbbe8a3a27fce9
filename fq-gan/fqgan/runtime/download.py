"""Files from elsewhere: fetched whole and checked, unpacked inside of their folder only."""

from __future__ import annotations

import logging
import os
import shutil
import stat
import tarfile
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from .files import digest

logger = logging.getLogger(__name__)
CHUNK = 1 << 20


def download(
    url: str,
    path: str | Path,
    *,
    sha256: str | None = None,
    md5: str | None = None,
    mirrors: Sequence[str] = (),
) -> Path:
    """Fetch ``url`` (or the first mirror that answers) to ``path`` unless it is there already.

    ``sha256`` and ``md5`` may be leading digits. The file gets its name only when complete and
    right. Raises ``OSError`` naming every place that was tried and the way by hand.
    """
    path = Path(path)
    if path.exists():
        verify(path, sha256=sha256, md5=md5)
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    problems = []
    for place in (url, *mirrors):
        try:
            logger.info("downloading %s", place)
            _fetch(place, partial)
            verify(partial, sha256=sha256, md5=md5)
            os.replace(partial, path)
            return path
        except (OSError, ValueError) as error:
            problems.append(f"{place} ({error})")
            if isinstance(error, ValueError):
                partial.unlink(missing_ok=True)
    raise OSError(f"cannot download {'; '.join(problems)}; fetch it by hand and put it at {path}")


def _fetch(url: str, partial: Path) -> None:
    start = partial.stat().st_size if partial.exists() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "Mozilla/5.0"})
    if start:
        request.add_header("Range", f"bytes={start}-")
    try:
        answer = urllib.request.urlopen(request, timeout=60)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # the whole file is here already
            return
        raise
    with answer:
        if answer.headers.get_content_type() == "text/html":
            raise ValueError("the answer is a web page (a login or quota page), not the file")
        resumed = answer.status == 206
        expected = answer.headers.get("Content-Length")
        with partial.open("ab" if resumed else "wb") as file:
            shutil.copyfileobj(answer, file, CHUNK)
    size = partial.stat().st_size - (start if resumed else 0)
    if expected is not None and size != int(expected):
        raise OSError(f"the answer ended after {size} of {expected} bytes")


def verify(path: str | Path, *, sha256: str | None = None, md5: str | None = None) -> None:
    """Raise ``ValueError`` unless the digests of ``path`` begin with those given."""
    for kind, wanted in (("sha256", sha256), ("md5", md5)):
        if wanted is None:
            continue
        found = digest(path, kind)
        if not found.startswith(wanted):
            raise ValueError(
                f"{path} has {kind} {found[:16]}..., expected {wanted[:16]}...: "
                "it is damaged or another version; move it away and run the same command again"
            )


def extract(
    archive: str | Path, folder: str | Path, *, max_files: int = 2_000_000, max_ratio: float = 200.0
) -> Path:
    """Unpack a zip or tar archive into ``folder``, which appears whole or not at all.

    Raises ``ValueError``, before a byte is written, for links, devices, absolute paths, ``..``,
    more than ``max_files`` members, or contents ``max_ratio`` times larger than the archive.
    """
    archive, folder = Path(archive), Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        is_zip = zipfile.is_zipfile(archive)
        opened = zipfile.ZipFile(archive) if is_zip else tarfile.open(archive)  # noqa: SIM115
    except (tarfile.TarError, EOFError) as error:
        raise ValueError(f"{archive} is no zip or tar archive ({error})") from error
    with opened, tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        members = (
            _zip_members(opened) if isinstance(opened, zipfile.ZipFile) else _tar_members(opened)
        )
        total = sum(size for _, size, _ in members)
        for name, _, regular in members:
            pure = PurePosixPath(name.replace("\\", "/"))
            if not regular or pure.is_absolute() or ".." in pure.parts or ":" in pure.parts[:1]:
                raise ValueError(
                    f"{archive} holds {name!r}, a link or a path that leaves the folder"
                )
        if len(members) > max_files or total > max(max_ratio * archive.stat().st_size, 1 << 24):
            raise ValueError(
                f"{archive} would unpack to {len(members)} files of {total} bytes: refused"
            )
        target = Path(scratch) / "contents"
        if isinstance(opened, tarfile.TarFile) and hasattr(tarfile, "data_filter"):
            opened.extraction_filter = tarfile.data_filter  # Python 3.11.4 and later
        opened.extractall(target)
        target.mkdir(exist_ok=True)
        if folder.exists():
            shutil.copytree(target, folder, dirs_exist_ok=True)
        else:
            os.replace(target, folder)
    return folder


def _zip_members(archive: zipfile.ZipFile) -> list[tuple[str, int, bool]]:
    def regular(member: zipfile.ZipInfo) -> bool:
        mode = member.external_attr >> 16
        return not mode or stat.S_IFMT(mode) in {0, stat.S_IFREG, stat.S_IFDIR}

    return [(member.filename, member.file_size, regular(member)) for member in archive.infolist()]


def _tar_members(archive: tarfile.TarFile) -> list[tuple[str, int, bool]]:
    return [(m.name, m.size, m.isfile() or m.isdir()) for m in archive.getmembers()]
