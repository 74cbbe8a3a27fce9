"""Navigation graphs of a set of scans with all-pairs shortest paths.

Every viewpoint of every scan has one integer, its *node*; arrays over nodes replace dictionaries.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import tempfile
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import NamedTuple
from weakref import WeakKeyDictionary, WeakValueDictionary

import networkx as nx
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra

from .geometry import (
    NUM_HEADINGS,
    NUM_VIEWS,
    VIEW_ELEVATIONS,
    VIEW_HEADINGS,
    VIEW_STEP,
    Camera,
    FloatArray,
    IntArray,
)


class SimulatorError(ValueError):
    """A scan, viewpoint, action or file that the simulator cannot use."""


def as_array(given: ArrayLike) -> NDArray:
    """``given`` as an array; one of objects where it is none, such as lists of several lengths."""
    try:
        return np.asarray(given)
    except ValueError:
        return np.array(None)


UPRIGHT: FloatArray = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])
"""Camera-to-world rotation of a camera (x right, y down, z ahead) that looks along +y."""


class ScanData(NamedTuple):
    """One connectivity file."""

    viewpoints: list[str]  # (n,) ids in file order
    positions: FloatArray  # (n, 3) meters
    included: NDArray[np.bool_]  # (n,)
    edges: NDArray[np.int32]  # (E, 2) directed, sorted by source, then target
    rotations: FloatArray | None = None  # (n, 3, 3) camera to world; upright, facing +y when None


class Graphs:
    """Navigation graphs of several scans, addressed by node.

    Args:
        scans: names, in order.
        data: one ``ScanData`` per scan.
        distances: for each scan the (n, n) shortest-path lengths in meters; computed when None.
        next_hops: for each scan the (n, n) location of the next viewpoint; computed when None.

    ``Graphs.load`` (in ``connectivity.py``) reads them from the official files.
    """

    def __init__(
        self,
        scans: Sequence[str],
        data: Sequence[ScanData],
        distances: Sequence[FloatArray] | None = None,
        next_hops: Sequence[NDArray[np.int16]] | None = None,
    ) -> None:
        self.scans = tuple(scans)
        sizes = np.array([len(d.viewpoints) for d in data], dtype=np.int64)
        self.offsets = np.concatenate([[0], np.cumsum(sizes)])  # (S + 1,) first node of each scan
        self.viewpoints = tuple(v for d in data for v in d.viewpoints)
        self.scan_index = np.repeat(np.arange(len(scans)), sizes)  # (N,)
        self.location = np.arange(len(self.viewpoints)) - self.offsets[self.scan_index]  # (N,)
        self.positions = np.concatenate([d.positions for d in data])  # (N, 3) meters
        self.included = np.concatenate([d.included for d in data])  # (N,)
        self.rotations = np.concatenate([_rotations(d) for d in data])  # (N, 3, 3) camera to world
        edges = np.concatenate(
            [d.edges.astype(np.int64) + o for d, o in zip(data, self.offsets, strict=False)]
        )
        self.edges = edges  # (E, 2) directed node pairs, sorted by source
        self.degree = np.bincount(edges[:, 0], minlength=len(self.viewpoints))  # (N,)
        self.neighbors = self._pad_neighbors()  # (N, K) int32, -1 beyond the degree
        if distances is None or next_hops is None:
            computed = [shortest_paths(d) for d in data]
            distances, next_hops = [c[0] for c in computed], [c[1] for c in computed]
        self._sizes = sizes
        self._pair_offset = np.concatenate([[0], np.cumsum(sizes**2)])
        self.all_distances = np.concatenate([d.ravel() for d in distances])
        self.all_next_hops = np.concatenate([h.ravel() for h in next_hops])

    @classmethod
    def load(
        cls, folder: str | Path, scans: Iterable[str] | None = None, cache_dir: Path | None = None
    ) -> Graphs:
        """Read ``SCAN_connectivity.json`` files; see ``connectivity.load_graphs``."""

        return load_graphs(Path(folder), scans, cache_dir)

    def _pad_neighbors(self) -> NDArray[np.int32]:
        source, target = self.edges.T
        first = np.concatenate([[0], np.cumsum(self.degree)])[source]
        width = int(self.degree.max(initial=0))
        neighbors = np.full((len(self.viewpoints), width), -1, dtype=np.int32)
        neighbors[source, np.arange(len(source)) - first] = target
        return neighbors

    @cached_property
    def _nodes(self) -> dict[str, dict[str, int]]:
        return {
            scan: {self.viewpoints[n]: n for n in range(self.offsets[i], self.offsets[i + 1])}
            for i, scan in enumerate(self.scans)
        }

    def _scan(self, scan: str) -> dict[str, int]:
        try:
            return self._nodes[scan]
        except (KeyError, TypeError):  # TypeError: a list in the place of a name
            some = ", ".join(self.scans[:3])
            raise SimulatorError(
                f"scan {scan!r} is not loaded; there are {len(self.scans)}, such as {some}"
            ) from None

    def node(self, scan: str, viewpoint: str) -> int:
        """Node of an included viewpoint; raises ``SimulatorError`` naming what is missing."""
        node = self._scan(scan).get(viewpoint) if isinstance(viewpoint, str) else None
        if node is None:
            known = f"{len(self._scan(scan))} viewpoints, such as {next(iter(self._scan(scan)))!r}"
            raise SimulatorError(f"scan {scan!r} has no viewpoint {viewpoint!r}; it has {known}")
        if not self.included[node]:
            raise SimulatorError(f"viewpoint {viewpoint!r} of scan {scan!r} is excluded")
        return node

    def nodes(self, scans: Sequence[str], viewpoints: Sequence[str]) -> IntArray:
        """Nodes (B,) of B viewpoints; raises ``SimulatorError`` for the first bad one."""
        for what, given in (("scans", scans), ("viewpoints", viewpoints)):
            if isinstance(given, str) or not hasattr(given, "__len__"):
                raise SimulatorError(f"{what} must be a list of names, got {given!r}")
        if len(scans) != len(viewpoints):
            raise SimulatorError(
                f"there are {len(scans)} scans for {len(viewpoints)} viewpoints; give one of each "
                "for every agent"
            )
        pairs = zip(scans, viewpoints, strict=True)
        return np.array([self.node(scan, viewpoint) for scan, viewpoint in pairs], dtype=np.int64)

    def scan_of(self, node: int) -> str:
        """Name of the scan that ``node`` belongs to."""
        self.checked(node)
        return self.scans[self.scan_index[node]]

    def long_id(self, node: int) -> str:
        """``scan_viewpoint``, the key of the feature files."""
        return f"{self.scan_of(node)}_{self.viewpoints[node]}"

    def nodes_of(self, scan: str) -> IntArray:
        """Included nodes of one scan in file order."""
        self._scan(scan)
        i = self.scans.index(scan)
        nodes = np.arange(self.offsets[i], self.offsets[i + 1])
        return nodes[self.included[nodes]]

    def connected(self, scan: str) -> IntArray:
        """Nodes of one scan that have at least one edge, in file order."""
        nodes = self.nodes_of(scan)
        return nodes[self.degree[nodes] > 0]

    def checked(self, nodes: ArrayLike) -> IntArray:
        """``nodes`` as int64; raises ``SimulatorError`` unless all are nodes of these graphs."""
        found, known = as_array(nodes), len(self.viewpoints)
        if found.dtype.kind not in "iu":
            if found.size:
                raise SimulatorError(f"nodes must be integers, got {nodes!r}")
            found = found.astype(np.int64)
        if found.size and (found.min() < 0 or found.max() >= known):
            bad = found[(found < 0) | (found >= known)].flat[0]
            raise SimulatorError(
                f"node {bad} is out of range; the graphs have nodes 0 to {known - 1}"
            )
        return found.astype(np.int64, copy=False)

    def _pair(self, a: ArrayLike, b: ArrayLike) -> tuple[IntArray, NDArray[np.bool_], IntArray]:
        a, b = np.broadcast_arrays(self.checked(a), self.checked(b))
        scan = self.scan_index[a]
        same = scan == self.scan_index[b]
        b = np.where(same, b, a)
        return (
            self._pair_offset[scan] + self.location[a] * self._sizes[scan] + self.location[b],
            same,
            self.offsets[scan],
        )

    def distance(self, a: ArrayLike, b: ArrayLike) -> FloatArray:
        """Shortest-path length in meters between nodes; broadcasts; inf if there is no path."""
        pair, same, _ = self._pair(a, b)
        return np.where(same, self.all_distances[pair], np.inf)

    def next_hop(self, a: ArrayLike, b: ArrayLike) -> IntArray:
        """Next node on the shortest path from ``a`` to ``b``; ``a`` itself at the goal.

        Broadcasts. Returns -1 where there is no path.
        """
        pair, same, offset = self._pair(a, b)
        hop = self.all_next_hops[pair].astype(np.int64)
        return np.where(same & (hop >= 0), hop + offset, -1)

    def path(self, a: int, b: int) -> list[int]:
        """Nodes of the shortest path, both ends included; raises if there is none."""
        path = [int(self.checked(a))]
        while path[-1] != b:
            hop = int(self.next_hop(path[-1], b))
            if hop < 0:
                raise SimulatorError(f"no path from {self.long_id(a)!r} to {self.long_id(b)!r}")
            path.append(hop)
        return path

    def adjacent(self, a: ArrayLike, b: ArrayLike) -> NDArray[np.bool_]:
        """Whether an edge joins the nodes; broadcasts."""
        a, b = np.broadcast_arrays(self.checked(a), self.checked(b))
        return (self.neighbors[a] == b[..., None]).any(axis=-1)

    def distances_of(self, scan: str) -> FloatArray:
        """Shortest-path lengths (n, n) in meters of all n viewpoints of one scan's file."""
        self._scan(scan)
        i = self.scans.index(scan)
        size = self._sizes[i]
        table = self.all_distances[self._pair_offset[i] : self._pair_offset[i + 1]]
        return table.reshape(size, size)

    def by_name(self, scan: str) -> ScanView:
        """The same graph addressed by viewpoint ids."""
        self._scan(scan)
        return ScanView(self, scan)

    def networkx(self, scan: str) -> nx.Graph:
        """A networkx graph of the viewpoints with an edge; weights are meters."""
        graph = nx.Graph(scan=scan)
        for node in self.connected(scan):
            graph.add_node(self.viewpoints[node], position=self.positions[node].copy())
        for node in self.connected(scan):
            for other in self.neighbors[node][: self.degree[node]]:
                length = float(np.linalg.norm(self.positions[node] - self.positions[other]))
                graph.add_edge(self.viewpoints[node], self.viewpoints[other], weight=length)
        return graph


