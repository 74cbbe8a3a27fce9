"""The agents of Room-to-Room train on, walk and submit R4R, RxR, REVERIE and SOON."""

import json
import shutil

import pytest

from prevalent.__main__ import main
from prevalent.data.datasets import read_walks
from prevalent.environments.gym import open_r2r
from prevalent.page.explorer import Explorer
from prevalent.prepare import main as prepare
from prevalent.runs import open_run
from prevalent.tasks.r2r import train_r2r
from tests.corpora import guides, read_items, soon_items, write_lines, write_reverie
from tests.toy_runs import follower_run

SPLITS = ("train", "val_seen", "val_unseen")
HELD_OUT = {"soon": ("val_unseen_house",)}
SCORES = {"reverie": "rgs", "soon": "found_spl"}
DATA = ("r4r", "rxr", "reverie", "soon")


@pytest.fixture(scope="module")
def world(toy_world, tmp_path_factory):
    """The toy world with all data sets in their official forms."""
    folder = tmp_path_factory.mktemp("walks") / "world"
    shutil.copytree(toy_world, folder)
    for split in SPLITS:
        items = read_items(folder, split)[:3]
        (folder / "r2r" / f"R2R_{split}.json").write_text(json.dumps(items))
        write_lines(folder / "rxr" / f"rxr_{split}_guide.jsonl.gz", guides(items))
        write_reverie(folder, items, split)
    (folder / "soon").mkdir()
    for split, source in (("train", "train"), ("val_unseen_house", "val_unseen")):
        items = soon_items(read_items(folder, source))
        (folder / "soon" / f"{split}.json").write_text(json.dumps(items))
    prepare(["r4r", "--data-dir", str(folder)])
    return folder


@pytest.fixture(scope="module")
def runs(world, tmp_path_factory):
    """A run of every data set, trained for two steps."""
    folder = tmp_path_factory.mktemp("runs")
    for data in DATA:
        held_out = HELD_OUT.get(data, ("val_unseen",))
        options = {"data": data, "held_out": held_out, "max_steps": 2, "eval_every": 2}
        teacher = {"teacher": "path"} if data[:2] in ("r4", "rx") else {}
        train_r2r(follower_run(world, folder / data, **options, **teacher))
    return folder


def succeeds(words, capsys):
    with pytest.raises(SystemExit) as ended:
        main([*map(str, words)])
    printed = capsys.readouterr()
    assert ended.value.code == 0, printed.err
    return printed.out


@pytest.mark.parametrize("data", DATA)
def test_a_run_evaluates_and_submits_the_data_set_it_learned(runs, world, data, capsys):
    run, split = runs / data, HELD_OUT.get(data, ("val_unseen",))[0]
    words = ["--run-dir", run, "--split", split, "--device", "cpu"]
    out = succeeds(["evaluate", *words, "--per-instruction", run / "each.csv"], capsys)
    assert SCORES.get(data, "ndtw") in out
    assert ("en-IN" in out) == data.startswith("rxr")
    lines = (run / "each.csv").read_text().splitlines()
    walks = read_walks(world, data, split)
    assert len(lines) == len(walks) + 1
    record = json.loads((run / f"evaluation_{split}.json").read_text())
    assert (record["task"], record["provenance"]["items"]) == (data, len(walks))
    succeeds(["submit", *words], capsys)
    end = "jsonl" if data.startswith("rxr") else "json"
    submitted = run / f"submit_{split}.{end}"
    check = ["check", submitted, "--task", data, "--split", split, "--data-dir", world]
    assert f"answer all of {data} {split}" in succeeds(check, capsys)
    scored = ["evaluate", "--results", run / f"results_{split}.json", *check[2:]]
    (line,) = [one for one in succeeds(scored, capsys).splitlines() if one.startswith("spl ")]
    assert line.split() == ["spl", f"{record['scores']['spl']:.4f}"]


def test_an_agent_walks_another_data_set_than_its_own(runs, world, capsys):
    words = ["evaluate", "--run-dir", runs / "r4r", "--task", "r2r", "--device", "cpu"]
    succeeds(words, capsys)
    record = json.loads((runs / "r4r" / "evaluation_r2r_val_unseen.json").read_text())
    assert record["task"] == "r2r"
    with pytest.raises(SystemExit):
        main([*map(str, words[:3]), "--task", "ndh"])
    assert "is a run of kind 'r2r'; drop --task" in capsys.readouterr().err


def test_the_teacher_of_a_run_is_its_own(runs, world):
    config = open_run(runs / "r4r").config
    assert (config.data, config.teacher) == ("r4r", "path")


def test_a_run_keeps_its_data_set(runs, world):
    config = follower_run(world, runs / "r4r", data="r2r", max_steps=3, eval_every=2)
    with pytest.raises(ValueError, match="--data"):
        train_r2r(config)


def test_the_page_and_the_environment_show_the_data_set_of_a_run(runs, world):
    page = Explorer(runs / "r4r", device="cpu")
    assert page.splits == ["val_unseen", "train"]
    (first, *_) = page.instructions("val_unseen", page.scans("val_unseen")[0])
    joined = {one.id: one for one in read_walks(world, "r4r", "val_unseen")}
    assert joined[first.id].path == first.path
    walked = page.walk(page.agents[0], "val_unseen", first.id, first.text)
    assert walked.trace.task.path == first.path
    opened = open_r2r(world, "val_unseen", data="r4r")
    assert {one.id for one in opened.episodes} <= set(joined)
