"""Corrupt files of features: named, and never the features of another viewpoint."""

import base64
import json

import h5py
import numpy as np
import pytest

from prevalent.data.feature_check import check_features
from prevalent.data.features import (
    FeatureRow,
    FeatureStore,
    read_candidate_tsv,
    read_tsv,
    synthetic_features,
    write_hdf5,
    write_npy,
    write_tsv,
)

NAMES = ["house_a", "house_b", "house_c"]


def features(seed, width=4):
    return np.random.default_rng(seed).standard_normal((36, width)).astype(np.float32)


@pytest.fixture
def tsv(tmp_path):
    path = tmp_path / "f.tsv"
    write_tsv(path, [FeatureRow(name, features(i)) for i, name in enumerate(NAMES)])
    return path


@pytest.mark.parametrize("mark", [b"", "\ufeff".encode()], ids=["plain", "byte-order mark"])
@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r\n\r\n", b"\n \n"], ids=repr)
def test_features_stay_with_their_viewpoints(tsv, tmp_path, newline, mark):
    tsv.write_bytes(mark + tsv.read_bytes().replace(b"\n", newline))
    store = FeatureStore.open(tsv, cache_dir=tmp_path / "cache")
    assert list(store.rows) == NAMES
    for i, name in enumerate(NAMES):
        np.testing.assert_array_equal(store.view(name), features(i))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda line: line[:7], "row 2 has 2 columns instead of 6"),
        (lambda line: line[:-9], r"row 2 \(house_b\)"),
        (lambda line: line[:-40] + "!" * 40, r"row 2 \(house_b\) has damaged features"),
        (lambda line: line[:-40] + "é" * 40, r"row 2 \(house_b\) has damaged features"),
        (lambda line: line.encode()[:-4] + b"\xff", "row 2 is not text"),
        (
            lambda line: line.rsplit("\t", 1)[0] + "\t" + base64.b64encode(b"1234" * 7).decode(),
            "has 7 numbers, which are not 36 views",
        ),
    ],
)
def test_a_damaged_row_of_features_is_named(tsv, damage, message):
    lines = tsv.read_text().splitlines()
    damaged = damage(lines[1])
    lines = [line.encode() for line in lines]
    lines[1] = damaged if isinstance(damaged, bytes) else damaged.encode()
    tsv.write_bytes(b"\n".join(lines))
    with pytest.raises(ValueError, match=message):
        list(read_tsv(tsv))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], r"f\.npy': there is no viewpoint in it"),
        ([("a", features(0)), ("a", features(1))], "'a' has features twice"),
        ([("a", features(0)), ("b", features(1, 5))], "'b' has features of shape \\(36, 5\\)"),
        ([("a", features(0)), ("b", features(1) * np.nan)], "'b' has features that are not finite"),
    ],
)
def test_impossible_features_are_named_and_leave_no_file(tmp_path, rows, message):
    with pytest.raises(ValueError, match=message):
        write_npy(tmp_path / "f.npy", [FeatureRow(*row) for row in rows])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("layout", ["contiguous", "compressed"])
@pytest.mark.parametrize("names", [NAMES[:2], [*NAMES, "house_d"]], ids=["short", "long"])
def test_an_hdf5_file_of_other_rows_than_names_is_refused(tmp_path, layout, names):
    array = np.stack([features(i) for i in range(3)])
    with h5py.File(tmp_path / "f.h5", "w") as file:
        packing = {"compression": "gzip"} if layout == "compressed" else {}
        file.create_dataset("features", data=array, **packing)
        file.create_dataset("ids", data=names, dtype=h5py.string_dtype())
    with pytest.raises(ValueError, match=rf"f\.h5.*\(3, 36, 4\) for {len(names)} viewpoints"):
        FeatureStore.open(tmp_path / "f.h5", cache_dir=tmp_path / "cache")


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.9])
def test_a_short_hdf5_file_is_named(tmp_path, keep):
    path = tmp_path / "f.h5"
    write_hdf5(path, NAMES, np.stack([features(i) for i in range(3)]))
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(ValueError, match=r"f\.h5' is damaged or holds no features"):
        FeatureStore.open(path, cache_dir=tmp_path / "cache")


