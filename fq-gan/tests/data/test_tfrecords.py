"""Multi-resolution TFRecords: ours read back, and the recorded files of the authors' tool."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
import torch

from fqgan.data.images import ArrayImages
from fqgan.data.tfrecords import (
    RecordFile,
    TfrecordWriter,
    bytes_field,
    decode_image,
    encode_image,
    labels_file,
    level_files,
    number_field,
    read_tfrecords,
    shuffled_order,
    write_record,
    write_tfrecords,
)
from fqgan.data.toy import toy_images


@pytest.fixture
def written(tmp_path):
    images = toy_images(20, resolution=16)
    return images, write_tfrecords(images, tmp_path / "toy")


def test_images_and_labels_are_read_back_by_index(written):
    images, folder = written
    again = read_tfrecords(folder)
    index = torch.tensor([7, 0, 19, 7])
    assert torch.equal(again.read(index), images.read(index))
    assert torch.equal(again.labels, images.labels)
    assert again.resolution == 16
    assert len(again) == 20
    assert len(again.class_names) == 10


def test_lower_resolutions_are_rounded_means(written):
    images, folder = written
    every = torch.arange(20)
    for resolution, factor in ((8, 2), (4, 4)):
        small = read_tfrecords(folder, resolution).read(every).float()
        mean = torch.nn.functional.avg_pool2d(images.read(every).float(), factor)
        assert (small - mean).abs().max() <= 0.5
    assert sorted(level_files(folder)) == [4, 8, 16]


def test_a_file_can_be_named_alone(written):
    _, folder = written
    assert read_tfrecords(folder / "toy-r03.tfrecords").resolution == 8
    assert read_tfrecords(folder / "toy-r03.tfrecords", 16).resolution == 16
    other = folder.with_name("renamed.tfrecords")
    other.write_bytes((folder / "toy-r02.tfrecords").read_bytes())
    assert read_tfrecords(other).resolution == 4
    with pytest.raises(ValueError, match="has no 32 x 32 images, only 4, 8, 16"):
        read_tfrecords(folder, 32)


def test_a_broken_checksum_names_file_and_record(written):
    _, folder = written
    path = folder / "toy-r04.tfrecords"
    content = bytearray(path.read_bytes())
    content[300] ^= 4  # among the pixels of the first record
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"toy-r04\.tfrecords: record 0 is damaged.*CRC"):
        read_tfrecords(folder)


def test_grey_images_and_vectors_as_labels(tmp_path):
    pixels = torch.randint(256, (3, 1, 4, 4), dtype=torch.uint8).expand(-1, 3, -1, -1)
    images = ArrayImages(pixels, torch.zeros(3), ["0"], "grey")
    images.label_vectors = torch.tensor([[0.5, 1], [1, 1], [0, 0]])
    folder = write_tfrecords(images, tmp_path / "grey", grey=True, order=[2, 0])
    again = read_tfrecords(folder)
    assert again.channels == 1
    assert torch.equal(again.read(torch.arange(2)), pixels[[2, 0]])
    assert torch.equal(again.label_vectors, images.label_vectors[[2, 0]])
    assert again.class_names == ["0"]


def test_nothing_is_left_of_a_write_that_failed(tmp_path):
    def write():
        with TfrecordWriter(tmp_path / "bad", resolution=8) as writer:
            writer.add(np.zeros((3, 8, 8), np.uint8))
            writer.add(np.zeros((3, 4, 4), np.uint8))

    with pytest.raises(ValueError, match=r"image 1 is uint8 \(3, 4, 4\)"):
        write()
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_written_is_refused(tmp_path, written):
    with pytest.raises(ValueError, match="not 24"):
        TfrecordWriter(tmp_path / "x", resolution=24)
    with pytest.raises(ValueError, match="exists and is not empty"):
        TfrecordWriter(written[1], resolution=16)


def test_what_cannot_be_read_is_refused(tmp_path, written):
    with pytest.raises(FileNotFoundError, match=r"has no files NAME-rNN\.tfrecords"):
        read_tfrecords(tmp_path)
    _, folder = written
    labels_file(folder / "toy-r02.tfrecords").write_bytes(b"no array")
    with pytest.raises(ValueError, match=r"toy-rxx\.labels is no array"):
        read_tfrecords(folder)
    labels_file(folder / "toy-r02.tfrecords").unlink()
    assert read_tfrecords(folder).label_vectors is None
    for level in (2, 3):
        (folder / f"other-r{level:02d}.tfrecords").write_bytes(b"")
    with pytest.raises(ValueError, match="several data sets"):
        read_tfrecords(folder)
    with pytest.raises(ValueError, match="holds no image"):
        read_tfrecords(folder / "other-r02.tfrecords")


def recorded_sets(golden):
    expected = golden / "stylegan" / "data_and_images.npz"
    folders = sorted(p for p in (golden / "stylegan" / "tfrecords").glob("*") if p.is_dir())
    if not expected.is_file() or not folders:
        pytest.skip("no recorded TFRecords")
    with np.load(expected) as content:
        return folders, {name: content[name] for name in content.files}


@pytest.mark.golden
def test_recorded_files_are_read_exactly(golden):
    folders, expected = recorded_sets(golden)
    meta = json.loads(str(expected["meta"]))
    for folder in folders:
        levels = [name for name in expected if name.startswith("lod") and name.endswith("/images")]
        assert len(levels) == len(level_files(folder))
        for name in levels:
            pixels = expected[name]
            images = read_tfrecords(folder, pixels.shape[-1])
            assert len(images) == len(pixels)
            np.testing.assert_array_equal(images.read(torch.arange(len(pixels))).numpy(), pixels)
            vectors = expected[name.replace("images", "labels")]
            assert images.label_vectors is not None
            np.testing.assert_array_equal(images.label_vectors.numpy(), vectors)
        assert images.label_vectors.shape[1] == meta["label_size"]


@pytest.mark.golden
def test_our_writer_gives_the_recorded_records(golden, tmp_path):
    folders, expected = recorded_sets(golden)
    order, labels = expected["order"], torch.from_numpy(expected["labels_in"])
    np.testing.assert_array_equal(shuffled_order(len(order)), order)
    pixels = torch.from_numpy(expected["images_in"])
    images = ArrayImages(pixels, labels.argmax(1), [str(i) for i in range(labels.shape[1])], "in")
    for folder in folders:
        ours = level_files(write_tfrecords(images, tmp_path / folder.name, order=order))
        theirs = level_files(folder)
        assert {size: file.name for size, file in ours.items()} == {
            size: file.name for size, file in theirs.items()
        }
        for size, file in theirs.items():
            pairs = zip(RecordFile(ours[size]), RecordFile(file), strict=True)
            for own, recorded in pairs:
                # The order of the two features inside a message is left to chance by TensorFlow.
                assert len(own) == len(recorded)
                np.testing.assert_array_equal(decode_image(own), decode_image(recorded))
        own_labels, their_labels = (labels_file(files[min(files)]) for files in (ours, theirs))
        np.testing.assert_array_equal(np.load(own_labels), np.load(their_labels))


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
