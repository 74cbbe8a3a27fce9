"""A toy world in the official formats, so that everything can be run and learned offline.

Houses are navigation graphs with a landmark at every viewpoint; view features show the landmarks of
the neighbors and instructions name them, so that reading leads to the goal in unseen houses too.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from ..runtime.distributed import barrier, is_main
from ..runtime.files import json_text, write_atomically
from ..simulator.geometry import (
    NUM_HEADINGS,
    VIEW_ELEVATIONS,
    VIEW_HEADINGS,
    VIEW_STEP,
    canonical_angle,
    nearest_view,
)
from ..simulator.graph import UPRIGHT, Graphs, ScanData
from .features import FeatureStore, write_tsv
from .instructions import SHUFFLE_SEED, read_instructions
from .tokenizers import build_vocabulary, build_wordpiece_vocabulary, split_words, write_vocabulary

PLAN_STEPS = 5  # how far an oracle's answer reaches
HANNA_GOAL_STEPS = 3  # least distance to an object that is to be found


@dataclass(frozen=True)
class ToyConfig:
    """The size of a toy world."""

    train_houses: int = 24
    """Houses with training paths; others of their paths make ``val_seen``."""
    unseen_houses: int = 6
    """Houses of ``val_unseen`` and ``test``."""
    house_size: int = 5
    """Places along each side of a floor."""
    train_paths: int = 60
    """Training paths per house, three instructions each."""
    held_out_paths: int = 20
    """Paths per house of the other splits; ``val_seen`` has a quarter as many."""
    dialogs: int = 20
    """Dialogs and object tasks per house."""
    min_steps: int = 4
    max_steps: int = 6
    num_landmarks: int = 24
    feature_width: int = 32
    noise: float = 0.1
    """Standard deviation of the noise in the features; a landmark's numbers have 1."""
    tsv: bool = False
    """Also write the features as ``features/toy.tsv``."""
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.train_houses, self.unseen_houses, self.house_size) < 1:
            raise ValueError("a toy world needs at least one train house and one unseen house")
        if not 1 <= self.min_steps <= self.max_steps:
            raise ValueError(f"min_steps {self.min_steps} exceeds max_steps {self.max_steps}")
        if not 14 <= self.num_landmarks <= len(LANDMARKS):
            raise ValueError(
                f"num_landmarks must be 14 to {len(LANDMARKS)}, got {self.num_landmarks}"
            )


def write_toy(folder: str | Path, config: ToyConfig | None = None) -> None:
    """Write a world into ``folder``; the same config gives the same files.

    The tree: ``connectivity/``, ``r2r/`` (splits and word vocabulary), ``ndh/``, ``hanna/`` and the
    features ``features.npy`` with ``features.ids.json``.
    """
    folder, config = Path(folder), config or ToyConfig()
    rng = np.random.default_rng(config.seed)
    count = config.train_houses + config.unseen_houses
    houses = [
        build_house(f"toy{i:03d}", config.house_size, config.num_landmarks, rng)
        for i in range(count)
    ]
    for house in houses:
        write_house(folder / "connectivity", house)
    scans = "\n".join(h.scan for h in houses)
    write_atomically(folder / "connectivity" / "scans.txt", scans + "\n")
    graphs = Graphs([h.scan for h in houses], [h.data for h in houses])
    landmarks = np.concatenate([h.landmarks for h in houses])
    embeddings = landmark_embeddings(len(LANDMARKS), config.feature_width)
    images = view_features(graphs, landmarks, embeddings, config.noise, rng)
    nodes = np.flatnonzero(graphs.included)
    store = FeatureStore([graphs.long_id(n) for n in nodes.tolist()], images[nodes])
    store.save(folder / "features.npy")
    if config.tsv:
        (folder / "features").mkdir(exist_ok=True)
        write_tsv(folder / "features" / "toy.tsv", store.items())
    guide = _Guide(graphs, landmarks, config, rng)
    seen, unseen = graphs.scans[: config.train_houses], graphs.scans[config.train_houses :]
    _write_r2r(folder / "r2r", guide, seen, unseen)
    _write_ndh(folder / "ndh", guide, seen, unseen)
    _write_hanna(folder / "hanna", guide, seen, unseen)


