"""A toy world in the official formats, so that everything can be run and learned offline.

Houses are navigation graphs with a landmark at every viewpoint; view features show the landmarks of
the neighbors and instructions name them, so that reading leads to the goal in unseen houses too.
With ``forms`` and ``num_colors`` it is not enough to go to the landmark in sight that is named.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

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
from .objects import VIEW_HEIGHT, VIEW_WIDTH as PIXELS_WIDE, SceneObjects, write_objects
from .reverie import read_reverie
from .tokenizers import build_vocabulary, build_wordpiece_vocabulary, split_words, write_vocabulary
from .toy_texts import (
    COLORS,
    FORMS,
    LANDMARKS,
    STYLES,
    THINGS,
    Form,
    Step,
    tell_answer,
    tell_fetch,
    tell_hard_walk,
    tell_question,
    tell_walk,
)

PLAN_STEPS = 5  # how far an oracle's answer reaches
REVERIE_STEPS = 3  # longest way to an object
FOCAL_LENGTH = VIEW_HEIGHT / 2 / math.tan(math.radians(30))  # pixels of a view 60 degrees high
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
    num_colors: int = 1
    """Colors of landmarks; with one no color is told. A landmark and its like of another color can
    then be neighbors."""
    forms: tuple[Form, ...] = ()
    """What instructions do besides naming landmarks. Annotated paths (``train``) never use
    synonyms: those are in ``told`` and in the held-out splits."""
    told_paths: int = 0
    """Further paths per training house, told by templates for pre-training (``told``)."""
    feature_width: int = 32
    noise: float = 0.1
    """Standard deviation of the noise in the features; a landmark's numbers have 1."""
    objects: int = 0
    """Objects at every place: REVERIE's files are written too; 0: none."""
    tsv: bool = False
    """Also write the features as ``features/toy.tsv``."""
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.train_houses, self.unseen_houses, self.house_size) < 1:
            raise ValueError("a toy world needs at least one train house and one unseen house")
        if not 1 <= self.min_steps <= self.max_steps:
            raise ValueError(f"min_steps {self.min_steps} exceeds max_steps {self.max_steps}")
        if not 1 <= self.num_colors <= len(COLORS):
            raise ValueError(f"num_colors must be 1 to {len(COLORS)}, got {self.num_colors}")
        least = math.ceil(14 / self.num_colors)
        if not least <= self.num_landmarks <= len(LANDMARKS):
            raise ValueError(
                f"num_landmarks must be {least} to {len(LANDMARKS)}, got {self.num_landmarks}"
            )
        if not 0 <= self.objects <= len(THINGS):
            raise ValueError(f"objects must be 0 to {len(THINGS)}, got {self.objects}")
        if unknown := sorted(set(self.forms) - set(FORMS)):
            raise ValueError(f"forms knows {', '.join(FORMS)}; {unknown[0]!r} is none of them")


def write_toy(folder: str | Path, config: ToyConfig | None = None) -> None:
    """Write a world into ``folder``; the same config gives the same files.

    The tree: ``connectivity/``, ``r2r/`` (splits and word vocabulary), ``ndh/``, ``hanna/`` and the
    features ``features.npy`` with ``features.ids.json``; with objects also ``reverie/`` and
    ``objects.hdf5``.
    """
    folder, config = Path(folder), config or ToyConfig()
    rng = np.random.default_rng(config.seed)
    count = config.train_houses + config.unseen_houses
    houses = [
        build_house(f"toy{i:03d}", config.house_size, config.num_landmarks, rng, config.num_colors)
        for i in range(count)
    ]
    for house in houses:
        write_house(folder / "connectivity", house)
    scans = "\n".join(h.scan for h in houses)
    write_atomically(folder / "connectivity" / "scans.txt", scans + "\n")
    graphs = Graphs([h.scan for h in houses], [h.data for h in houses])
    landmarks = np.concatenate([h.landmarks for h in houses])
    colors = np.concatenate([h.colors for h in houses])
    looks = landmark_embeddings(len(LANDMARKS), config.feature_width)[landmarks]
    if config.num_colors > 1:
        looks += color_embeddings(config.feature_width)[colors]
    images = view_features(graphs, looks, config.noise, rng)
    nodes = np.flatnonzero(graphs.included)
    store = FeatureStore([graphs.long_id(n) for n in nodes.tolist()], images[nodes])
    store.save(folder / "features.npy")
    if config.tsv:
        (folder / "features").mkdir(exist_ok=True)
        write_tsv(folder / "features" / "toy.tsv", store.items())
    guide = _Guide(graphs, landmarks, colors, config, rng)
    seen, unseen = graphs.scans[: config.train_houses], graphs.scans[config.train_houses :]
    _write_r2r(folder / "r2r", guide, seen, unseen)
    _write_ndh(folder / "ndh", guide, seen, unseen)
    _write_hanna(folder / "hanna", guide, seen, unseen)
    if config.objects:
        guide.config = replace(config, min_steps=1, max_steps=REVERIE_STEPS)
        guide.rng = np.random.default_rng([config.seed, len(THINGS)])
        _write_reverie(folder, guide, seen, unseen)


