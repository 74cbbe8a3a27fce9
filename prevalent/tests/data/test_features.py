"""The feature store and the table on the device."""

from __future__ import annotations

import base64
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import ResNetConfig, ResNetModel

from prevalent.data.extraction import extract_features
from prevalent.data.features import (
    DeviceFeatures,
    FeatureRow,
    FeatureStore,
    expand_angles,
    map_hdf5,
    open_store,
    read_candidate_tsv,
    read_hdf5,
    read_tsv,
    synthetic_features,
    write_hdf5,
    write_npy,
    write_tsv,
)
from prevalent.simulator.geometry import Camera, angle_features, angle_table
from tests.factories import make_graphs, make_scan, random_scan

NAMES = ["house_a", "house_b", "house_c", "house_d"]


def rows():
    return list(synthetic_features(NAMES, 8).items())


@pytest.fixture(params=["tsv", "hdf5", "hdf5 per viewpoint", "npy"])
def path(request, tmp_path):
    array = np.stack([row.features for row in rows()])
    if request.param == "tsv":
        write_tsv(tmp_path / "f.tsv", rows())
        return tmp_path / "f.tsv"
    if request.param == "hdf5":
        write_hdf5(tmp_path / "f.h5", NAMES, array)
        return tmp_path / "f.h5"
    if request.param == "npy":
        write_npy(tmp_path / "f.npy", rows())
        return tmp_path / "f.npy"
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "f.hdf5", "w") as file:
        for name, features in rows():
            file.create_dataset(name, data=features, compression="gzip")
    return tmp_path / "f.hdf5"


def test_every_file_form_gives_the_same_features(path, tmp_path):
    for _ in range(2):  # the second time from the converted copy
        store = FeatureStore.open(path, width=8, cache_dir=tmp_path / "cache")
        assert sorted(store.rows) == NAMES
        assert isinstance(store.array, np.memmap)
        for name, features in rows():
            np.testing.assert_array_equal(store.view(name), features)


def test_synthetic_features_follow_the_recorded_rule():
    store = synthetic_features(NAMES, 5)
    drawn = np.random.RandomState(zlib.crc32(b"house_b")).standard_normal((36, 5))
    np.testing.assert_array_equal(store.view("house_b"), drawn.astype(np.float32))


def test_a_changed_tsv_is_converted_again(tmp_path):
    path = tmp_path / "f.tsv"
    for width in (4, 6):
        write_tsv(path, synthetic_features(NAMES, width).items())
        assert FeatureStore.open(path, cache_dir=tmp_path / "cache").width == width


def test_a_tsv_may_have_another_number_of_views(tmp_path):
    path = tmp_path / "f.tsv"
    write_tsv(path, [FeatureRow("s_v", np.arange(40, dtype=np.float32).reshape(10, 4))])
    store = FeatureStore.open(path, num_views=10, cache_dir=tmp_path)
    assert (store.num_views, store.width) == (10, 4)
    with pytest.raises(ValueError, match="not 36 views"):
        FeatureStore.open(path, cache_dir=tmp_path)


def test_half_precision_copies_are_half_as_large(tmp_path):
    write_tsv(tmp_path / "f.tsv", rows())
    store = FeatureStore.open(tmp_path / "f.tsv", dtype="float16", cache_dir=tmp_path)
    assert store.array.dtype == np.float16
    np.testing.assert_allclose(store.view("house_a"), rows()[0].features, atol=2e-3)


def test_a_wrong_width_a_missing_file_and_a_strange_ending_are_named(path, tmp_path):
    with pytest.raises(ValueError, match="is 8 numbers wide, but the model takes 2048"):
        FeatureStore.open(path, width=2048, cache_dir=tmp_path)
    with pytest.raises(FileNotFoundError, match=r"nowhere\.tsv"):
        FeatureStore.open(tmp_path / "nowhere.tsv")
    (tmp_path / "f.zip").write_text("")
    with pytest.raises(ValueError, match=r"must end in \.tsv, \.h5"):
        FeatureStore.open(tmp_path / "f.zip")


def test_the_first_missing_viewpoint_is_named():
    store = synthetic_features(NAMES[:2], 4)
    with pytest.raises(ValueError, match="no viewpoint 'house_c'"):
        store.check(make_graphs())
    with pytest.raises(ValueError, match="no viewpoint 'other_x'"):
        store.view("other_x")


def test_rows_without_names_are_refused(tmp_path):
    np.save(tmp_path / "f.npy", np.zeros((2, 36, 4), np.float32))
    with pytest.raises(FileNotFoundError, match=r"lacks its names .*f\.ids\.json"):
        FeatureStore.open(tmp_path / "f.npy")
    with pytest.raises(ValueError, match="for 3 viewpoints"):
        FeatureStore(NAMES[:3], np.zeros((2, 36, 4)))


