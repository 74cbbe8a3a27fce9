"""Readers of image files: class folders, zips, photographs without classes, CelebA, LSUN."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import os
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import torch
from PIL import Image

from ..metrics.networks import default_cache_dir
from ..runtime.files import json_text, why, write_atomically
from .images import EncodedImages, is_image_name

logger = logging.getLogger(__name__)

DESCRIPTION = "dataset.json"
"""What NVlabs' tools call the file of labels beside the images."""
SPLITS = {"train", "validation", "test"}
SHOWN = 12
"""So many classes are printed with their numbers of images."""
MAX_FILE_BYTES = 1 << 28
"""No single image in an archive unpacks to more than this."""


class ClassList(NamedTuple):
    """The images of a folder or archive and their classes."""

    classes: list[str]
    entries: list[str]  # N, relative to the folder or archive
    labels: list[int]  # N

    def __str__(self) -> str:
        """Numbers of images by class: "6 images, 3 classes: cat 2, dog 3, owl 1"."""
        counts = Counter(self.labels)
        shown = [f"{name} {counts[label]}" for label, name in enumerate(self.classes)]
        if len(shown) > SHOWN:
            shown[SHOWN:] = [f"and {len(shown) - SHOWN} more"]
        number = len(self.classes)
        classes = "1 class" if number == 1 else f"{number} classes"
        return f"{len(self.entries)} images, {classes}: {', '.join(shown)}"


def find_classes(
    files: Iterable[str],
    folders: Iterable[str],
    name: str,
    *,
    description: str | None = None,
    skip_other_files: bool = False,
    prefix: str = "--data.",
    archive: bool = False,
) -> ClassList:
    """Which classes a folder or zip archive holds; nothing else decides it.

    Args:
        files: names of all files, relative to the folder or archive, with slashes.
        folders: names of the folders at its top, which hold no image if they are empty.
        name: what errors call it.
        description: content of an NVlabs ``dataset.json`` at its top, which then says the classes.
        skip_other_files: pass over files that are no images or lie outside of classes.
        prefix: of the options that errors name.
        archive: whether it is an archive, whose folders no option can name.

    Raises:
        ValueError: there is no class, a class is empty or holds only folders, a file is no image.
    """
    images: list[str] = []
    others: list[str] = []
    depth = 1 if description is None else 0
    for file in files:
        if not visible(file) or file == DESCRIPTION:
            continue
        fits = is_image_name(file) and file.count("/") >= depth
        (images if fits else others).append(file)
    if others and not skip_other_files:
        first = min(others)
        wrong = (
            "lies outside of the class folders" if is_image_name(first) else "is not an image file"
        )
        more = f" (nor are {len(others) - 1} others in place)" if len(others) > 1 else ""
        flat = archive and not images and any(map(is_image_name, others))
        cure = (
            f"if all are of one class, give {prefix}source shards"
            if flat
            else f"move it away or give {prefix}skip-other-files"
        )
        raise ValueError(f"{name}/{first} {wrong}{more}; {cure}")
    if description is not None:
        return _described(sorted(images), description, f"{name}/{DESCRIPTION}")
    top = {file.split("/")[0] for file in images}
    classes = sorted({*filter(visible, folders), *top})
    direct = {file.split("/")[0] for file in images if file.count("/") == 1}
    for one in classes:
        if one not in top:
            raise ValueError(
                f"class folder {name}/{one} holds no image; add some or remove the folder"
            )
        if one not in direct:
            inner = sorted({file.split("/")[1] for file in images if file.startswith(f"{one}/")})
            more = f" and {len(inner) - 5} more" if len(inner) > 5 else ""
            cure = "pack that folder alone" if archive else f"give {prefix}path {name}/{one}"
            raise ValueError(
                f"class folder {name}/{one} holds only folders: {', '.join(inner[:5])}{more}; if "
                f"those are the classes, {cure}, else put the images into "
                "the class folder itself"
            )
    number = {one: label for label, one in enumerate(classes)}
    ordered = sorted(images, key=lambda file: (file.split("/")[0], *file.rpartition("/")))
    return ClassList(classes, ordered, [number[file.split("/")[0]] for file in ordered])


