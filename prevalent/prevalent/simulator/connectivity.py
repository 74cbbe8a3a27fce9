"""Reads the official ``SCAN_connectivity.json`` files, with a disk cache keyed by their content."""

import hashlib
import json
import logging
import os
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from .graph import Graphs, ScanData, SimulatorError

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
    except (ValueError, KeyError, TypeError) as error:
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
    folder: Path, scans: Iterable[str] | None = None, cache_dir: Path | None = None
) -> Graphs:
    """Load scans with all shortest paths.

    Args:
        folder: holds ``SCAN_connectivity.json`` and, optionally, ``scans.txt``.
        scans: names to load; all when None.
        cache_dir: where parsed scans are kept, ``default_cache_dir()`` when None.
    """
    wanted = read_scans(folder) if scans is None else list(scans)
    if not wanted:
        raise FileNotFoundError(f"folder {str(folder)!r} holds no {SUFFIX} file")
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
