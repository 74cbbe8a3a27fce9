"""Data sets of walks are read in their official forms, and counted as published."""

import json
import shutil
from typing import get_args

import numpy as np
import pytest

from prevalent.data.datasets import READERS, WalkData, family, read_walks
from prevalent.data.r4r import join_paths
from prevalent.data.results import Task
from prevalent.data.reverie import places_of, read_boxes, read_reverie
from prevalent.data.rxr import read_followers, read_rxr
from prevalent.data.soon import START_HEADING, read_soon
from prevalent.metrics.navigation import score_path
from prevalent.prepare import PrepareConfig, main as prepare, prepare_reverie, prepare_soon
from tests.corpora import (
    followers,
    guides,
    read_items,
    soon_items,
    target,
    write_lines,
    write_reverie,
)
from tests.factories import make_graphs, make_scan, write_connectivity

PUBLISHED_R4R = {"val_seen": (115, 1035, 2269), "val_unseen": (5018, 45162, 63401)}
SCAN_OF_THE_PAGE = 5  # in alphabetic order
GRAPH_SHARE = 0.002  # the page's graphs have slightly other positions; pairs at 3 m come or go


def test_every_data_set_has_a_reader_and_is_a_task():
    assert tuple(READERS) == get_args(WalkData)
    assert set(READERS) | {"ndh", "hanna"} == set(get_args(Task))
    assert [family(name) for name in ("rxr-hi", "r4r")] == ["rxr", "r4r"]


def test_an_unknown_data_set_lists_the_known_ones(tmp_path):
    with pytest.raises(ValueError, match="no data set 'r6r'; choose one of r2r, r4r"):
        read_walks(tmp_path, "r6r", "train")


def item(number, path, **changes):
    lengths = {"distance": 2.0 * (len(path) - 1)}
    own = {"path_id": number, "scan": "house", "heading": number + 0.5, "path": list(path)}
    return {**own, **lengths, "instructions": [f"{number}a. ", f"{number}b. "], **changes}


def test_paths_are_joined_where_one_ends_near_the_start_of_another():
    graphs = make_graphs(house=make_scan())  # a square of 2 m sides, c half a meter up
    first, second = item(1, "ab"), item(2, "cd")
    joined = join_paths([first, second], graphs)
    found = {(one["first_path_id"], one["second_path_id"]): one for one in joined}
    assert set(found) == {(1, 1), (1, 2), (2, 1), (2, 2)}  # every side is shorter than 3 m
    one = found[1, 2]
    assert one["path"] == ["a", "b", "c", "d"]
    assert one["heading"] == 1.5
    assert one["distance"] == pytest.approx(4 + np.hypot(2, 0.5))
    assert one["instructions"] == ["1a. 2a. ", "1a. 2b. ", "1b. 2a. ", "1b. 2b. "]
    assert (one["shortest_path"], one["shortest_path_distance"]) == (["a", "d"], 2.0)
    assert found[1, 1]["path"] == ["a", "b", "a", "b"]
    assert [one["path_id"] for one in joined] == [0, 1, 2, 3]
    assert len(join_paths([first, second], graphs, max_distance=2.01)) == 2  # c is higher up


def test_a_bad_item_is_named_before_paths_are_joined():
    with pytest.raises(ValueError, match="R2R file: item 1 has no 'distance'"):
        join_paths([item(1, "ab"), {k: v for k, v in item(2, "cd").items() if k != "distance"}],
                   make_graphs())  # fmt: skip


@pytest.mark.parametrize("split", PUBLISHED_R4R)
def test_r4r_has_its_published_counts_but_for_pairs_at_the_limit(data_dir, real_graphs, split):
    items = read_items(data_dir, split)
    joined = join_paths(items, real_graphs)
    paths, instructions, apart = PUBLISHED_R4R[split]
    scans = [one["scan"] for one in items]
    pairs = sum(scans.count(scan) for scan in scans)
    assert pairs == paths + apart
    assert len(joined) == pytest.approx(paths, rel=GRAPH_SHARE)
    count = sum(len(one["instructions"]) for one in joined)
    assert count == pytest.approx(instructions, rel=GRAPH_SHARE)
    if split == "val_seen":
        assert (len(joined), count) == (paths, instructions)


