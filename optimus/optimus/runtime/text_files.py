"""Lines of text files and the numbers in them, with file and line in every complaint."""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

BOM = b"\xef\xbb\xbf"
UTF_16 = (b"\xff\xfe", b"\xfe\xff")


class Line(NamedTuple):
    """A line of a file, without its end."""

    text: str
    number: int
    """Counted from 1."""
    path: Path

    def complaint(self, problem: str) -> ValueError:
        """An error to raise that says where ``problem`` is."""
        return ValueError(f"{self.path} line {self.number}: {problem}")


def read_lines(path: str | Path) -> Iterator[Line]:
    r"""The lines of a UTF-8 file, empty ones included; a name that ends in .gz is unpacked.

    Only ``\n`` and ``\r\n`` end a line: U+2028, U+0085, form feeds and lone ``\r`` are part of the
    text, as they are where a model is trained on it. A byte order mark is dropped.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a line is no UTF-8 text, or the archive is damaged.
    """
    path = Path(path)
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise FileNotFoundError(f"{path} {what}; give a text file")
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            yield from decode_lines(file, path)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(
            f"{path} is no whole gzip file ({error}); fetch or pack it again"
        ) from error


def decode_lines(rows: Iterable[bytes], path: str | Path) -> Iterator[Line]:
    """The lines of an open binary file, as of `read_lines`; ``path`` is what complaints call it."""
    path = Path(path)
    for number, raw in enumerate(rows, start=1):
        content = raw.removesuffix(b"\n").removesuffix(b"\r")
        yield Line(_decode(content, number, path), number, path)


def read_texts(path: str | Path) -> list[str]:
    """The texts of `read_lines`, one a line, empty ones included."""
    return [line.text for line in read_lines(path)]


def read_number(text: str, line: Line, name: str = "value", *, finite: bool = True) -> float:
    """``text`` of ``line`` as a number.

    Raises:
        ValueError: it is none, or, where ``finite``, NaN or infinite.
    """
    try:
        value = float(text)
    except ValueError:
        raise line.complaint(f"the {name} must be a number, got {text!r}") from None
    if finite and not math.isfinite(value):
        raise line.complaint(f"the {name} must be finite, got {text!r}")
    return value


def _decode(content: bytes, number: int, path: Path) -> str:
    if number == 1:
        content = content.removeprefix(BOM)
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        if number == 1 and content.startswith(UTF_16):
            raise ValueError(
                f"{path} is UTF-16 text; convert it with `iconv -f utf-16 -t utf-8`"
            ) from None
        raise ValueError(
            f"{path} line {number} is no UTF-8 text (byte 0x{content[error.start]:02x} at column "
            f"{error.start + 1}); convert the file, such as with `iconv -f latin1 -t utf-8`"
        ) from None
