"""TensorFlow's record files (uncompressed) without TensorFlow: random access, checksums.

A record is its length (8 bytes), a checksum of the length, the payload, a checksum of the payload.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ..wire_format import bytes_field, fields, last_values, masked_crc, varint, write_varint

HEADER = struct.Struct("<QI")  # length, checksum of its bytes
FOOTER = struct.Struct("<I")  # checksum of the payload


class RecordFile:
    """One record file, open for reading; may be read by several threads.

    The places of all records are found when it is opened, which reads 12 bytes of each.

    Args:
        path: of the file.
        verify: compare the checksum of every payload when it is read for the first time.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is cut off or damaged; the record is named.
    """

    def __init__(self, path: str | Path, *, verify: bool = True) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise FileNotFoundError(f"there is no record file {path}")
        self._file = self.path.open("rb", buffering=0)
        self._spans = self._find()
        self._unchecked = np.full(len(self._spans), verify)

    def __len__(self) -> int:
        return len(self._spans)

    def __getitem__(self, number: int) -> bytes:
        """Payload of record ``number``."""
        offset, length = self._spans[number]
        content = os.pread(self._file.fileno(), length + FOOTER.size, offset)
        if len(content) != length + FOOTER.size:
            raise self._damage(number, "the file has become shorter")
        payload = content[:length]
        if self._unchecked[number]:
            if masked_crc(payload) != FOOTER.unpack(content[length:])[0]:
                raise self._damage(number, "the checksum (CRC) of its content does not match")
            self._unchecked[number] = False
        return payload

    def verify(self) -> None:
        """Read every record whose checksum was not compared yet."""
        for number in np.flatnonzero(self._unchecked).tolist():
            _ = self[number]

    def close(self) -> None:
        """Close the file; nothing can be read any more."""
        self._file.close()

    def _find(self) -> list[tuple[int, int]]:
        """Offset and length of every payload."""
        spans: list[tuple[int, int]] = []
        size, offset = self.path.stat().st_size, 0
        while offset < size:
            header = os.pread(self._file.fileno(), HEADER.size, offset)
            if len(header) != HEADER.size:
                raise self._damage(len(spans), "the file ends inside it")
            length, checksum = HEADER.unpack(header)
            if masked_crc(header[:8]) != checksum:
                raise self._damage(len(spans), "the checksum (CRC) of its length does not match")
            start = offset + HEADER.size
            offset = start + length + FOOTER.size
            if offset > size:
                raise self._damage(len(spans), "the file ends inside it")
            spans.append((start, length))
        return spans

    def _damage(self, number: int, reason: str) -> ValueError:
        return ValueError(
            f"{self.path}: record {number} is damaged: {reason}; copy the file again or write it "
            "again with fqgan prepare tfrecords"
        )


def write_record(file: BinaryIO, payload: bytes) -> None:
    """Append one record to an open file."""
    length = struct.pack("<Q", len(payload))
    file.write(length + FOOTER.pack(masked_crc(length)))
    file.write(payload + FOOTER.pack(masked_crc(payload)))


def encode_image(image: np.ndarray) -> bytes:
    """The ``tf.train.Example`` of an ``image`` (C, H, W), uint8: features ``data``, ``shape``."""
    shape = b"".join(write_varint(size) for size in image.shape)
    data_feature = bytes_field(1, bytes_field(1, np.ascontiguousarray(image).tobytes()))
    shape_feature = bytes_field(3, bytes_field(1, shape))  # Int64List, packed
    entries = (
        bytes_field(1, bytes_field(1, name) + bytes_field(2, feature))
        for name, feature in ((b"data", data_feature), (b"shape", shape_feature))
    )
    return bytes_field(1, b"".join(entries))


def decode_image(message: bytes) -> np.ndarray:
    """The image (C, H, W), uint8, of an ``Example`` with features ``data`` and ``shape``.

    Raises:
        ValueError: the message is another one.
    """
    try:
        features = {}
        for _, entry in fields(last_values(message)[1][1]):
            if not isinstance(entry, bytes):
                raise KeyError("a number where a feature is expected")
            parts = last_values(entry)[1]
            features[parts[1]] = last_values(parts[2])[1]
        raw = last_values(features[b"data"][1])[1][1]
        shape = _int64_list(features[b"shape"][3])
        return np.frombuffer(raw, np.uint8).reshape(shape)
    except (KeyError, IndexError, ValueError, struct.error) as error:
        raise ValueError(f"no image with features 'data' and 'shape' ({error})") from None


def _int64_list(message: bytes) -> list[int]:
    """Numbers of an Int64List, packed (as TensorFlow writes them) or one field each."""
    numbers: list[int] = []
    for _, value in fields(message):
        if isinstance(value, int):
            numbers.append(value)
            continue
        position = 0
        while position < len(value):
            number, position = varint(value, position)
            numbers.append(number)
    return numbers