class _Guide:
    """Draws walks through the houses and tells them."""

    def __init__(
        self,
        graphs: Graphs,
        landmarks: NDArray,
        colors: NDArray,
        config: ToyConfig,
        rng: np.random.Generator,
    ) -> None:
        self.graphs, self.landmarks, self.colors = graphs, landmarks, colors
        self.config, self.rng = config, rng
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

    def color(self, node: int) -> str:
        return COLORS[self.colors[node]] if self.config.num_colors > 1 else ""

    def steps(self, walk: list[int], heading: float) -> list[Step]:
        """The turns, climbs and landmarks of a walk that starts with ``heading``."""
        offset = np.diff(self.graphs.positions[walk], axis=0)
        bearing = np.pi / 2 - np.arctan2(offset[:, 1], offset[:, 0])
        facing = VIEW_STEP * np.round(np.append(heading, bearing[:-1]) / VIEW_STEP)
        steps = []
        for i, (here, there) in enumerate(itertools.pairwise(walk)):
            before = walk[i - 1] if i else -1
            near = self.graphs.neighbors[here][: self.graphs.degree[here]].tolist()
            others = [
                self.step(here, node, facing[i]) for node in near if node not in (there, before)
            ]
            steps.append(self.step(here, there, facing[i])._replace(others=tuple(others)))
        return steps

    def step(self, here: int, there: int, facing: float) -> Step:
        """One step of somebody who looks into the direction ``facing``."""
        x, y, climb = self.graphs.positions[there] - self.graphs.positions[here]
        turn = float(canonical_angle(np.pi / 2 - np.arctan2(y, x) - facing))
        return Step(turn, float(climb), self.landmark(there), self.color(there))


def _write(path: Path, records: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json_text(records))


def _r2r_item(guide: _Guide, scan: str, walk: list[int], forms: tuple[Form, ...]) -> dict[str, Any]:
    heading = guide.heading()
    steps = guide.steps(walk, heading)
    if forms or guide.config.num_colors > 1:
        texts = [tell_hard_walk(steps, forms, guide.rng) for _ in STYLES]
    else:
        texts = [tell_walk(steps, style, guide.rng) for style in STYLES]
    return {
        "distance": round(float(guide.graphs.distance(walk[0], walk[-1])), 2),
        "scan": scan,
        "path_id": guide.number(),
        "path": guide.names(walk),
        "heading": heading,
        "instructions": texts,
    }


