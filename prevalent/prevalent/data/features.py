"""Image features of panoramas: a memory-mapped store and a table on the device."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..runtime.files import json_text, why
from ..simulator.geometry import NUM_VIEWS, AngleLayout, angle_table
from ..simulator.graph import Graphs, default_cache_dir
from .records import read_json


class FeatureStore:
    """Features of R panoramas.

    Args:
        ids: R names ``scan_viewpoint``.
        array: (R, V, D), usually memory-mapped.
        source: the file, for messages.
    """

    def __init__(self, ids: Sequence[str], array: NDArray, source: str = "features") -> None:
        if array.dtype.kind not in "fiu":
            raise ValueError(f"feature file {source!r} holds {array.dtype}, not numbers")
        if array.ndim != 3 or len(ids) != len(array):
            raise ValueError(
                f"feature file {source!r} holds an array of shape {array.shape} for {len(ids)} "
                "viewpoints; it must be (viewpoints, views, width)"
            )
        self.rows = {name: i for i, name in enumerate(ids)}
        if len(self.rows) != len(ids):
            twice = next(name for i, name in enumerate(ids) if self.rows[name] != i)
            raise ValueError(f"feature file {source!r} has viewpoint {twice!r} twice")
        self.array = array
        self.source = source

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        width: int | None = None,
        num_views: int = NUM_VIEWS,
        columns: str = "",
        dtype: str = "float32",
        cache_dir: Path | None = None,
    ) -> FeatureStore:
        """Open a ``.tsv``, ``.h5``/``.hdf5`` or ``.npy`` file.

        A TSV is converted once to a memory-mapped copy in ``cache_dir``.

        Args:
            path: the file.
            width: D that is expected; any when None.
            num_views: V that is expected; files of detected objects may have another one.
            columns: ``FIRST:END`` takes these numbers of a view alone, all where empty; files of
                768 + 1,000 columns hold the features of a ViT and its 1,000 classes.
            dtype: of the copy, float32 or float16.
            cache_dir: place of the copy, the user's cache folder when None.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(
                f"feature file {str(path)!r} does not exist; fetch it or make it with "
                "`prevalent prepare features`"
            )
        if path.suffix == ".npy":
            store = cls._open_npy(path)
        elif path.suffix in (".h5", ".hdf5") and (mapped := map_hdf5(path)) is not None:
            store = cls(*mapped, source=str(path))
        elif path.suffix in (".tsv", ".h5", ".hdf5"):
            copy = converted_path(path, f"{dtype} {num_views}", cache_dir)
            if not (copy.is_file() and ids_path(copy).is_file()):
                rows = read_tsv(path, num_views) if path.suffix == ".tsv" else read_hdf5(path)
                write_npy(copy, rows, dtype, source=path)
            store = cls._open_npy(copy)
            store.source = str(path)
        else:
            raise ValueError(f"feature file {str(path)!r} must end in .tsv, .h5, .hdf5 or .npy")
        if not len(store) or not store.width:
            what = "views of no number" if len(store) else "no viewpoint"
            raise ValueError(f"feature file {str(path)!r} holds {what}; fetch or make it again")
        unnamed = next((one for one in store.rows if not all(one.partition("_")[::2])), None)
        if unnamed is not None:
            raise ValueError(
                f"feature file {str(path)!r} row {store.rows[unnamed] + 1} is of {unnamed!r}, "
                "which is no SCAN_VIEWPOINT; fetch or make it again"
            )
        if store.num_views != num_views:
            raise ValueError(
                f"feature file {str(path)!r} has {store.num_views} views of viewpoint "
                f"{next(iter(store.rows), '')!r} (row 1) and of every other, not {num_views}"
            )
        store.array = store.array[..., slice_of(columns, store.width, str(path))]
        if width is not None and store.width != width:
            raise ValueError(
                f"feature file {str(path)!r} is {store.width} numbers wide, but the model takes "
                f"{width}"
            )
        return store

    @classmethod
    def _open_npy(cls, path: Path) -> FeatureStore:
        array, names = map_npy(path)
        if not isinstance(array, np.ndarray):  # an archive of arrays
            raise ValueError(f"feature file {str(path)!r} holds several arrays; save one")
        ids = read_json(names, "make or fetch it again with its features")
        if not isinstance(ids, list) or not all(isinstance(name, str) for name in ids):
            raise ValueError(f"{names} must hold a list of names; make or fetch it again")
        return cls(ids, array, source=str(path))

    @property
    def num_views(self) -> int:
        """V, 36 unless a file has something else."""
        return self.array.shape[1]

    @property
    def width(self) -> int:
        """D, the width of the image features of one view."""
        return self.array.shape[2]

    def __len__(self) -> int:
        return len(self.array)

    def view(self, name: str) -> NDArray:
        """Features (V, D) of one ``scan_viewpoint``."""
        if name not in self.rows:
            raise ValueError(f"feature file {self.source!r} has no viewpoint {name!r}")
        return self.array[self.rows[name]]

    def check(self, graphs: Graphs, scans: Iterable[str] | None = None) -> None:
        """Raise ``ValueError`` naming the first viewpoint of ``scans`` without finite features."""
        for scan in graphs.scans if scans is None else scans:
            self.check_finite(graphs.long_id(node) for node in graphs.connected(scan))

    def check_finite(self, names: Iterable[str]) -> None:
        """Raise ``ValueError`` naming the first of ``names`` that has no features or NaN."""
        for name in names:
            if not np.isfinite(self.view(name)).all():
                raise ValueError(
                    f"feature file {self.source!r} row {self.rows[name] + 1} ({name}) holds "
                    "numbers that are not finite; fetch or make it again"
                )

    def save(self, path: Path) -> None:
        """Write the store as a ``.npy`` file with its names beside it."""
        write_npy(path, self.items(), str(self.array.dtype))

    def items(self) -> Iterable[FeatureRow]:
        """Every row with its name."""
        return (FeatureRow(name, self.array[i]) for name, i in self.rows.items())


