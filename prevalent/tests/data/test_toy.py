"""The toy world: official formats, repeatable, and readable in houses never seen."""

from __future__ import annotations

import itertools
import json
import math
import re
from dataclasses import replace

import networkx as nx
import numpy as np
import pytest

from prevalent.data.features import FeatureStore
from prevalent.data.toy import (
    ToyConfig,
    build_house,
    landmark_embeddings,
    view_features,
    write_house,
    write_toy,
)
from prevalent.data.toy_texts import (
    FORMS,
    LANDMARKS,
    ORDINALS,
    ROOMS,
    STYLES,
    SYNONYMS,
    Step,
    direction,
    tell_hard_step,
    tell_walk,
)
from prevalent.environments.navigation import Episode, NavigationEnvironment
from prevalent.simulator import Graphs
from prevalent.simulator.graph import candidates_of

SMALL = ToyConfig(train_houses=3, unseen_houses=2, train_paths=12, held_out_paths=8, dialogs=5)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toy")
    write_toy(folder, SMALL)
    return folder


def read(world, name):
    return json.loads((world / name).read_text())


def files(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_the_same_config_writes_the_same_files(world, tmp_path):
    write_toy(tmp_path, SMALL)
    assert files(world) == files(tmp_path)


def test_splits_have_the_official_fields_and_separate_houses(world):
    splits = {n: read(world, f"r2r/R2R_{n}.json") for n in ("train", "val_seen", "val_unseen")}
    fields = {"distance", "scan", "path_id", "path", "heading", "instructions"}
    assert all(set(item) == fields for items in splits.values() for item in items)
    scans = {name: {item["scan"] for item in items} for name, items in splits.items()}
    assert scans["val_seen"] <= scans["train"]
    assert not scans["val_unseen"] & scans["train"]
    paths = [tuple(item["path"]) for items in splits.values() for item in items]
    assert len(set(paths)) == len(paths)
    assert all(len(item["path"]) == 1 for item in read(world, "r2r/R2R_test.json"))


def test_paths_are_shortest_paths_of_the_wanted_length(world):
    graphs = Graphs.load(world / "connectivity")
    for item in read(world, "r2r/R2R_train.json"):
        view, path = graphs.by_name(item["scan"]), item["path"]
        assert view.path(path[0], path[-1]) == path
        assert SMALL.min_steps <= len(path) - 1 <= SMALL.max_steps
        assert item["distance"] == pytest.approx(view.distance(path[0], path[-1]), abs=0.006)


def test_every_viewpoint_has_features(world):
    graphs = Graphs.load(world / "connectivity")
    store = FeatureStore.open(world / "features.npy", width=SMALL.feature_width)
    store.check(graphs)
    assert store.num_views == 36


def test_viewpoints_near_each_other_have_different_landmarks():
    house = build_house("toy", 5, 24, np.random.default_rng(3))
    graphs = Graphs(["toy"], [house.data])
    for node in graphs.connected("toy"):
        near = [node, *graphs.neighbors[node][: graphs.degree[node]]]
        assert len({house.landmarks[n] for n in near}) == len(near)


def words_of(text):
    """Landmarks in the order of the text, the repeated last one once."""
    found = [LANDMARKS.index(w) for w in re.findall("[a-z]+", text.lower()) if w in LANDMARKS]
    return found[:-1]


@pytest.mark.parametrize("split", ["train", "val_unseen"])
def test_going_where_the_named_landmark_is_seen_leads_to_the_goal(world, split):
    graphs = Graphs.load(world / "connectivity")
    store = FeatureStore.open(world / "features.npy")
    looks = landmark_embeddings(len(LANDMARKS), SMALL.feature_width)
    items = read(world, f"r2r/R2R_{split}.json")
    texts = [item["instructions"][1] for item in items]  # landmarks only
    tasks = [Episode(i["scan"], tuple(i["path"]), i["heading"], str(i["path_id"])) for i in items]
    environment = NavigationEnvironment(graphs, store.rows)
    seen = environment.reset(tasks)
    plans = [words_of(text) for text in texts]
    for t in range(max(map(len, plans))):
        marks = np.array([plan[t] if t < len(plan) else 0 for plan in plans])
        views = store.array[seen.row[:, None], seen.candidate_view]
        match = np.einsum("bkd,bd->bk", views, looks[marks])
        match[seen.candidate_view < 0] = -np.inf
        live = np.array([t < len(plan) for plan in plans])
        seen = environment.step(np.where(live, match.argmax(axis=1), -1))
    assert (seen.distance < 3).mean() > 0.9


def test_dialogs_have_the_fields_of_ndh(world):
    graphs = Graphs.load(world / "connectivity")
    for name in ("train", "val_seen", "val_unseen"):
        items = read(world, f"ndh/{name}.json")
        assert len({item["inst_idx"] for item in items}) == len(items)
        assert any(item["dialog_history"] for item in items)
        for item in items:
            view = graphs.by_name(item["scan"])
            for path in (item["player_path"], item["planner_path"]):
                assert path[0] == item["start_pano"]["pano"]
                assert all(b in view.neighbors(a) for a, b in itertools.pairwise(path))
            assert len(item["planner_path"]) <= 6
            assert {turn["role"] for turn in item["dialog_history"]} <= {"navigator", "oracle"}


def test_the_test_split_of_dialogs_keeps_its_paths_and_goals_to_itself(world):
    items = read(world, "ndh/test.json")
    assert items
    assert all(not {"player_path", "planner_path", "end_panos"} & set(item) for item in items)


def test_object_tasks_and_routes_have_the_fields_of_hanna(world):
    routes = read(world, "hanna/routes.json")
    splits = {route["split"] for own in routes.values() for route in own}
    assert splits == {"train_seen", "train_unseen", "val", "test"}
    for own in routes.values():  # every way is told in both splits of its house, so help is near
        assert len({tuple(route["path"]) for route in own}) * 2 == len(own)
    words = (world / "hanna/vocab.txt").read_text().split()
    told = {word for own in routes.values() for r in own for word in r["instruction"].split()}
    assert "find" in words
    assert len(told - set(words)) <= len(told) // 4
    for name in ("train", "val_seen", "val_unseen", "test_seen", "test_unseen"):
        for item in read(world, f"hanna/hanna_{name}.json"):
            assert len({path[0] for path in item["paths"]}) == 1
            assert item["instructions"][0].startswith("find a ")


def test_a_tsv_holds_the_same_features(tmp_path):
    write_toy(tmp_path, ToyConfig(train_houses=1, unseen_houses=1, train_paths=2, tsv=True))
    stored = FeatureStore.open(tmp_path / "features.npy")
    table = FeatureStore.open(tmp_path / "features" / "toy.tsv", cache_dir=tmp_path / "cache")
    assert table.rows == stored.rows
    np.testing.assert_array_equal(table.array, stored.array)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train_houses": 0}, "at least one train house"),
        ({"min_steps": 9}, "min_steps 9 exceeds"),
        ({"num_landmarks": 99}, "num_landmarks must be"),
        ({"num_colors": 9}, "num_colors must be 1 to 4"),
        ({"num_landmarks": 6, "num_colors": 2}, "num_landmarks must be 7 to"),
        ({"forms": ("rhymes",)}, "--forms knows synonyms.* 'rhymes' is none"),
    ],
)
def test_an_impossible_world_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        ToyConfig(**change)


