"""Small navigation graphs and files made by code."""

import json
from pathlib import Path

import numpy as np

from prevalent.environments.navigation import Episode
from prevalent.simulator.graph import UPRIGHT, Graphs, ScanData

SQUARE = {"a": (0, 0, 0), "b": (0, 2, 0), "c": (2, 2, 0.5), "d": (2, 0, 0)}
SQUARE_EDGES = [("a", "b"), ("b", "c"), ("c", "d"), ("d", "a")]


def make_scan(places=None, edges=None, excluded=()) -> ScanData:
    """A scan from ``{viewpoint: (x, y, z) in meters}`` and undirected edges."""
    places = SQUARE if places is None else places
    edges = SQUARE_EDGES if edges is None else edges
    names = list(places)
    both = {(names.index(a), names.index(b)) for a, b in edges}
    both |= {(b, a) for a, b in both}
    return ScanData(
        names,
        np.array(list(places.values()), dtype=np.float64),
        np.array([name not in excluded for name in names]),
        np.array(sorted(both), dtype=np.int32).reshape(-1, 2),
    )


def make_graphs(**scans: ScanData) -> Graphs:
    """Graphs of named scans; the square of four viewpoints as ``house`` by default."""
    scans = scans or {"house": make_scan()}
    return Graphs(list(scans), list(scans.values()))


def random_scan(seed: int, size: int = 12) -> ScanData:
    """A connected scan with random places on two floors."""
    rng = np.random.default_rng(seed)
    places = {
        f"{seed}v{i}": (*rng.uniform(-8, 8, 2), 2.5 * rng.integers(2) + rng.uniform(0, 0.3))
        for i in range(size)
    }
    names = list(places)
    edges = [(names[i], names[rng.integers(i)]) for i in range(1, size)]
    edges += [tuple(rng.choice(names, 2, replace=False)) for _ in range(size // 2)]
    return make_scan(places, edges)


def write_connectivity(folder: Path, name: str, scan: ScanData) -> Path:
    """Write one scan in the official format."""
    folder.mkdir(parents=True, exist_ok=True)
    n = len(scan.viewpoints)
    free = np.zeros((n, n), dtype=bool)
    free[scan.edges[:, 0], scan.edges[:, 1]] = True
    rows = []
    for i in range(n):
        pose = np.eye(4)
        pose[:3, :3] = UPRIGHT if scan.rotations is None else scan.rotations[i]
        pose[:3, 3] = scan.positions[i]
        rows.append(
            {
                "image_id": scan.viewpoints[i],
                "pose": pose.ravel().tolist(),
                "included": bool(scan.included[i]),
                "visible": free[i].tolist(),
                "unobstructed": free[i].tolist(),
                "height": 1.5,
            }
        )
    path = folder / f"{name}_connectivity.json"
    path.write_text(json.dumps(rows))
    return path


def tasks_in(graphs: Graphs, count: int, seed: int = 0) -> list[Episode]:
    """Shortest-path walks between random viewpoints, the scans taking turns."""
    rng, tasks = np.random.default_rng(seed), []
    for i in range(count):
        scan = graphs.scans[i % len(graphs.scans)]
        a, b = rng.choice(graphs.nodes_of(scan), 2, replace=False)
        path = tuple(graphs.viewpoints[n] for n in graphs.path(a, b))
        tasks.append(Episode(scan, path, float(rng.uniform(0, 6)), id=f"{i}_0"))
    return tasks
