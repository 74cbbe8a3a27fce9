"""Image-text-action triplets: collected along shortest paths, in the JSON format of the authors.

A trajectory is one instruction with a state and a teacher action for each time step; a triplet is
one time step: the panorama, the instruction and the next action (Sec. 3.1).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..models.prevalent import IGNORE
from ..runtime.checkpoint import CheckpointMismatch
from ..runtime.files import flushed, json_text
from ..simulator.geometry import (
    NUM_HEADINGS,
    NUM_VIEWS,
    VIEW_ELEVATIONS,
    VIEW_HEADINGS,
    angle_features,
    canonical_angle,
    nearest_view,
)
from ..simulator.graph import Graphs, SimulatorError, candidates_of
from .features import DeviceFeatures
from .instructions import Instruction
from .records import NAME, check_record, read_json_list
from .tokenizers import WordCodes

STOP = 0
CURE = "collect them with `prevalent prepare triplets` or fetch the released files"
STOP_EMBEDDING = (-1, 90, 90)  # view, heading, elevation that the files give a stop
FIELDS = {
    "instr_id": NAME,
    "path": [list],
    "teacher_actions": list,
    "teacher_action_emd": [list],
    "instr_encoding": list,
}

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class TripletTable:
    """All time steps of I trajectories, N in total, as columns."""

    ids: tuple[str, ...]  # (I,) instruction of each trajectory
    tokens: NDArray[np.int32]  # (I, L) word pieces, 0 = padding
    first: Ints  # (I + 1,) first time step of each trajectory
    places: tuple[tuple[str, str], ...]  # (P,) (scan, viewpoint), each once
    place: NDArray[np.int32]  # (N,)
    view: NDArray[np.int16]  # (N,) 0..35, the direction in which the agent looks
    action: NDArray[np.int16]  # (N,) place in the candidates sorted by |relative heading|; 0 = stop
    target_view: NDArray[np.int16]  # (N,) view of the next viewpoint, -1 = stop
    rel_heading: Floats  # (N,) radians to the next viewpoint; 90 at a stop
    rel_elevation: Floats  # (N,)

    def __len__(self) -> int:
        return len(self.place)

    @property
    def owner(self) -> NDArray[np.int32]:
        """(N,) trajectory of each time step."""
        return np.repeat(np.arange(len(self.ids), dtype=np.int32), np.diff(self.first))

    def rows(self, feature_ids: Mapping[str, int]) -> Ints:
        """(P,) row of each place in a feature table; ``ValueError`` names the first without one."""
        for scan, viewpoint in self.places:
            if f"{scan}_{viewpoint}" not in feature_ids:
                raise ValueError(
                    f"the features have no viewpoint {scan}_{viewpoint}, which the triplets visit; "
                    "they must cover every scan of the triplets"
                )
        return np.array([feature_ids[f"{s}_{v}"] for s, v in self.places], dtype=np.int64)

    def records(self) -> Iterator[dict[str, Any]]:
        """Trajectories in the authors' format."""
        stop = list(STOP_EMBEDDING)
        for i, (begin, end) in enumerate(pairwise(self.first.tolist())):
            steps = range(begin, end)
            yield {
                "instr_id": self.ids[i],
                "path": [
                    [
                        *self.places[self.place[n]],
                        int(self.view[n]),
                        float(VIEW_HEADINGS[self.view[n]]),
                        float(VIEW_ELEVATIONS[self.view[n]]),
                    ]
                    for n in steps
                ],
                "teacher_actions": self.action[begin:end].tolist(),
                "teacher_action_emd": [
                    stop
                    if self.target_view[n] < 0
                    else [
                        int(self.target_view[n]),
                        float(self.rel_heading[n]),
                        float(self.rel_elevation[n]),
                    ]
                    for n in steps
                ],
                "instr_encoding": self.tokens[i].tolist(),
            }


