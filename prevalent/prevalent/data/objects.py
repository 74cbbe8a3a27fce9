"""Features of the objects that are seen from each viewpoint, for REVERIE (Qi et al., CVPR 2020).

The file has DUET's form: HDF5, a dataset ``SCAN_VIEWPOINT`` (n, D) with the attributes ``obj_ids``,
``directions`` (n, 2), heading and elevation in radians, and ``sizes`` (n, 2), width and height in
pixels of a 640 x 480 view.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..models.graph import SeenObjects
from ..runtime.transfer import upload
from ..simulator.geometry import angle_features
from ..simulator.graph import Graphs
from .features import expand_angles, open_hdf5

VIEW_WIDTH, VIEW_HEIGHT = 640, 480
"""Pixels of the views whose boxes the file has."""


class SceneObjects(NamedTuple):
    """The objects of one viewpoint."""

    ids: tuple[str, ...]
    features: NDArray[np.floating]  # (n, D)
    directions: NDArray[np.floating]  # (n, 2) heading and elevation, radians
    sizes: NDArray[np.floating]  # (n, 2) width and height, pixels


class ObjectStore:
    """The objects of all viewpoints of some scans; a viewpoint that the file lacks shows none.

    Args:
        graphs: the scans; their nodes number the viewpoints.
        scenes: node -> its objects.
        width: D.
    """

    def __init__(self, graphs: Graphs, scenes: Mapping[int, SceneObjects], width: int) -> None:
        self.ids = [scenes[n].ids if n in scenes else () for n in range(len(graphs.viewpoints))]
        counts = np.array([len(ids) for ids in self.ids])
        self.count = counts  # (N,)
        self.first = np.concatenate([[0], np.cumsum(counts)[:-1]])  # (N,) row of the first object
        parts = [scenes[node] for node in sorted(scenes)]
        self.features = _stack([one.features for one in parts], width)
        self.directions = _stack([one.directions for one in parts], 2)
        self.sizes = _stack([one.sizes for one in parts], 2)

    @classmethod
    def open(cls, path: Path, graphs: Graphs, width: int) -> ObjectStore:
        """Read the objects of all viewpoints of ``graphs``.

        Args:
            path: of the file.
            graphs: the scans.
            width: of the features of views; columns behind it are left out, such as probabilities
                of classes.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is damaged, narrower than ``width``, or shows none of the scans.
        """
        if not path.is_file():
            raise FileNotFoundError(
                f"--objects {path} is not there; give an HDF5 file of DUET's form, or train "
                "without --objects"
            )
        scenes = {}
        with open_hdf5(path) as file:
            for node, name in enumerate(map(graphs.long_id, range(len(graphs.viewpoints)))):
                if name in file:
                    scenes[node] = _read_scene(file[name], width, f"--objects {path}: {name}")
        if not scenes:
            raise ValueError(f"--objects {path} shows no viewpoint of {', '.join(graphs.scans)}")
        return cls(graphs, scenes, width)

    def place(self, node: int, name: str | None) -> int:
        """The place of an object among those of ``node``; -1 where it is not among them."""
        ids = self.ids[node]
        return ids.index(name) if name in ids else -1


class DeviceObjects:
    """What agents see of the objects, gathered on the device.

    Args:
        store: the objects.
        device: where results are wanted.
        angle_size: A, appended to every feature.
        layout: of the angles.
    """

    def __init__(self, store: ObjectStore, device: torch.device, angle_size: int, layout: Any):
        self.store, self.device = store, device
        self.angle_size, self.layout = angle_size, layout
        self.table = torch.from_numpy(store.features).to(device)
        size = store.sizes / (VIEW_WIDTH, VIEW_HEIGHT)
        boxes = np.concatenate([size, size[:, :1] * size[:, 1:]], axis=1).astype(np.float32)
        self.boxes = torch.from_numpy(boxes).to(device)

    def see(self, node: NDArray, heading: NDArray) -> SeenObjects:
        """The objects at the nodes (B,), as somebody sees them with ``heading`` (B,) in radians.

        Returns at least one slot; ``mask`` says which hold an object.
        """
        store = self.store
        slot = np.arange(max(1, store.count[node].max(initial=0)))
        mask = slot < store.count[node][:, None]  # (B, O)
        row = np.where(mask, store.first[node][:, None] + slot, 0)
        where = store.directions[row]
        angle = angle_features(where[..., 0] - heading[:, None], where[..., 1], 4)
        index = upload(row, self.device)
        angles = expand_angles(upload(angle, self.device), self.angle_size, self.layout)
        features = torch.cat([_gather(self.table, index), angles], dim=-1)
        return SeenObjects(features, _gather(self.boxes, index), upload(mask, self.device))


def _gather(table: Tensor, index: Tensor) -> Tensor:
    return table.index_select(0, index.flatten()).unflatten(0, index.shape)


def _stack(parts: list[NDArray], width: int) -> NDArray[np.float32]:
    return np.concatenate([*parts, np.zeros((0, width))]).astype(np.float32)


def _read_scene(data: Any, width: int, where: str) -> SceneObjects:
    if not isinstance(data, h5py.Dataset) or data.dtype.kind not in "fiu" or data.ndim != 2:
        raise ValueError(f"{where} must be an array (objects, numbers) of numbers")
    if data.shape[1] < width:
        raise ValueError(
            f"{where} is {data.shape[1]} wide, the views' features {width}; take both from the "
            "same network"
        )
    missing = [name for name in ("obj_ids", "directions", "sizes") if name not in data.attrs]
    if missing:
        raise ValueError(f"{where} lacks the attribute {missing[0]!r}")
    count = len(data)
    ids = tuple(
        one.decode() if isinstance(one, bytes) else str(one)
        for one in np.asarray(data.attrs["obj_ids"]).ravel().tolist()
    )
    features = np.asarray(data[:, :width], dtype=np.float32)
    angles, sizes = (np.asarray(data.attrs[name]) for name in ("directions", "sizes"))
    if count == 0:
        angles, sizes = np.zeros((0, 2)), np.zeros((0, 2))
    for name, values in (("directions", angles), ("sizes", sizes)):
        if values.shape != (count, 2) or values.dtype.kind not in "fiu":
            raise ValueError(f"{where}: {name!r} must hold two numbers an object")
    if len(ids) != count or len(set(ids)) != count:
        raise ValueError(f"{where}: 'obj_ids' must hold another id for each of {count} objects")
    if not all(np.isfinite(values).all() for values in (features, angles, sizes)):
        raise ValueError(f"{where} holds numbers that are not finite")
    return SceneObjects(ids, features, angles.astype(np.float32), sizes.astype(np.float32))


def write_objects(path: Path, scenes: Iterable[tuple[str, SceneObjects]]) -> None:
    """Write a file of the form above: pairs of ``SCAN_VIEWPOINT`` and its objects."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, one in scenes:
            data = file.create_dataset(name, data=one.features)
            data.attrs["obj_ids"] = np.array(one.ids, dtype=h5py.string_dtype())
            data.attrs["directions"], data.attrs["sizes"] = one.directions, one.sizes
