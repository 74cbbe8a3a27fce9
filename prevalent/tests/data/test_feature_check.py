"""A feature file of any layout is read whole, and everything that is wrong with it is told."""

import base64
import json

import h5py
import numpy as np
import pytest

from prevalent.__main__ import main
from prevalent.data.feature_check import check_features
from prevalent.data.features import (
    FeatureRow,
    FeatureStore,
    read_hdf5,
    slice_of,
    write_hdf5,
    write_hdf5_rows,
    write_npy,
    write_tsv,
)
from tests.factories import make_graphs, make_scan, write_connectivity

GRAPHS = make_graphs(house=make_scan())  # viewpoints a, b, c, d
NAMES = [f"house_{viewpoint}" for viewpoint in "abcd"]
LAYOUTS = ("rows.hdf5", "table.h5", "f.npy", "f.tsv")


def rows(width=4, names=NAMES):
    rng = np.random.default_rng(1)
    return [FeatureRow(n, rng.standard_normal((36, width)).astype(np.float32)) for n in names]


def write(path, found):
    if path.name == "table.h5":
        write_hdf5(path, [row.id for row in found], np.stack([row.features for row in found]))
    elif path.name == "f.npy":
        np.save(path, np.stack([row.features for row in found]))
        path.with_suffix(".ids.json").write_text(json.dumps([row.id for row in found]))
    else:
        {".hdf5": write_hdf5_rows, ".tsv": write_tsv}[path.suffix](path, found)
    return path


def problems(findings):
    return {one.what: one.problem for one in findings if one.problem}


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_good_file_has_no_problem_in_any_layout(tmp_path, name):
    findings = check_features(write(tmp_path / name, rows()), GRAPHS)
    assert problems(findings) == {}
    table = {one.what: one.found for one in findings}
    assert (table["rows"], table["numbers a view"], table["number type"]) == ("4", "4", "float32")
    assert table["against the graphs"] == "4 of 4 viewpoints of 1 scans"


@pytest.mark.parametrize("name", LAYOUTS)
def test_numbers_that_are_not_finite_zeros_and_missing_rows_are_told_together(tmp_path, name):
    found = rows(names=[*NAMES[:3], "house_x"])
    found[1].features[3, 2], found[2].features[7] = np.nan, 0
    wrong = problems(check_features(write(tmp_path / name, found), GRAPHS))
    assert wrong == {
        "not finite": "1 rows: house_b (1 numbers)",
        "all zero": "1 rows: house_c (1 views)",
        "against the graphs": "1 missing: house_d",
    }


@pytest.mark.parametrize("name", ["table.h5", "f.npy", "f.tsv"])
def test_a_name_that_is_there_twice_is_told(tmp_path, name):
    path = write(tmp_path / name, [*rows(), *rows()[:1]])
    assert problems(check_features(path, GRAPHS)) == {"twice": "1 rows: house_a"}


@pytest.mark.parametrize("name", ["rows.hdf5", "f.tsv"])
def test_rows_of_unequal_widths_are_told(tmp_path, name):
    path = write(tmp_path / name, [*rows()[:3], *rows(6)[3:]])
    wrong = problems(check_features(path, GRAPHS))
    assert wrong == {"numbers a view": "4 in 3 rows, 6 in 1 rows"}


def test_damaged_rows_of_a_tsv_do_not_hide_each_other(tmp_path):
    path = write(tmp_path / "f.tsv", rows()[:1])
    doubles = base64.b64encode(np.random.default_rng(0).random(36 * 2).tobytes()).decode()
    with path.open("a") as file:
        file.write("house\tb\t640\t480\t60\t!!!\n")
        file.write("house\tc\t640\n")
        file.write(f"house\td\t640\t480\t60\t{doubles}\n")
    (told,) = [one for one in check_features(path) if one.what == "damaged"]
    assert told.problem.startswith("3 rows: house_b (has damaged features")
    assert "house_c (3 columns instead of 6)" in told.problem
    assert "house_d (holds numbers of 64 bits)" in told.problem