def _described(images: list[str], description: str, name: str) -> ClassList:
    """The classes that NVlabs' ``dataset.json`` gives: ``{"labels": [[FILE, CLASS], ...]}``."""
    try:
        labels = json.loads(description)["labels"]
        label_of = None if labels is None else {str(file): label for file, label in labels}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(
            f"{name} is no list of labels ({why(error)}); "
            '{"labels": [["a.png", 0], ...]} is needed'
        ) from error
    if label_of is None:
        return ClassList(["0"], images, [0] * len(images))
    wrong = [label for label in label_of.values() if type(label) is not int or label < 0]
    if wrong:
        raise ValueError(f"{name}: {wrong[0]!r} is no number of a class")
    for listed, there, what in (
        (set(images), set(label_of), "has no label for"),
        (set(label_of), set(images), "names, but there is no image,"),
    ):
        lacking = sorted(listed - there)
        if lacking:
            more = f" and {len(lacking) - 1} others" if len(lacking) > 1 else ""
            raise ValueError(f"{name} {what} {lacking[0]}{more}")
    classes = [str(label) for label in range(max(label_of.values(), default=-1) + 1)]
    return ClassList(classes, images, [label_of[file] for file in images])


def visible(name: str) -> bool:
    """Whether no part of a path is hidden or an archive tool's own, as ``._a.jpg`` is."""
    return not any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))


def read_folder(
    root: str | Path,
    *,
    resolution: int,
    workers: int = 4,
    skip_other_files: bool = False,
    cache_dir: Path | None = None,
    prefix: str = "--data.",
) -> EncodedImages:
    """Images of ``root/CLASS/**/FILE``; classes are numbered in alphabetical order.

    Where ``root`` has NVlabs' ``dataset.json``, that gives the classes. The list of files is kept
    in ``cache_dir`` (default `default_cache_dir`), keyed by the folders and their dates of change,
    so that a folder of a million files is listed once.

    Raises:
        FileNotFoundError: ``root`` is no folder, nor the authors' ``{dataset}_imgs.npz``.
        ValueError: see `find_classes`.
    """
    root = Path(root).absolute()
    if root.name.endswith("_imgs.npz"):
        root, index = root.parent, read_author_index(root)
    elif root.is_dir():
        cache_dir = cache_dir or default_cache_dir()
        index = _cached_index(root, skip_other_files, cache_dir, prefix)
    else:
        raise FileNotFoundError(f"{prefix}path {root} is not a folder; it must hold CLASS/IMAGE")
    found = ClassList(index["classes"], index["entries"], index["labels"])
    logger.info("%s: %s", root, found)
    return EncodedImages(
        found.entries,
        torch.tensor(found.labels, dtype=torch.int64),
        found.classes,
        str(root),
        resolution=resolution,
        load=lambda entry: (root / entry).open("rb"),
        workers=workers,
    )


def _cached_index(
    root: Path, skip_other_files: bool, cache_dir: Path, prefix: str
) -> dict[str, Any]:
    key = hashlib.sha256(f"classes {root} {skip_other_files}".encode()).hexdigest()[:32]
    path = cache_dir / "folders" / f"{key}.json"
    cached = _read_cache(path)
    if cached is not None and _dates(root, cached["folders"]) == list(cached["folders"].values()):
        return cached
    index = _index(root, skip_other_files, prefix)
    # A home that cannot be written costs a listing each time, nothing else.
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json_text(index))
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


def _index(root: Path, skip_other_files: bool, prefix: str) -> dict[str, Any]:
    tops = sorted(p.name for p in root.iterdir() if p.is_dir() and visible(p.name))
    if not tops:
        raise ValueError(f"{prefix}path {root} has no sub-folders; images must lie in CLASS/IMAGE")
    files = [p.name for p in root.iterdir() if p.is_file()]
    # A list of labels can change while its folder does not.
    described = DESCRIPTION in files
    folders = [".", *([DESCRIPTION] if described else []), *tops]
    for top in tops:
        for parent, inner, names in os.walk(root / top):
            inner[:] = filter(visible, inner)
            place = Path(parent).relative_to(root).as_posix()
            folders += [f"{place}/{folder}" for folder in inner]
            files += [f"{place}/{name}" for name in names]
    found = find_classes(
        files,
        tops,
        str(root),
        description=(root / DESCRIPTION).read_text(encoding="utf-8") if described else None,
        skip_other_files=skip_other_files,
        prefix=prefix,
    )
    return {**found._asdict(), "folders": dict(zip(folders, _dates(root, folders), strict=True))}