def test_the_follower_of_rxrs_page_has_its_published_scores(real_graphs):
    scan = sorted(real_graphs.scans)[SCAN_OF_THE_PAGE]
    view, first = real_graphs.by_name(scan), int(real_graphs.nodes_of(scan)[0])
    offset = real_graphs.offsets[real_graphs.scan_index[first]]
    guide, follower = (36, 151, 2, 165, 17), (36, 151, 86, 2, 165, 17)  # numbers in the scan's file
    names = [[real_graphs.viewpoints[offset + i] for i in walk] for walk in (follower, guide)]
    scores = score_path(*names, view.distance)
    assert (scores.nav_error, scores.success) == (0.0, True)
    assert scores.spl == pytest.approx(0.9479, abs=GRAPH_SHARE)
    assert scores.ndtw == pytest.approx(0.9021, abs=GRAPH_SHARE)
    assert scores.sdtw == pytest.approx(0.9021, abs=GRAPH_SHARE)


def test_prepare_makes_r4r_once(tmp_path, capsys):
    write_connectivity(tmp_path / "connectivity", "house", make_scan())
    (tmp_path / "r2r").mkdir()
    for split in ("train", "val_seen", "val_unseen"):
        text = json.dumps([item(1, "ab"), item(2, "cd")])
        (tmp_path / "r2r" / f"R2R_{split}.json").write_text(text)
    prepare(["r4r", "--data-dir", str(tmp_path)])
    path = tmp_path / "r4r" / "R4R_train.json"
    written = path.stat().st_mtime_ns
    prepare(["r4r", "--data-dir", str(tmp_path)])
    assert path.stat().st_mtime_ns == written
    walks = read_walks(tmp_path, "r4r", "train")
    assert (len(walks), walks[0].id) == (16, "0_0")
    assert len(read_walks(tmp_path, "r4r", "train@2")) == 8
    prepare(["list", "--data-dir", str(tmp_path)])
    assert "r4r/R4R_val_seen.json: 4 records" in capsys.readouterr().out


def test_a_set_that_is_not_made_yet_says_how(tmp_path):
    for data, cure in (("r4r", "prepare r4r"), ("rxr-hi", "prepare rxr"), ("reverie", "by hand")):
        with pytest.raises(FileNotFoundError, match=f"does not exist; .*{cure}"):
            read_walks(tmp_path, data, "train")


@pytest.fixture(scope="module")
def items(toy_world):
    return read_items(toy_world, "train")[:4]


def test_guides_are_read_packed_or_not_by_language(items, tmp_path):
    records = guides(items)
    write_lines(tmp_path / "rxr" / "rxr_val_seen_guide.jsonl.gz", records)
    found = read_rxr(tmp_path, "val_seen")
    assert [one.id for one in found] == [str(i) for i in range(len(records))]
    assert found[0].text == records[0]["instruction"]
    english = read_walks(tmp_path, "rxr-en", "val_seen")
    assert {one.item["language"] for one in english} == {"en-IN", "en-US"}
    assert [one.id for one in read_walks(tmp_path, "rxr-hi", "val_seen")][:2] == ["1", "5"]
    some = {one.id for one in read_rxr(tmp_path, "val_seen@3")}
    assert some < {one.id for one in read_rxr(tmp_path, "val_seen@5")}
    path = tmp_path / "rxr" / "rxr_val_seen_guide.jsonl.gz"
    assert read_walks(tmp_path, "r2r", str(path)) == found  # the form is seen
    path.with_name("guides.json").write_text(json.dumps(records))
    assert read_walks(tmp_path, "r2r", str(path.with_name("guides.json"))) == found
    write_lines(tmp_path / "rxr" / "rxr_train_guide.jsonl", records[:1])
    assert [one.id for one in read_rxr(tmp_path, "train")] == ["0"]
    with pytest.raises(ValueError, match="no instruction in te-IN"):
        read_rxr(tmp_path, "train", "te")


