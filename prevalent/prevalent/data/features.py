"""Image features of panoramas: a memory-mapped store and a table on the device."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..simulator.geometry import NUM_VIEWS, AngleLayout, angle_table
from ..simulator.graph import Graphs
from .feature_files import (
    FeatureRow,
    converted_path,
    ids_path,
    map_hdf5,
    read_hdf5,
    read_tsv,
    write_npy,
)
from .json_records import read_json


class FeatureStore:
    """Features of R panoramas.

    Args:
        ids: R names ``scan_viewpoint``.
        array: (R, V, D), usually memory-mapped.
        source: the file, for messages.
    """

    def __init__(self, ids: Sequence[str], array: NDArray, source: str = "features") -> None:
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
        dtype: str = "float32",
        cache_dir: Path | None = None,
    ) -> FeatureStore:
        """Open a ``.tsv``, ``.h5``/``.hdf5`` or ``.npy`` file.

        A TSV is converted once to a memory-mapped copy in ``cache_dir``.

        Args:
            path: the file.
            width: D that is expected; any when None.
            num_views: V of a TSV; files of detected objects may have another one.
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
                write_npy(copy, rows, dtype)
            store = cls._open_npy(copy)
            store.source = str(path)
        else:
            raise ValueError(f"feature file {str(path)!r} must end in .tsv, .h5, .hdf5 or .npy")
        if width is not None and store.width != width:
            raise ValueError(
                f"feature file {str(path)!r} is {store.width} numbers wide, but the model takes "
                f"{width}"
            )
        return store

    @classmethod
    def _open_npy(cls, path: Path) -> FeatureStore:
        names = ids_path(path)
        if not names.is_file():
            raise FileNotFoundError(f"feature file {str(path)!r} lacks its names {str(names)!r}")
        try:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise ValueError(
                f"feature file {str(path)!r} is damaged or holds more than numbers ({error}); "
                "make or fetch it again"
            ) from None
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
        """Raise ``ValueError`` naming the first viewpoint of ``scans`` without features."""
        for scan in graphs.scans if scans is None else scans:
            for node in graphs.connected(scan):
                if graphs.long_id(node) not in self.rows:
                    raise ValueError(
                        f"feature file {self.source!r} has no viewpoint {graphs.long_id(node)!r}"
                    )

    def save(self, path: Path) -> None:
        """Write the store as a ``.npy`` file with its names beside it."""
        write_npy(path, self.items(), str(self.array.dtype))

    def items(self) -> Iterable[FeatureRow]:
        """Every row with its name."""
        return (FeatureRow(name, self.array[i]) for name, i in self.rows.items())


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
    data_dir: Path, features: Path | None, graphs: Graphs, scans: Sequence[str], standin_dim: int
) -> FeatureStore:
    """The features of ``scans``, checked to be complete.

    Args:
        data_dir: the data folder.
        features: the file, relative to it; None makes stand-ins.
        graphs: hold the scans.
        scans: names.
        standin_dim: width of stand-ins.

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
    store = FeatureStore.open(path)
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
        return torch.as_tensor(values, dtype=torch.long).to(self.device)

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
        angle = torch.as_tensor(candidate_angle).to(self.device, self.dtype)
        if images is None and self._table is not None:
            picked = self._table[self._index(row)[:, None], view.clamp(min=0)]
        else:
            images = self.images(row) if images is None else images
            first = torch.arange(len(view), device=self.device)[:, None] * images.shape[1]
            places = (first + view.clamp(min=0)).flatten()
            picked = images.flatten(0, 1).index_select(0, places).unflatten(0, view.shape)
        picked *= (view >= 0).unsqueeze(-1)
        return torch.cat([picked, expand_angles(angle, self.angle_size, self.layout)], dim=-1)
