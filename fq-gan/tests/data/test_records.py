"""Record files: written and read back, and every kind of damage named."""

import struct

import numpy as np
import pytest

from fqgan.data.tfrecords import (
    RecordFile,
    bytes_field,
    decode_image,
    encode_image,
    number_field,
    write_record,
)


@pytest.fixture
def records(tmp_path):
    path = tmp_path / "some.tfrecords"
    payloads = [b"", b"one", bytes(range(256)) * 40]
    with path.open("wb") as file:
        for payload in payloads:
            write_record(file, payload)
    return path, payloads


def test_records_are_read_by_number(records):
    path, payloads = records
    file = RecordFile(path)
    assert len(file) == 3
    assert [file[i] for i in (2, 0, 1)] == [payloads[i] for i in (2, 0, 1)]
    file.verify()
    file.close()


def test_a_broken_checksum_is_named(records):
    path, payloads = records
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    file = RecordFile(path)
    assert file[1] == b"one"
    with pytest.raises(ValueError, match=r"some\.tfrecords: record 2 is damaged: the checksum"):
        file.verify()
    unchecked = RecordFile(path, verify=False)
    assert len(unchecked[2]) == len(payloads[2])


@pytest.mark.parametrize("missing", [1, 5, 10252])
def test_a_file_that_ends_early_is_named(records, missing):
    path, _ = records
    path.write_bytes(path.read_bytes()[:-missing])
    with pytest.raises(ValueError, match="record 2 is damaged: the file ends inside it"):
        RecordFile(path)


def test_a_wrong_length_is_named(records):
    path, _ = records
    content = bytearray(path.read_bytes())
    content[0] = 200
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"record 0 is damaged: the checksum .* of its length"):
        RecordFile(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no record file"):
        RecordFile(tmp_path / "none")


def test_an_image_is_read_back():
    image = np.random.default_rng(0).integers(0, 256, (3, 8, 8), dtype=np.uint8)
    np.testing.assert_array_equal(decode_image(encode_image(image)), image)


def test_unpacked_lists_and_any_order_of_features_are_read():
    def feature(name, value):
        return bytes_field(1, bytes_field(1, name) + bytes_field(2, value))

    sizes = b"".join(number_field(1, size) for size in (1, 2, 2))
    shape = feature(b"shape", bytes_field(3, sizes))
    data = feature(b"data", bytes_field(1, bytes_field(1, b"abcd")))
    image = decode_image(bytes_field(1, shape + data))
    assert image.tolist() == [[[97, 98], [99, 100]]]


@pytest.mark.parametrize(
    "message", [b"", b"\x0a\x02", struct.pack("<Q", 3), bytes_field(1, bytes_field(1, b"x"))]
)
def test_other_messages_are_refused(message):
    with pytest.raises(ValueError, match="no image with features"):
        decode_image(message)