@pytest.mark.parametrize("layout", ["interleaved", "block"])
def test_expanded_angles_equal_encoded_ones(layout):
    rng = np.random.default_rng(0)
    heading, elevation = rng.uniform(-3, 3, (2, 5, 7))
    four = torch.from_numpy(angle_features(heading, elevation, 4))
    expected = angle_features(heading, elevation, 20, layout)
    np.testing.assert_array_equal(expand_angles(four, 20, layout), expected)


@pytest.mark.parametrize("resident", [True, False])
@pytest.mark.parametrize("layout", ["interleaved", "block"])
def test_gathered_features_equal_rows_of_the_file(resident, layout):
    store = synthetic_features(NAMES, 6)
    device = DeviceFeatures(store, angle_size=8, layout=layout, resident=resident)
    row, view = np.array([2, 0, 2]), np.array([5, 17, 30])
    panorama = device.panorama(row, view)
    assert panorama.shape == (3, 36, device.width)
    np.testing.assert_array_equal(panorama[..., :6], store.array[row])
    np.testing.assert_array_equal(panorama[..., 6:], angle_table(8, layout)[view])
    np.testing.assert_array_equal(device.single(row, view), store.array[row, view])
    seen = np.array([[3, -1], [35, 0], [-1, -1]])
    angle = np.ones((3, 2, 4), np.float32) * (seen >= 0)[..., None].astype(np.float32)
    candidates = device.candidates(row, seen, angle)
    np.testing.assert_array_equal(candidates[0, 0, :6], store.array[2, 3])
    np.testing.assert_array_equal(candidates[1, 1, :6], store.array[0, 0])
    assert not candidates[torch.from_numpy(seen) < 0].any()
    noisy = device.candidates(row, seen, angle, images=device.images(row) * 2)
    np.testing.assert_array_equal(noisy[..., :6], 2 * candidates[..., :6])


@pytest.mark.gpu
def test_the_table_stands_on_the_gpu_where_it_fits():
    device = DeviceFeatures(synthetic_features(NAMES, 6), "cuda")
    assert device.panorama(np.array([1]), np.array([0])).is_cuda
    expected = synthetic_features(NAMES, 6).array[1]
    np.testing.assert_array_equal(device.images(np.array([1]))[0].cpu(), expected)


def test_a_store_that_was_saved_is_the_same(tmp_path):
    store = FeatureStore(NAMES, np.stack([r.features for r in rows()]))
    store.save(tmp_path / "s.npy")
    again = FeatureStore.open(tmp_path / "s.npy")
    assert again.rows == store.rows
    assert all(isinstance(row, FeatureRow) for row in again.items())
    np.testing.assert_array_equal(again.array, store.array)


def test_features_are_opened_or_made_for_the_scans_of_a_task(tmp_path):
    graphs = make_graphs(one=random_scan(1), two=random_scan(2))
    made = open_store(tmp_path, None, graphs, ["one"], 3)
    assert (len(made), made.width) == (len(graphs.connected("one")), 3)
    made.save(tmp_path / "some.npy")
    assert open_store(tmp_path, Path("some.npy"), graphs, ["one"], 9).width == 3
    with pytest.raises(ValueError, match="has no viewpoint 'two_"):
        open_store(tmp_path, Path("some.npy"), graphs, ["two"], 9)
    with pytest.raises(FileNotFoundError, match=r"none\.npy does not exist.*--features None"):
        open_store(tmp_path, Path("none.npy"), graphs, ["one"], 9)


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


PLACES = {"a": (0, 0, 0), "b": (0, 2, 0)}


@pytest.fixture
def network(tmp_path):
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1], layer_type="basic")
    ResNetModel(config).save_pretrained(tmp_path / "resnet")
    return tmp_path / "resnet"


def write_skybox(folder, viewpoint, colour):
    folder.mkdir(parents=True, exist_ok=True)
    for face in range(6):
        image = Image.new("RGB", (16, 16), tuple(colour))
        image.save(folder / f"{viewpoint}_skybox{face}_sami.jpg")


def test_every_included_viewpoint_gets_36_rows(tmp_path, network):
    graphs = make_graphs(house=make_scan(PLACES, [("a", "b")]))
    folder = tmp_path / "sky" / "house" / "matterport_skybox_images"
    write_skybox(folder, "a", (250, 0, 0))
    write_skybox(folder, "b", (0, 0, 250))
    output = tmp_path / "features" / "sky.npy"
    extract_features(tmp_path / "sky", graphs, network, output, device="cpu", camera=Camera(32, 24))
    store = FeatureStore.open(output)
    assert store.array.shape == (2, 36, 8)
    red, blue = store.view("house_a"), store.view("house_b")
    # a room of one colour looks the same in every direction, another colour different
    np.testing.assert_allclose(red, red[:1].repeat(36, axis=0), atol=1e-3)
    assert np.abs(red - blue).max() > 1e-3


def test_a_missing_image_is_named_and_nothing_is_written(tmp_path, network):
    output = tmp_path / "sky.npy"
    with pytest.raises((FileNotFoundError, ValueError), match="a_skybox0"):
        extract_features(tmp_path, make_graphs(), network, output, device="cpu")
    assert not output.exists()