def test_shapes_and_types_of_hdf5_datasets_are_told(tmp_path):
    path = write(tmp_path / "rows.hdf5", rows()[:2])
    with h5py.File(path, "a") as file:
        file["house_c"] = np.zeros((35, 4), np.float32)
        file["house_d"] = np.ones((36, 4), np.float64)
        file.create_group("house_e")
    wrong = problems(check_features(path))
    assert wrong["views a row"] == "1 other shapes: house_c (35, 4)"
    assert wrong["number type"] == "float32 in 3 rows, float64 in 1 rows"
    assert wrong["damaged"] == "1 rows: house_e (a group, no array)"


@pytest.mark.parametrize(
    ("content", "name", "sentence"),
    [
        (b"no file", "f.hdf5", "is damaged or no HDF5 file"),
        (b"\x93NUMPY", "f.npy", "lacks its names"),
        (b"", "f.zip", r"must end in \.tsv, \.h5, \.hdf5 or \.npy"),
    ],
)
def test_a_file_that_cannot_be_opened_is_one_sentence(tmp_path, content, name, sentence):
    (tmp_path / name).write_bytes(content)
    with pytest.raises((ValueError, FileNotFoundError), match=sentence):
        check_features(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        check_features(tmp_path / "none.npy")


def run(words, capsys):
    with pytest.raises(SystemExit) as ended:
        main(words)
    return ended.value.code, capsys.readouterr()


def test_the_command_prints_a_table_and_says_by_its_status_whether_all_is_well(tmp_path, capsys):
    write_connectivity(tmp_path / "connectivity", "house", make_scan())
    path = write(tmp_path / "f.tsv", rows())
    words = ["check", str(path), "--data-dir", str(tmp_path)]
    code, printed = run(words, capsys)
    assert (code, printed.err) == (0, "")
    assert "4 of 4 viewpoints of 1 scans  ok" in printed.out
    write(path, rows()[:2])
    code, printed = run(words, capsys)
    assert code == 2
    assert "2 missing: house_c, house_d" in printed.out
    assert printed.err.endswith("f.tsv has problems: against the graphs\n")
    code, printed = run([*words[:2], "--data-dir", str(tmp_path / "none")], capsys)
    assert code == 0
    assert "not checked: there are none" in printed.out


@pytest.mark.parametrize("name", LAYOUTS)
def test_columns_are_a_slice_in_every_layout(tmp_path, name):
    path = write(tmp_path / name, rows(6))
    whole = FeatureStore.open(path, cache_dir=tmp_path)
    some = FeatureStore.open(path, columns="1:4", width=3, cache_dir=tmp_path)
    np.testing.assert_array_equal(some.view("house_b"), whole.view("house_b")[:, 1:4])
    assert FeatureStore.open(path, columns="2:", cache_dir=tmp_path).width == 4
    (found,) = [
        one for one in check_features(path, columns="1:4") if one.what == "columns looked at"
    ]
    assert found.found == "1:4"


@pytest.mark.parametrize("columns", ["4", "3:3", "5:2", "0:7", "a:b", ":-1"])
def test_a_slice_that_is_none_is_refused(columns):
    with pytest.raises(ValueError, match=f"--feature-columns {columns}.*(FIRST:END|0:6)"):
        slice_of(columns, 6)


def test_a_dataset_a_viewpoint_is_written_and_read(tmp_path):
    write_hdf5_rows(tmp_path / "f.hdf5", rows())
    for ours, theirs in zip(read_hdf5(tmp_path / "f.hdf5"), rows(), strict=True):
        assert ours.id == theirs.id
        np.testing.assert_array_equal(ours.features, theirs.features)
    broken = iter([*rows()[:1], None])
    with pytest.raises(TypeError):
        write_hdf5_rows(tmp_path / "other.hdf5", broken)
    assert [path.name for path in tmp_path.iterdir()] == ["f.hdf5"]
    write_npy(tmp_path / "f.npy", rows())