class _Guide:
    """Draws walks through the houses and tells them."""

    def __init__(
        self, graphs: Graphs, landmarks: NDArray, config: ToyConfig, rng: np.random.Generator
    ) -> None:
        self.graphs, self.landmarks, self.config, self.rng = graphs, landmarks, config, rng
        self.next_id = 0

    def walks(self, scan: str, count: int) -> list[list[int]]:
        """Up to ``count`` shortest walks of fitting length in one house, in random order."""
        nodes = self.graphs.connected(scan)
        ends = np.stack(np.meshgrid(nodes, nodes), axis=-1).reshape(-1, 2)
        here, steps = ends[:, 0], np.zeros(len(ends), dtype=np.int64)
        for _ in range(self.config.max_steps + 1):
            steps += here != ends[:, 1]
            here = self.graphs.next_hop(here, ends[:, 1])
        fit = ends[(steps >= self.config.min_steps) & (steps <= self.config.max_steps)]
        return [self.graphs.path(*pair) for pair in self.rng.permutation(fit)[:count].tolist()]

    def heading(self) -> float:
        return round(float(self.rng.uniform(0, 2 * np.pi)), 3)

    def number(self) -> int:
        self.next_id += 1
        return self.next_id

    def names(self, walk: list[int]) -> list[str]:
        return [self.graphs.viewpoints[n] for n in walk]

    def landmark(self, node: int) -> str:
        return LANDMARKS[self.landmarks[node]]

    def steps(self, walk: list[int], heading: float) -> list[Step]:
        """The turns, climbs and landmarks of a walk that starts with ``heading``."""
        offset = np.diff(self.graphs.positions[walk], axis=0)
        bearing = np.pi / 2 - np.arctan2(offset[:, 1], offset[:, 0])
        facing = VIEW_STEP * np.round(np.append(heading, bearing[:-1]) / VIEW_STEP)
        turn = canonical_angle(bearing - facing)
        return [
            Step(float(t), float(dz), self.landmark(n))
            for t, dz, n in zip(turn, offset[:, 2], walk[1:], strict=True)
        ]


def _write(path: Path, records: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json_text(records))


def _r2r_item(guide: _Guide, scan: str, walk: list[int]) -> dict[str, Any]:
    heading = guide.heading()
    steps = guide.steps(walk, heading)
    return {
        "distance": round(float(guide.graphs.distance(walk[0], walk[-1])), 2),
        "scan": scan,
        "path_id": guide.number(),
        "path": guide.names(walk),
        "heading": heading,
        "instructions": [tell_walk(steps, style, guide.rng) for style in STYLES],
    }


