"""Damaged and unusual feature files."""

import base64
import os

import numpy as np
import pytest

from prevalent.data.feature_files import (
    FeatureRow,
    map_hdf5,
    read_candidate_tsv,
    read_hdf5,
    read_tsv,
    write_hdf5,
    write_npy,
    write_tsv,
)


def features(seed, width=4):
    return np.random.default_rng(seed).standard_normal((36, width)).astype(np.float32)


def written(tmp_path, count=3):
    path = tmp_path / "f.tsv"
    write_tsv(path, [FeatureRow(f"s_v{i}", features(i)) for i in range(count)])
    return path


def test_rows_come_back_in_order_and_exactly(tmp_path):
    found = list(read_tsv(written(tmp_path)))
    assert [row.id for row in found] == ["s_v0", "s_v1", "s_v2"]
    for i, row in enumerate(found):
        np.testing.assert_array_equal(row.features, features(i))


def test_blank_lines_and_windows_line_ends_change_nothing(tmp_path):
    path = written(tmp_path)
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n\r\n"))
    assert [row.id for row in read_tsv(path)] == ["s_v0", "s_v1", "s_v2"]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda line: line[:4], "row 2 has 2 columns instead of 6"),
        (lambda line: line[:-9], r"row 2 \(s_v1\)"),
        (lambda line: line[:-40] + "!" * 40, r"row 2 \(s_v1\) has damaged features"),
        (
            lambda line: line.rsplit("\t", 1)[0] + "\t" + base64.b64encode(b"1234" * 7).decode(),
            "has 7 numbers, which are not 36 views",
        ),
    ],
)
def test_a_damaged_row_is_named(tmp_path, damage, message):
    path = written(tmp_path)
    lines = path.read_text().splitlines()
    lines[1] = damage(lines[1])
    path.write_text("\n".join(lines))
    with pytest.raises(ValueError, match=message):
        list(read_tsv(path))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "no features to write"),
        ([FeatureRow("a", features(0)), FeatureRow("a", features(1))], "'a' has features twice"),
        ([FeatureRow("a", features(0)), FeatureRow("b", features(1, 5))], "shape \\(36, 5\\)"),
    ],
)
def test_an_impossible_array_is_refused_and_leaves_no_file(tmp_path, rows, message):
    with pytest.raises(ValueError, match=message):
        write_npy(tmp_path / "f.npy", rows)
    assert not os.listdir(tmp_path)


def test_the_index_of_precomputed_candidates_is_raised_by_one(tmp_path):
    code = base64.b64encode(np.arange(4, dtype="<f4").tobytes()).decode()
    cells = ["s", "v", "0.5", "-0.1", "w", "14", "0", code]
    (tmp_path / "c.tsv").write_text("\t".join(cells) + "\n")
    (row,) = read_candidate_tsv(tmp_path / "c.tsv")
    assert (row.next, row.view, row.slot) == ("w", 14, 1)
    np.testing.assert_array_equal(row.features, np.arange(4))


def test_a_contiguous_hdf5_file_is_mapped_and_others_are_read(tmp_path):
    h5py = pytest.importorskip("h5py")
    array = np.stack([features(0), features(1)])
    write_hdf5(tmp_path / "a.h5", ["s_a", "s_b"], array)
    ids, mapped = map_hdf5(tmp_path / "a.h5")
    assert ids == ["s_a", "s_b"]
    np.testing.assert_array_equal(mapped, array)
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file.create_dataset("features", data=array, compression="gzip")
        file.create_dataset("ids", data=ids, dtype=h5py.string_dtype())
    assert map_hdf5(tmp_path / "b.h5") is None
    assert [row.id for row in read_hdf5(tmp_path / "b.h5")] == ids


def test_numbers_are_read_never_executed(tmp_path):
    np.save(tmp_path / "f.npy", np.array([object()]), allow_pickle=True)
    (tmp_path / "f.ids.json").write_text('["a"]')
    from prevalent.data.features import FeatureStore

    with pytest.raises(ValueError, match="Python objects"):
        FeatureStore.open(tmp_path / "f.npy")