def test_a_house_is_connected_and_survives_its_file(tmp_path):
    for seed in range(6):
        house = build_house(f"toy{seed}", 4, 24, np.random.default_rng(seed))
        write_house(tmp_path, house)
        graphs = Graphs.load(tmp_path, scans=[house.scan], cache_dir=tmp_path / "cache")
        assert nx.is_connected(graphs.networkx(house.scan))
        np.testing.assert_array_equal(graphs.positions, house.data.positions)
        assert len(graphs.connected(house.scan)) == len(house.data.viewpoints) - 1


def test_the_view_of_a_candidate_shows_its_landmark_best():
    house = build_house("toy", 5, 24, np.random.default_rng(1))
    graphs = Graphs(["toy"], [house.data])
    looks = landmark_embeddings(32, 32)
    images = view_features(graphs, looks[house.landmarks], 0.0, np.random.default_rng(0))
    found = candidates_of(graphs)
    right = []
    for node in graphs.connected("toy"):
        for j in range(found.count[node]):
            image = images[node, found.view[node, j]]
            right.append((looks @ image).argmax() == house.landmarks[found.target[node, j]])
    assert np.mean(right) > 0.9


def test_too_few_landmarks_are_refused():
    with pytest.raises(ValueError, match="num_landmarks 3 is too few"):
        build_house("toy", 5, 3, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("turn", "climb", "words"),
    [
        (0, 0, "go straight"),
        (60, 0, "turn right"),
        (-60, 0, "turn left"),
        (170, 0, "turn around"),
        (-175, 0, "turn around"),
        (10, 1.5, "go up the stairs"),
        (10, -1.5, "go down the stairs"),
    ],
)
def test_turns_and_climbs_have_words(turn, climb, words):
    assert direction(Step(math.radians(turn), climb, "sofa")) == words


@pytest.mark.parametrize("style", STYLES)
def test_a_walk_ends_at_its_last_landmark(style):
    steps = [Step(0, 0, "lamp"), Step(1, 0, "sofa")]
    for seed in range(20):
        text = tell_walk(steps, style, np.random.default_rng(seed))
        assert text[0].isupper()
        assert text.endswith(" the sofa.")
        assert style == "mixed" or "lamp" in text


def test_landmarks_are_distinct_words():
    names = LANDMARKS + SYNONYMS
    assert len(set(names)) == len(names) == 2 * len(LANDMARKS)
    assert all(word.isalpha() and word.islower() for word in names)
    assert sorted(word for room in ROOMS.values() for word in room) == sorted(LANDMARKS)


def test_annotated_paths_lack_the_words_that_told_ones_have(tmp_path):
    size = replace(SMALL, forms=FORMS, num_colors=2, num_landmarks=12, told_paths=9)
    write_toy(tmp_path, size)
    texts = {
        split: [
            text
            for item in read(tmp_path, f"r2r/R2R_{split}.json")
            for text in item["instructions"]
        ]
        for split in ("train", "told", "val_unseen")
    }
    words = {name: set(re.findall("[a-z]+", " ".join(own).lower())) for name, own in texts.items()}
    assert not words["train"] & set(SYNONYMS)
    assert len(words["told"] & set(SYNONYMS)) == 12
    assert words["val_unseen"] - words["told"] <= set(ORDINALS)  # some ranks are rare
    assert len(texts["told"]) == 3 * size.train_houses * size.told_paths


def test_every_form_of_a_step_says_which_way_is_meant():
    left, right = Step(-1.0, 0.0, "sofa", "red"), Step(1.0, 0.0, "sofa", "blue")
    told = {
        sentence
        for seed in range(60)
        for sentence in tell_hard_step(
            right._replace(others=(left,)), ("ordinals", "negations"), np.random.default_rng(seed)
        )
    }
    assert "take the first way on the right" in told
    assert "do not turn left" in told
    assert "do not go to the red sofa" in told
    assert "go not to the red sofa but to the blue sofa" in told
    assert "walk to the blue sofa" in told
    assert not any(sentence.endswith("the sofa") for sentence in told)
