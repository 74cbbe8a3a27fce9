"""Navigation graphs of a set of scans with all-pairs shortest paths.

Every viewpoint of every scan has one integer, its *node*; arrays over nodes replace dictionaries.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import networkx as nx
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra

from .geometry import FloatArray, IntArray


class SimulatorError(ValueError):
    """A scan, viewpoint, action or file that the simulator cannot use."""


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
        from .connectivity import load_graphs

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
        except KeyError:
            some = ", ".join(self.scans[:3])
            raise SimulatorError(
                f"scan {scan!r} is not loaded; there are {len(self.scans)}, such as {some}"
            ) from None

    def node(self, scan: str, viewpoint: str) -> int:
        """Node of an included viewpoint; raises ``SimulatorError`` naming what is missing."""
        node = self._scan(scan).get(viewpoint)
        if node is None:
            known = f"{len(self._scan(scan))} viewpoints, such as {next(iter(self._scan(scan)))!r}"
            raise SimulatorError(f"scan {scan!r} has no viewpoint {viewpoint!r}; it has {known}")
        if not self.included[node]:
            raise SimulatorError(f"viewpoint {viewpoint!r} of scan {scan!r} is excluded")
        return node

    def nodes(self, scans: Sequence[str], viewpoints: Sequence[str]) -> IntArray:
        """Nodes (B,) of B viewpoints; raises ``SimulatorError`` for the first bad one."""
        pairs = zip(scans, viewpoints, strict=True)
        return np.array([self.node(scan, viewpoint) for scan, viewpoint in pairs], dtype=np.int64)

    def scan_of(self, node: int) -> str:
        """Name of the scan that ``node`` belongs to."""
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

    def _pair(self, a: ArrayLike, b: ArrayLike) -> tuple[IntArray, NDArray[np.bool_], IntArray]:
        a, b = np.broadcast_arrays(np.asarray(a, np.int64), np.asarray(b, np.int64))
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
        path = [int(a)]
        while path[-1] != b:
            hop = int(self.next_hop(path[-1], b))
            if hop < 0:
                raise SimulatorError(f"no path from {self.long_id(a)!r} to {self.long_id(b)!r}")
            path.append(hop)
        return path

    def adjacent(self, a: ArrayLike, b: ArrayLike) -> NDArray[np.bool_]:
        """Whether an edge joins the nodes; broadcasts."""
        a, b = np.broadcast_arrays(np.asarray(a, np.int64), np.asarray(b, np.int64))
        return (self.neighbors[a] == b[..., None]).any(axis=-1)

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
        self.viewpoints = [graphs.viewpoints[n] for n in graphs.nodes_of(scan)]

    def distance(self, a: str, b: str) -> float:
        """Shortest-path length in meters."""
        node = self.graphs.node
        return float(self.graphs.distance(node(self.scan, a), node(self.scan, b)))

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