def read_zip(
    path: str | Path,
    *,
    resolution: int,
    split: str = "train",
    workers: int = 4,
    skip_other_files: bool = False,
) -> EncodedImages:
    """Images of a zip archive of what `read_folder` reads, also one split out of several.

    A folder that holds everything, which archive tools put around, is looked through; of folders
    ``train``, ``validation``, ``test`` that hold classes ``split`` is taken.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no zip archive, lacks the split, or see `find_classes`.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"--data.path {path} is not a file; give a zip archive of images")
    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path} is not a whole zip archive; fetch it again") from error
    start = _start(archive.namelist(), split, path)
    inside = [m for m in archive.infolist() if m.filename.startswith(start)]
    inside = [m for m in inside if visible(m.filename.rstrip("/"))]
    for member in inside:
        if member.file_size > MAX_FILE_BYTES:
            raise ValueError(
                f"{path}: {member.filename} would unpack to {member.file_size} bytes: refused"
            )
    names = [m.filename.removeprefix(start) for m in inside]
    files = [name for name in names if name and not name.endswith("/")]
    if not any(map(is_image_name, files)) and (skip_other_files or not files):
        raise ValueError(f"{path} holds no image")
    described = DESCRIPTION in files
    found = find_classes(
        files,
        {name.split("/")[0] for name in names if "/" in name},
        f"{path}/{start}".rstrip("/"),
        description=archive.read(start + DESCRIPTION).decode() if described else None,
        skip_other_files=skip_other_files,
        archive=True,
    )
    logger.info("%s: %s", path, found)
    return EncodedImages(
        found.entries,
        torch.tensor(found.labels, dtype=torch.int64),
        found.classes,
        f"{path} ({split})",
        resolution=resolution,
        load=_loader(archive, start),
        workers=workers,
    )


def _start(names: Iterable[str], split: str, path: Path) -> str:
    """What the names of all images of ``split`` begin with: "", "photos/", "photos/train/"."""
    files = [name for name in names if visible(name)]
    files = [f for f in files if is_image_name(f) or f.split("/")[-1] == DESCRIPTION]
    start = ""
    while True:
        inside = [name.removeprefix(start) for name in files if name.startswith(start)]
        tops = sorted({name.split("/")[0] for name in inside})
        if not inside or any(name.count("/") < 2 for name in inside) or DESCRIPTION in tops:
            only = len(tops) == 1 and f"{tops[0]}/{DESCRIPTION}" in inside
            return f"{start}{tops[0]}/" if only else start
        if split in tops:
            return f"{start}{split}/"
        if set(tops) <= SPLITS:
            raise ValueError(
                f"{path} has no {split}/ folder, it has {', '.join(tops)}; choose with --data.split"
            )
        if len(tops) > 1:
            return start
        start = f"{start}{tops[0]}/"


def _loader(archive: zipfile.ZipFile, start: str) -> Callable[[str], BinaryIO]:
    return lambda entry: read_member(archive, start + entry)


def read_member(archive: zipfile.ZipFile, name: str) -> BinaryIO:
    """The content of one file of a zip archive; raises ``ValueError`` where it is damaged."""
    # Bytes are handed over whole: reading from the shared file under Pillow would serialize it.
    try:
        return io.BytesIO(archive.read(name))
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise ValueError(str(error)) from error  # damaged, encrypted or of an unknown method


def read_author_index(path: str | Path) -> dict[str, Any]:
    """The authors' list of files, ``{dataset}_imgs.npz``, which lies where their code was run.

    Returns ``entries`` (relative to the file's folder), ``labels`` and ``classes``.
    """
    try:
        with np.load(path, allow_pickle=False) as content:
            table = content["imgs"]
        entries, labels = [str(row[0]) for row in table], [int(row[1]) for row in table]
    except (ValueError, KeyError, IndexError, OSError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is no list of images ({why(error)}); give the folder") from error
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
        raise FileNotFoundError(f"{root} is not a folder; it must hold image files")
    entries = []
    for parent, folders, files in os.walk(root):
        folders[:] = filter(visible, folders)
        for file in filter(visible, files):
            if is_image_name(file):
                entries.append((Path(parent) / file).relative_to(root).as_posix())
            elif not skip_other_files and file != DESCRIPTION:
                raise ValueError(
                    f"{Path(parent) / file} is not an image file; move it away or give "
                    "--data.skip-other-files"
                )
    if not entries:
        raise ValueError(f"{root} holds no image")
    return _one_class(
        sorted(entries),
        str(root),
        resolution=resolution,
        load=lambda entry: (root / entry).open("rb"),
        workers=workers,
        fit=fit,
    )


def read_celeba(
    root: str | Path, *, workers: int = 4, skip_other_files: bool = False
) -> EncodedImages:
    """CelebA's aligned images, cut to the 128 x 128 pixels around the face as ProGAN does.

    Args:
        root: ``img_align_celeba`` or ``img_align_celeba_png``.
        workers: threads that decode.
        skip_other_files: pass over files that are no images.
    """
    return read_photographs(
        root, resolution=CELEBA_CROP, workers=workers, skip_other_files=skip_other_files, fit=_face
    )


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
            "the source lsun reads LMDB files, which needs the package lmdb: "
            "pip install 'fq-gan[lsun]', or unpack the images and use the source images"
        ) from None
    if not (Path(path) / "data.mdb").is_file():
        raise FileNotFoundError(
            f"{path} has no data.mdb; fetch a category from https://www.yf.io/p/lsun and unpack it"
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
