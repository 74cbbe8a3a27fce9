"""Tensors of which every process holds a share, in a folder (`torch.distributed.checkpoint`).

They may be read by another number of processes, or whole by one. Its index is a pickle; only the
names that it needs are looked up, so that reading it runs no code.
"""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta, TensorStorageMetadata

INDEX = ".metadata"
_NAMES = {
    "torch.distributed.checkpoint.metadata": None,  # dataclasses and enumerations, all of them
    "torch.distributed.checkpoint.filesystem": {"_StorageInfo"},
    "torch.distributed.checkpoint.planner": None,
    "torch": {"Size", "device", *(str(one).removeprefix("torch.") for one in (
        torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32,
        torch.uint8, torch.bool, torch.strided, torch.contiguous_format, torch.preserve_format,
    ))},
    "torch.serialization": {"_get_layout"},
    "collections": {"OrderedDict"},
    "pathlib": {"Path", "PosixPath", "PurePosixPath"},
}  # fmt: skip


def write_shards(state: dict[str, Any], folder: Path) -> None:
    """Write ``state``, dictionaries of tensors, into ``folder``; called by all processes."""
    dcp.save(state, storage_writer=dcp.FileSystemWriter(folder))


def read_shards(state: dict[str, Any], folder: Path) -> None:
    """Fill the tensors of ``state`` from ``folder``; called by all processes."""
    dcp.load(state, storage_reader=_Reader(folder))


def read_whole(folder: Path, part: str) -> dict[str, Tensor]:
    """The tensors below ``part``, such as ``model``, of what was written; by one process alone.

    Raises:
        ValueError: there are none, or the index is not one.
    """
    reader, start = _Reader(folder), f"{part}."
    state: dict[str, Any] = {}
    for name, about in reader.read_metadata().state_dict_metadata.items():
        if name.startswith(start) and isinstance(about, TensorStorageMetadata):
            state[name] = torch.empty(about.size, dtype=about.properties.dtype)
    if not state:
        raise ValueError(f"{folder} has no part {part!r}")
    with warnings.catch_warnings(action="ignore"):  # that there is but one process
        dcp.load(state, storage_reader=_Reader(folder), no_dist=True)
    return {name.removeprefix(start): value for name, value in state.items()}


class _Index(pickle.Unpickler):
    """Reads an index and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        known = _NAMES.get(module, ())
        if known is None or name in known:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name}")


class _Reader(dcp.FileSystemReader):
    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        path = Path(self.path) / INDEX
        try:
            with path.open("rb") as file:
                index = _Index(file).load()
        except pickle.UnpicklingError as error:
            raise ValueError(f"{path} is refused: it holds more than an index ({error})") from error
        if not isinstance(index, Metadata):
            raise ValueError(f"{path} is refused: it is no index")
        index.storage_meta = index.storage_meta or StorageMeta()
        index.storage_meta.load_id = self.load_id
        return index
