"""TensorFlow checkpoints (``PREFIX.index`` and ``PREFIX.data-*``) without TensorFlow.

The index is a sorted string table in LevelDB's format; each value is a protocol buffer that says
where a tensor lies in the data files. Both are parsed here; no code of the file is run.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

MAGIC = 0xDB4775248B80FB57
FOOTER = 48  # bytes
CRC_POLYNOMIAL = 0x82F63B78  # Castagnoli, reversed
CRC_MASK = 0xA282EAD8
LANES = 4096  # pieces of a tensor whose checksums are computed side by side

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


def read_tensor_bundle(prefix: str | Path, *, check: bool = True) -> dict[str, np.ndarray]:
    """All tensors of a checkpoint by name.

    Args:
        prefix: path without ``.index``; the index file itself is accepted too.
        check: compare checksums (some seconds per 100 MB).

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
        shards = _last_values(table.pop(b""))[0].get(1, 1)
        entries = {name.decode(): _parse_entry(value) for name, value in table.items()}
    except (KeyError, IndexError, struct.error, UnicodeDecodeError, TypeError) as error:
        raise ValueError(f"{index} is not the index of a TensorFlow checkpoint: {error}") from None
    tensors = {}
    for name, entry in entries.items():
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
    _, position = _varint(footer, position)  # the unused meta index: offset and size
    _, position = _varint(footer, position)
    offset, position = _varint(footer, position)
    size, _ = _varint(footer, position)
    for _, handle in _read_block(data, offset, size):
        start, position = _varint(handle, 0)
        length, _ = _varint(handle, position)
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
        shared, position = _varint(block, position)
        unshared, position = _varint(block, position)
        length, position = _varint(block, position)
        key = key[:shared] + block[position : position + unshared]
        position += unshared
        yield key, block[position : position + length]
        position += length


def _parse_entry(message: bytes) -> _Entry:
    """BundleEntryProto: 1 dtype, 2 shape, 3 shard, 4 offset, 5 size, 6 crc32c, 7 slices."""
    numbers, messages = _last_values(message)
    shape = [
        _last_values(dim)[0].get(1, 0)
        for field, dim in _fields(messages.get(2, b""))
        if field == 2 and isinstance(dim, bytes)
    ]
    dtype, shard, offset, size, checksum = (numbers.get(i, 0) for i in (1, 3, 4, 5, 6))
    return _Entry(dtype, tuple(shape), shard, offset, size, checksum, sliced=7 in messages)


def _last_values(message: bytes) -> tuple[dict[int, int], dict[int, bytes]]:
    """Last value of every field: the numbers, and the messages inside."""
    numbers, messages = {}, {}
    for field, value in _fields(message):
        if isinstance(value, int):
            numbers[field] = value
        else:
            messages[field] = value
    return numbers, messages


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    position = 0
    value: int | bytes
    while position < len(message):
        tag, position = _varint(message, position)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            value, position = _varint(message, position)
        elif wire == 2:
            length, position = _varint(message, position)
            value, position = message[position : position + length], position + length
        elif wire in (1, 5):
            width, code = (8, "<Q") if wire == 1 else (4, "<I")
            value = struct.unpack(code, message[position : position + width])[0]
            position += width
        else:
            raise KeyError(f"unknown wire type {wire}")
        yield number, value


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return value, position


def masked_crc(data: bytes) -> int:
    """CRC-32C of ``data`` in the masked form that TensorFlow stores."""
    value = crc32c(data)
    return ((value >> 15 | value << 17) + CRC_MASK) & 0xFFFFFFFF


def crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli); long data in lanes side by side, joined afterwards."""
    table = _crc_table()
    length = len(data) // LANES
    value = 0xFFFFFFFF
    if length >= 64:
        lanes = np.frombuffer(data, np.uint8, LANES * length).reshape(LANES, length)
        states = np.zeros(LANES, np.uint32)
        for column in np.ascontiguousarray(lanes.T):
            states = table[(states ^ column) & 0xFF] ^ (states >> np.uint32(8))
        shift = _shift_tables(length)
        for state in states.tolist():
            value = (
                shift[0][value & 0xFF] ^ shift[1][value >> 8 & 0xFF]
                ^ shift[2][value >> 16 & 0xFF] ^ shift[3][value >> 24] ^ state
            )  # fmt: skip
        data = data[LANES * length :]
    steps = table.tolist()
    for byte in data:
        value = steps[(value ^ byte) & 0xFF] ^ value >> 8
    return value ^ 0xFFFFFFFF


@cache
def _crc_table() -> np.ndarray:
    values = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        values = np.where(values & 1, values >> 1 ^ np.uint32(CRC_POLYNOMIAL), values >> 1)
    return values.astype(np.uint32)


def _shift_tables(length: int) -> list[list[int]]:
    """What ``length`` zero bytes make of each byte of a CRC state, as four tables."""

    def times(matrix: list[int], vector: int) -> int:
        product = 0
        for column in matrix:
            if vector & 1:
                product ^= column
            vector >>= 1
        return product

    bit = [CRC_POLYNOMIAL, *(1 << i for i in range(31))]  # one zero bit, column by column
    power, total, count = bit, [1 << i for i in range(32)], 8 * length
    while count:
        if count & 1:
            total = [times(power, column) for column in total]
        power, count = [times(power, column) for column in power], count >> 1
    return [[times(total, byte << 8 * place) for byte in range(256)] for place in range(4)]
