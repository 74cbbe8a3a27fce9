"""Image sets in many archives: tar files as webdataset writes them, and zip files.

Nothing is unpacked: a list of where every image lies is made once and kept, and images are read by
their place. So they come in any order, and a run continues where it stopped to the image.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import torch

from ..metrics.networks import default_cache_dir
from ..runtime.files import json_text, why, write_atomically
from ..runtime.text_files import read_lines
from .folders import DESCRIPTION, MAX_FILE_BYTES, ClassList, find_classes, read_member, visible
from .images import EncodedImages, is_image_name

logger = logging.getLogger(__name__)

SHARD_ENDINGS = (".tar", ".zip")
LABEL = ".cls"
"""The member beside an image that holds the number of its class, as webdataset names it."""


class Files(NamedTuple):
    """Image files somewhere: their names, and how one is opened."""

    name: str
    entries: list[str]
    load: Callable[[str], BinaryIO]


class Shard(NamedTuple):
    """What is in one archive."""

    path: Path
    files: dict[str, tuple[int, int]]  # name -> place and number of bytes; place -1 in a zip
    labels: dict[str, str]  # name of an image without its ending -> content of its .cls


def find_shards(path: str | Path) -> list[Path]:
    """The archives of a set, in alphabetical order.

    Args:
        path: a folder of ``.tar`` and ``.zip`` files, one such file, or a ``.txt`` file that names
            one a line, relative to itself; so they can lie on several disks.

    Raises:
        FileNotFoundError: there is none, or one that is named is missing.
    """
    path = Path(path)
    if path.is_dir():
        found = sorted(file for file in path.iterdir() if file.suffix.lower() in SHARD_ENDINGS)
    elif path.suffix.lower() == ".txt" and path.is_file():
        lines = [line for line in read_lines(path) if line.text.strip()]
        found = [path.parent / line.text.strip() for line in lines]
        for line, file in zip(lines, found, strict=True):
            if not file.is_file():
                raise line.complaint(f"there is no archive {file}; lines are relative to the list")
    else:
        found = [path]
    missing = [file for file in found if not file.is_file()]
    if missing or not found:
        raise FileNotFoundError(
            f"{missing[0] if missing else path}: there is no archive; give a folder of .tar or "
            ".zip files, one of them, or a .txt file that names one a line"
        )
    return found


def read_shards(
    path: str | Path, *, resolution: int, workers: int = 4, cache_dir: Path | None = None
) -> EncodedImages:
    """Images of many archives as one set.

    Classes are the numbers in ``.cls`` members beside the images, or the folders inside the
    archives; without either there is one class. Other members are passed over.

    Args:
        path: see `find_shards`.
        resolution: R, pixels.
        workers: threads that decode.
        cache_dir: where lists of archives are kept (default `default_cache_dir`).

    Raises:
        FileNotFoundError: see `find_shards`.
        ValueError: an archive is damaged, an image has no label, or no image is there.
    """
    shards = [_shard(file, cache_dir or default_cache_dir()) for file in find_shards(path)]
    for shard in shards:
        if any(name.split("/")[-1] == DESCRIPTION for name in shard.files):
            raise ValueError(
                f"{shard.path} has its classes in {DESCRIPTION}, which only the source zip reads; "
                "or write a member NAME.cls beside every image"
            )
    places = _images(shards, str(path))
    found = _classes(shards, places, str(path))
    logger.info("%s: %d archives, %s", path, len(shards), found)
    return EncodedImages(
        found.entries,
        torch.tensor(found.labels, dtype=torch.int64),
        found.classes,
        str(path),
        resolution=resolution,
        load=_loader(places),
        workers=workers,
    )


def archived_files(path: str | Path) -> Files:
    """All images of one archive or of several, whatever folders they are in."""
    places = _images([_shard(file, default_cache_dir()) for file in find_shards(path)], str(path))
    return Files(str(path), sorted(places), _loader(places))


Places = dict[str, tuple[Shard, str]]  # "ARCHIVE/NAME" -> archive and name


def _images(shards: Sequence[Shard], path: str) -> Places:
    names = [shard.path.name for shard in shards]
    if len(set(names)) < len(names):
        raise ValueError(f"{path}: two archives have the same name; rename one of them")
    places = {
        f"{shard.path.name}/{name}": (shard, name)
        for shard in shards
        for name in shard.files
        if is_image_name(name)
    }
    if not places:
        raise ValueError(f"{path} holds no image")
    return places


def _classes(shards: Sequence[Shard], places: Places, name: str) -> ClassList:
    """The class of every image."""
    if not any(shard.labels for shard in shards):
        inside = [inner for _, inner in places.values()]
        if not any("/" in inner for inner in inside):
            return ClassList(["0"], list(places), [0] * len(places))
        classes = find_classes(inside, (), name, archive=True).classes
        number = {one: label for label, one in enumerate(classes)}
        return ClassList(classes, list(places), [number[inner.split("/")[0]] for inner in inside])
    labels = []
    for shard, inner in places.values():
        text = shard.labels.get(inner.rpartition(".")[0], "")
        if not text.isdecimal():
            raise ValueError(
                f"{shard.path}: {inner} has no class; a member {inner.rpartition('.')[0]}{LABEL} "
                f"must hold its number, got {text!r}"
            )
        labels.append(int(text))
    return ClassList([str(label) for label in range(max(labels) + 1)], list(places), labels)


def _loader(places: Places) -> Callable[[str], BinaryIO]:
    archives: dict[Path, zipfile.ZipFile] = {}

    def load(entry: str) -> BinaryIO:
        shard, name = places[entry]
        start, size = shard.files[name]
        if start < 0:
            if shard.path not in archives:
                archives[shard.path] = zipfile.ZipFile(shard.path)
            return read_member(archives[shard.path], name)
        with shard.path.open("rb") as file:
            file.seek(start)
            return io.BytesIO(file.read(size))

    return load


def _shard(path: Path, cache_dir: Path) -> Shard:
    """The list of ``path``, kept in ``cache_dir`` under its name, size and date of change."""
    state = path.stat()
    key = f"shard {path.absolute()} {state.st_size} {state.st_mtime_ns}"
    file = cache_dir / "shards" / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"
    try:
        content: dict[str, Any] = json.loads(file.read_text())
        files = {name: (int(start), int(size)) for name, (start, size) in content["files"].items()}
        return Shard(path, files, {str(k): str(v) for k, v in content["labels"].items()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        found = _list_zip(path) if _is_zip(path) else _list_tar(path)
    # A home that cannot be written costs a listing each time, nothing else.
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, json_text({"files": found.files, "labels": found.labels}))
    return found


def _is_zip(path: Path) -> bool:
    """By the ending; a file of another ending is looked into."""
    ending = path.suffix.lower()
    return ending == ".zip" or (ending != ".tar" and zipfile.is_zipfile(path))


def _list_tar(path: Path) -> Shard:
    files: dict[str, tuple[int, int]] = {}
    labels: dict[str, str] = {}
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                name = member.name.removeprefix("./")  # as `tar -c .` writes them
                if not member.isfile() or not visible(name):
                    continue
                _require_size(path, name, member.size)
                if name.endswith(LABEL) and (inner := archive.extractfile(member)):
                    label = inner.read(20).decode(errors="replace").strip()
                    labels[name.removesuffix(LABEL)] = label
                else:
                    files[name] = (member.offset_data, member.size)
    except (tarfile.TarError, EOFError) as error:
        kinds = "uncompressed tar archive"
        if path.suffix.lower() != ".tar":
            kinds += " or zip archive"
        raise ValueError(
            f"{path} is not a whole, {kinds} ({why(error)}); fetch or write it again"
        ) from None
    if any(start + size > path.stat().st_size for start, size in files.values()):
        raise ValueError(f"{path} has been cut off; fetch or write it again")
    return Shard(path, files, labels)


def _list_zip(path: Path) -> Shard:
    files: dict[str, tuple[int, int]] = {}
    labels: dict[str, str] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                if member.is_dir() or not visible(member.filename):
                    continue
                _require_size(path, member.filename, member.file_size)
                if member.filename.endswith(LABEL):
                    label = read_member(archive, member.filename).read(20)
                    text = label.decode(errors="replace").strip()
                    labels[member.filename.removesuffix(LABEL)] = text
                else:
                    files[member.filename] = (-1, member.file_size)
    except zipfile.BadZipFile:
        raise ValueError(f"{path} is not a whole zip archive; fetch it again") from None
    return Shard(path, files, labels)


def _require_size(path: Path, name: str, size: int) -> None:
    if size > MAX_FILE_BYTES:
        raise ValueError(f"{path}: {name} would unpack to {size} bytes: refused")
