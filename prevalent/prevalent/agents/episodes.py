"""Instructions with their encoded texts, and the endless batches that training takes from them."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.instructions import BatchOrder, Instruction
from ..data.results import Reference
from ..data.tokenizers import WordPieceTokenizer
from ..data.vocabulary import WordTokenizer
from ..runtime.distributed import World
from .rollout import Batch

logger = logging.getLogger(__name__)
Tokenizer = WordTokenizer | WordPieceTokenizer


@dataclass(frozen=True)
class Episodes:
    """Instructions of a split; ``tokens`` is (N, L), 0-padded, or (N, M, L) with M texts each."""

    instructions: Sequence[Instruction]
    tokens: NDArray[np.int64]

    @classmethod
    def encode(
        cls,
        instructions: Sequence[Instruction],
        tokenizer: Tokenizer,
        origin: str = "the split",
        *,
        num_texts: int = 1,
        alone: bool = False,
    ) -> Episodes:
        """Encode all texts; those without a word are left out, as the authors do, and counted.

        Args:
            instructions: of the split.
            tokenizer: of the agent.
            origin: for the message.
            num_texts: M; above 1 an episode has the first M instructions of its path, in their
                order, again from the first where there are fewer.
            alone: with M texts, M times the episode's own.

        Raises ``ValueError`` naming ``origin`` where nothing remains.
        """
        encoded = [(one, tokenizer.encode(one.text)) for one in instructions]
        kept = [(one, tokens) for one, tokens in encoded if tokens is not None]
        if not kept:
            raise ValueError(f"{origin} has no instruction with a word in it")
        if len(kept) < len(encoded):
            left = len(encoded) - len(kept)
            logger.warning("%s: %d of %d texts have no word; left out", origin, left, len(encoded))
        rows = np.stack([tokens for _, tokens in kept])
        if num_texts > 1:
            own = [[i] for i in range(len(kept))] if alone else _same_path([one for one, _ in kept])
            rows = rows[[[row[j % len(row)] for j in range(num_texts)] for row in own]]
        return cls([one for one, _ in kept], rows)

    def __len__(self) -> int:
        return len(self.instructions)

    def batch(self, index: Sequence[int]) -> Batch:
        """The episodes of ``index``."""
        return Batch([self.instructions[i] for i in index], self.tokens[list(index)])

    def part(self, rank: int, size: int) -> Episodes:
        """Every ``size``-th episode, for one process of ``size``."""
        return Episodes(self.instructions[rank::size], self.tokens[rank::size])

    def first(self, count: int) -> Episodes:
        """The first ``count`` episodes."""
        return Episodes(self.instructions[:count], self.tokens[:count])

    def batches(self, batch_size: int) -> Iterator[Batch]:
        """All episodes once, texts of like length together."""
        words = (self.tokens != 0).reshape(len(self), -1).sum(axis=1)
        order = np.argsort(words, kind="stable").tolist()
        for start in range(0, len(order), batch_size):
            yield self.batch(order[start : start + batch_size])

    def references(self) -> list[Reference]:
        """What results are scored against."""
        return [
            Reference(one.id, one.scan, one.path[0], {"path": one.path})
            for one in self.instructions
        ]


def _same_path(instructions: Sequence[Instruction]) -> list[list[int]]:
    """For each instruction the places of all of its path, in their order by name."""
    groups: dict[tuple, list[int]] = {}
    for i, one in enumerate(instructions):
        groups.setdefault((one.path_id, one.scan, one.path), []).append(i)
    for group in groups.values():
        group.sort(key=lambda i: instructions[i].id)
    return [groups[one.path_id, one.scan, one.path] for one in instructions]


class EpisodeBatches:
    """Endless batches in the authors' order; N processes share out batches of N times the size.

    Args:
        episodes: to draw from.
        batch_size: episodes of one process.
        world: this process among its peers.
    """

    def __init__(self, episodes: Episodes, batch_size: int, world: World) -> None:
        self.episodes, self.world = episodes, world
        self.order = BatchOrder(len(episodes), batch_size * world.size)

    def __iter__(self) -> EpisodeBatches:
        return self

    def __next__(self) -> Batch:
        return self.episodes.batch(next(self.order)[self.world.rank :: self.world.size])

    def state_dict(self) -> dict[str, Any]:
        return self.order.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if len(state["order"]) != len(self.episodes):
            raise ValueError(
                f"the checkpoint goes through {len(state['order'])} episodes, the data now has "
                f"{len(self.episodes)}; give the same --train, --aug and --words, or a new "
                "--run-dir"
            )
        self.order.load_state_dict(state)
