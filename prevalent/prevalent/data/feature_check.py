"""What is in a feature file and what is wrong with it; every row is read.

The layouts are those that `FeatureStore.open` reads.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from ..simulator.geometry import NUM_VIEWS
from ..simulator.graph import Graphs
from .features import TSV_COLUMNS, decode_features, map_npy, read_names, slice_of, tsv_lines
from .records import read_json

SHOWN = 3  # names that are told of a problem


class Finding(NamedTuple):
    """A line of the table."""

    what: str
    found: str
    problem: str = ""
    """Empty where it is as it should be."""


class _Row(NamedTuple):
    name: str
    features: NDArray | None
    problem: str = ""  # why there are no features


@dataclass
class _Tally:
    """What the rows have in common, and those that have something wrong."""

    rows: int = 0
    views: Counter[int] = field(default_factory=Counter)
    widths: Counter[int] = field(default_factory=Counter)
    types: Counter[str] = field(default_factory=Counter)
    names: Counter[str] = field(default_factory=Counter)
    damaged: list[str] = field(default_factory=list)
    shapes: list[str] = field(default_factory=list)
    not_finite: list[str] = field(default_factory=list)
    zeros: list[str] = field(default_factory=list)
    least: float = np.inf
    most: float = -np.inf

    def add(self, row: _Row, columns: str, num_views: int, path: Path) -> None:
        self.rows += 1
        self.names[row.name] += 1
        if row.features is None:
            self.damaged.append(f"{row.name} ({row.problem})")
            return
        if not all(row.name.partition("_")[::2]):
            self.damaged.append(f"{row.name!r} (no SCAN_VIEWPOINT)")
            return
        features = row.features
        self.types[str(features.dtype)] += 1
        if features.dtype.kind not in "fiu":
            self.damaged.append(f"{row.name} ({features.dtype}, not numbers)")
            return
        if features.ndim != 2 or features.shape[0] != num_views or not features.size:
            self.shapes.append(f"{row.name} {features.shape}")
            return
        self.views[features.shape[0]] += 1
        self.widths[features.shape[1]] += 1
        features = features[:, slice_of(columns, features.shape[1], str(path))]
        finite = np.isfinite(features)
        if not finite.all():
            self.not_finite.append(f"{row.name} ({int((~finite).sum())} numbers)")
            return
        if not features.any(axis=1).all():
            self.zeros.append(f"{row.name} ({int((~features.any(axis=1)).sum())} views)")
        self.least = min(self.least, float(features.min()))
        self.most = max(self.most, float(features.max()))


def check_features(
    path: Path,
    graphs: Graphs | None = None,
    *,
    scans: Sequence[str] = (),
    columns: str = "",
    num_views: int = NUM_VIEWS,
) -> list[Finding]:
    """Read every row of a feature file.

    Args:
        path: the file.
        graphs: whose viewpoints need features; None does not ask.
        scans: those of them that matter, all where empty.
        columns: ``FIRST:END``, to look at these columns alone.
        num_views: V of a panorama.

    Raises:
        FileNotFoundError: there is no such file, or no names beside an ``.npy`` file.
        ValueError: it cannot be opened at all, or ends in none of the known suffixes.
    """
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise FileNotFoundError(f"feature file {str(path)!r} {what}; name a file")
    tally = _Tally()
    layout, rows = _open_rows(path, num_views)
    for row in rows:
        tally.add(row, columns, num_views, path)
    findings = [
        Finding("layout", layout),
        Finding("size", f"{path.stat().st_size / 2**20:,.1f} MiB"),
        Finding("rows", f"{tally.rows:,}", "" if tally.rows else "there are none"),
        Finding("number type", _several(tally.types), _unequal(tally.types)),
        Finding("views a row", _several(tally.views), _named("other shapes", tally.shapes)),
        Finding("numbers a view", _several(tally.widths), _unequal(tally.widths)),
        _of("damaged", tally.damaged),
        _of("not finite", tally.not_finite),
        _of("all zero", tally.zeros),
        _of("twice", [name for name, count in tally.names.items() if count > 1]),
    ]
    if columns:
        findings.insert(6, Finding("columns looked at", columns))
    if tally.least <= tally.most:
        findings.append(Finding("smallest, largest", f"{tally.least:.4g}, {tally.most:.4g}"))
    return findings + _against(graphs, scans, tally.names)


def _against(graphs: Graphs | None, scans: Sequence[str], names: Counter[str]) -> list[Finding]:
    """What the graphs need and the file lacks, and the other way round."""
    if graphs is None:
        return [Finding("against the graphs", "not checked: there are none")]
    chosen = list(scans) or list(graphs.scans)
    needed = [graphs.long_id(node) for scan in chosen for node in graphs.connected(scan)]
    missing = [name for name in needed if name not in names]
    known = {graphs.long_id(node) for node in range(len(graphs.viewpoints))}
    unknown = [name for name in names if name not in known]
    found = f"{len(needed) - len(missing):,} of {len(needed):,} viewpoints of {len(chosen)} scans"
    by_scan = Counter(name.partition("_")[0] for name in missing)
    told = [f"{scan} {count}" for scan, count in by_scan.most_common(SHOWN)]
    problem = _named("missing", missing)
    if len(by_scan) > 1:
        problem += f"; most in {', '.join(told)}"
    return [
        Finding("against the graphs", found, problem),
        Finding("of no viewpoint", f"{len(unknown):,}{_such_as(unknown)}"),
    ]


def _of(what: str, names: Sequence[str]) -> Finding:
    return Finding(what, f"{len(names):,}", _named("rows", names))


def _named(what: str, names: Sequence[str]) -> str:
    return f"{len(names):,} {what}{_such_as(names)}" if names else ""


def _such_as(names: Sequence[str]) -> str:
    return f": {', '.join(names[:SHOWN])}{' ...' if len(names) > SHOWN else ''}" if names else ""


def _several(counts: Counter) -> str:
    return ", ".join(str(value) for value, _ in counts.most_common(SHOWN)) or "none"


def _unequal(counts: Counter) -> str:
    if len(counts) < 2:
        return ""
    return ", ".join(f"{value} in {count:,} rows" for value, count in counts.most_common(SHOWN))


def _open_rows(path: Path, num_views: int) -> tuple[str, Iterator[_Row]]:
    """The layout in words, and the rows."""
    if path.suffix == ".tsv":
        return "TSV, base64 of float32", _tsv_rows(path, num_views)
    if path.suffix == ".npy":
        return _npy_rows(path)
    if path.suffix in (".h5", ".hdf5"):
        return _hdf5_rows(path)
    raise ValueError(f"feature file {str(path)!r} must end in .tsv, .h5, .hdf5 or .npy")


def _tsv_rows(path: Path, num_views: int) -> Iterator[_Row]:
    for where, line in tsv_lines(path):
        cells = line.split("\t")
        name = "_".join(cells[:2]) if len(cells) > 1 else where.rpartition("' ")[2]
        if len(cells) != len(TSV_COLUMNS):
            yield _Row(name, None, f"{len(cells)} columns instead of {len(TSV_COLUMNS)}")
            continue
        try:
            flat = decode_features(cells[-1], "it", finite=False)
        except ValueError as error:
            yield _Row(name, None, str(error).removeprefix("it ").split(";")[0])
            continue
        if not flat.size or flat.size % num_views:
            yield _Row(name, None, f"{flat.size} numbers, which are not {num_views} views")
            continue
        yield _Row(name, flat.reshape(num_views, -1))


def _npy_rows(path: Path) -> tuple[str, Iterator[_Row]]:
    array, names_path = map_npy(path)
    names = read_json(names_path, "make it again with its features")
    if not isinstance(array, np.ndarray) or array.ndim != 3 or not isinstance(names, list):
        raise ValueError(
            f"feature file {str(path)!r} must hold one array (viewpoints, views, width), and "
            f"{names_path.name} a list of names"
        )
    if len(names) != len(array):
        raise ValueError(
            f"feature file {str(path)!r} has {len(array)} rows for the {len(names)} names of "
            f"{names_path.name}; make or fetch both again"
        )
    rows = (_Row(str(name), array[i]) for i, name in enumerate(names))
    return f"npy {array.shape}, names in {names_path.name}", rows


def _hdf5_rows(path: Path) -> tuple[str, Iterator[_Row]]:
    try:
        with h5py.File(path, "r") as file:
            table = "features" in file and "ids" in file
            ids, data = (len(read_names(file)), len(file["features"])) if table else (0, 0)
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        reason = str(error).split("\n")[0]
        raise ValueError(
            f"feature file {str(path)!r} is damaged or no HDF5 file ({reason}); fetch it again"
        ) from None
    if ids != data:
        raise ValueError(f"feature file {str(path)!r} has {data} rows of features for {ids} names")
    if table:
        return "HDF5, one array and its ids", _hdf5_table(path)
    return "HDF5, one dataset a viewpoint", _hdf5_keys(path)


def _hdf5_table(path: Path) -> Iterator[_Row]:
    with h5py.File(path, "r") as file:
        for i, name in enumerate(read_names(file)):
            yield _hdf5_row(name, file["features"], i)


def _hdf5_keys(path: Path) -> Iterator[_Row]:
    with h5py.File(path, "r") as file:
        for name in file:
            yield _hdf5_row(name, file[name], ())


def _hdf5_row(name: str, data: h5py.Dataset, place: int | tuple[()]) -> _Row:
    if not isinstance(data, h5py.Dataset):
        return _Row(name, None, "a group, no array")
    try:
        return _Row(name, np.asarray(data[place]))
    except (OSError, RuntimeError, ValueError) as error:
        return _Row(name, None, str(error).split("\n")[0])