def collect_triplets(
    graphs: Graphs,
    instructions: Sequence[Instruction],
    tokens: NDArray[np.int64],
    *,
    max_steps: int = 10,
) -> TripletTable:
    """Walk every instruction's path by the shortest way and record the teacher's actions.

    All walks advance together; instructions of one path share a walk. Deviation: the authors'
    batched collector overwrites shared angles and repeats trajectories at the wrap-around; this
    one gives what theirs gives with a batch of one.

    Args:
        graphs: the scans.
        instructions: in the order of the table; the goal is the last viewpoint of the path.
        tokens: (I, L) word pieces of the instructions.
        max_steps: a longer walk is cut there, without a stop.

    Raises:
        SimulatorError: a start or goal is not in its scan, or there is no way between them.
    """
    scans = [one.scan for one in instructions]
    starts = graphs.nodes(scans, [one.path[0] for one in instructions])
    goals = graphs.nodes(scans, [one.path[-1] for one in instructions])
    views = nearest_view([one.heading for one in instructions], 0.0)
    keys = np.stack([starts, goals, views], axis=1).reshape(-1, 3)
    walks, walk_of = np.unique(keys, axis=0, return_inverse=True)
    walk_of = walk_of.reshape(-1)
    node, goal, view = walks.T
    apart = graphs.next_hop(node, goal) < 0
    if apart.any():
        bad = instructions[int(np.flatnonzero(apart[walk_of])[0])]
        raise SimulatorError(
            f"instruction {bad.id}: scan {bad.scan} has no way from {bad.path[0]} to {bad.path[-1]}"
        )
    columns = _walk(graphs, node, goal, view, max_steps)
    lengths = (columns["node"] >= 0).sum(axis=1)[walk_of]
    valid = np.arange(columns["node"].shape[1]) < lengths[:, None]
    flat = {name: column[walk_of][valid] for name, column in columns.items()}
    visited, place = np.unique(flat["node"], return_inverse=True)
    return TripletTable(
        ids=tuple(one.id for one in instructions),
        tokens=np.asarray(tokens, dtype=np.int32),
        first=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        places=tuple((graphs.scan_of(int(n)), graphs.viewpoints[int(n)]) for n in visited),
        place=place.reshape(-1).astype(np.int32),
        view=flat["view"].astype(np.int16),
        action=flat["action"].astype(np.int16),
        target_view=flat["target_view"].astype(np.int16),
        rel_heading=flat["rel_heading"],
        rel_elevation=flat["rel_elevation"],
    )


def _walk(graphs: Graphs, node: Ints, goal: Ints, view: Ints, max_steps: int) -> dict[str, Any]:
    """Columns (W, steps) of W walks; ``node`` is -1 behind the stop."""
    steps: list[dict[str, NDArray[Any]]] = []
    active = np.ones(len(node), dtype=bool)
    while active.any() and len(steps) < max_steps:
        action, slot, heading = teacher(graphs, node, view, goal)
        table = candidates_of(graphs)
        stopping = action == STOP
        target_view = np.where(stopping, STOP_EMBEDDING[0], table.view[node, slot])
        rel_elevation = np.where(stopping, STOP_EMBEDDING[2], table.elevation[node, slot])
        steps.append(
            {
                "node": np.where(active, node, -1),
                "view": view,
                "action": action,
                "target_view": target_view,
                "rel_heading": np.where(stopping, STOP_EMBEDDING[1], heading),
                "rel_elevation": rel_elevation,
            }
        )
        node = np.where(stopping, node, table.target[node, slot])
        view = np.where(stopping, view, target_view)
        active = active & ~stopping
    return {name: np.stack([step[name] for step in steps], axis=1) for name in steps[0]}