@pytest.mark.parametrize("kind", ["texts", "objects", "group", "scalar"])
def test_an_hdf5_file_of_anything_but_numbers_is_named(tmp_path, kind):
    with h5py.File(tmp_path / "f.h5", "w") as file:
        if kind == "group":
            file.create_group("features")
        elif kind == "scalar":
            file["features"] = 5.0
        else:
            texts = kind == "texts"
            dtype = h5py.string_dtype() if texts else h5py.vlen_dtype(np.float32)
            file.create_dataset("features", (3, 36, 4), dtype=dtype)
        file.create_dataset("ids", data=NAMES, dtype=h5py.string_dtype())
    with pytest.raises(ValueError, match=r"f\.h5' is damaged or holds no features"):
        FeatureStore.open(tmp_path / "f.h5", cache_dir=tmp_path / "cache")


@pytest.mark.parametrize("ids", [np.arange(3), np.zeros((3, 1)), "group", b"abc"])
def test_names_in_an_hdf5_file_that_are_none_are_told(tmp_path, ids):
    path = tmp_path / "f.h5"
    with h5py.File(path, "w") as file:
        file["features"] = np.stack([features(i) for i in range(3)])
        if isinstance(ids, str):
            file.create_group("ids")
        else:
            file["ids"] = ids
    for use in (FeatureStore.open, check_features):
        with pytest.raises(ValueError, match=r"f\.h5' is damaged or .*'ids' is no list of names"):
            use(path)


def test_names_beside_an_array_are_checked(tmp_path):
    store = synthetic_features(NAMES, 4)
    store.save(tmp_path / "f.npy")
    for content, sentence in (
        ("[", "is not valid JSON"),
        ('{"a": 1}', "must hold a list of names"),
        (json.dumps(NAMES[:2]), "for 2 viewpoints"),
        (json.dumps(["house_a"] * 3), "has viewpoint 'house_a' twice"),
    ):
        (tmp_path / "f.ids.json").write_text(content)
        with pytest.raises(ValueError, match=sentence):
            FeatureStore.open(tmp_path / "f.npy")


def number_at(array, value):
    array = array.copy()
    array[1, 5, 2] = value
    return array


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("form", ["npy", "h5", "compressed h5", "tsv"])
def test_features_that_are_not_finite_are_named_by_file_row_and_viewpoint(tmp_path, form, value):
    array = number_at(np.stack([features(i) for i in range(3)]), value)
    path = tmp_path / f"f.{form.split()[-1]}"
    if form == "npy":
        np.save(path, array)
        path.with_suffix(".ids.json").write_text(json.dumps(NAMES))
    elif form == "h5":
        write_hdf5(path, NAMES, array)
    elif form == "tsv":
        write_tsv(path, [FeatureRow(name, array[i]) for i, name in enumerate(NAMES)])
    else:
        with h5py.File(path, "w") as file:
            for name, row in zip(NAMES, array, strict=True):
                file.create_dataset(name, data=row, compression="gzip")
    with pytest.raises(ValueError, match=r"house_b.*not finite"):
        FeatureStore.open(path, cache_dir=tmp_path / "cache").check_finite(NAMES)
    if form in ("npy", "h5", "tsv"):
        with pytest.raises(ValueError, match=rf"f\.{form}' row 2 \(house_b\)"):
            FeatureStore.open(path, cache_dir=tmp_path / "cache").check_finite(NAMES)


@pytest.mark.parametrize("views", [1, 12, 35, 37])
@pytest.mark.parametrize("form", ["npy", "h5"])
def test_another_number_of_views_is_said(tmp_path, views, form):
    path, array = tmp_path / f"f.{form}", np.ones((3, views, 4), np.float32)
    if form == "h5":
        write_hdf5(path, NAMES, array)
    else:
        write_npy(path, [FeatureRow(name, array[i]) for i, name in enumerate(NAMES)])
    with pytest.raises(ValueError, match=rf"f\.{form}' has {views} views .*'house_a'.*not 36"):
        FeatureStore.open(path)
    assert FeatureStore.open(path, num_views=views).num_views == views


def coded(line, array):
    return line.rsplit("\t", 1)[0] + "\t" + base64.b64encode(array.tobytes()).decode()


