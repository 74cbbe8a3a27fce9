"""Agents of a folder follow instructions of a split, or typed ones."""

import shutil

import pytest

from prevalent.__main__ import main
from prevalent.page.explorer import MAX_CHARACTERS, Explorer, check_text, find_runs, find_splits
from tests.toy_runs import make_demo_folder

SPLIT = "val_unseen"


@pytest.fixture(scope="module")
def explorer(toy_world, tmp_path_factory):
    return Explorer(make_demo_folder(tmp_path_factory.mktemp("demo"), toy_world), device="cpu")


def first(explorer):
    scan = explorer.scans(SPLIT)[0]
    return explorer.instructions(SPLIT, scan)[0]


def test_runs_of_a_folder_are_found_and_named(explorer):
    assert list(explorer.runs) == ["agent-0", "agent-1"]
    assert explorer.agents[2:] == ["random", "stop", "forward", "shortest"]
    assert explorer.splits == ["val_unseen", "val_seen", "train"]
    run = explorer.folder / "agent-0"
    assert find_runs(run) == {"agent-0": run.resolve()}


def test_every_agent_walks_and_is_scored(explorer):
    one = first(explorer)
    for agent in explorer.agents:
        walked = explorer.walk(agent, SPLIT, one.id, one.text)
        assert walked.graphs.viewpoints[walked.trace.nodes[0]] == one.path[0]
        assert len(walked.trace.steps) >= 1
        assert walked.scores.success == (walked.scores.nav_error < 3)
    assert explorer.walk("shortest", SPLIT, one.id, one.text).scores.spl == pytest.approx(1)


def test_a_typed_instruction_is_read_instead(explorer):
    one = first(explorer)
    typed = explorer.walk("agent-0", SPLIT, one.id, "Turn left, 你好 <b>now</b>!")
    own = explorer.walk("agent-0", SPLIT, one.id, one.text)
    assert typed.trace.text.endswith("<b>now</b>!")
    assert typed.trace.steps[0].scores != own.trace.steps[0].scores


def test_seeds_change_the_random_agent_alone(explorer):
    one = first(explorer)
    walks = [explorer.walk("random", SPLIT, one.id, one.text, seed).trace for seed in range(12)]
    assert len({tuple(walk.nodes) for walk in walks}) > 1


@pytest.mark.parametrize("text", [None, "", "  \n\t", "?!."])
def test_a_text_without_a_word_gets_a_sentence(text):
    with pytest.raises(ValueError, match="the instruction has no word"):
        check_text(text)


def test_a_text_that_is_too_long_gets_a_sentence():
    with pytest.raises(ValueError, match=f"at most {MAX_CHARACTERS} are read"):
        check_text("left " * MAX_CHARACTERS)


def test_unknown_names_get_a_sentence(explorer):
    one = first(explorer)
    with pytest.raises(ValueError, match="has no instruction 'x'; choose one"):
        explorer.walk("random", SPLIT, "x", "go")
    with pytest.raises(ValueError, match="there is no agent 'x'; choose one of agent-0"):
        explorer.walk("x", SPLIT, one.id, "go")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        explorer.scans("nowhere")


def test_a_demo_that_was_moved_uses_its_own_world(explorer, toy_world, tmp_path):
    shutil.copytree(explorer.folder, tmp_path / "moved")
    shutil.copytree(toy_world, tmp_path / "moved" / "world")
    for config in (tmp_path / "moved").glob("agent-*/config.json"):
        config.write_text(config.read_text().replace(str(toy_world), "/nowhere"))
    assert Explorer(tmp_path / "moved").data_dir == tmp_path / "moved" / "world"


def test_a_folder_without_data_gets_a_sentence(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no r2r/R2R_SPLIT\.json; point --data-dir"):
        find_splits(tmp_path)


@pytest.mark.parametrize("made", [True, False])
def test_a_demo_that_has_not_run_is_named(tmp_path, capsys, made):
    folder = tmp_path / "demo"
    if made:
        (folder / "pretrain").mkdir(parents=True)
        (folder / "pretrain" / "config.json").write_text("{}")
    with pytest.raises(SystemExit) as stopped:
        main(["demo", "--serve", "--run-dir", str(folder), "--port", "0"])
    assert stopped.value.code == 2
    assert f"run `prevalent demo --run-dir {folder}` first" in capsys.readouterr().err
