"""Archives that cannot write outside their folder."""

from __future__ import annotations

import os
import shutil
import stat
import tarfile
import tempfile
import zipfile
from pathlib import Path, PurePosixPath


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
