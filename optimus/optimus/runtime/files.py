"""Files that are on disk, whole, before they get their name; all JSON is written here."""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, BinaryIO, TextIO


def why(error: Exception) -> str:
    """What is wrong with a file, from the ``error`` that reading it raised, in a user's words."""
    if isinstance(error, UnicodeDecodeError):
        return "it is no UTF-8 text"
    if isinstance(error, json.JSONDecodeError):
        return f"it is no JSON from line {error.lineno} column {error.colno} on"
    if isinstance(error, RecursionError):
        return "it has too many brackets in each other"
    if isinstance(error, zipfile.BadZipFile):
        return "it is no whole zip archive"
    if isinstance(error, KeyError):
        return f"{error} is missing"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    text = str(error).strip().partition("\n")[0]
    if "pickle" in text:  # a library's advice to read it nevertheless
        return "it is of another format, or holds objects of Python, which are not read"
    return text or type(error).__name__


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
    if Path(path).is_dir():
        raise IsADirectoryError(f"{path} is a folder; name a file to write")
    if not Path(path).parent.is_dir():
        raise FileNotFoundError(f"{path} cannot be written: its folder does not exist; make it")
    partial = Path(f"{path}.{os.getpid()}.tmp")
    try:
        with flushed(partial) as file:
            file.write(content.encode() if isinstance(content, str) else content)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def require_target(folder: str | Path, ours: Sequence[str] = ("*",)) -> Path:
    """``folder`` as a place for weights: it is not there, or holds nothing that would be lost.

    Args:
        folder: to be written.
        ours: patterns of the names that such a folder has, where the rest of it would go.

    Raises:
        ValueError: it is a file, holds a run, or other files than ``ours``.
    """
    folder = Path(folder)
    file = next((one for one in (folder, *folder.parents) if one.is_file()), None)
    if file is not None:
        raise ValueError(f"{file} is a file where a folder is needed; give another place")
    if (folder / "checkpoints").is_dir():
        raise ValueError(f"{folder} holds a run, which weights would damage; give a new folder")
    names = sorted(one.name for one in folder.iterdir()) if folder.is_dir() else []
    foreign = [name for name in names if not any(fnmatch(name, one) for one in ours)]
    if foreign:
        raise ValueError(
            f"{folder} holds other files, such as {foreign[0]}, which would be lost; give a new "
            "folder"
        )
    return folder


def take_lock(path: Path, refusal: str) -> TextIO:
    """``path`` open and locked until it is closed; ``ValueError`` where another process has it."""
    lock = path.open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise ValueError(refusal) from None
    return lock


def json_text(value: Any, indent: int | None = None, **form: Any) -> str:
    """``value`` as JSON that every reader takes: NaN and infinite numbers are null, paths text.

    ``form`` is that of ``json.dumps``: ``sort_keys``, ``default``.
    """
    form = {"default": _path_text, "indent": indent, **form, "allow_nan": False}
    try:
        return json.dumps(value, **form)
    except ValueError:  # which a list of a million finite numbers need not be searched for
        return json.dumps(spell_infinite(value, lambda _: None), **form)


def write_json(path: str | Path, value: Any) -> None:
    """Replace ``path`` by the `json_text` of ``value``, for people to read."""
    write_atomically(path, json_text(value, indent=2) + "\n")


def spell_infinite(value: Any, spell: Callable[[float], str | None] = str) -> Any:
    """``value`` with ``spell`` of each number in it that is NaN or infinite: "inf", "nan"."""
    if isinstance(value, Mapping):
        return {key: spell_infinite(item, spell) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [spell_infinite(item, spell) for item in value]
    return spell(value) if isinstance(value, float) and not math.isfinite(value) else value


def _path_text(value: Any) -> str:
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} {value!r} has no form in JSON")


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


def file_of(name: str) -> str:
    """The file of a name in ``digest.json``: a part's ``NAME.pt``, or a path as it is."""
    return name if "/" in name else f"{name}.pt"


def find_damage(folder: Path) -> str | None:
    """What is wrong with the files of ``folder`` against its ``digest.json``, or None."""
    if not (folder / "digest.json").is_file():
        return "its digest.json is missing"
    try:
        for name, expected in json.loads((folder / "digest.json").read_text()).items():
            if expected != digest(folder / file_of(name)):
                return f"{file_of(name)} does not match its digest"
    except AttributeError:
        return "its digest.json is no list of digests"
    except (OSError, ValueError) as error:
        return str(error)
    return None