def slice_of(columns: str, width: int, path: str = "the file") -> slice:
    """The slice that ``FIRST:END`` names of ``width`` columns, all of them where it is empty.

    Raises ``ValueError`` where it is no such range.
    """
    if not columns:
        return slice(None)
    first, mark, end = columns.partition(":")
    if not (mark and (first or "0").isdecimal() and (end or "0").isdecimal()):
        raise ValueError(f"--feature-columns {columns} must be FIRST:END, such as 0:768")
    found = slice(int(first or 0), int(end or width))
    if not found.start < found.stop <= width:
        raise ValueError(
            f"--feature-columns {columns}: feature file {path!r} has the columns 0:{width}"
        )
    return found


def synthetic_features(names: Sequence[str], width: int) -> FeatureStore:
    """Reproducible noise for work without the real features.

    The features of a viewpoint are ``RandomState(crc32(name)).standard_normal((36, width))``, the
    rule with which the cases of the parity tests were recorded; they carry no landmarks.
    """
    array = np.empty((len(names), NUM_VIEWS, width), dtype=np.float32)
    for i, name in enumerate(names):
        array[i] = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(array[i].shape)
    return FeatureStore(names, array, source=f"synthetic features of width {width}")


def open_store(
    data_dir: Path,
    features: Path | None,
    graphs: Graphs,
    scans: Sequence[str],
    standin_dim: int,
    columns: str = "",
) -> FeatureStore:
    """The features of ``scans``, checked to be complete.

    Args:
        data_dir: the data folder.
        features: the file, relative to it; None makes stand-ins.
        graphs: hold the scans.
        scans: names.
        standin_dim: width of stand-ins.
        columns: of a view, as of `FeatureStore.open`.

    Raises ``FileNotFoundError`` or ``ValueError`` naming the file or viewpoint that is missing.
    """
    if features is None:
        names = [graphs.long_id(node) for scan in scans for node in graphs.connected(scan)]
        return synthetic_features(names, standin_dim)
    path = data_dir / features
    if not path.is_file():
        raise FileNotFoundError(
            f"--features {path} does not exist; fetch it with `prevalent prepare features`, "
            "give another file, or --features None for random stand-ins"
        )
    store = FeatureStore.open(path, columns=columns)
    store.check(graphs, scans)
    return store