def test_followers_are_read_with_their_scores(items, tmp_path):
    records = followers(guides(items))
    write_lines(tmp_path / "rxr" / "rxr_val_seen_follower.jsonl.gz", records)
    found = list(read_followers(tmp_path, "val_seen"))
    assert len(found) == len(records)
    assert (found[3].instruction, found[3].metrics["ndtw"]) == ("3", 1.0)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"path": []}, "line 2 has an empty 'path'"),
        ({"heading": None}, "line 2: 'heading' must be a finite number"),
        ({"instruction": 5}, "line 2: 'instruction' must be a text"),
    ],
)
def test_a_damaged_guide_is_named(items, tmp_path, change, sentence):
    records = guides(items)[:3]
    records[1] |= change
    write_lines(tmp_path / "rxr" / "rxr_train_guide.jsonl.gz", records)
    with pytest.raises(ValueError, match=rf"rxr_train_guide\.jsonl\.gz {sentence}"):
        read_rxr(tmp_path, "train")


def test_a_line_that_is_no_record_is_named(tmp_path):
    path = tmp_path / "rxr" / "rxr_train_follower.jsonl"
    write_lines(path, followers(guides([item(1, "ab")])))
    path.write_text(path.read_text() + "\n{broken\n")
    with pytest.raises(ValueError, match=r"rxr_train_follower\.jsonl line 4 is not valid JSON"):
        list(read_followers(tmp_path, "train"))


def test_reverie_knows_the_object_and_where_it_is_seen(items, tmp_path):
    write_reverie(tmp_path, items, "val_seen")
    found = read_walks(tmp_path, "reverie", "val_seen")
    first = found[0]
    assert first.id == f"{items[0]['path_id']}_0_0"
    assert first.item["object"] == "0"
    assert set(first.item["goals"]) == set(items[0]["path"][-2:])
    boxes = read_boxes(tmp_path / "reverie")
    box = boxes[first.scan, first.path[-1]]["0"]
    assert (box.name, box.views, box.boxes[1]) == ("lamp", (3, 15), (5, 6, 7, 8))
    assert (first.scan, "hidden") not in places_of(boxes)
    assert prepare_reverie(PrepareConfig(data_dir=tmp_path)) == tmp_path / "reverie"


def test_boxes_are_read_from_a_file_a_viewpoint_too(items, tmp_path):
    write_reverie(tmp_path, items, "val_seen")
    whole = tmp_path / "reverie" / "BBoxes.json"
    boxes = read_boxes(whole.parent)
    (whole.parent / "bbox").mkdir()
    for name, objects in json.loads(whole.read_text()).items():
        viewpoint = name.partition("_")[2]
        path = whole.parent / "bbox" / f"{name}.json"
        path.write_text(json.dumps({viewpoint: objects}))
    whole.unlink()
    assert read_boxes(whole.parent) == boxes
    shutil.rmtree(whole.parent / "bbox")
    with pytest.raises(FileNotFoundError, match=r"holds neither BBoxes\.json nor bbox/"):
        read_reverie(tmp_path, "val_seen")


def test_hidden_objects_of_a_test_split_need_no_boxes(tmp_path):
    (tmp_path / "reverie").mkdir()
    record = {"id": "12_3", "scan": "house", "path": ["a"], "heading": 0.0, "instructions": ["go"]}
    (tmp_path / "reverie" / "REVERIE_test.json").write_text(json.dumps([record]))
    (found,) = read_reverie(tmp_path, "test")
    assert (found.id, found.item) == ("12_3_0", {})


@pytest.mark.parametrize(
    ("box", "sentence"),
    [
        ({"visible_pos": [36], "bbox2d": [[0, 0, 1, 1]]}, "names a view outside 0..35"),
        ({"visible_pos": [1, 2], "bbox2d": [[0, 0, 1, 1]]}, "has 1 boxes for 2 views"),
        ({"visible_pos": [1], "bbox2d": [[0, 0, 1]]}, "a box must be"),
        ({"bbox2d": []}, "has no 'visible_pos'"),
    ],
)
def test_a_damaged_box_is_named_by_object_and_viewpoint(tmp_path, box, sentence):
    (tmp_path / "BBoxes.json").write_text(json.dumps({"house_a": {"66": box}}))
    with pytest.raises(ValueError, match=rf"BBoxes\.json: object 66 of house_a.*{sentence}"):
        read_boxes(tmp_path)


