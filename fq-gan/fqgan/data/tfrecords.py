"""TFRecords of images in several sizes, read and written without TensorFlow."""

from __future__ import annotations

import os
import re
import shutil
import struct
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import cache, lru_cache
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from ..runtime.files import why
from .images import Images

_LEVEL = re.compile(r"^(?P<name>.+)-r(?P<level>\d\d)\.tfrecords$")
SHUFFLE_SEED = 123
"""The authors' tool shuffles every data set with this seed."""


def level_files(path: str | Path) -> dict[int, Path]:
    """The record files of a folder by their resolution; for a file, those beside it too.

    Raises:
        FileNotFoundError: there is nothing of the kind.
        ValueError: the folder holds more than one data set.
    """
    path = Path(path)
    folder = path if path.is_dir() else path.parent
    found = [(match, file) for file in _files(folder) if (match := _LEVEL.match(file.name))]
    if path.is_file() and (own := _LEVEL.match(path.name)):
        found = [(match, file) for match, file in found if match["name"] == own["name"]]
    if not found:
        raise FileNotFoundError(
            f"{path} has no files NAME-rNN.tfrecords; make them with: fqgan prepare tfrecords "
            f"--out {path}"
        )
    names = sorted({match["name"] for match, _ in found})
    if len(names) > 1:
        raise ValueError(
            f"{path} holds several data sets ({', '.join(names[:4])}); name one of their files"
        )
    return {1 << int(match["level"]): file for match, file in found}


def _files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def read_tfrecords(path: str | Path, resolution: int = 0, *, verify: bool = True) -> TfrecordImages:
    """Open one resolution of a data set.

    Args:
        path: its folder, or one of its files.
        resolution: pixels; 0 takes the file itself, or the largest one of a folder.
        verify: compare the checksum of every record when it is read for the first time.

    Raises:
        FileNotFoundError: there is nothing of the kind.
        ValueError: that resolution is absent, a file is damaged, or it holds something else.
    """
    if Path(path).is_file() and not _LEVEL.match(Path(path).name):
        return TfrecordImages(Path(path), verify=verify)
    files = level_files(path)
    if not resolution and Path(path).is_file():
        return TfrecordImages(Path(path), verify=verify)
    resolution = resolution or max(files)
    if resolution not in files:
        known = ", ".join(map(str, sorted(files)))
        raise ValueError(f"{path} has no {resolution} x {resolution} images, only {known}")
    return TfrecordImages(files[resolution], verify=verify)


class TfrecordImages:
    """Images of one record file, read by index; see `data.images.Images`.

    Grey images come back with three equal channels. Labels that are one-hot become classes; any
    labels are kept in ``label_vectors`` (N, L), None where there is no file of labels.
    """

    def __init__(self, path: Path, *, verify: bool = True) -> None:
        self.name = str(path)
        self.records = RecordFile(path, verify=verify)
        if len(self.records) == 0:
            raise ValueError(f"{path} holds no image")
        shape = self._decode(0).shape
        if len(shape) != 3 or shape[0] not in (1, 3) or shape[1] != shape[2]:
            raise ValueError(f"{path}: images are {shape}, (1 or 3, R, R) is needed")
        self.channels, self.resolution = shape[0], shape[1]
        self.label_vectors = _read_labels(path, len(self.records))
        self.labels, self.class_names = classes_of(self.label_vectors, len(self.records))

    def __len__(self) -> int:
        return len(self.records)

    def read(self, index: Tensor, crop: Tensor | None = None) -> Tensor:
        """See `Images.read`; raises ``ValueError`` naming a record that is damaged."""
        pixels = torch.from_numpy(np.stack([self._decode(i) for i in index.tolist()]))
        return pixels.expand(-1, 3, -1, -1).contiguous()

    def _decode(self, number: int) -> np.ndarray:
        payload = self.records[number]
        try:
            return decode_image(payload)
        except ValueError as error:
            raise ValueError(f"{self.name}: record {number} is {error}") from None


def labels_file(path: Path) -> Path:
    """Where the labels of a record file lie."""
    match = _LEVEL.match(path.name)
    return path.with_name(f"{match['name'] if match else path.stem}-rxx.labels")


def _read_labels(path: Path, count: int) -> Tensor | None:
    file = labels_file(path)
    if not file.is_file():
        return None
    try:
        with file.open("rb") as content:
            labels = np.lib.format.read_array(content, allow_pickle=False)
        labels = np.asarray(labels, np.float32)
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(f"{file} is no array of labels ({why(error)}); write it again") from None
    # Labels may cover a longer set of which the records hold the first part, as in the authors'.
    if labels.ndim != 2 or len(labels) < count:
        raise ValueError(
            f"{file} has labels {labels.shape} for {count} images of {path.name}; one row for each "
            "image is needed"
        )
    return torch.from_numpy(labels[:count].copy())


