"""Files of image features: the field's TSV and HDF5 forms and memory-mapped ``.npy``.

A ``.npy`` file holds (R, V, D) numbers; the names of its rows stand beside it in ``.ids.json``.
"""

import base64
import binascii
import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from ..simulator.connectivity import default_cache_dir
from ..simulator.geometry import NUM_VIEWS

TSV_COLUMNS = ["scanId", "viewpointId", "image_w", "image_h", "vfov", "features"]
CANDIDATE_COLUMNS = [
    "scanId",
    "viewpointId",
    "heading",
    "elevation",
    "next",
    "pointId",
    "idx",
    "feature",
]


class FeatureRow(NamedTuple):
    """Features of one viewpoint."""

    id: str  # scan_viewpoint
    features: NDArray  # (V, D)


class CandidateRow(NamedTuple):
    """One precomputed candidate of the file ``ResNet-152-candidate.tsv``."""

    scan: str
    viewpoint: str
    heading: float
    elevation: float
    next: str  # viewpoint that the candidate leads to
    view: int
    slot: int  # index in the simulator's navigable list
    features: NDArray[np.float32]  # (D,)


def ids_path(path: Path) -> Path:
    """Where the row names of a ``.npy`` file stand."""
    return path.with_suffix(".ids.json")


def _decode(text: str, where: str) -> NDArray[np.float32]:
    try:
        return np.frombuffer(base64.b64decode(text, validate=True), dtype="<f4")
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"{where} has damaged features ({error}); fetch the file again") from error


def _tsv_lines(path: Path, columns: list[str]) -> Iterator[tuple[str, list[str]]]:
    """Place in the file, for messages, and cells of every row that is not blank."""
    with path.open("rb") as file:
        for number, code in enumerate(file, start=1):
            try:
                line = code.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError:
                raise ValueError(
                    f"feature file {str(path)!r} row {number} is not text; fetch the file again"
                ) from None
            if not line.strip():
                continue
            cells = line.rstrip("\r\n").split("\t")
            where = f"feature file {str(path)!r} row {number}"
            if len(cells) != len(columns):
                raise ValueError(
                    f"{where} has {len(cells)} columns instead of {len(columns)} "
                    f"({', '.join(columns)})"
                )
            yield where, cells


def read_tsv(path: Path, num_views: int = NUM_VIEWS) -> Iterator[FeatureRow]:
    """Rows of a feature TSV one after the other.

    Raises:
        ValueError: a row is cut off or not ``num_views`` features wide; file, row and viewpoint are
            named.
    """
    for where, cells in _tsv_lines(path, TSV_COLUMNS):
        name = f"{cells[0]}_{cells[1]}"
        flat = _decode(cells[-1], f"{where} ({name})")
        if not flat.size or flat.size % num_views:
            raise ValueError(
                f"{where} ({name}) has {flat.size} numbers, which are not {num_views} views of "
                "one width"
            )
        yield FeatureRow(name, flat.reshape(num_views, -1))


def write_tsv(path: Path, rows: Iterable[FeatureRow]) -> None:
    """Write features in the field's TSV form (640x480, 60 degrees)."""
    with path.open("w") as file:
        for name, features in rows:
            scan, viewpoint = name.split("_", 1)
            code = base64.b64encode(np.ascontiguousarray(features, dtype="<f4").tobytes()).decode()
            file.write("\t".join([scan, viewpoint, "640", "480", "60", code]) + "\n")


def read_candidate_tsv(path: Path) -> Iterator[CandidateRow]:
    """Rows of a precomputed candidate file.

    Its index was written without the current place in front, so one is added.
    """
    for where, cells in _tsv_lines(path, CANDIDATE_COLUMNS):
        scan, viewpoint, heading, elevation, following, view, slot, code = cells
        yield CandidateRow(
            scan,
            viewpoint,
            float(heading),
            float(elevation),
            following,
            int(view),
            int(slot) + 1,
            _decode(code, where),
        )


def read_hdf5(path: Path) -> Iterator[FeatureRow]:
    """Rows of an HDF5 file: datasets ``features`` and ``ids``, or one dataset per viewpoint."""
    with _open_hdf5(path) as file:
        if "features" in file and "ids" in file:
            ids, data = _table(file)
            for i, name in enumerate(ids):
                yield FeatureRow(name, data[i])
        else:
            for name in file:
                yield FeatureRow(name, _numbers(file[name])[()])