def expand_angles(four: Tensor, size: int, layout: AngleLayout = "interleaved") -> Tensor:
    """Repeat (sin h, cos h, sin e, cos e) (..., 4) to (..., size) in one of the two layouts."""
    if layout == "block":
        return four.repeat_interleave(size // 4, dim=-1)
    return four.repeat(*(1,) * (four.dim() - 1), size // 4)


class DeviceFeatures:
    """Features of panoramas, gathered on the device from rows and views.

    Args:
        store: the features.
        device: where results are wanted.
        dtype: of the results; the table itself is kept in this type when it is resident.
        angle_size: A, appended to every image feature.
        layout: of the angles.
        resident: keep the table on the device; when None, if it takes at most 60 % of the free
            memory of a GPU, or 1 GiB on the CPU. Otherwise rows are copied step by step.
    """

    def __init__(
        self,
        store: FeatureStore,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        *,
        angle_size: int = 128,
        layout: AngleLayout = "interleaved",
        resident: bool | None = None,
    ) -> None:
        self.device = torch.device(device)
        self.dtype = dtype
        self.angle_size = angle_size
        self.layout: AngleLayout = layout
        self.image_width = store.width
        self.width = store.width + angle_size
        self.angles = torch.from_numpy(angle_table(angle_size, layout)).to(self.device, dtype)
        if resident is None:
            resident = self._fits(store)
        self._array = store.array
        self._table = self._upload(store.array) if resident else None

    def _fits(self, store: FeatureStore) -> bool:
        size = store.array.size * self.dtype.itemsize
        if self.device.type != "cuda":
            return size < 2**30
        return size <= 0.6 * torch.cuda.mem_get_info(self.device)[0]

    def _upload(self, array: NDArray) -> Tensor:
        """Copy in slices, so that the host never holds the whole table a second time."""
        table = torch.empty(array.shape, dtype=self.dtype, device=self.device)
        for start in range(0, len(array), 256):
            part = torch.from_numpy(np.array(array[start : start + 256]))
            table[start : start + 256] = part.to(self.device, self.dtype)
        return table

    def _index(self, values: NDArray | Tensor) -> Tensor:
        return torch.as_tensor(values, dtype=torch.long).to(self.device, non_blocking=True)

    def images(self, row: NDArray | Tensor) -> Tensor:
        """Image features (B, V, D) of the rows (B,)."""
        if self._table is not None:
            return self._table.index_select(0, self._index(row))  # 3 x as fast as [row] on a CPU
        picked = torch.from_numpy(np.array(self._array[np.asarray(row)]))
        if self.device.type == "cuda":
            picked = picked.pin_memory()
        return picked.to(self.device, self.dtype, non_blocking=True)

    def panorama(self, row: NDArray | Tensor, view: NDArray | Tensor) -> Tensor:
        """Images with the angles seen from ``view``: (B, V, D + A) for rows and views (B,)."""
        return torch.cat([self.images(row), self.angles[self._index(view)]], dim=-1)

    def single(self, row: NDArray | Tensor, view: NDArray | Tensor) -> Tensor:
        """Image features (B, D) of one view of each row."""
        index = self._index(view)
        if self._table is not None:
            return self._table[self._index(row), index]
        return self.images(row)[torch.arange(len(index), device=self.device), index]

    def candidates(
        self,
        row: NDArray | Tensor,
        candidate_view: NDArray | Tensor,
        candidate_angle: NDArray | Tensor,
        images: Tensor | None = None,
    ) -> Tensor:
        """Candidate features; all zeros for STOP and padding.

        Args:
            row: (B,) rows in the table.
            candidate_view: (B, K) view that shows the candidate, -1 for STOP and padding.
            candidate_angle: (B, K, 4) encoded angles.
            images: what ``images(row)`` returned, if at hand (with noise applied, for example).

        Returns:
            (B, K, D + A)
        """
        view = self._index(candidate_view)
        angle = torch.as_tensor(candidate_angle).to(self.device, self.dtype, non_blocking=True)
        if images is None and self._table is not None:
            picked = self._table[self._index(row)[:, None], view.clamp(min=0)]
        else:
            images = self.images(row) if images is None else images
            first = torch.arange(len(view), device=self.device)[:, None] * images.shape[1]
            places = (first + view.clamp(min=0)).flatten()
            picked = images.flatten(0, 1).index_select(0, places).unflatten(0, view.shape)
        picked *= (view >= 0).unsqueeze(-1)
        return torch.cat([picked, expand_angles(angle, self.angle_size, self.layout)], dim=-1)


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


def map_npy(path: Path) -> tuple[NDArray, Path]:
    """What a ``.npy`` file of features holds, mapped, and the file of its names, which is there.

    Raises ``FileNotFoundError`` or ``ValueError`` where the names lack or the numbers do not read.
    An archive of arrays is given back as it is.
    """
    names = ids_path(path)
    if not names.is_file():
        raise FileNotFoundError(f"feature file {str(path)!r} lacks its names {str(names)!r}")
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False), names
    except (ValueError, EOFError) as error:
        raise ValueError(
            f"feature file {str(path)!r} is damaged or holds more than numbers ({why(error)}); "
            "make or fetch it again"
        ) from None


def ids_path(path: Path) -> Path:
    """Where the row names of a ``.npy`` file stand."""
    return path.with_suffix(".ids.json")


LEAST, MOST = 1e-18, 1e18


def decode_features(text: str, where: str, *, finite: bool = True) -> NDArray[np.float32]:
    """Numbers of a cell of a feature TSV, base64 of float32.

    Raises ``ValueError`` that begins with ``where`` where it is damaged, holds numbers of 64 bits
    or, with ``finite``, some that are not finite.
    """
    try:
        content = base64.b64decode(text, validate=True)
        numbers = np.frombuffer(content, dtype="<f4")
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"{where} has damaged features ({error}); fetch the file again") from error
    if len(content) % 8 == 0 and _is_halved(numbers):
        raise ValueError(f"{where} holds numbers of 64 bits; write them as float32")
    if _is_paired(numbers):
        raise ValueError(f"{where} holds numbers of 16 bits; write them as float32")
    if finite and not np.isfinite(numbers).all():
        raise ValueError(f"{where} holds numbers that are not finite; fetch or make it again")
    return numbers


