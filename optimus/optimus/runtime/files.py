"""Files that are on disk, whole, before they get their name."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


def digest(path: str | Path, kind: str = "sha256") -> str:
    """Hexadecimal digest of a file's content."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, kind).hexdigest()


@contextmanager
def flushed(path: str | Path) -> Iterator[BinaryIO]:
    """``path`` opened for writing; its content is on the disk when the block ends."""
    with Path(path).open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def write_atomically(path: str | Path, content: str | bytes) -> None:
    """Replace ``path`` so that a reader sees the old content or the new one, whole."""
    partial = Path(f"{path}.{os.getpid()}.tmp")
    try:
        with flushed(partial) as file:
            file.write(content.encode() if isinstance(content, str) else content)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def replace_folder(source: Path, target: Path) -> None:
    """Give the folder ``source`` the name ``target``, in place of what has it now."""
    aside = target.with_name(f".{target.name}.replaced")
    shutil.rmtree(aside, ignore_errors=True)
    if target.exists():
        os.replace(target, aside)
    os.replace(source, target)
    shutil.rmtree(aside, ignore_errors=True)
    descriptor = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_folder(path: Path) -> None:
    """Take the name away first: a kill leaves no half of a folder under its name."""
    aside = path.with_name(f".{path.name}.removed")
    os.replace(path, aside)
    shutil.rmtree(aside, ignore_errors=True)


def remove_leftovers(folder: Path) -> None:
    """Remove the hidden folders that killed saves left in ``folder``."""
    for path in folder.glob(".*"):
        shutil.rmtree(path, ignore_errors=True)


def find_damage(folder: Path) -> str | None:
    """What is wrong with the ``NAME.pt`` of ``folder`` against its ``digest.json``, or None."""
    try:
        for name, expected in json.loads((folder / "digest.json").read_text()).items():
            if expected != digest(folder / f"{name}.pt"):
                return f"{name}.pt does not match its digest"
    except AttributeError:
        return "its digest.json is no list of digests"
    except (OSError, ValueError) as error:
        return str(error)
    return None
