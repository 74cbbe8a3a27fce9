"""How TensorFlow's files store things: protocol-buffer fields and masked CRC-32C checksums."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import cache, lru_cache

import numpy as np

CRC_POLYNOMIAL = 0x82F63B78  # Castagnoli, reversed
CRC_MASK = 0xA282EAD8
MAX_LANES = 4096  # pieces of the data whose checksums are computed side by side
MIN_LANED = 4096  # bytes; shorter data are faster in one piece


def last_values(message: bytes) -> tuple[dict[int, int], dict[int, bytes]]:
    """Last value of every field: the numbers, and the messages inside."""
    numbers, messages = {}, {}
    for field, value in fields(message):
        if isinstance(value, int):
            numbers[field] = value
        else:
            messages[field] = value
    return numbers, messages


def fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of every field of a message; raises ``KeyError`` or ``IndexError``."""
    position = 0
    value: int | bytes
    while position < len(message):
        tag, position = varint(message, position)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            value, position = varint(message, position)
        elif wire == 2:
            length, position = varint(message, position)
            value, position = message[position : position + length], position + length
        elif wire in (1, 5):
            width, code = (8, "<Q") if wire == 1 else (4, "<I")
            value = struct.unpack(code, message[position : position + width])[0]
            position += width
        else:
            raise KeyError(f"unknown wire type {wire}")
        yield number, value


def number_field(field: int, value: int) -> bytes:
    """A field that holds a number."""
    return write_varint(field << 3) + write_varint(value)


def bytes_field(field: int, value: bytes) -> bytes:
    """A field that holds bytes, a text or a message."""
    return write_varint(field << 3 | 2) + write_varint(len(value)) + value


def write_varint(number: int) -> bytes:
    """``number``, seven bits a byte, the lowest first."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def varint(data: bytes, position: int) -> tuple[int, int]:
    """The number at ``position`` and the position behind it."""
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
    value = 0xFFFFFFFF
    if len(data) >= MIN_LANED:
        # About as many lanes as bytes in a lane: a column is one pass of numpy over all lanes.
        lanes = min(MAX_LANES, 1 << (len(data).bit_length() + 1) // 2)
        length = len(data) // lanes
        columns = np.frombuffer(data, np.uint8, lanes * length).reshape(lanes, length).T
        states = np.zeros(lanes, np.uint32)
        for column in np.ascontiguousarray(columns):
            states = table[(states ^ column) & 0xFF] ^ (states >> np.uint32(8))
        shift = _shift_tables(length)
        for state in states.tolist():
            value = (
                shift[0][value & 0xFF] ^ shift[1][value >> 8 & 0xFF]
                ^ shift[2][value >> 16 & 0xFF] ^ shift[3][value >> 24] ^ state
            )  # fmt: skip
        data = data[lanes * length :]
    steps = _crc_steps()
    for byte in data:
        value = steps[(value ^ byte) & 0xFF] ^ value >> 8
    return value ^ 0xFFFFFFFF


@cache
def _crc_steps() -> list[int]:
    return _crc_table().tolist()


@cache
def _crc_table() -> np.ndarray:
    values = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        values = np.where(values & 1, values >> 1 ^ np.uint32(CRC_POLYNOMIAL), values >> 1)
    return values.astype(np.uint32)


@lru_cache(maxsize=64)
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
