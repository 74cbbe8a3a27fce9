"""A long job over a file, kept chunk by chunk: what was done before a kill is not done again."""

from __future__ import annotations

import logging
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from tqdm import tqdm

from ..data.columns import STANDARD_INPUT, Item
from ..runtime.files import digest, json_text, take_lock, write_atomically

logger = logging.getLogger(__name__)
SIZE = 4096
"""Sentences of a chunk."""


class Chunks:
    """Results on their way to ``output``, as files in ``OUTPUT.partial``.

    Used as a context manager. The same command again goes on with the first chunk that is missing;
    where ``plan`` is another (another model, file or option), all is done anew.

    Args:
        output: the file that is to come; it must not exist yet.
        plan: all that decides on the results.

    Raises:
        FileExistsError: there is an ``output``.
        ValueError: another command is writing it.
    """

    def __init__(self, output: Path, plan: Mapping[str, Any]) -> None:
        if output.exists():
            raise FileExistsError(f"--output {output} exists; move it away or give another name")
        self.output, self.folder = output, output.with_name(f"{output.name}.partial")
        self._file = plan.get("file", "the file")
        self._plan = json_text(plan, indent=2, default=str) + "\n"
        self._lock: TextIO | None = None

    def __enter__(self) -> Chunks:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = take_lock(
            self.folder / ".lock",
            f"another command is writing {self.output}; wait for it or give another --output",
        )
        plan = self.folder / "plan.json"
        if not plan.is_file() or plan.read_text() != self._plan:
            for path in self._paths():
                path.unlink()
            write_atomically(plan, self._plan)
        return self

    def __exit__(self, *_: object) -> None:
        if not self._paths():
            shutil.rmtree(self.folder, ignore_errors=True)
        if self._lock is not None:
            self._lock.close()

    def work(
        self, items: Iterable[Item], make: Callable[[list[Item], int], bytes], size: int = SIZE
    ) -> int:
        """Make every chunk that is missing; blank items are left out and counted.

        Args:
            items: all of the file.
            make: the content of a chunk from its sentences and the number of the first.
            size: sentences of a chunk.

        Returns:
            How many items were blank.
        """
        blank = first = 0

        def sentences() -> Iterator[Item]:
            nonlocal blank
            for item in items:
                if item.text:
                    yield item
                else:
                    blank += 1

        before = len(self._paths())
        if before:
            logger.info("%d chunks of %d sentences are there already", before, size)
        stream = sentences()
        with tqdm(unit="sentence", disable=None) as bar:
            while chunk := list(islice(stream, size)):
                path = self.folder / f"{first // size:07d}.chunk"
                if not path.exists():
                    write_atomically(path, make(chunk, first))
                first += len(chunk)
                bar.update(len(chunk))
        return blank

    def finish(self, join: Callable[[Sequence[Path], Path], Any]) -> Any:
        """Put all chunks together in a file that becomes ``output``; what ``join`` returns."""
        paths = self._paths()
        if not paths:
            raise ValueError(f"{self._file} holds no sentence")
        whole = self.folder / f"whole{self.output.suffix}"
        result = join(paths, whole)
        whole.replace(self.output)
        shutil.rmtree(self.folder)
        return result

    def _paths(self) -> list[Path]:
        return sorted(self.folder.glob("*.chunk"))


def identity(path: Path) -> str:
    """What tells a file from another; standard input is never the same."""
    if path == STANDARD_INPUT:
        return uuid.uuid4().hex
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise FileNotFoundError(f"{path} {what}: give a file of sentences, or - for input")
    return digest(path)
