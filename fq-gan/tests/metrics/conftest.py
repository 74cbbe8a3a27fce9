"""Two ranks as two threads: the arithmetic of a reduction without the start of two processes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from fqgan.runtime import distributed


class TwoRanks:
    """Runs a function of the rank twice, side by side, with reductions between the two."""

    def __init__(self) -> None:
        self._rank = threading.local()
        self._barrier = threading.Barrier(2, timeout=30)
        self._slots: list[Any] = [None, None]

    def __call__(self, function: Callable[[int], Any]) -> list[Any]:
        def run(rank: int) -> Any:
            self._rank.value = rank
            try:
                return function(rank)
            except BaseException:
                self._barrier.abort()
                raise

        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(run, range(2)))

    def rank(self) -> int:
        return self._rank.value

    def gather(self, value: Any) -> list[Any]:
        self._slots[self.rank()] = value
        self._barrier.wait()
        both = list(self._slots)
        self._barrier.wait()
        return both


@pytest.fixture
def two_ranks(monkeypatch) -> TwoRanks:
    """Call it with a function of the rank; returns what both ranks return."""
    ranks = TwoRanks()
    monkeypatch.setattr(distributed, "rank", ranks.rank)
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    monkeypatch.setattr(distributed, "gather_objects", ranks.gather)
    monkeypatch.setattr(distributed, "reduce_sum", lambda value: sum(ranks.gather(value.clone())))
    return ranks