def _write_r2r(folder: Path, guide: _Guide, seen: tuple[str, ...], unseen: tuple[str, ...]) -> None:
    config = guide.config
    splits: dict[str, list[dict[str, Any]]] = {
        name: [] for name in ("train", "val_seen", "val_unseen", "test")
    }

    if config.told_paths:
        splits["told"] = []
    annotated = tuple(form for form in config.forms if form != "synonyms")

    def add(split: str, scan: str, walks: list[list[int]]) -> None:
        forms = annotated if split == "train" else config.forms
        splits[split] += [_r2r_item(guide, scan, walk, forms) for walk in walks]

    quarter = max(1, config.held_out_paths // 4)
    for scan in seen:
        told = quarter + config.train_paths
        walks = guide.walks(scan, told + config.told_paths)
        add("val_seen", scan, walks[:quarter])
        add("train", scan, walks[quarter:told])
        if config.told_paths:
            add("told", scan, walks[told:])
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


def _scene(guide: _Guide) -> tuple[list[int], SceneObjects, dict[str, Any]]:
    """Objects of one place: their kinds, how they look, and their record in ``BBoxes.json``."""
    rng, count = guide.rng, guide.config.objects
    kinds = rng.permutation(len(THINGS))[:count]
    width = guide.config.feature_width
    looks = np.random.default_rng(2).standard_normal((len(THINGS), width))[kinds]
    noise = guide.config.noise * rng.standard_normal(looks.shape)
    heading, elevation = rng.uniform(0, 2 * np.pi, count), rng.uniform(-0.3, 0.3, count)
    sizes = rng.uniform(30, 90, (count, 2)).round()
    ids = tuple(str(guide.number()) for _ in kinds)
    boxes = {}
    for i, name in enumerate(ids):
        view = int(nearest_view(heading[i], elevation[i]))
        aside = canonical_angle(heading[i] - VIEW_HEADINGS[view])
        center = np.array([np.tan(aside), -np.tan(elevation[i] - VIEW_ELEVATIONS[view])])
        corner = (PIXELS_WIDE / 2, VIEW_HEIGHT / 2) + FOCAL_LENGTH * center - sizes[i] / 2
        box = [*corner.round().tolist(), *sizes[i].tolist()]
        boxes[name] = {"name": THINGS[kinds[i]], "visible_pos": [view], "bbox2d": [box]}
    directions = np.stack([heading, elevation], axis=1)
    return kinds.tolist(), SceneObjects(ids, looks + noise, directions, sizes), boxes


def _write_reverie(
    folder: Path, guide: _Guide, seen: tuple[str, ...], unseen: tuple[str, ...]
) -> None:
    """Objects at every place, each seen from there alone, and walks to one of them."""
    nodes = np.flatnonzero(guide.graphs.included).tolist()
    scenes = {node: _scene(guide) for node in nodes}
    splits: dict[str, list[dict[str, Any]]] = {"train": [], "val_seen": [], "val_unseen": []}

    def add(split: str, walks: list[list[int]], scan: str) -> None:
        for walk in walks:
            kinds, things, _ = scenes[walk[-1]]
            heading, wanted = guide.heading(), int(guide.rng.integers(len(kinds)))
            steps, path_id = guide.steps(walk, heading), guide.number()
            texts = [tell_fetch(steps, THINGS[kinds[wanted]], guide.rng) for _ in STYLES]
            item = {"scan": scan, "path_id": path_id, "heading": heading, "instructions": texts}
            item |= {"path": guide.names(walk), "objId": int(things.ids[wanted])}
            splits[split].append(item | {"id": f"{path_id}_{things.ids[wanted]}"})

    config = guide.config
    quarter = max(1, config.held_out_paths // 4)
    for scan in seen:
        walks = guide.walks(scan, quarter + config.train_paths)
        add("val_seen", walks[:quarter], scan)
        add("train", walks[quarter:], scan)
    for scan in unseen:
        add("val_unseen", guide.walks(scan, config.held_out_paths), scan)
    hidden = {"objId", "path"}
    splits["test"] = [
        {name: value for name, value in item.items() if name not in hidden}
        | {"path": item["path"][:1]}
        for item in splits["val_unseen"]
    ]
    for name, items in splits.items():
        _write(folder / "reverie" / f"REVERIE_{name}.json", items)
    boxes = {guide.graphs.long_id(node): record for node, (_, _, record) in scenes.items()}
    _write(folder / "reverie" / "BBoxes.json", boxes)
    things = ((guide.graphs.long_id(node), one) for node, (_, one, _) in scenes.items())
    write_objects(folder / "objects.hdf5", things)


def toy_size(houses: int, objects: int = 0) -> ToyConfig:
    """A toy world with a quarter as many unseen houses as training houses."""
    return ToyConfig(train_houses=houses, unseen_houses=max(1, houses // 4), objects=objects)


def make_toy_world(folder: Path, size: ToyConfig, *, shuffled: bool = False) -> Path:
    """Write a toy world with ``wordpiece.txt`` once; returns the feature file's name in it.

    Words are numbered as the file has them or, ``shuffled``, as training reads them.
    """
    vocabulary = folder / "wordpiece.txt"
    if is_main() and not vocabulary.is_file():
        write_toy(folder, size)
        seed = SHUFFLE_SEED if shuffled else None
        splits = ["train", "told"] if size.told_paths else ["train"]
        read = read_instructions(folder, splits, shuffle_seed=seed)
        if size.objects:
            read += read_reverie(folder, "train")
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
    colors: NDArray[np.int64]  # (n,) and of their colors


def build_house(
    scan: str, size: int, num_landmarks: int, rng: np.random.Generator, num_colors: int = 1
) -> House:
    """A house of one or two floors, about ``size`` x ``size`` places each.

    Viewpoints at most two steps apart have different landmarks or colors, so that both together say
    which neighbor is meant. The last viewpoint is excluded, as some are in real scans.
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
    marks = np.append(_place_landmarks(plan, num_landmarks * num_colors, rng), 0)
    return House(scan, data, marks % num_landmarks, marks // num_landmarks)


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


def color_embeddings(width: int) -> NDArray[np.float32]:
    """What the colors look like (len(COLORS), width), added to the landmark's numbers."""
    drawn = np.random.default_rng(1).standard_normal((len(COLORS), width))
    return drawn.astype(np.float32)


def view_features(
    graphs: Graphs, looks: NDArray[np.float32], noise: float, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Features (N, 36, D) of all nodes.

    A view shows the landmarks of the neighbors near its axis; views that look down also show the
    landmark of the viewpoint itself. ``looks`` (N, D) is what each landmark looks like, ``noise`` a
    standard deviation.
    """
    n = len(graphs.viewpoints)
    features = np.zeros((n, len(VIEW_HEADINGS), looks.shape[1]), dtype=np.float32)
    source, target = graphs.edges.T
    offset = graphs.positions[target] - graphs.positions[source]  # (E, 3)
    heading = np.pi / 2 - np.arctan2(offset[:, 1], offset[:, 0])
    elevation = np.arctan2(offset[:, 2], np.linalg.norm(offset[:, :2], axis=1))
    aside = canonical_angle(heading[:, None] - VIEW_HEADINGS)  # (E, 36)
    above = elevation[:, None] - VIEW_ELEVATIONS
    weight = np.exp(-(aside**2 + above**2) / VIEW_WIDTH**2).astype(np.float32)
    np.add.at(features, source, weight[..., None] * looks[target, None])
    features[:, :NUM_HEADINGS] += 0.7 * looks[:, None]
    return features + noise * rng.standard_normal(features.shape, dtype=np.float32)
