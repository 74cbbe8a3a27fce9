"""Downloads that are checked, resumed and named only when they are whole."""

from __future__ import annotations

import logging
import os
import shutil
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

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
                "it is damaged or another version; delete it and run the same command again"
            )
