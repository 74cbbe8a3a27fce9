"""REVERIE's objects: their file, the toy form, and an agent that names one of them."""

import json
from dataclasses import replace

import h5py
import numpy as np
import pytest
import torch

from prevalent.agents.rollout import Batch
from prevalent.data.objects import DeviceObjects, ObjectStore, SceneObjects, write_objects
from prevalent.data.reverie import read_boxes, read_reverie
from prevalent.data.toy import ToyConfig, write_toy
from prevalent.simulator.graph import load_graphs
from prevalent.tasks.graph import PRESETS, GraphRun, train_graph
from tests.factories import make_graphs, make_scan

SCENE = SceneObjects(
    ("7", "9"),
    np.arange(6, dtype=np.float32).reshape(2, 3),
    np.array([[0.5, 0.1], [1.0, -0.2]], dtype=np.float32),
    np.array([[64, 48], [320, 240]], dtype=np.float32),
)


@pytest.fixture
def graphs():
    return make_graphs(house=make_scan({"a": (0, 0, 0), "b": (0, 2, 0)}, [("a", "b")]))


def test_objects_come_back_as_they_were_written(tmp_path, graphs):
    write_objects(tmp_path / "objects.hdf5", [("house_b", SCENE)])
    store = ObjectStore.open(tmp_path / "objects.hdf5", graphs, width=2)  # a column is left out
    a, b = graphs.node("house", "a"), graphs.node("house", "b")
    assert (store.ids[a], store.ids[b]) == ((), ("7", "9"))
    assert [store.place(b, name) for name in ("7", "9", "8", None)] == [0, 1, -1, -1]
    seen = DeviceObjects(store, torch.device("cpu"), 4, "block").see(np.array([a, b]), np.ones(2))
    assert seen.mask.tolist() == [[False, False], [True, True]]
    np.testing.assert_allclose(seen.features[1, :, :2], SCENE.features[:, :2])
    angle = [np.sin(-0.5), np.cos(-0.5), np.sin(0.1), np.cos(0.1)]  # heading 0.5, seen from 1.0
    np.testing.assert_allclose(seen.features[1, 0, 2:], angle, rtol=1e-5)
    np.testing.assert_allclose(seen.box[1], [[0.1, 0.1, 0.01], [0.5, 0.5, 0.25]], rtol=1e-5)


@pytest.mark.parametrize(
    ("scene", "message"),
    [
        (SCENE._replace(ids=("7", "7")), "another id for each"),
        (SCENE._replace(sizes=SCENE.sizes[:1]), "two numbers an object"),
        (SCENE._replace(features=SCENE.features * np.nan), "not finite"),
        (SCENE._replace(features=SCENE.features[:, :1]), "is 1 wide, the views' features 2"),
    ],
)
def test_damaged_objects_are_named(tmp_path, graphs, scene, message):
    path = tmp_path / "objects.hdf5"
    write_objects(path, [("house_b", scene)])
    with pytest.raises(ValueError, match=message) as caught:
        ObjectStore.open(path, graphs, 2)
    assert "house_b" in str(caught.value)


def test_files_without_objects_are_refused(tmp_path, graphs):
    path = tmp_path / "objects.hdf5"
    with pytest.raises(FileNotFoundError, match="--objects"):
        ObjectStore.open(path, graphs, 2)
    with h5py.File(path, "w") as file:
        file["house_b"] = np.zeros((1, 2))
    with pytest.raises(ValueError, match="lacks the attribute 'obj_ids'"):
        ObjectStore.open(path, graphs, 2)
    write_objects(path, [("other_b", SCENE)])
    with pytest.raises(ValueError, match="shows no viewpoint of house"):
        ObjectStore.open(path, graphs, 2)


def test_objects_need_reverie():
    with pytest.raises(ValueError, match="--objects is for --data reverie"):
        GraphRun(objects="objects.hdf5")


def test_a_toy_world_has_reveries_files(tmp_path):
    """In the official form: every object that is meant is seen from the end of its path."""
    write_toy(tmp_path, ToyConfig(train_houses=1, unseen_houses=1, house_size=3, objects=3))
    boxes = read_boxes(tmp_path / "reverie")
    for split in ("train", "val_unseen"):
        for one in read_reverie(tmp_path, split):
            box = boxes[one.scan, one.path[-1]][one.item["object"]]
            assert one.text.split()[-1].strip(".") == box.name
            assert one.item["goals"] == (one.path[-1],)
    for left, top, width, height in (
        box for o in boxes.values() for b in o.values() for box in b.boxes
    ):
        assert 0 < left + width / 2 < 640
        assert 0 < top + height / 2 < 480
    graphs = load_graphs(tmp_path / "connectivity", ["toy000", "toy001"])
    store = ObjectStore.open(tmp_path / "objects.hdf5", graphs, 32)
    assert {
        (graphs.long_id(n).partition("_")[0], i) for n, o in enumerate(store.ids) for i in o
    } == {(scan, name) for (scan, _), seen in boxes.items() for name in seen}


def test_an_agent_names_an_object_where_it_stops(tmp_path):
    smoke = PRESETS["smoke"][1]
    agent = train_graph(
        replace(smoke, run_dir=tmp_path, data="reverie", objects=PRESETS["reverie-toy"][1].objects)
    )
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert any(row.get("objects", 0) > 0 for row in rows)
    assert any("val_unseen/rgspl" in row for row in rows)
    assert agent.objects is not None
    known = {name for ids in agent.objects.store.ids for name in ids}
    items = read_reverie(tmp_path / "world", "val_unseen")[:3]
    records = agent.act([Batch(items, np.full((3, 4), 5))])
    assert {one["predObjId"] for one in records} <= known