@contextmanager
def _open_hdf5(path: Path) -> Iterator[h5py.File]:
    """The file, open; ``ValueError`` names it where it is damaged or holds something else."""
    try:
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        reason = str(error).split("\n")[0]
        raise ValueError(
            f"feature file {str(path)!r} is damaged or holds no features ({reason}); fetch or make "
            "it again"
        ) from None


def _numbers(data: h5py.Dataset) -> h5py.Dataset:
    if not isinstance(data, h5py.Dataset) or data.dtype.kind not in "fiu":
        raise ValueError(f"{data.name} is no array of numbers")
    return data


def _table(file: h5py.File) -> tuple[list[str], h5py.Dataset]:
    """Names and features (R, V, D) of a file that has all in one array."""
    ids, data = [str(name) for name in file["ids"].asstr()[:]], _numbers(file["features"])
    if data.ndim != 3 or len(ids) != len(data):
        raise ValueError(f"an array of shape {data.shape} for {len(ids)} viewpoints")
    return ids, data


def write_hdf5(path: Path, ids: list[str], array: NDArray) -> None:
    """Write ``array`` (R, V, D) as contiguous, hence memory-mappable, datasets."""
    with h5py.File(path, "w") as file:
        file.create_dataset("features", data=array)
        file.create_dataset("ids", data=ids, dtype=h5py.string_dtype())


def map_hdf5(path: Path) -> tuple[list[str], NDArray] | None:
    """Memory-map an HDF5 file whose ``features`` are contiguous; None for any other layout."""
    with _open_hdf5(path) as file:
        if "features" not in file or "ids" not in file:
            return None
        ids, data = _table(file)
        offset = data.id.get_offset()
        if offset is None:
            return None
        return ids, np.memmap(path, dtype=data.dtype, mode="r", offset=offset, shape=data.shape)


def write_npy(path: Path, rows: Iterable[FeatureRow], dtype: str = "float32") -> None:
    """Stream rows into ``path`` and its ``.ids.json``; neither appears before it is complete.

    Raises:
        ValueError: rows of different widths, a viewpoint twice, a number that is not finite (in
            ``dtype``), or no rows at all.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            names = _write_rows(file, rows, dtype, path)
        ids_temporary = Path(temporary + ".ids")
        ids_temporary.write_text(json.dumps(names))
        os.replace(ids_temporary, ids_path(path))
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def _write_rows(file: BinaryIO, rows: Iterable[FeatureRow], dtype: str, path: Path) -> list[str]:
    names: dict[str, None] = {}
    shape: tuple[int, ...] | None = None
    for name, features in rows:
        if shape is None:
            shape = features.shape
            _write_header(file, (1, *shape), dtype)
        if features.shape != shape:
            raise ValueError(
                f"viewpoint {name!r} has features of shape {features.shape} where the rows before "
                f"it have {shape}"
            )
        if name in names:
            raise ValueError(f"viewpoint {name!r} has features twice")
        names[name] = None
        with np.errstate(over="ignore"):
            written = np.ascontiguousarray(features, dtype=dtype)
        if not np.isfinite(written).all():
            raise ValueError(f"viewpoint {name!r} has features that are not finite as {dtype}")
        file.write(written.tobytes())
    if shape is None:
        raise ValueError(f"there are no features to write to {str(path)!r}")
    file.seek(0)
    _write_header(file, (len(names), *shape), dtype)
    return list(names)


def _write_header(file: BinaryIO, shape: tuple[int, ...], dtype: str) -> None:
    # numpy pads headers so that the first axis can grow without moving the data.
    header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)


def converted_path(path: Path, form: str, cache_dir: Path | None = None) -> Path:
    """The memory-mapped copy of a TSV or HDF5 file, named after its place, size and time.

    ``form`` says how the copy is made, so that two ways have two copies.
    """
    facts = path.stat()
    key = f"{path.resolve()} {facts.st_size} {facts.st_mtime_ns} {form}"
    digest = hashlib.sha1(key.encode(), usedforsecurity=False).hexdigest()
    return (cache_dir or default_cache_dir()) / f"features-{digest}.npy"
