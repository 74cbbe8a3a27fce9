"""Damaged and unusual feature files."""

import base64

import numpy as np
import pytest

from prevalent.data.features import (
    FeatureRow,
    map_hdf5,
    read_candidate_tsv,
    read_hdf5,
    read_tsv,
    write_hdf5,
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
