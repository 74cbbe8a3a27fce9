"""Protocol-buffer fields and checksums of TensorFlow's files."""

import numpy as np
import pytest

from fqgan.data.tfrecords import (
    bytes_field,
    crc32c,
    fields,
    last_values,
    number_field,
    varint,
    write_varint,
)


def test_the_checksum_has_the_values_of_rfc_3720():
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(bytes([255]) * 32) == 0x62A8AB43


@pytest.mark.parametrize("length", [4095, 4096, 12345, 64 * 4096 + 77])
def test_lanes_give_the_checksum_of_one_pass(length):
    data = np.random.default_rng(0).integers(0, 256, length, dtype=np.uint8).tobytes()
    whole = crc32c(data)
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    assert whole == value ^ 0xFFFFFFFF


@pytest.mark.parametrize("number", [0, 1, 127, 128, 300, 2**35])
def test_a_varint_is_read_back(number):
    assert varint(write_varint(number), 0) == (number, len(write_varint(number)))


def test_fields_are_read_back_in_their_order():
    message = number_field(3, 300) + bytes_field(2, b"text") + number_field(3, 7)
    assert list(fields(message)) == [(3, 300), (2, b"text"), (3, 7)]
    assert last_values(message) == ({3: 7}, {2: b"text"})


def test_an_unknown_kind_of_field_is_an_error():
    with pytest.raises(KeyError, match="wire type 3"):
        list(fields(bytes([0x0B])))
