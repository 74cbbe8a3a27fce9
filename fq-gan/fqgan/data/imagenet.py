"""ImageNet's training archive, an archive of 1000 archives, into one folder per class."""

from __future__ import annotations

import logging
import re
import shutil
import tarfile
from pathlib import Path
from typing import IO

logger = logging.getLogger(__name__)

_CLASS = re.compile(r"(n\d{8})\.tar")
_IMAGE = re.compile(r"n\d{8}_\d+\.JPEG")


def unpack_imagenet(archive: str | Path, folder: str | Path) -> int:
    """Unpack ``ILSVRC2012_img_train.tar`` into ``folder/CLASS/IMAGE.JPEG``; returns the classes.

    A class that is there is passed over, and a class appears whole or not at all, so an
    interrupted run goes on when started again. Members of any other name are refused.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    classes = 0
    try:
        with tarfile.open(archive) as outer:
            for member in outer:
                found = _CLASS.fullmatch(member.name)
                content = outer.extractfile(member) if found and member.isfile() else None
                if found is None or content is None:
                    raise ValueError(
                        f"{archive} holds {member.name!r}; give ILSVRC2012_img_train.tar"
                    )
                if not (folder / found[1]).exists():
                    _unpack_class(content, folder / found[1])
                    logger.info("%s", found[1])
                classes += 1
    except tarfile.TarError as error:
        raise ValueError(f"{archive} is not a whole tar archive ({error})") from error
    return classes


def _unpack_class(content: IO[bytes], target: Path) -> None:
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    with tarfile.open(fileobj=content) as inner:
        for member in inner:
            image = inner.extractfile(member) if member.isfile() else None
            if image is None or not _IMAGE.fullmatch(member.name):
                raise ValueError(f"{target.name}.tar holds {member.name!r}, which is no image")
            with (partial / member.name).open("wb") as file:
                shutil.copyfileobj(image, file)
    partial.rename(target)