class ScanView:
    """One scan of ``Graphs``, addressed by viewpoint ids."""

    def __init__(self, graphs: Graphs, scan: str) -> None:
        self.graphs = graphs
        self.scan = scan
        nodes = graphs.nodes_of(scan)
        self.viewpoints = [graphs.viewpoints[n] for n in nodes]
        self._locations = dict(zip(self.viewpoints, graphs.location[nodes].tolist(), strict=True))
        self._distances = graphs.distances_of(scan)

    def distance(self, a: str, b: str) -> float:
        """Shortest-path length in meters."""
        try:
            return float(self._distances[self._locations[a], self._locations[b]])
        except (KeyError, TypeError):
            for viewpoint in (a, b):
                self.graphs.node(self.scan, viewpoint)  # says what is wrong with it
            raise

    def path(self, a: str, b: str) -> list[str]:
        """Viewpoints of the shortest path, both ends included."""
        node = self.graphs.node
        nodes = self.graphs.path(node(self.scan, a), node(self.scan, b))
        return [self.graphs.viewpoints[n] for n in nodes]

    def neighbors(self, viewpoint: str) -> list[str]:
        """Viewpoints one step away, in file order."""
        node = self.graphs.node(self.scan, viewpoint)
        nodes = self.graphs.neighbors[node][: self.graphs.degree[node]]
        return [self.graphs.viewpoints[n] for n in nodes]