def classes_of(vectors: Tensor | None, count: int) -> tuple[Tensor, list[str]]:
    """Class of each image and names of all; one class where labels are absent or not one-hot."""
    if vectors is not None and vectors.shape[1] > 0:
        one_hot = ((vectors == 0) | (vectors == 1)).all() and (vectors.sum(dim=1) == 1).all()
        if one_hot:
            return vectors.argmax(dim=1), [str(label) for label in range(vectors.shape[1])]
    return torch.zeros(count, dtype=torch.int64), ["0"]


class TfrecordWriter:
    """Writes all resolutions of a data set; the folder gets its name when it is whole.

    Use it as a context manager. Every lower resolution is the mean of 2 x 2 pixels of the one
    above, taken before rounding.

    Args:
        folder: the new folder; its name is that of the data set.
        resolution: R, a power of two, at least 4.
        channels: 1 or 3.

    Raises:
        ValueError: the folder exists and is not empty, or the sizes are others.
    """

    def __init__(self, folder: str | Path, *, resolution: int, channels: int = 3) -> None:
        self.folder = Path(folder)
        if resolution < 4 or resolution & (resolution - 1):
            raise ValueError(
                f"{folder}: TFRecords hold images of 4, 8, 16, ... pixels, not {resolution}"
            )
        if self.folder.exists() and any(self.folder.iterdir()):
            raise ValueError(
                f"--out {folder} exists and is not empty; move it away or choose a name"
            )
        self.resolution, self.channels, self.count = resolution, channels, 0
        self._partial = self.folder.with_name(f".{self.folder.name}.{os.getpid()}.tmp")
        self._stack = ExitStack()
        self._files: list[BinaryIO] = []  # the full resolution first

    def __enter__(self) -> TfrecordWriter:
        self._partial.mkdir(parents=True, exist_ok=True)
        for level in range(self.resolution.bit_length() - 1, 1, -1):
            path = self._partial / f"{self.folder.name}-r{level:02d}.tfrecords"
            self._files.append(self._stack.enter_context(path.open("wb")))
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self._stack.close()
        if kind is None and self.count:
            if self.folder.exists():
                self.folder.rmdir()  # empty, see above
            os.replace(self._partial, self.folder)
        else:
            shutil.rmtree(self._partial, ignore_errors=True)

    def add(self, image: np.ndarray) -> None:
        """Append ``image`` (C, R, R), uint8."""
        expected = (self.channels, self.resolution, self.resolution)
        if image.shape != expected or image.dtype != np.uint8:
            raise ValueError(
                f"{self.folder}: image {self.count} is {image.dtype} {image.shape}, uint8 "
                f"{expected} is needed"
            )
        write_record(self._files[0], encode_image(image))
        level = image.astype(np.float32)
        for file in self._files[1:]:
            level = (
                level[:, 0::2, 0::2]
                + level[:, 0::2, 1::2]
                + level[:, 1::2, 0::2]
                + level[:, 1::2, 1::2]
            ) * np.float32(0.25)
            write_record(file, encode_image(np.rint(level).astype(np.uint8)))
        self.count += 1

    def add_labels(self, labels: np.ndarray) -> None:
        """Write ``labels`` (N, L) of the N images, in the order they were added."""
        if labels.ndim != 2 or len(labels) != self.count:
            raise ValueError(f"{self.folder}: labels {labels.shape} for {self.count} images")
        with (self._partial / f"{self.folder.name}-rxx.labels").open("wb") as file:
            np.save(file, labels.astype(np.float32))


def shuffled_order(count: int) -> np.ndarray:
    """The order (N,) in which the authors' tool writes N images."""
    order = np.arange(count)
    np.random.RandomState(SHUFFLE_SEED).shuffle(order)
    return order


def write_tfrecords(
    images: Images,
    folder: str | Path,
    *,
    order: Sequence[int] | np.ndarray | None = None,
    labels: bool = True,
    grey: bool = False,
    batch_size: int = 64,
) -> Path:
    """Write ``images`` in all resolutions.

    Args:
        images: N images of R x R pixels, R a power of two.
        folder: the new folder.
        order: places of the images to write (`shuffled_order`); None writes all as they come.
        labels: write their labels too: `label_vectors` if they have some, else one-hot.
        grey: write the first channel only.
        batch_size: images read at once.
    """
    places = torch.as_tensor(np.arange(len(images)) if order is None else np.asarray(order))
    writer = TfrecordWriter(folder, resolution=images.resolution, channels=1 if grey else 3)
    with writer:
        for part in places.split(batch_size):
            for image in images.read(part).cpu().numpy():
                writer.add(image[: writer.channels])
        if labels:
            vectors = getattr(images, "label_vectors", None)
            if vectors is None:
                vectors = torch.eye(len(images.class_names))[images.labels.cpu()]
            writer.add_labels(vectors[places].numpy())
    return Path(folder)


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
        raise ValueError(f"no image with features 'data' and 'shape' ({why(error)})") from None


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