@pytest.mark.parametrize("drawn", ["as float32", "as float64", "with zeros"])
def test_a_table_of_long_floats_is_refused_and_not_read_as_twice_as_many(tsv, drawn):
    lines = tsv.read_text().splitlines()
    array = np.random.default_rng(1).standard_normal((36, 4))
    if drawn == "as float32":
        array = array.astype(np.float32).astype(np.float64)
    if drawn == "with zeros":
        array = array.clip(0)
    lines[1] = coded(lines[1], array)
    tsv.write_text("\n".join(lines))
    with pytest.raises(ValueError, match=r"f\.tsv' row 2 \(house_b\) holds numbers of 64 bits"):
        list(read_tsv(tsv))


@pytest.mark.parametrize("drawn", ["normal", "with zeros", "uniform", "like ResNet"])
def test_a_table_of_short_floats_is_refused_and_not_read_as_half_as_many(tsv, drawn):
    generator, shape = np.random.default_rng(1), (36, 16)
    array = generator.standard_normal(shape)
    if drawn == "with zeros":
        array = array.clip(0)
    if drawn == "uniform":
        array = generator.random(shape)
    if drawn == "like ResNet":  # means of what a ReLU left
        array = generator.exponential(0.4, shape) * (generator.random(shape) > 0.05)
    lines = tsv.read_text().splitlines()
    lines[1] = coded(lines[1], array.astype(np.float16))
    tsv.write_text("\n".join(lines))
    with pytest.raises(ValueError, match=r"f\.tsv' row 2 \(house_b\) holds numbers of 16 bits"):
        list(read_tsv(tsv))


@pytest.mark.parametrize("rounded", [np.float32, np.float16])
@pytest.mark.parametrize("drawn", ["normal", "with zeros", "probabilities"])
def test_floats_of_32_bits_are_read_even_where_they_were_shorter_once(tsv, drawn, rounded):
    array = np.random.default_rng(1).standard_normal((36, 16))
    if drawn == "with zeros":
        array = array.clip(0)
    if drawn == "probabilities":
        array = np.exp(4 * array) / np.exp(4 * array).sum(axis=1, keepdims=True)
    array = array.astype(rounded).astype(np.float32)
    lines = tsv.read_text().splitlines()
    lines[1] = coded(lines[1], array)
    tsv.write_text("\n".join(lines))
    np.testing.assert_array_equal(list(read_tsv(tsv))[1].features, array)


def test_rare_small_numbers_are_features(tsv):
    array = np.random.default_rng(1).random((36, 4)).astype(np.float32)
    array[3, 2] = 1e-30
    lines = tsv.read_text().splitlines()
    lines[1] = coded(lines[1], array)
    tsv.write_text("\n".join(lines))
    np.testing.assert_array_equal(list(read_tsv(tsv))[1].features, array)


@pytest.mark.parametrize("last", ["features", "Features", "features\r"])
def test_a_header_is_called_one(tsv, last):
    head = f"scanId\tviewpointId\timage_w\timage_h\tvfov\t{last}\n"
    tsv.write_bytes((head + tsv.read_text()).encode())
    with pytest.raises(ValueError, match=r"f\.tsv' row 1 is a header.*delete the line"):
        list(read_tsv(tsv))


@pytest.mark.parametrize(
    ("heading", "view", "sentence"),
    [("x", "3", "could not convert"), ("nan", "3", "must be finite"), ("0", "36", "below 36")],
)
def test_a_damaged_candidate_is_named(tmp_path, heading, view, sentence):
    code = base64.b64encode(np.ones(4, "<f4").tobytes()).decode()
    cells = ["house", "a", heading, "0", "b", view, "0", code]
    (tmp_path / "c.tsv").write_text("\t".join(cells) + "\n")
    with pytest.raises(ValueError, match=rf"c\.tsv' row 1: .*{sentence}"):
        list(read_candidate_tsv(tmp_path / "c.tsv"))


@pytest.mark.parametrize("content", ["archive", "texts", "complex"])
def test_an_array_of_anything_but_numbers_is_named(tmp_path, content):
    path = tmp_path / "f.npy"
    (tmp_path / "f.ids.json").write_text(json.dumps(NAMES))
    if content == "archive":
        np.savez(tmp_path / "f.npz", a=np.ones((3, 36, 4)))
        (tmp_path / "f.npz").rename(path)
    else:
        np.save(path, np.full((3, 36, 4), "a" if content == "texts" else 1j))
    with pytest.raises(ValueError, match=r"f\.npy' holds"):
        FeatureStore.open(path)