def _rotations(data: ScanData) -> FloatArray:
    if data.rotations is not None:
        return data.rotations
    return np.tile(UPRIGHT, (len(data.viewpoints), 1, 1))


def shortest_paths(data: ScanData) -> tuple[FloatArray, NDArray[np.int16]]:
    """All-pairs path lengths in meters and next hops of one scan.

    Returns distances (n, n) float64 and next locations (n, n) int16: entry [a, b] is the location
    after a on the way to b, a itself where a == b, -1 where there is no way.
    """
    n = len(data.viewpoints)
    source, target = data.edges.T
    length = np.linalg.norm(data.positions[source] - data.positions[target], axis=1)
    matrix = csr_array((length, (source, target)), shape=(n, n))
    distances, before = dijkstra(matrix, directed=True, return_predecessors=True)
    # The graph is undirected, so the node before a on the way from b is the node after a towards b.
    next_hops = before.T.astype(np.int16)
    next_hops[next_hops < 0] = -1
    np.fill_diagonal(next_hops, np.arange(n))
    return distances, next_hops


CACHE_FORMAT = 2
SUFFIX = "_connectivity.json"


def default_cache_dir() -> Path:
    """``$PREVALENT_CACHE``, else ``prevalent`` below the user's cache folder."""
    if chosen := os.environ.get("PREVALENT_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "prevalent"


def read_scans(folder: Path) -> list[str]:
    """Names in ``scans.txt``, or those of the connectivity files in alphabetical order."""
    if not folder.is_dir():
        raise FileNotFoundError(
            f"connectivity folder {str(folder)!r} does not exist; fetch it with "
            "`prevalent prepare connectivity` or name another folder"
        )
    listed = folder / "scans.txt"
    if listed.is_file():
        return listed.read_text().split()
    return sorted(p.name.removesuffix(SUFFIX) for p in folder.glob(f"*{SUFFIX}"))


def parse_connectivity(text: bytes, path: Path) -> ScanData:
    """Parse one connectivity file; raises ``SimulatorError`` naming ``path`` if it is damaged."""
    try:
        rows = json.loads(text)
        n = len(rows)
        viewpoints = [str(row["image_id"]) for row in rows]
        pose = np.array([row["pose"] for row in rows], dtype=np.float64).reshape(n, 16)
        included = np.array([row["included"] for row in rows], dtype=bool)
        free = np.array([row["unobstructed"] for row in rows], dtype=bool).reshape(n, n)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise SimulatorError(
            f"connectivity file {str(path)!r} is truncated or not in the official format "
            f"({type(error).__name__}: {error}); fetch it again"
        ) from error
    if not np.isfinite(pose).all() or len(set(viewpoints)) != n:
        raise SimulatorError(
            f"connectivity file {str(path)!r} has a position that is no number or a viewpoint twice"
        )
    free &= included[:, None] & included[None]
    np.fill_diagonal(free, False)
    if not (free == free.T).all():
        a, b = np.argwhere(free != free.T)[0]
        raise SimulatorError(
            f"connectivity file {str(path)!r} has an edge from {viewpoints[a]!r} to "
            f"{viewpoints[b]!r} in one direction only"
        )
    edges = np.argwhere(free).astype(np.int32)
    matrices = pose.reshape(n, 4, 4)
    return ScanData(viewpoints, matrices[:, :3, 3], included, edges, matrices[:, :3, :3])


def load_graphs(
    folder: str | Path, scans: Iterable[str] | None = None, cache_dir: Path | None = None
) -> Graphs:
    """Load scans with all shortest paths.

    Args:
        folder: holds ``SCAN_connectivity.json`` and, optionally, ``scans.txt``.
        scans: names to load; all when None.
        cache_dir: where parsed scans are kept, ``default_cache_dir()`` when None.
    """
    folder = Path(folder)
    wanted = _wanted(folder, scans)
    texts = []
    for scan in wanted:
        path = folder / f"{scan}{SUFFIX}"
        if not path.is_file():
            raise SimulatorError(f"scan {scan!r} has no connectivity file {str(path)!r}")
        texts.append(path.read_bytes())
    cache = (cache_dir or default_cache_dir()) / f"graphs-{_digest(wanted, texts)}.npz"
    graphs = _read_cache(cache, wanted)
    if graphs is None:
        pairs = zip(wanted, texts, strict=True)
        data = [parse_connectivity(text, folder / f"{scan}{SUFFIX}") for scan, text in pairs]
        graphs = Graphs(wanted, data)
        _write_cache(cache, graphs, data)
    return graphs


def _wanted(folder: Path, scans: Iterable[str] | None) -> list[str]:
    """The names of ``scans``, all in ``folder`` when None; each must be there once."""
    if isinstance(scans, str):
        raise TypeError(f"scans must be a list of names, got {scans!r}; give [{scans!r}]")
    wanted = read_scans(folder) if scans is None else list(scans)
    if not wanted and scans is not None:
        raise ValueError("scans is empty; give names, or None for all")
    if not wanted:
        raise FileNotFoundError(f"folder {str(folder)!r} holds no {SUFFIX} file")
    twice = [scan for number, scan in enumerate(wanted) if scan in wanted[:number]]
    if twice:
        place = f"{str(folder / 'scans.txt')!r} lists" if scans is None else "scans names"
        raise SimulatorError(f"{place} {twice[0]!r} twice; every scan must be there once")
    return wanted


_shared: WeakValueDictionary[tuple, Graphs] = WeakValueDictionary()


def shared_graphs(folder: str | Path, scans: Iterable[str] | None = None) -> Graphs:
    """The graphs of ``load_graphs``, one object for all that use the same unchanged files.

    They are for reading only. The object goes with its last user; files whose size or time has
    changed are read anew.
    """
    folder = Path(folder)
    wanted = _wanted(folder, scans)
    used = {f"{scan}{SUFFIX}" for scan in wanted}
    with os.scandir(folder) as entries:
        stamps = sorted(
            (entry.name, entry.stat().st_mtime_ns, entry.stat().st_size)
            for entry in entries
            if entry.name in used
        )
    key = (folder.resolve(), tuple(wanted), tuple(stamps))
    graphs = _shared.get(key)
    if graphs is None:
        graphs = _shared[key] = load_graphs(folder, wanted)
    return graphs


def _digest(scans: list[str], texts: list[bytes]) -> str:
    digest = hashlib.sha1(f"{CACHE_FORMAT} {scans}".encode(), usedforsecurity=False)
    for text in texts:
        digest.update(len(text).to_bytes(8, "little"))
        digest.update(text)
    return digest.hexdigest()


def _read_cache(path: Path, scans: list[str]) -> Graphs | None:
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as stored:
            kept = dict(stored)
        sizes, edge_counts = kept["sizes"], kept["edge_counts"]
        names = kept["viewpoints"].tobytes().decode().split("\n")
        nodes = np.concatenate([[0], np.cumsum(sizes)])
        pairs = np.concatenate([[0], np.cumsum(sizes**2)])
        edges = np.concatenate([[0], np.cumsum(edge_counts)])
        data, distances, hops = [], [], []
        for i, n in enumerate(sizes):
            own = slice(nodes[i], nodes[i + 1])
            data.append(
                ScanData(
                    names[own],
                    kept["positions"][own],
                    kept["included"][own],
                    kept["edges"][edges[i] : edges[i + 1]],
                    kept["rotations"][own],
                )
            )
            distances.append(kept["distances"][pairs[i] : pairs[i + 1]].reshape(n, n))
            hops.append(kept["next_hops"][pairs[i] : pairs[i + 1]].reshape(n, n))
        return Graphs(scans, data, distances, hops)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        logging.warning("ignoring damaged graph cache %s (%s)", path, error)
        return None


def _write_cache(path: Path, graphs: Graphs, data: list[ScanData]) -> None:
    """Write atomically, so that a killed or a second process never leaves half a file."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    except OSError as error:
        logging.warning("cannot keep the graph cache %s (%s)", path, error)
        return
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez(
                file,
                sizes=np.array([len(d.viewpoints) for d in data]),
                edge_counts=np.array([len(d.edges) for d in data]),
                viewpoints=np.frombuffer("\n".join(graphs.viewpoints).encode(), dtype=np.uint8),
                positions=graphs.positions,
                included=graphs.included,
                rotations=graphs.rotations,
                edges=np.concatenate([d.edges for d in data]),
                distances=graphs.all_distances,
                next_hops=graphs.all_next_hops,
            )
        os.replace(temporary, path)
    except OSError as error:
        Path(temporary).unlink(missing_ok=True)
        logging.warning("cannot keep the graph cache %s (%s)", path, error)


Float32Array = NDArray[np.float32]


class Sight(NamedTuple):
    """Neighbors as seen from a pose."""

    heading: FloatArray  # (...) radians to the right of the viewing direction
    elevation: FloatArray  # (...) radians above the viewing direction
    facing: Float32Array  # (...) cosine between the neighbor's and the viewing direction


_offsets: WeakKeyDictionary[Graphs, Float32Array] = WeakKeyDictionary()


def offsets_to_neighbors(graphs: Graphs) -> Float32Array:
    """Vectors (N, K, 3) in meters to every neighbor, zeros in unused slots; built once.

    Positions are rounded to float32 first: the original keeps them so.
    """
    if graphs in _offsets:
        return _offsets[graphs]
    position = graphs.positions.astype(np.float32)
    offset = position[graphs.neighbors] - position[:, None]
    offset[graphs.neighbors < 0] = 0
    _offsets[graphs] = offset
    return offset


def look(offset: Float32Array, heading: ArrayLike, elevation: ArrayLike) -> Sight:
    """Direction of points at ``offset`` (..., 3) for poses that broadcast against (...).

    The products are float32 and the angles float64, as in MatterSim.
    """
    heading = np.asarray(heading, dtype=np.float64)
    camera_x = np.cos(math.pi / 2 - heading).astype(np.float32)
    camera_y = np.sin(math.pi / 2 - heading).astype(np.float32)
    x, y, z = offset[..., 0], offset[..., 1], offset[..., 2]
    forward = x * camera_x + y * camera_y
    aside = x * camera_y - y * camera_x
    flat = np.sqrt(x * x + y * y)
    with np.errstate(divide="ignore", invalid="ignore"):
        inverse = np.float32(1) / flat
        facing = ((x * inverse) * camera_x + (y * inverse) * camera_y).astype(np.float32)
    right = np.arctan2(aside.astype(np.float64), forward.astype(np.float64))
    up = np.arctan2(z.astype(np.float64), flat.astype(np.float64))
    return Sight(right, up - np.asarray(elevation, dtype=np.float64), facing)


def visible(sight: Sight, camera: Camera, restricted: bool) -> NDArray[np.bool_]:
    """Whether a neighbor is listed: inside the horizontal field of view, at any elevation.

    With ``restricted=False`` every neighbor is listed.
    """
    if not restricted:
        return np.ones(sight.facing.shape, dtype=bool)
    return sight.facing.astype(np.float64) >= math.cos(camera.half_angle)


def nearness(sight: Sight) -> FloatArray:
    """Angle between viewing direction and neighbor in radians, by which neighbors are ordered."""
    return np.sqrt(sight.heading**2 + sight.elevation**2)


@dataclass(frozen=True)
class ViewTables:
    """Navigable neighbors of every node in every view; K is the largest degree."""

    count: NDArray[np.int8]  # (N, 36) neighbors in view
    order: NDArray[np.int8]  # (N, 36, K) slots of ``Graphs.neighbors``, nearest first
    heading: FloatArray  # (N, 12, K) relative heading by column and slot
    elevation: FloatArray  # (N, 3, K) relative elevation by level and slot
    distance: Float32Array  # (N, K) meters by slot


_tables: WeakKeyDictionary[Graphs, dict[tuple[Camera, bool], ViewTables]] = WeakKeyDictionary()


def view_tables(graphs: Graphs, camera: Camera, restricted: bool = True) -> ViewTables:
    """Tables of ``graphs`` for one camera, built once (0.5 s for the 90 scans)."""
    known = _tables.setdefault(graphs, {})
    key = (camera, restricted)
    if key not in known:
        known[key] = _build_tables(graphs, camera, restricted)
    return known[key]


def _build_tables(graphs: Graphs, camera: Camera, restricted: bool) -> ViewTables:
    offset = offsets_to_neighbors(graphs)  # (N, K, 3)
    used = graphs.neighbors >= 0
    n, k = used.shape
    count = np.zeros((n, NUM_VIEWS), dtype=np.int8)
    order = np.zeros((n, NUM_VIEWS, k), dtype=np.int8)
    heading = np.zeros((n, NUM_HEADINGS, k))
    elevation = np.zeros((n, NUM_VIEWS // NUM_HEADINGS, k))
    flat = look(offset, 0.0, 0.0).elevation
    for level in range(NUM_VIEWS // NUM_HEADINGS):
        elevation[:, level] = flat - VIEW_ELEVATIONS[level * NUM_HEADINGS]
    for column in range(NUM_HEADINGS):
        sight = look(offset, column * VIEW_STEP, 0.0)
        listed = visible(sight, camera, restricted) & used
        heading[:, column] = sight.heading
        for level in range(NUM_VIEWS // NUM_HEADINGS):
            view = level * NUM_HEADINGS + column
            near = nearness(sight._replace(elevation=elevation[:, level]))
            order[:, view] = np.argsort(np.where(listed, near, np.inf), axis=1, kind="stable")
            count[:, view] = listed.sum(axis=1)
    distance = np.sqrt((offset * offset).sum(axis=-1, dtype=np.float32))
    return ViewTables(count, order, heading, elevation, distance)


UNSEEN = np.iinfo(np.int64).max  # later than every (view, position) of the sweep


@dataclass(frozen=True, eq=False)
class Candidates:
    """Candidates of all nodes; slots beyond ``count`` hold -1 in the integer tables.

    The order is that of the first sighting in the sweep over views 0..35, not of the best view.
    """

    count: NDArray[np.int64]  # (N,)
    target: NDArray[np.int32]  # (N, K) node
    view: NDArray[np.int16]  # (N, K) view in which the neighbor is nearest to the axis
    slot: NDArray[np.int16]  # (N, K) its position in ``Simulator.navigable()`` in that view
    heading: FloatArray  # (N, K) absolute heading in radians, not wrapped
    elevation: FloatArray  # (N, K) absolute elevation in radians
    distance: FloatArray  # (N, K) angle to the axis of that view in radians


_known: WeakKeyDictionary[Graphs, dict[Camera, Candidates]] = WeakKeyDictionary()


def candidates_of(graphs: Graphs, camera: Camera | None = None) -> Candidates:
    """Candidates of every node of ``graphs``, built once per camera (0.3 s for the 90 scans)."""
    camera = camera or Camera()
    known = _known.setdefault(graphs, {})
    if camera not in known:
        known[camera] = _build_candidates(graphs, camera)
    return known[camera]


def _build_candidates(graphs: Graphs, camera: Camera) -> Candidates:
    tables = view_tables(graphs, camera)
    n, k = graphs.neighbors.shape
    best = np.full((n, k), np.inf)
    view_of, slot_of = np.full((n, k), -1, np.int16), np.full((n, k), -1, np.int16)
    first = np.full((n, k), UNSEEN, dtype=np.int64)
    for view in range(NUM_VIEWS):
        column, level = view % NUM_HEADINGS, view // NUM_HEADINGS
        order = tables.order[:, view].astype(np.int64)
        rank = np.empty_like(order)  # of each neighbor among those in this view
        np.put_along_axis(rank, order, np.arange(k)[None], axis=1)
        listed = rank < tables.count[:, view, None]
        near = np.sqrt(tables.heading[:, column] ** 2 + tables.elevation[:, level] ** 2)
        better = listed & (near < best)
        best[better] = near[better]
        view_of[better] = view
        slot_of[better] = rank[better] + 1
        new = listed & (first == UNSEEN)
        first[new] = view * k + rank[new]
    seen = first < UNSEEN
    chosen = np.maximum(view_of, 0)
    rows, slots = np.arange(n)[:, None], np.arange(k)[None]
    heading = tables.heading[rows, chosen % NUM_HEADINGS, slots]
    elevation = tables.elevation[rows, chosen // NUM_HEADINGS, slots]
    arrange = partial(np.take_along_axis, indices=np.argsort(first, axis=1, kind="stable"), axis=1)
    return Candidates(
        seen.sum(axis=1),
        arrange(np.where(seen, graphs.neighbors, np.int32(-1))),
        arrange(view_of),
        arrange(slot_of),
        arrange(np.where(seen, VIEW_HEADINGS[chosen] + heading, 0.0)),
        arrange(np.where(seen, VIEW_ELEVATIONS[chosen] + elevation, 0.0)),
        arrange(np.where(seen, best, 0.0)),
    )
