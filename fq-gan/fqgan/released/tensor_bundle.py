"""TensorFlow checkpoints (``PREFIX.index`` and ``PREFIX.data-*``) without TensorFlow.

The index is a sorted string table in LevelDB's format; each value is a protocol buffer that says
where a tensor lies in the data files. Both are parsed here; no code of the file is run.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..data.tfrecords import fields, last_values, masked_crc, varint
from ..runtime.files import why

MAGIC = 0xDB4775248B80FB57
FOOTER = 48  # bytes

# DataType of tensorflow/core/framework/types.proto
DTYPES = {
    1: "f4", 2: "f8", 3: "i4", 4: "u1", 5: "i2", 6: "i1", 9: "i8", 10: "?", 17: "u2", 19: "f2",
    22: "u4", 23: "u8",
}  # fmt: skip


class _Entry(NamedTuple):
    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    checksum: int
    sliced: bool


def read_tensor_bundle(
    prefix: str | Path, *, check: bool = True, wanted: Callable[[str], bool] | None = None
) -> dict[str, np.ndarray]:
    """The tensors of a checkpoint by name.

    Args:
        prefix: path without ``.index``; the index file itself is accepted too.
        check: compare checksums (some seconds per 100 MB).
        wanted: which names to read; all where absent.

    Raises:
        FileNotFoundError: index or data are missing.
        ValueError: not such files, damaged, or with entries that cannot be read here.
    """
    prefix = Path(str(prefix).removesuffix(".index"))
    index = Path(f"{prefix}.index")
    if not index.is_file():
        raise FileNotFoundError(f"there is no TensorFlow checkpoint at {prefix} ({index} missing)")
    try:
        table = dict(_read_table(index.read_bytes()))
        shards = last_values(table.pop(b""))[0].get(1, 1)
        entries = {name.decode(): _parse_entry(value) for name, value in table.items()}
    except (KeyError, IndexError, struct.error, UnicodeDecodeError, TypeError) as error:
        raise ValueError(
            f"{index} is not the index of a TensorFlow checkpoint: {why(error)}"
        ) from None
    tensors = {}
    for name, entry in entries.items():
        if wanted is not None and not wanted(name):
            continue
        if entry.dtype not in DTYPES or entry.sliced:
            raise ValueError(f"{prefix}: {name} has a type or a slicing that is not supported")
        path = Path(f"{prefix}.data-{entry.shard:05d}-of-{shards:05d}")
        if not path.is_file():
            raise FileNotFoundError(f"the checkpoint {prefix} lacks its data file {path.name}")
        with path.open("rb") as file:
            file.seek(entry.offset)
            raw = file.read(entry.size)
        if len(raw) != entry.size or (check and masked_crc(raw) != entry.checksum):
            raise ValueError(f"{path}: {name} is damaged; fetch or copy the checkpoint again")
        tensors[name] = np.frombuffer(raw, f"<{DTYPES[entry.dtype]}").reshape(entry.shape).copy()
    return tensors


def _read_table(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Key and value pairs of a sorted string table."""
    if len(data) < FOOTER or struct.unpack("<Q", data[-8:])[0] != MAGIC:
        raise KeyError("its last bytes are not those of a table")
    footer, position = data[-FOOTER:], 0
    _, position = varint(footer, position)  # the unused meta index: offset and size
    _, position = varint(footer, position)
    offset, position = varint(footer, position)
    size, _ = varint(footer, position)
    for _, handle in _read_block(data, offset, size):
        start, position = varint(handle, 0)
        length, _ = varint(handle, position)
        yield from _read_block(data, start, length)


def _read_block(data: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """Pairs of one block, whose keys share prefixes with their predecessors."""
    if data[offset + size] != 0:
        raise KeyError("its blocks are compressed, which TensorFlow never does here")
    stored = struct.unpack("<I", data[offset + size + 1 : offset + size + 5])[0]
    if masked_crc(data[offset : offset + size + 1]) != stored:
        raise KeyError("a block of it is damaged")
    block = data[offset : offset + size]
    restarts = struct.unpack("<I", block[-4:])[0]
    end, position, key = len(block) - 4 * (restarts + 1), 0, b""
    while position < end:
        shared, position = varint(block, position)
        unshared, position = varint(block, position)
        length, position = varint(block, position)
        key = key[:shared] + block[position : position + unshared]
        position += unshared
        yield key, block[position : position + length]
        position += length


def _parse_entry(message: bytes) -> _Entry:
    """BundleEntryProto: 1 dtype, 2 shape, 3 shard, 4 offset, 5 size, 6 crc32c, 7 slices."""
    numbers, messages = last_values(message)
    shape = [
        last_values(dim)[0].get(1, 0)
        for field, dim in fields(messages.get(2, b""))
        if field == 2 and isinstance(dim, bytes)
    ]
    dtype, shard, offset, size, checksum = (numbers.get(i, 0) for i in (1, 3, 4, 5, 6))
    return _Entry(dtype, tuple(shape), shard, offset, size, checksum, sliced=7 in messages)