def teacher(graphs: Graphs, node: Ints, view: Ints, goal: Ints) -> tuple[Ints, Ints, Floats]:
    """The shortest-path action of W agents.

    Returns:
        action (W,): place of the next viewpoint among the candidates sorted by the size of their
        relative heading, counted from 1; 0 at the goal. slot (W,): its column in the candidate
        tables. heading (W,): its relative heading in radians, in (-pi, pi].
    """
    table = candidates_of(graphs)
    following = graphs.next_hop(node, goal)
    relative = canonical_angle(
        table.heading[node] - VIEW_HEADINGS[view % NUM_HEADINGS][:, None]
    )  # (W, K)
    used = np.arange(relative.shape[1]) < table.count[node][:, None]
    order = np.argsort(np.where(used, np.abs(relative), np.inf), axis=1, kind="stable")
    sorted_targets = np.take_along_axis(table.target[node], order, axis=1)
    rank = (sorted_targets == following[:, None]).argmax(axis=1)
    slot = order[np.arange(len(node)), rank]
    action = np.where(following == node, STOP, rank + 1)
    return action, slot, relative[np.arange(len(node)), slot]


def relative_views(table: TripletTable) -> NDArray[np.int16]:
    """(N,) the next action as a view: 0 = stop, 1 + 12 e + h for elevation e and h of 12 headings.

    Elevations count from below, headings from the present one to the right, so the target can be
    seen in the panorama; ``TripletTable.action`` also needs to know where the other candidates are.
    """
    turned = (table.target_view - table.view) % NUM_HEADINGS
    seen = 1 + NUM_HEADINGS * (table.target_view // NUM_HEADINGS) + turned
    return np.where(table.action == STOP, STOP, seen).astype(np.int16)


def write_triplets(path: str | Path, table: TripletTable) -> None:
    """Write ``table`` in the authors' JSON format, one trajectory a line."""
    partial = Path(f"{path}.{os.getpid()}.tmp")
    try:
        with flushed(partial) as file:
            file.write(b"[")
            for number, record in enumerate(table.records()):
                file.write(((",\n" if number else "\n") + json_text(record)).encode())
            file.write(b"\n]\n")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def read_triplets(paths: Iterable[str | Path]) -> TripletTable:
    """Read triplet files (the released ones, or ours) into one table.

    Args:
        paths: JSON files, or folders whose ``*.json`` are taken in the order of their names.

    Raises:
        FileNotFoundError: a path does not exist, or a folder has no JSON file.
        ValueError: a record is incomplete; file and record are named.
    """
    builder = _Builder()
    for path in paths:
        for file in _files(Path(path)):
            for number, record in enumerate(read_json_list(file, CURE)):
                builder.add(record, f"{file}, trajectory {number}")
    return builder.build()


def to_table(records: Iterable[Mapping[str, Any]]) -> TripletTable:
    """Table of records in the authors' format."""
    builder = _Builder()
    for number, record in enumerate(records):
        builder.add(record, f"trajectory {number}")
    return builder.build()


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        files = sorted(path.glob("*.json"))
        if not files:
            raise FileNotFoundError(f"{path} has no .json file of triplets")
        return files
    if not path.is_file():
        raise FileNotFoundError(f"triplets {path} do not exist; {CURE}")
    return [path]


def _check_ranges(states: NDArray[np.int32], angles: Floats, words: Any, origin: str) -> None:
    """Raise ``ValueError`` where a number could only stand for something else."""
    _, views, actions, target_views = states
    fine = {
        "a view outside 0..35": (views >= 0) & (views < NUM_VIEWS),
        "an action outside 0..32767": (actions >= 0) & (actions <= np.iinfo(np.int16).max),
        "a target view outside -1..35": (target_views >= -1) & (target_views < NUM_VIEWS),
        "an angle that is not finite": np.isfinite(angles),
        "a negative word piece": words >= 0,
    }
    for problem, passed in fine.items():
        if not passed.all():
            raise ValueError(f"{origin} has {problem}; {CURE}")


class _Builder:
    """Collects records into columns."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.tokens: list[NDArray[np.int32]] = []
        self.lengths: list[int] = []
        self.places: dict[tuple[str, str], int] = {}
        self.states: list[NDArray[np.int32]] = []
        self.angles: list[Floats] = []

    def add(self, record: Mapping[str, Any], origin: str) -> None:
        check_record(record, FIELDS, origin)
        path, actions = record["path"], record["teacher_actions"]
        targets, tokens = record["teacher_action_emd"], record["instr_encoding"]
        if not len(path) == len(actions) == len(targets):
            raise ValueError(
                f"{origin} has {len(path)} states, {len(actions)} actions and {len(targets)} "
                "action embeddings; the three must be equal"
            )
        if self.tokens and len(tokens) != len(self.tokens[0]):
            raise ValueError(
                f"{origin} has {len(tokens)} tokens where the first has {len(self.tokens[0])}"
            )
        try:
            place = [self.places.setdefault((s[0], s[1]), len(self.places)) for s in path]
            views = [state[2] for state in path]
            target_views = [target[0] for target in targets]
            states = np.array([place, views, actions, target_views], dtype=np.int32)
            angles = np.array([t[1:3] for t in targets], dtype=np.float64).reshape(len(path), 2)
            words = np.asarray(tokens, dtype=np.int32)
        except (TypeError, ValueError, IndexError, OverflowError) as error:
            raise ValueError(f"{origin} is damaged ({error}); {CURE}") from None
        _check_ranges(states, angles, words, origin)
        self.ids.append(record["instr_id"])
        self.tokens.append(words)
        self.lengths.append(len(path))
        self.states.append(states)
        self.angles.append(angles.T)

    def build(self) -> TripletTable:
        if not self.ids:
            raise ValueError("the triplet files hold no trajectory")
        place, view, action, target_view = np.concatenate(self.states, axis=1)
        rel_heading, rel_elevation = np.concatenate(self.angles, axis=1)
        return TripletTable(
            ids=tuple(self.ids),
            tokens=np.stack(self.tokens),
            first=np.concatenate([[0], np.cumsum(self.lengths)]).astype(np.int64),
            places=tuple(self.places),
            place=place,
            view=view.astype(np.int16),
            action=action.astype(np.int16),
            target_view=target_view.astype(np.int16),
            rel_heading=rel_heading,
            rel_elevation=rel_elevation,
        )


class Masked(NamedTuple):
    tokens: Tensor  # (..., T) int64, some replaced
    labels: Tensor  # (..., T) int64, the word at selected positions, -1 elsewhere


def mask_words(
    ids: Tensor,
    codes: WordCodes = WordCodes(),  # noqa: B008 - an immutable tuple
    probability: float = 0.15,
    generator: torch.Generator | None = None,
) -> Masked:
    """Select words of ``ids`` (..., T) and hide 80 % behind [MASK], 10 % behind a random word.

    Special ids are never selected; the random word may be any id, special ones included. The
    draws are made in the authors' order, for a whole batch at once.
    """
    special = torch.isin(ids, torch.tensor(codes.special, device=ids.device))
    chance = torch.full(ids.shape, probability, device=ids.device).masked_fill_(special, 0.0)
    selected = torch.bernoulli(chance, generator=generator).bool()
    hidden = _draw(ids, 0.8, generator) & selected
    replaced = _draw(ids, 0.5, generator) & selected & ~hidden
    words = torch.randint(
        codes.vocab_size, ids.shape, dtype=ids.dtype, device=ids.device, generator=generator
    )
    tokens = torch.where(replaced, words, ids.masked_fill(hidden, codes.mask))
    return Masked(tokens, ids.masked_fill(~selected, IGNORE))


def _draw(like: Tensor, probability: float, generator: torch.Generator | None) -> Tensor:
    chance = torch.full(like.shape, probability, device=like.device)
    return torch.bernoulli(chance, generator=generator).bool()


LENGTH_STEP = 8  # texts are cut to a multiple of this, which suits the GPU's kernels


class TripletBatch(NamedTuple):
    tokens: Tensor  # (B, T) int64, some words masked; T covers the longest text of the batch
    mask: Tensor  # (B, T) int64, 1 = word, 0 = padding
    labels: Tensor  # (B, T) int64, the word at masked positions, -1 elsewhere
    positions: Tensor  # (M,) int64, flat places of the labels
    word_positions: Tensor  # (N,) int64, flat places of all words
    word_count: float  # labels of the global batch per process: what the word loss is divided by
    images: Tensor | None  # (B, 36, D)
    actions: Tensor  # (B,) int64


class TripletBatches:
    """Endless batches of one process.

    The time steps stream past in a new random order every epoch, each once; a batch may reach into
    the next epoch. Order and masks depend on ``seed`` and the position in the stream alone, so the
    position is all that resuming needs, and the ranks share one global batch.

    Args:
        table: the triplets.
        codes: what masking must know of the vocabulary.
        batch_size: B, triplets of this process.
        features: view features (block layout); None leaves the images out.
        feature_rows: row of each ``scan_viewpoint`` in ``features`` (``FeatureStore.rows``).
        device: where batches go.
        seed: of order and masks.
        rank, world_size: this process and its peers.
    """

    def __init__(
        self,
        table: TripletTable,
        codes: WordCodes,
        batch_size: int,
        *,
        features: DeviceFeatures | None = None,
        feature_rows: Mapping[str, int] | None = None,
        device: torch.device | str = "cpu",
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if int(table.tokens.max()) >= codes.vocab_size:
            raise ValueError(
                f"the triplets hold word piece {int(table.tokens.max())}, but the vocabulary has "
                f"{codes.vocab_size}; they were made with another vocabulary"
            )
        self.table, self.codes, self.batch_size = table, codes, batch_size
        self.features, self.device, self.seed = features, torch.device(device), seed
        self.rank, self.world_size = rank, world_size
        self.position = 0  # time steps of the stream that all ranks together have seen
        self._owner = table.owner
        self._tokens = torch.from_numpy(table.tokens)
        self._rows = None if feature_rows is None else table.rows(feature_rows)
        self._epoch, self._order = -1, np.empty(0, dtype=np.int64)

    @property
    def batches_per_epoch(self) -> float:
        """Batches of one pass over the triplets (a fraction, as the stream does not pause)."""
        return len(self.table) / (self.batch_size * self.world_size)

    def __iter__(self) -> TripletBatches:
        return self

    def __next__(self) -> TripletBatch:
        total = self.batch_size * self.world_size
        index = self._take(self.position, total)
        generator = torch.Generator().manual_seed(_seed(self.seed, 1, self.position))
        self.position += total
        # The masks of all ranks are drawn, so that the number of masked words is known here and
        # several processes see what one would.
        tokens = self._tokens[torch.from_numpy(self._owner[index])].long()  # (B * world, L)
        masked = mask_words(tokens, self.codes, generator=generator)
        part = slice(self.rank * self.batch_size, (self.rank + 1) * self.batch_size)
        return self._collate(
            index[part],
            tokens[part],
            masked.tokens[part],
            masked.labels[part],
            float((masked.labels >= 0).sum()) / self.world_size,
        )

    def _collate(
        self,
        index: NDArray[np.int64],
        tokens: Tensor,
        masked: Tensor,
        labels: Tensor,
        word_count: float,
    ) -> TripletBatch:
        longest = int((tokens != 0).sum(dim=1).max())
        length = min(-(-longest // LENGTH_STEP) * LENGTH_STEP, tokens.shape[1])
        labels = labels[:, :length].contiguous()
        mask = (tokens[:, :length] != 0).long()
        actions = torch.from_numpy(self.table.action[index].astype(np.int64))
        images = None
        if self.features is not None and self._rows is not None:
            rows = self._rows[self.table.place[index]]
            images = self.features.panorama(rows, self.table.view[index].astype(np.int64))
        return TripletBatch(
            self._move(masked[:, :length]),
            self._move(mask),
            self._move(labels),
            self._move((labels.flatten() >= 0).nonzero().squeeze(1)),
            self._move(mask.flatten().nonzero().squeeze(1)),
            word_count,
            images,
            self._move(actions),
        )

    def _move(self, tensor: Tensor) -> Tensor:
        if self.device.type != "cuda":
            return tensor
        return tensor.pin_memory().to(self.device, non_blocking=True)

    def _take(self, start: int, count: int) -> NDArray[np.int64]:
        """Time steps ``start`` to ``start + count`` of the stream."""
        parts = []
        while count:
            epoch, offset = divmod(start, len(self.table))
            if epoch != self._epoch:
                generator = np.random.default_rng([self.seed, epoch])
                self._epoch, self._order = epoch, generator.permutation(len(self.table))
            part = self._order[offset : offset + count]
            parts.append(part)
            start, count = start + len(part), count - len(part)
        return np.concatenate(parts)

    def state_dict(self) -> dict[str, Any]:
        return {"position": self.position, "triplets": len(self.table)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        count = len(self.table)
        if state.get("triplets", count) != count:
            raise CheckpointMismatch(
                f"the checkpoint goes through {state['triplets']} triplets, the data now has "
                f"{count}; give the same --data-dir and --train, or a new --run-dir"
            )
        self.position = int(state["position"])


def _seed(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


def make_sample(
    table: TripletTable,
    index: int,
    features: DeviceFeatures,
    feature_rows: Mapping[str, int],
    codes: WordCodes,
    *,
    generator: torch.Generator | None = None,
) -> dict[str, Tensor]:
    """Time step ``index`` as the authors' dataset gives it, the unused parts included.

    The keys: ``masked_text_seq``, ``masked_text_label``, ``lang_attention_mask`` (L,);
    ``feature_all`` (36, D), ``teacher``, ``teacher_embedding`` (D,); the same three with ``next_``
    for the following step (the last step repeats itself); ``isnext`` and ``next_img`` (36, D): with
    even odds the next panorama (1), or the next viewpoint seen from another view (0).
    """
    trajectory = int(np.searchsorted(table.first, index, side="right")) - 1
    following = min(index + 1, int(table.first[trajectory + 1]) - 1)
    rows = table.rows(feature_rows)
    tokens = torch.from_numpy(table.tokens[trajectory]).long()
    masked = mask_words(tokens, codes, generator=generator)
    is_next = int(torch.randint(2, (), generator=generator))
    other = int(torch.randint(NUM_VIEWS - 1, (), generator=generator))
    next_view = int(table.view[following])
    other = next_view if is_next else other + (other >= next_view)

    def panorama(step: int, view: int) -> Tensor:
        return features.panorama(rows[table.place[[step]]], np.array([view]))[0]

    return {
        "masked_text_seq": masked.tokens,
        "masked_text_label": masked.labels,
        "lang_attention_mask": (tokens != 0).long(),
        "feature_all": panorama(index, int(table.view[index])),
        "teacher": torch.tensor(int(table.action[index])),
        "teacher_embedding": _action_embedding(table, index, features, rows),
        "next_feature_all": panorama(following, next_view),
        "next_teacher": torch.tensor(int(table.action[following])),
        "next_teacher_embedding": _action_embedding(table, following, features, rows),
        "isnext": torch.tensor(is_next),
        "next_img": panorama(following, other),
    }


def _action_embedding(
    table: TripletTable, step: int, features: DeviceFeatures, rows: NDArray[np.int64]
) -> Tensor:
    """(D,) features of the chosen view and its direction; zeros for a stop."""
    view = int(table.target_view[step])
    image = features.single(rows[table.place[[step]]], np.array([max(view, 0)]))[0]
    angles = torch.from_numpy(
        angle_features(
            table.rel_heading[step], table.rel_elevation[step], features.angle_size, "block"
        )
    ).to(image)
    return torch.cat([image, angles]) * float(view >= 0)