def test_an_object_that_is_seen_from_nowhere_is_named(items, tmp_path):
    write_reverie(tmp_path, items, "train")
    path = tmp_path / "reverie" / "REVERIE_train.json"
    records = json.loads(path.read_text())
    records[1]["objId"] = 9999
    path.write_text(json.dumps(records))
    with pytest.raises(ValueError, match=r"item 1: no viewpoint of scan .* shows its object 9999"):
        read_reverie(tmp_path, "train")


def test_soon_has_an_instruction_for_every_path(items, tmp_path):
    records = soon_items(items)
    (tmp_path / "soon").mkdir()
    path = tmp_path / "soon" / "val_unseen_house.json"
    path.write_text(json.dumps(records))
    found = read_soon(tmp_path, "val_unseen_house")
    assert [one.id for one in found[:3]] == ["3-0_0", "3-1_0", "3-2_0"]
    assert found[0].text == items[0]["instructions"][0]
    assert (found[0].scan, found[0].heading) == (items[0]["scan"], START_HEADING)
    assert found[1].path == tuple(items[0]["path"][1:])
    corners = found[0].item["targets"][items[0]["path"][-1]]
    assert corners[0] == [pytest.approx(0.9), pytest.approx(0.1)]
    assert prepare_soon(PrepareConfig(data_dir=tmp_path)) == tmp_path / "soon"


def test_soon_is_read_in_the_form_of_duet_too(items, tmp_path):
    official = soon_items(items)[0]
    record = {
        "path_id": "0-12",
        "scan": items[0]["scan"],
        "path": items[0]["path"],
        "heading": 0.25,
        "instructions": [{"full": "find the lamp", "name": "lamp"}],
        "bboxes": official["bboxes"],
    }
    write_lines(tmp_path / "soon" / "train.jsonl", [record])
    (found,) = read_walks(tmp_path, "soon", "train")
    assert (found.id, found.text, found.heading) == ("0-12_0", "find the lamp", 0.25)
    whole = tmp_path / "soon" / "train.jsonl"
    assert read_walks(tmp_path, "r2r", str(whole)) == [found]  # the form is seen


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"instructions": [["too", "few"]]}, "instruction 0 must be a text, a list of five"),
        ({"bboxes": [{"image_id": "a", "target": {}}]}, "box 0 has no 'left_top'"),
        ({"bboxes": {"a": [1]}}, "'bboxes': 'a' must be a record"),
        ({"bboxes": [{"image_id": "a", "target": target()}]}, "has no 'scan'"),
        ({"path": [[]]}, "has an empty 'path'"),
    ],
)
def test_a_damaged_target_is_named(items, tmp_path, change, sentence):
    records = [soon_items(items)[0] | change]
    (tmp_path / "soon").mkdir()
    (tmp_path / "soon" / "train.json").write_text(json.dumps(records))
    with pytest.raises(ValueError, match=rf"train\.json: item 0.*{sentence}"):
        read_soon(tmp_path, "train")


@pytest.mark.parametrize("prepared", [prepare_reverie, prepare_soon])
def test_what_is_fetched_by_hand_is_one_sentence_with_the_page(tmp_path, prepared):
    with pytest.raises(FileNotFoundError, match=r"take .* https://github\.com/.* put them in"):
        prepared(PrepareConfig(data_dir=tmp_path))


def test_augmented_sets_have_names(tmp_path):
    (tmp_path / "r2r").mkdir()
    path = tmp_path / "r2r" / "prevalent_aug.json"
    path.write_text(json.dumps([item(1, "ab", path_id="x1", instr_enc=[101, 102])]))
    for data in ("r2r", "r4r"):
        assert [one.id for one in read_walks(tmp_path, data, "prevalent")] == ["x1_0", "x1_1"]
    with pytest.raises(FileNotFoundError, match="prepare aug-speaker-follower"):
        read_walks(tmp_path, "r2r", "speaker-follower@10")


def test_the_old_name_of_a_set_is_understood(tmp_path, capsys):
    (tmp_path / "r2r").mkdir()
    (tmp_path / "r2r" / "aug_paths.json").write_text(json.dumps([item(1, "ab")]))
    prepare(["aug-paths", "--data-dir", str(tmp_path)])
    prepare(["aug-envdrop", "--data-dir", str(tmp_path)])
    assert capsys.readouterr().out.count("aug_paths.json") == 2