def _is_halved(numbers: NDArray) -> bool:
    """Whether these are halves of 64 bit numbers: many of sizes that features do not have."""
    whole = numbers.view("<f8")
    return _share_of_odd_sizes(numbers) > 0.05 and _share_of_odd_sizes(whole) == 0


def _is_paired(numbers: NDArray) -> bool:
    """Whether these are pairs of 16 bit numbers, whose sizes then differ eight times as much."""
    halves = numbers.view("<f2")
    return (
        bool(np.isfinite(halves).all())  # the low bits of 32 are any: some make NaN
        and _spread(halves) < 5
        and _spread(numbers) > max(8.0, 4 * _spread(halves))
    )


def _spread(numbers: NDArray) -> float:
    """Standard deviation of the powers of two of all numbers but 0; about 1.6 for normal ones."""
    size = np.abs(numbers[numbers != 0].astype(np.float64))
    return float(np.log2(size).std()) if size.size else 0.0


def _share_of_odd_sizes(numbers: NDArray) -> float:
    size = np.abs(numbers[numbers != 0])
    usual = (size > LEAST) & (size < MOST)  # NaN is neither
    return float(1 - usual.mean()) if size.size else 0.0


def tsv_lines(path: Path) -> Iterator[tuple[str, str]]:
    """Place in the file, for messages, and text of every row that is not blank."""
    with path.open("rb") as file:
        for number, code in enumerate(file, start=1):
            try:
                line = code.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError:
                raise ValueError(
                    f"feature file {str(path)!r} row {number} is not text; fetch the file again"
                ) from None
            if line.strip():
                yield f"feature file {str(path)!r} row {number}", line.rstrip("\r\n")


def _tsv_cells(path: Path, columns: list[str]) -> Iterator[tuple[str, list[str]]]:
    """Place in the file, for messages, and cells of every row that is not blank."""
    for where, line in tsv_lines(path):
        cells = line.split("\t")
        if cells[-1].strip().lower() in ("feature", "features"):
            raise ValueError(
                f"{where} is a header, and the published files have none; delete the line"
            )
        if len(cells) != len(columns):
            raise ValueError(
                f"{where} has {len(cells)} columns instead of {len(columns)} ({', '.join(columns)})"
            )
        yield where, cells


