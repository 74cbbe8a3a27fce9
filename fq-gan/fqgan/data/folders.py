"""Readers of image files: class folders, zips, photographs without classes, CelebA, LSUN."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import zipfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import numpy as np
import torch
from PIL import Image

from ..metrics.networks import default_cache_dir
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


Fit = Callable[[Image.Image, int, float], np.ndarray]

CELEBA_SIZE = (178, 218)  # pixels of img_align_celeba_png
CELEBA_CENTRE = (89, 121)
CELEBA_CROP = 128
WIDE = (4, 3)
"""Aspect of LSUN's wide crops."""


def read_photographs(
    root: str | Path,
    *,
    resolution: int,
    workers: int = 4,
    skip_other_files: bool = False,
    fit: Fit | None = None,
) -> EncodedImages:
    """All images below ``root``, in alphabetical order, in one class.

    Args:
        root: folder, with or without sub-folders.
        resolution: R; by default the centre is cut square and resized to it.
        workers: threads that decode.
        skip_other_files: pass over files that are no images.
        fit: see `EncodedImages`.

    Raises:
        FileNotFoundError: ``root`` is no folder.
        ValueError: it holds no image, or another file.
    """
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(f"--data.path {root} is not a folder; it must hold image files")
    entries = []
    for parent, folders, files in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for file in files:
            if is_image_name(file):
                entries.append((Path(parent) / file).relative_to(root).as_posix())
            elif not skip_other_files and not file.startswith("."):
                raise ValueError(
                    f"{Path(parent) / file} is not an image file; move it away or give "
                    "--data.skip-other-files"
                )
    if not entries:
        raise ValueError(f"--data.path {root} holds no image")
    return _one_class(
        sorted(entries),
        str(root),
        resolution=resolution,
        load=lambda entry: (root / entry).open("rb"),
        workers=workers,
        fit=fit,
    )


def read_celeba(root: str | Path, *, workers: int = 4) -> EncodedImages:
    """CelebA's aligned images, cut to the 128 x 128 pixels around the face as ProGAN does.

    Args:
        root: ``img_align_celeba`` or ``img_align_celeba_png``.
        workers: threads that decode.
    """
    return read_photographs(root, resolution=CELEBA_CROP, workers=workers, fit=_face)


def _face(image: Image.Image, resolution: int, offset: float) -> np.ndarray:
    if image.size != CELEBA_SIZE:
        raise ValueError(f"it has {image.size} pixels, CelebA's aligned images have {CELEBA_SIZE}")
    left, top = (centre - CELEBA_CROP // 2 for centre in CELEBA_CENTRE)
    return np.asarray(image.crop((left, top, left + CELEBA_CROP, top + CELEBA_CROP)))


def read_lsun(
    path: str | Path, *, resolution: int, wide: bool = False, workers: int = 4, limit: int = 0
) -> EncodedImages:
    """Images of one LSUN category, in the order of their keys.

    Args:
        path: the unpacked ``CATEGORY_lmdb`` folder.
        resolution: R; images are resized with Pillow's Lanczos filter.
        wide: instead of a square cut at the centre, take 4:3 and put it between black bars, as the
            authors do for cars; images smaller than that are passed over.
        workers: threads that decode.
        limit: take the first so many; 0 takes all.

    Raises:
        ImportError: the package lmdb is absent.
        FileNotFoundError: there is no such database.
    """
    try:
        import lmdb
    except ImportError:
        raise ImportError(
            "--data.source lsun reads LMDB files, which needs the package lmdb: "
            "pip install 'fq-gan[lsun]', or unpack the images and use --data.source images"
        ) from None
    if not (Path(path) / "data.mdb").is_file():
        raise FileNotFoundError(
            f"--data.path {path} has no data.mdb; fetch a category from "
            "https://www.yf.io/p/lsun and unpack it"
        )
    database = lmdb.open(str(path), readonly=True, lock=False, readahead=False)

    def load(entry: str) -> BinaryIO:
        with database.begin() as transaction:
            return io.BytesIO(transaction.get(bytes.fromhex(entry)))

    entries: list[str] = []
    with database.begin() as transaction:
        for key, value in transaction.cursor():
            if limit and len(entries) >= limit:
                break
            if not wide or _is_wide_enough(value, resolution):
                entries.append(bytes(key).hex())
    if not entries:
        raise ValueError(f"{path} holds no image of {resolution} pixels width")
    fit = _wide if wide else _lanczos
    return _one_class(
        entries, str(path), resolution=resolution, load=load, workers=workers, fit=fit
    )


def _is_wide_enough(content: Any, resolution: int) -> bool:
    with Image.open(io.BytesIO(content)) as image:
        width, height = image.size
    cut = round(width * WIDE[1] / WIDE[0])
    return width >= resolution and height >= cut


def _lanczos(image: Image.Image, resolution: int, offset: float) -> np.ndarray:
    edge = min(image.size)
    left, top = (round((length - edge) * offset) for length in image.size)
    image = image.crop((left, top, left + edge, top + edge))
    return np.asarray(image.resize((resolution, resolution), Image.Resampling.LANCZOS))


def _wide(image: Image.Image, resolution: int, offset: float) -> np.ndarray:
    width, height = image.size
    cut, shown = round(width * WIDE[1] / WIDE[0]), resolution * WIDE[1] // WIDE[0]
    top = (height - cut) // 2
    image = image.crop((0, top, width, top + cut))
    image = image.resize((resolution, shown), Image.Resampling.LANCZOS)
    canvas = np.zeros((resolution, resolution, 3), np.uint8)
    start = (resolution - shown) // 2
    canvas[start : start + shown] = np.asarray(image)
    return canvas


def _one_class(entries: Sequence[str], name: str, **options: Any) -> EncodedImages:
    return EncodedImages(
        entries, torch.zeros(len(entries), dtype=torch.int64), ["0"], name, **options
    )