def _write_r2r(folder: Path, guide: _Guide, seen: tuple[str, ...], unseen: tuple[str, ...]) -> None:
    config = guide.config
    splits: dict[str, list[dict[str, Any]]] = {
        name: [] for name in ("train", "val_seen", "val_unseen", "test")
    }

    def add(split: str, scan: str, walks: list[list[int]]) -> None:
        splits[split] += [_r2r_item(guide, scan, walk) for walk in walks]

    quarter = max(1, config.held_out_paths // 4)
    for scan in seen:
        walks = guide.walks(scan, quarter + config.train_paths)
        add("val_seen", scan, walks[:quarter])
        add("train", scan, walks[quarter:])
    for scan in unseen:
        walks = guide.walks(scan, 2 * config.held_out_paths)
        add("val_unseen", scan, walks[: config.held_out_paths])
        add("test", scan, walks[config.held_out_paths :])
    for item in splits["test"]:
        item["path"] = item["path"][:1]
        del item["distance"]
    for name, items in splits.items():
        _write(folder / f"R2R_{name}.json", items)
    texts = [text for item in splits["train"] for text in item["instructions"]]
    write_vocabulary(folder / "train_vocab.txt", build_vocabulary(texts))


def _ndh_items(guide: _Guide, scan: str, walk: list[int]) -> list[dict[str, Any]]:
    """One item per question of a dialog along ``walk``, and one before the first."""
    items: list[dict[str, Any]] = []
    history: list[dict[str, Any]] = []
    game, heading, here, asks = guide.number(), guide.heading(), 0, 0
    while here < len(walk) - 1:
        rest = walk[here:]
        plan = rest[: PLAN_STEPS + 1]
        if asks:
            near = guide.graphs.neighbors[walk[here]][: guide.graphs.degree[walk[here]]]
            seen = [guide.landmark(n) for n in guide.rng.permutation(near)]
            answer = tell_answer(guide.steps(plan[:4], heading), guide.rng)
            turn = [("navigator", tell_question(seen, guide.rng)), ("oracle", answer)]
            history += [{"nav_idx": here, "role": r, "message": m} for r, m in turn]
        moved = min(len(rest) - 1, int(guide.rng.integers(2, 5)))
        pose = {"heading": heading, "elevation": 0.0, "pano": guide.names(rest[:1])[0]}
        items.append(
            {
                "inst_idx": guide.number(),
                "game_idx": game,
                "scan": scan,
                "target": guide.landmark(walk[-1]),
                "start_pano": pose,
                "dialog_history": [dict(turn) for turn in history],
                "nav_history": guide.names(walk[: here + 1]),
                "nav_camera": [pose],
                "player_path": guide.names(rest[: moved + 1]),
                "planner_path": guide.names(plan),
                "end_panos": guide.names(walk[-1:]),
            }
        )
        heading = _bearing(guide, rest, moved)
        here, asks = here + moved, asks + 1
    return items


def _bearing(guide: _Guide, walk: list[int], moved: int) -> float:
    """Heading, in [0, 2 pi), after ``moved`` steps of a walk."""
    x, y, _ = guide.graphs.positions[walk[moved]] - guide.graphs.positions[walk[moved - 1]]
    return float((np.pi / 2 - np.arctan2(y, x)) % (2 * np.pi))


def _write_ndh(folder: Path, guide: _Guide, seen: tuple[str, ...], unseen: tuple[str, ...]) -> None:
    splits: dict[str, list[dict[str, Any]]] = {"train": [], "val_seen": [], "val_unseen": []}
    for scan in (*seen, *unseen):
        walks = guide.walks(scan, guide.config.dialogs)
        cut = len(walks) * 4 // 5 if scan in seen else 0
        for i, walk in enumerate(walks):
            split = "val_unseen" if scan in unseen else "train" if i < cut else "val_seen"
            splits[split] += _ndh_items(guide, scan, walk)
    hidden = ("player_path", "planner_path", "end_panos")
    splits["test"] = [
        {key: value for key, value in item.items() if key not in hidden}
        for item in splits["val_unseen"]
    ]
    for name, items in splits.items():
        _write(folder / f"{name}.json", items)


def _hanna_items(guide: _Guide, scan: str, count: int) -> list[dict[str, Any]]:
    nodes = guide.graphs.connected(scan)
    items: list[dict[str, Any]] = []
    for start in guide.rng.choice(nodes, size=4 * count):
        mark = guide.landmarks[guide.rng.choice(nodes)]
        walks = [guide.graphs.path(start, goal) for goal in nodes[guide.landmarks[nodes] == mark]]
        if len(items) == count:
            break
        if min(map(len, walks)) > HANNA_GOAL_STEPS:
            item = {"path_id": guide.number(), "scan": scan, "heading": guide.heading()}
            item["paths"] = [guide.names(walk) for walk in walks]
            item["instructions"] = [f"find a {LANDMARKS[mark]} ."]
            items.append(item)
    return items


def _hanna_route(guide: _Guide, walk: list[int], split: str) -> dict[str, Any]:
    """A way that ANNA tells, its words apart as in the official file."""
    heading = _bearing(guide, walk, 1)
    text = tell_walk(guide.steps(walk, heading), "landmarks", guide.rng)
    return {
        "path_id": guide.number(),
        "path": guide.names(walk),
        "view_id": int(nearest_view(heading, 0.0)),
        "split": split,
        "instruction": " ".join(split_words(text)),
    }


def _write_hanna(
    folder: Path, guide: _Guide, seen: tuple[str, ...], unseen: tuple[str, ...]
) -> None:
    routes: dict[str, list[dict[str, Any]]] = {}
    texts: list[str] = []
    for scan in (*seen, *unseen):
        splits = ["train_seen", "train_unseen"] if scan in seen else ["val", "test"]
        walks = guide.walks(scan, 2 * guide.config.dialogs)
        routes[scan] = [_hanna_route(guide, walk, split) for walk in walks for split in splits]
        texts += [one["instruction"] for one in routes[scan] if one["split"] == "train_seen"]
    _write(folder / "routes.json", routes)
    places = {"train": seen, "val_seen": seen, "test_seen": seen}
    for name, scans in (places | {"val_unseen": unseen, "test_unseen": unseen}).items():
        count = guide.config.dialogs if name == "train" else max(1, guide.config.dialogs // 4)
        items = [item for scan in scans for item in _hanna_items(guide, scan, count)]
        _write(folder / f"hanna_{name}.json", items)
        if name == "train":
            texts += [text for item in items for text in item["instructions"]]
    write_vocabulary(folder / "vocab.txt", build_vocabulary(texts, min_count=1))


def toy_size(houses: int) -> ToyConfig:
    """A toy world with a quarter as many unseen houses as training houses."""
    return ToyConfig(train_houses=houses, unseen_houses=max(1, houses // 4))


def make_toy_world(folder: Path, size: ToyConfig, *, shuffled: bool = False) -> Path:
    """Write a toy world with ``wordpiece.txt`` once; returns the feature file's name in it.

    Words are numbered as the file has them or, ``shuffled``, as training reads them.
    """
    vocabulary = folder / "wordpiece.txt"
    if is_main() and not vocabulary.is_file():
        write_toy(folder, size)
        seed = SHUFFLE_SEED if shuffled else None
        read = read_instructions(folder, ["train"], shuffle_seed=seed)
        words = build_wordpiece_vocabulary(word for one in read for word in split_words(one.text))
        write_vocabulary(vocabulary, words)
    barrier()
    return Path("features.npy")


SPACING = 2.4  # meters between places, before they are moved about
JITTER = 0.35
FLOOR_HEIGHT = 3.0
VIEW_WIDTH = math.radians(22)  # how fast a landmark fades away from the axis of a view


@dataclass(frozen=True)
class House:
    """One scan with a landmark at every viewpoint."""

    scan: str
    data: ScanData
    landmarks: NDArray[np.int64]  # (n,) numbers of the landmarks


def build_house(scan: str, size: int, num_landmarks: int, rng: np.random.Generator) -> House:
    """A house of one or two floors, about ``size`` x ``size`` places each.

    Viewpoints at most two steps apart have different landmarks, so that a landmark says which
    neighbor is meant. The last viewpoint is excluded, as some are in real scans.
    """
    plan = _floor(size, 0.0, rng)
    if rng.random() < 0.5:
        upper = _floor(max(2, size - 2), FLOOR_HEIGHT, rng)
        plan = nx.union(plan, upper, rename=("g", "u"))
        _add_stairs(plan, rng)
    plan = nx.convert_node_labels_to_integers(plan, ordering="sorted")
    n = len(plan)
    positions = np.array([plan.nodes[i]["position"] for i in range(n)] + [(-9.0, -9.0, 0.0)])
    edges = sorted({(a, b) for a, b in plan.edges} | {(b, a) for a, b in plan.edges})
    names = [hashlib.md5(f"{scan} {i}".encode()).hexdigest() for i in range(n + 1)]
    included = np.arange(n + 1) < n
    data = ScanData(names, positions, included, np.array(edges, dtype=np.int32))
    return House(scan, data, np.append(_place_landmarks(plan, num_landmarks, rng), 0))


def _floor(size: int, height: float, rng: np.random.Generator) -> nx.Graph:
    """The largest connected part of a grid with places and doors missing."""
    plan = nx.grid_2d_graph(size, size)
    plan.remove_nodes_from([p for p in list(plan) if rng.random() < 0.12])
    plan.remove_edges_from([e for e in list(plan.edges) if rng.random() < 0.12])
    plan = plan.subgraph(max(nx.connected_components(plan), key=len)).copy()
    for x, y in plan:
        moved = np.array([x, y]) * SPACING + rng.uniform(-JITTER, JITTER, 2)
        plan.nodes[x, y]["position"] = (*moved.round(5).tolist(), height)
    return nx.relabel_nodes(plan, {(x, y): f"{x:02d}{y:02d}" for x, y in plan})


def _add_stairs(plan: nx.Graph, rng: np.random.Generator) -> None:
    """Join the floors by one viewpoint on the stairs."""
    below = [p for p in plan if p[0] == "g"]
    above = [p for p in plan if p[0] == "u"]
    foot = below[rng.integers(len(below))]
    start = np.array(plan.nodes[foot]["position"])
    ends = np.array([plan.nodes[p]["position"] for p in above])
    away = np.abs(np.linalg.norm(ends[:, :2] - start[:2], axis=1) - 1.5 * SPACING)
    top = above[int(away.argmin())]
    middle = (start + ends[int(away.argmin())]) / 2
    plan.add_node("s", position=tuple(middle.round(5).tolist()))
    plan.add_edges_from([(foot, "s"), ("s", top)])


def _place_landmarks(
    plan: nx.Graph, num_landmarks: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    landmarks = np.full(len(plan), -1)
    for node in rng.permutation(len(plan)):
        near = nx.single_source_shortest_path_length(plan, int(node), cutoff=2)
        taken = {int(landmarks[other]) for other in near}
        free = [mark for mark in range(num_landmarks) if mark not in taken]
        if not free:
            raise ValueError(f"num_landmarks {num_landmarks} is too few for such a dense house")
        landmarks[node] = rng.choice(free)
    return landmarks


def write_house(folder: Path, house: House) -> None:
    """Write the official ``SCAN_connectivity.json``."""
    data = house.data
    free = np.zeros((len(data.viewpoints),) * 2, dtype=bool)
    free[data.edges[:, 0], data.edges[:, 1]] = True
    rows = []
    for i, name in enumerate(data.viewpoints):
        pose = np.eye(4)
        pose[:3, :3] = UPRIGHT
        pose[:3, 3] = data.positions[i]
        row = {"image_id": name, "pose": pose.ravel().tolist(), "included": bool(data.included[i])}
        row |= {"visible": free[i].tolist(), "unobstructed": free[i].tolist(), "height": 1.5}
        rows.append(row)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / f"{house.scan}_connectivity.json", json_text(rows))


def landmark_embeddings(num_landmarks: int, width: int) -> NDArray[np.float32]:
    """What landmarks look like (num_landmarks, width): the same in every house and world."""
    drawn = np.random.default_rng(0).standard_normal((num_landmarks, width))
    return drawn.astype(np.float32)


def view_features(
    graphs: Graphs,
    landmarks: NDArray[np.int64],
    embeddings: NDArray[np.float32],
    noise: float,
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """Features (N, 36, D) of all nodes.

    A view shows the landmarks of the neighbors near its axis; views that look down also show the
    landmark of the viewpoint itself. ``landmarks`` is (N,), ``noise`` a standard deviation.
    """
    n = len(graphs.viewpoints)
    features = np.zeros((n, len(VIEW_HEADINGS), embeddings.shape[1]), dtype=np.float32)
    source, target = graphs.edges.T
    offset = graphs.positions[target] - graphs.positions[source]  # (E, 3)
    heading = np.pi / 2 - np.arctan2(offset[:, 1], offset[:, 0])
    elevation = np.arctan2(offset[:, 2], np.linalg.norm(offset[:, :2], axis=1))
    aside = canonical_angle(heading[:, None] - VIEW_HEADINGS)  # (E, 36)
    above = elevation[:, None] - VIEW_ELEVATIONS
    weight = np.exp(-(aside**2 + above**2) / VIEW_WIDTH**2).astype(np.float32)
    np.add.at(features, source, weight[..., None] * embeddings[landmarks[target], None])
    features[:, :NUM_HEADINGS] += 0.7 * embeddings[landmarks, None]
    return features + noise * rng.standard_normal(features.shape, dtype=np.float32)


LANDMARKS: tuple[str, ...] = (
    *("sofa", "lamp", "table", "piano", "fireplace", "sink", "bed", "desk"),
    *("mirror", "plant", "clock", "painting", "statue", "bookcase", "bathtub", "rug"),
    *("fridge", "oven", "television", "chair", "window", "vase", "globe", "aquarium"),
    *("drum", "easel", "barrel", "bench", "cradle", "wardrobe", "guitar", "ladder"),
)

Style = Literal["full", "landmarks", "mixed"]
STYLES: tuple[Style, ...] = ("full", "landmarks", "mixed")
"""How a step is told: by turn and landmark, by landmark, or by landmark or turn."""

STRAIGHT, AROUND = math.radians(30), math.radians(150)
STAIRS = 0.8  # meters of climb


class Step(NamedTuple):
    """One step of a walk."""

    turn: float  # radians to the right of the direction before, in (-pi, pi]
    climb: float  # meters
    landmark: str  # at the viewpoint that the step leads to


def direction(step: Step) -> str:
    """The words for a turn or a climb."""
    if abs(step.climb) > STAIRS:
        return "go up the stairs" if step.climb > 0 else "go down the stairs"
    if abs(step.turn) < STRAIGHT:
        return "go straight"
    if abs(step.turn) > AROUND:
        return "turn around"
    return "turn right" if step.turn > 0 else "turn left"


def tell_step(step: Step, style: Style, rng: np.random.Generator) -> str:
    """One sentence without its full stop."""
    if style == "mixed":
        style = "landmarks" if rng.random() < 0.7 else "full"
        if style == "full" and rng.random() < 0.5:
            return direction(step)
    if style == "landmarks":
        return f"{_pick(rng, 'walk to', 'go past', 'head for', 'go to')} the {step.landmark}"
    link = _pick(rng, "and walk to", "towards", "and go to")
    return f"{direction(step)} {link} the {step.landmark}"


def tell_walk(steps: Sequence[Step], style: Style, rng: np.random.Generator) -> str:
    """An instruction for a walk that ends at the landmark of the last step."""
    sentences = [tell_step(step, style, rng) for step in steps]
    ending = _pick(rng, "stop at", "wait by", "stop next to")
    sentences.append(f"{ending} the {steps[-1].landmark}")
    text = _begin(sentences[0])
    for sentence in sentences[1:]:
        text += f". {_begin(sentence)}" if rng.random() < 0.7 else f", then {sentence}"
    return text + "."


def tell_question(seen: Sequence[str], rng: np.random.Generator) -> str:
    """What a navigator asks who sees the landmarks ``seen``."""
    if len(seen) > 1 and rng.random() < 0.5:
        return f"Should I go to the {seen[0]} or the {seen[1]}?"
    return f"I see the {seen[0]}. Where should I go?"


def tell_answer(steps: Sequence[Step], rng: np.random.Generator) -> str:
    """What the oracle answers who knows the next steps."""
    sentences = [tell_step(step, "mixed", rng) for step in steps]
    return _begin(", then ".join(sentences)) + "."


def _begin(sentence: str) -> str:
    return sentence[0].upper() + sentence[1:]


def _pick(rng: np.random.Generator, *choices: str) -> str:
    return choices[rng.integers(len(choices))]