@pytest.mark.parametrize("form", ["tsv", "h5", "compressed h5", "npy"])
def test_a_file_of_no_viewpoint_or_of_views_without_numbers_is_named(tmp_path, form):
    path = tmp_path / f"f.{form.split()[-1]}"
    for array in (np.ones((0, 36, 4), np.float32), np.ones((3, 36, 0), np.float32)):
        names = NAMES[: len(array)]
        if form == "tsv":
            write_tsv(path, [FeatureRow(*row) for row in zip(names, array, strict=True)])
        elif form == "h5":
            write_hdf5(path, names, array)
        elif form == "npy":
            np.save(path, array)
            path.with_suffix(".ids.json").write_text(json.dumps(names))
        else:
            with h5py.File(path, "w") as file:
                for name, row in zip(names, array, strict=True):
                    file.create_dataset(name, data=row)
        with pytest.raises(ValueError, match=rf"feature file '{path}'.*(fetch|views)") as raised:
            FeatureStore.open(path, cache_dir=tmp_path / "cache")
        assert "cache" not in str(raised.value)
        assert not list((tmp_path / "cache").glob("*")) or form == "compressed h5"


@pytest.mark.parametrize("shape", [(), (36,), (36, 4, 1)])
def test_odd_shapes_in_an_hdf5_file_are_named_by_file_and_viewpoint(tmp_path, shape):
    path = tmp_path / "f.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("house_a", data=np.ones(shape, np.float32))
    with pytest.raises(ValueError, match=r"f\.h5'.*house_a is of shape.*not \(views, width\)"):
        FeatureStore.open(path, cache_dir=tmp_path / "cache")
    with h5py.File(path, "w") as file:
        file.create_dataset("house_a", data=np.ones((36, 4), np.float32))
        file.create_dataset("house_b", data=np.ones((36, 5), np.float32))
    with pytest.raises(ValueError, match=r"f\.h5': viewpoint 'house_b' has features of shape"):
        FeatureStore.open(path, cache_dir=tmp_path / "cache")


@pytest.mark.parametrize("name", ["_a", "house_", "house"])
def test_features_of_no_scan_or_viewpoint_are_refused(tsv, tmp_path, name):
    lines = tsv.read_text().splitlines()
    scan, _, viewpoint = name.partition("_")
    lines[1] = "\t".join([scan, viewpoint, *lines[1].split("\t")[2:]])
    tsv.write_text("\n".join(lines))
    with pytest.raises(ValueError, match=r"f\.tsv' row 2 lacks its scan or viewpoint"):
        FeatureStore.open(tsv, cache_dir=tmp_path / "cache")
    write_hdf5(tmp_path / "f.h5", ["house_a", name], np.ones((2, 36, 4), np.float32))
    with pytest.raises(ValueError, match=rf"f\.h5' row 2 is of '{name}', which is no SCAN_VIEW"):
        FeatureStore.open(tmp_path / "f.h5")


@pytest.mark.parametrize("empty", [0, 1, 4, 7])
def test_a_candidate_without_a_name_or_features_is_named(tmp_path, empty):
    cells = ["house", "a", "0", "0", "b", "3", "0", base64.b64encode(b"1234").decode()]
    cells[empty] = ""
    (tmp_path / "c.tsv").write_text("\t".join(cells) + "\n")
    with pytest.raises(ValueError, match=r"c\.tsv' row 1 lacks"):
        list(read_candidate_tsv(tmp_path / "c.tsv"))


@pytest.mark.parametrize(
    "content", [b"", b"junk", b"\x80\x04K\x01."], ids=["none", "text", "pickle"]
)
def test_a_junk_array_is_named_without_advice_to_load_pickles(tmp_path, content):
    (tmp_path / "f.npy").write_bytes(content)
    (tmp_path / "f.ids.json").write_text(json.dumps(NAMES))
    with pytest.raises(ValueError, match=r"f\.npy' is damaged") as raised:
        FeatureStore.open(tmp_path / "f.npy")
    assert "allow_pickle" not in str(raised.value)
