"""Goals that a test split hides: nobody walks to them, learns from them or is measured by them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from prevalent.__main__ import main
from prevalent.data.instructions import read_instructions, with_goals
from tests.toy_runs import PIECES, contents, follower_run, graph_run, speaker_run


@pytest.fixture(scope="module")
def hidden(toy_world, tmp_path_factory) -> Path:
    """The toy world with a split test of Room-to-Room and a file in which one goal is missing."""
    folder = tmp_path_factory.mktemp("hidden")
    for one in toy_world.iterdir():
        if one.name != "r2r":
            (folder / one.name).symlink_to(one)
    (folder / "r2r").mkdir()
    for one in (toy_world / "r2r").iterdir():
        (folder / "r2r" / one.name).symlink_to(one)
    items = json.loads((toy_world / "r2r" / "R2R_train.json").read_text())
    some = [{**items[0], "path": items[0]["path"][:1]}, *items[1:]]
    (folder / "some.json").write_text(json.dumps(some))
    starts = [{**item, "path": item["path"][:1]} for item in items]
    (folder / "r2r" / "R2R_test.json").write_text(json.dumps(starts))
    return folder


def refused(words, capsys) -> str:
    with pytest.raises(SystemExit, match="2"):
        main(list(map(str, words)))
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert "hides its goal" in said
    return said


@pytest.mark.parametrize("task", ["r2r", "ndh"])
def test_a_baseline_that_walks_to_goals_is_refused_where_they_are_hidden(
    hidden, task, tmp_path, capsys
):
    words = ["baseline", "--split", "test", "--task", task, "--data-dir", hidden]
    output = tmp_path / "walks.json"
    said = refused([*words, "--agent", "shortest", "--output", output], capsys)
    assert "--agent shortest" in said
    assert not output.exists()
    for agent in ("random", "stop", "forward"):
        with pytest.raises(SystemExit, match="0"):
            main(list(map(str, [*words, "--agent", agent, "--output", output])))
        assert output.is_file()


@pytest.mark.parametrize(
    ("make", "change"),
    [
        (follower_run, {"train": ("train", "test")}),
        (follower_run, {"aug": ("test",)}),
        (graph_run, {"train": ("test",)}),
        (speaker_run, {"train": ("test",)}),
        (speaker_run, {"held_out": ("val_unseen@2", "test@2")}),
    ],
)
def test_nothing_is_learned_from_starts_alone(hidden, make, change, tmp_path):
    from prevalent.loop import train
    from prevalent.tasks import graph, r2r, speaker

    task = {follower_run: r2r.TASK, graph_run: graph.TASK, speaker_run: speaker.TASK}[make]
    run = tmp_path / "run"
    with pytest.raises(ValueError, match=r"'test(@2)?' hides its goals"):
        train(task, make(hidden, run, **change))
    assert not run.exists()


def test_no_triplets_are_made_of_starts_alone(hidden, tmp_path, capsys):
    words = ["prepare", "triplets", "--data-dir", hidden, "--splits", "test"]
    words += ["--vocabulary", hidden / PIECES["wordpieces"], "--output", tmp_path / "triplets.json"]
    refused(words, capsys)
    assert not contents(tmp_path)


def test_a_path_without_a_goal_is_left_out_with_a_count(hidden, caplog):
    split = str(hidden / "some.json")
    read = read_instructions(hidden, [split], shuffle_seed=None)
    kept = with_goals(read, split)
    texts = len(read) - len(kept)
    assert texts > 0
    assert all(len(one.path) > 1 for one in kept)
    assert f"{texts} of {len(read)} paths have no goal" in caplog.text