def read_tsv(path: Path, num_views: int = NUM_VIEWS) -> Iterator[FeatureRow]:
    """Rows of a feature TSV one after the other.

    Raises:
        ValueError: a row is cut off or not ``num_views`` features wide; file, row and viewpoint are
            named.
    """
    for where, cells in _tsv_cells(path, TSV_COLUMNS):
        name = f"{cells[0]}_{cells[1]}"
        if not (cells[0].strip() and cells[1].strip()):
            raise ValueError(f"{where} lacks its scan or viewpoint; fetch or make the file again")
        where = f"{where} ({name})"
        flat = decode_features(cells[-1], where)
        if not flat.size or flat.size % num_views:
            raise ValueError(
                f"{where} has {flat.size} numbers, which are not {num_views} views of one width"
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
    for where, cells in _tsv_cells(path, CANDIDATE_COLUMNS):
        scan, viewpoint, heading, elevation, following, view, slot, code = cells
        if not all(one.strip() for one in (scan, viewpoint, following, code)):
            raise ValueError(
                f"{where} lacks its scan, its viewpoints or its features; fetch the file again"
            )
        try:
            numbers = float(heading), float(elevation), int(view), int(slot) + 1
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
        if not np.isfinite(numbers[:2]).all() or not 0 <= numbers[2] < NUM_VIEWS:
            raise ValueError(
                f"{where}: heading, elevation and view are {heading}, {elevation}, {view}; they "
                f"must be finite, the view below {NUM_VIEWS}"
            )
        yield CandidateRow(
            scan, viewpoint, *numbers[:2], following, *numbers[2:], decode_features(code, where)
        )


def read_hdf5(path: Path) -> Iterator[FeatureRow]:
    """Rows of an HDF5 file: datasets ``features`` and ``ids``, or one dataset per viewpoint."""
    with open_hdf5(path) as file:
        if "features" in file and "ids" in file:
            ids, data = _table(file)
            for i, name in enumerate(ids):
                yield FeatureRow(name, data[i])
        else:
            for name in file:
                data = _numbers(file[name])
                if data.ndim != 2:
                    raise ValueError(f"{name} is of shape {data.shape}, not (views, width)")
                yield FeatureRow(name, data[()])


@contextmanager
def open_hdf5(path: Path) -> Iterator[h5py.File]:
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
    ids, data = read_names(file), _numbers(file["features"])
    if data.ndim != 3 or len(ids) != len(data):
        raise ValueError(f"an array of shape {data.shape} for {len(ids)} viewpoints")
    return ids, data


def read_names(file: h5py.File) -> list[str]:
    """The names ``SCAN_VIEWPOINT`` of a file that has all in one array."""
    ids = file["ids"]
    texts = isinstance(ids, h5py.Dataset) and h5py.check_string_dtype(ids.dtype) is not None
    if not texts or ids.ndim != 1:
        raise ValueError("'ids' is no list of names")
    return [str(name) for name in ids.asstr()[:]]


def write_hdf5(path: Path, ids: list[str], array: NDArray) -> None:
    """Write ``array`` (R, V, D) as contiguous, hence memory-mappable, datasets."""
    with h5py.File(path, "w") as file:
        file.create_dataset("features", data=array)
        file.create_dataset("ids", data=ids, dtype=h5py.string_dtype())


def write_hdf5_rows(path: Path, rows: Iterable[FeatureRow]) -> None:
    """Write one dataset a viewpoint, the form of HAMT and DUET: ``scan_viewpoint`` -> (V, D).

    The file gets its name when it is complete.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with h5py.File(partial, "w") as file:
            for name, features in rows:
                file.create_dataset(name, data=features, dtype="float32", compression="gzip")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def map_hdf5(path: Path) -> tuple[list[str], NDArray] | None:
    """Memory-map an HDF5 file whose ``features`` are contiguous; None for any other layout."""
    with open_hdf5(path) as file:
        if "features" not in file or "ids" not in file:
            return None
        ids, data = _table(file)
        if not data.size:
            return ids, np.empty(data.shape, data.dtype)  # which cannot be mapped
        offset = data.id.get_offset()
        if offset is None:
            return None
        return ids, np.memmap(path, dtype=data.dtype, mode="r", offset=offset, shape=data.shape)


def write_npy(
    path: Path, rows: Iterable[FeatureRow], dtype: str = "float32", source: Path | None = None
) -> None:
    """Stream rows into ``path`` and its ``.ids.json``; neither appears before it is complete.

    ``source`` is the file that complaints name, ``path`` where it is None.

    Raises:
        ValueError: rows of different widths, a viewpoint twice, a number that is not finite (in
            ``dtype``), or no rows at all.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            names = _write_rows(file, rows, dtype, source or path)
        ids_temporary = Path(temporary + ".ids")
        ids_temporary.write_text(json_text(names))
        os.replace(ids_temporary, ids_path(path))
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def _write_rows(file: BinaryIO, rows: Iterable[FeatureRow], dtype: str, source: Path) -> list[str]:
    names: dict[str, None] = {}
    shape: tuple[int, ...] | None = None
    whose = f"feature file {str(source)!r}: viewpoint"
    for name, features in rows:
        if shape is None:
            shape = features.shape
            _write_header(file, (1, *shape), dtype)
        if features.shape != shape:
            raise ValueError(
                f"{whose} {name!r} has features of shape {features.shape} where the rows before it "
                f"have {shape}"
            )
        if name in names:
            raise ValueError(f"{whose} {name!r} has features twice")
        names[name] = None
        with np.errstate(over="ignore"):
            written = np.ascontiguousarray(features, dtype=dtype)
        if not np.isfinite(written).all():
            raise ValueError(f"{whose} {name!r} has features that are not finite as {dtype}")
        file.write(written.tobytes())
    if shape is None:
        raise ValueError(
            f"feature file {str(source)!r}: there is no viewpoint in it; fetch or make it again"
        )
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
