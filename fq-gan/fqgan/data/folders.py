"""Image files sorted into one folder per class, on disk or in a zip archive."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import numpy as np
import torch

from ..metrics.cache import default_cache_dir
from ..runtime.files import write_atomically
from .images import EncodedImages, is_image_name

MAX_FILE_BYTES = 1 << 28
"""No single image in an archive unpacks to more than this."""


def read_folder(
    root: str | Path,
    *,
    resolution: int,
    workers: int = 4,
    skip_other_files: bool = False,
    cache_dir: Path | None = None,
) -> EncodedImages:
    """Images of ``root/CLASS/**/FILE``; classes are numbered in alphabetical order.

    The list of files is kept in ``cache_dir`` (default `default_cache_dir`), keyed by the folders
    and their dates of change, so that a folder of a million files is listed once.

    Raises:
        FileNotFoundError: ``root`` is no folder, nor the authors' ``{dataset}_imgs.npz``.
        ValueError: it has no class, a class is empty, or a file in it is no image.
    """
    root = Path(root).absolute()
    if root.name.endswith("_imgs.npz"):
        root, index = root.parent, read_author_index(root)
    elif root.is_dir():
        index = _cached_index(root, skip_other_files, cache_dir or default_cache_dir())
    else:
        raise FileNotFoundError(f"--data.path {root} is not a folder; it must hold CLASS/IMAGE")
    labels = torch.tensor(index["labels"], dtype=torch.int64)
    return EncodedImages(
        index["entries"],
        labels,
        index["classes"],
        str(root),
        resolution=resolution,
        load=lambda entry: (root / entry).open("rb"),
        workers=workers,
    )


def _cached_index(root: Path, skip_other_files: bool, cache_dir: Path) -> dict[str, Any]:
    key = hashlib.sha256(f"{root} {skip_other_files}".encode()).hexdigest()[:32]
    path = cache_dir / "folders" / f"{key}.json"
    cached = _read_cache(path)
    if cached is not None and _dates(root, cached["folders"]) == list(cached["folders"].values()):
        return cached
    index = _index(root, skip_other_files)
    # A home that cannot be written costs a listing each time, nothing else.
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(index))
    return index


def _read_cache(path: Path) -> dict[str, Any] | None:
    try:
        cached = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    keys = {"classes", "entries", "labels", "folders"}
    return cached if isinstance(cached, dict) and keys <= cached.keys() else None


def _dates(root: Path, folders: Iterable[str]) -> list[int | None]:
    """When each folder last gained or lost an entry; None where it is gone."""
    dates: list[int | None] = []
    for folder in folders:
        try:
            dates.append((root / folder).stat().st_mtime_ns)
        except OSError:
            dates.append(None)
    return dates


def _index(root: Path, skip_other_files: bool) -> dict[str, Any]:
    classes = sorted(p.name for p in root.iterdir() if p.is_dir() and not _hidden(p.name))
    if not classes:
        raise ValueError(f"--data.path {root} has no sub-folders; images must lie in CLASS/IMAGE")
    entries: list[str] = []
    labels: list[int] = []
    folders = [".", *classes]
    for label, name in enumerate(classes):
        before = len(entries)
        for parent, inner, files in sorted(os.walk(root / name)):
            folders += [(Path(parent) / folder).relative_to(root).as_posix() for folder in inner]
            for file in sorted(files):
                if _hidden(file) or not _wanted(Path(parent) / file, skip_other_files):
                    continue
                entries.append((Path(parent) / file).relative_to(root).as_posix())
                labels.append(label)
        if len(entries) == before:
            raise ValueError(
                f"class folder {root / name} holds no image; add some or remove the folder"
            )
    dates = dict(zip(folders, _dates(root, folders), strict=True))
    return {"classes": classes, "entries": entries, "labels": labels, "folders": dates}


def _wanted(file: Path, skip_other_files: bool) -> bool:
    if is_image_name(file) or skip_other_files:
        return is_image_name(file)
    raise ValueError(f"{file} is not an image file; move it away or give --data.skip-other-files")


def _hidden(name: str) -> bool:
    return name.startswith(".")


def read_zip(
    path: str | Path,
    *,
    resolution: int,
    split: str = "train",
    workers: int = 4,
    skip_other_files: bool = False,
) -> EncodedImages:
    """Images of a zip archive with entries ``SPLIT/CLASS/FILE`` or ``CLASS/FILE``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no zip archive, lacks the split, or holds a file that is no image.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"--data.path {path} is not a file; give a zip archive of images")
    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path} is not a whole zip archive ({error}); fetch it again") from error
    members = [m for m in archive.infolist() if not m.is_dir() and not _hidden_entry(m.filename)]
    if members and all(len(PurePosixPath(m.filename).parts) > 2 for m in members):
        splits = sorted({PurePosixPath(m.filename).parts[0] for m in members})
        members = [m for m in members if PurePosixPath(m.filename).parts[0] == split]
        if not members:
            raise ValueError(
                f"{path} has no {split}/ folder, it has {', '.join(splits[:8])}; choose with "
                "--data.split"
            )
    chosen = _checked_members(members, path, skip_other_files)
    class_names = sorted({PurePosixPath(name).parent.name for name in chosen})
    number = {name: label for label, name in enumerate(class_names)}
    return EncodedImages(
        chosen,
        torch.tensor([number[PurePosixPath(name).parent.name] for name in chosen]),
        class_names,
        f"{path} ({split})",
        resolution=resolution,
        load=_loader(archive),
        workers=workers,
    )


def _hidden_entry(name: str) -> bool:
    return any(_hidden(part) or part == "__MACOSX" for part in PurePosixPath(name).parts)


def _checked_members(
    members: list[zipfile.ZipInfo], path: Path, skip_other_files: bool
) -> list[str]:
    chosen = []
    for member in sorted(members, key=lambda m: m.filename):
        name = member.filename
        if not is_image_name(name) or len(PurePosixPath(name).parts) < 2:
            if skip_other_files:
                continue
            raise ValueError(
                f"{path}: {name} is not an image in a class folder; "
                "remove it or give --data.skip-other-files"
            )
        if member.file_size > MAX_FILE_BYTES:
            raise ValueError(f"{path}: {name} would unpack to {member.file_size} bytes: refused")
        chosen.append(name)
    if not chosen:
        raise ValueError(f"{path} holds no image")
    return chosen


def _loader(archive: zipfile.ZipFile) -> Callable[[str], BinaryIO]:
    # Bytes are handed over whole: reading from the shared file under Pillow would serialize it.
    return lambda entry: io.BytesIO(archive.read(entry))


def read_author_index(path: str | Path) -> dict[str, Any]:
    """The authors' list of files, ``{dataset}_imgs.npz``, which lies where their code was run.

    Returns ``entries`` (relative to the file's folder), ``labels`` and ``classes``.
    """
    try:
        with np.load(path, allow_pickle=False) as content:
            table = content["imgs"]
        entries, labels = [str(row[0]) for row in table], [int(row[1]) for row in table]
    except (ValueError, KeyError, IndexError, OSError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is no list of images ({error}); give the folder") from error
    names = {
        label: PurePosixPath(entry).parent.name
        for entry, label in zip(entries, labels, strict=True)
    }
    classes = [names.get(label, str(label)) for label in range(max(labels, default=-1) + 1)]
    return {"entries": entries, "labels": labels, "classes": classes}
