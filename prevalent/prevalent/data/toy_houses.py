"""Toy houses: navigation graphs with landmarks, and the features of their views."""

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from ..runtime.files import write_atomically
from ..simulator.geometry import NUM_HEADINGS, VIEW_ELEVATIONS, VIEW_HEADINGS, canonical_angle
from ..simulator.graph import UPRIGHT, Graphs, ScanData

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
            raise ValueError(f"--num-landmarks {num_landmarks} is too few for such a dense house")
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
    write_atomically(folder / f"{house.scan}_connectivity.json", json.dumps(rows))


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
