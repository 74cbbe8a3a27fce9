"""The page in headless Chromium, along every button.

``SCREENSHOT=docs/pictures/demo.png`` writes a picture, ``PAGE_RUN`` names the run on it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from math import pi
from pathlib import Path

import numpy as np
import pytest

from prevalent.__main__ import main
from prevalent.agents.rollout import Batch
from prevalent.curves import draw_scores
from prevalent.metrics.navigation import score_path
from prevalent.page.app import NOBODY, build_page, import_gradio, launch, show, walk_both
from prevalent.page.explorer import (
    MAX_CHARACTERS,
    Explorer,
    Walked,
    _reading_order,
    check_text,
    find_runs,
    find_splits,
    trace,
    trace_simple,
)
from prevalent.page.scenes import (
    draw_map,
    letter,
    render_map,
    score_headers,
    score_rows,
    show_choices,
    show_step,
    show_words,
    turn_of,
)
from prevalent.page.trajectories import TrajectoriesConfig, describe_trace, save_trace
from prevalent.simulator import SimulatorError
from tests.factories import make_graphs, tasks_in
from tests.small_agents import TOKENIZER, make_batch, make_follower, make_world
from tests.toy_runs import make_demo_folder

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or ""
SECONDS = 1000.0


@pytest.fixture(scope="module")
def explorer(toy_world, tmp_path_factory):
    if run := os.environ.get("PAGE_RUN"):
        return Explorer(Path(run))
    return Explorer(make_demo_folder(tmp_path_factory.mktemp("demo"), toy_world), device="cpu")


def test_without_gradio_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(ImportError, match=r"pip install 'prevalent-vln\[demo\]'"):
        import_gradio()


def test_two_walks_are_shown_side_by_side_and_one_alone(explorer):
    pytest.importorskip("matplotlib")
    split = explorer.splits[0]
    one = explorer.instructions(split, explorer.scans(split)[0])[0]
    walks = walk_both(explorer, split, one.id, one.text, explorer.agents[0], "shortest", None)
    assert [walked.agent for walked in walks] == [explorer.agents[0], "shortest"]
    assert "shortest, step 1" in show(walks, 1)[1]
    alone = walk_both(explorer, split, one.id, one.text, "stop", NOBODY, 3)
    assert show(alone, 1)[1] == ""
    with pytest.raises(ValueError, match="press Walk"):
        show([], 1)


@pytest.fixture(scope="module")
def page(explorer):
    """The page in a browser that records what it asks of other hosts."""
    pytest.importorskip("gradio", reason="the extra demo is not installed")
    pytest.importorskip("matplotlib", reason="the extra demo is not installed")
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright")
    if not Path(CHROMIUM).is_file():
        pytest.skip("no chromium: install it, or name it with CHROMIUM")
    blocks = build_page(explorer, import_gradio())
    address = launch(blocks, "127.0.0.1", 0, wait=False)
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        view = browser.new_page(viewport={"width": 1000, "height": 1200})
        view.set_default_timeout(60 * SECONDS)
        elsewhere = []
        view.on("request", lambda asked: elsewhere.append(asked.url))
        answer = view.goto(address)
        assert "default-src 'self'" in answer.headers["content-security-policy"]
        yield view
        elsewhere = [url for url in elsewhere if not url.startswith((address, "data:", "blob"))]
        assert not elsewhere, "the page asked other hosts"
        browser.close()
    blocks.close()


def title(page, side):
    return page.locator(f"#view-{side} h4")


def test_a_walk_is_watched_step_by_step(page, explorer):
    page.locator("#run").click()
    title(page, "one").get_by_text("step 1 of").wait_for()
    title(page, "other").get_by_text("shortest, step 1 of").wait_for()
    assert page.locator("#view-one table.choices tr").count() >= 3
    assert page.locator("#view-one .words span").count() >= 5
    page.locator("#next").click()
    title(page, "other").get_by_text("shortest, step 2 of").wait_for()
    if place := os.environ.get("SCREENSHOT"):
        Path(place).parent.mkdir(parents=True, exist_ok=True)
        page.wait_for_timeout(SECONDS)
        page.screenshot(path=place, full_page=True)
    page.locator("#back").click()
    title(page, "other").get_by_text("shortest, step 1 of").wait_for()


def test_a_typed_instruction_is_followed_and_an_empty_one_is_told(page):
    text = page.locator("#text textarea")
    text.fill("the to the to the <b>x</b>")  # words of every toy world, in no such order there
    page.locator("#run").click()
    page.wait_for_function(
        "() => [...document.querySelectorAll('#view-one .words span')].slice(1, 6)"
        ".map(one => one.innerText).join(' ') === 'the to the to the'"
    )
    text.fill("  ")
    page.locator("#run").click()
    page.get_by_text("the instruction has no word").first.wait_for()


def test_another_split_brings_its_scans_and_instructions(page, explorer):
    page.locator("#split input").click()
    page.get_by_role("option", name="train", exact=True).click()
    scan = explorer.scans("train")[0]
    page.wait_for_function("scan => document.querySelector('#scan input').value === scan", arg=scan)
    text = explorer.instructions("train", scan)[0].text
    page.wait_for_function(
        "text => document.querySelector('#text textarea').value === text", arg=text
    )


SPLIT = "val_unseen"


@pytest.fixture(scope="module")
def toy_explorer(toy_world, tmp_path_factory):
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
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text("{}")  # a run of another kind, which a demo must not fill
    with pytest.raises(FileNotFoundError, match="follows instructions; give the --run-dir"):
        find_runs(folder)


@pytest.mark.parametrize("encoder", ["lstm", "dic"])
@pytest.mark.parametrize("num_texts", [1, 2])
def test_every_decision_is_recorded(encoder, num_texts):
    follower = make_follower(encoder, num_texts=num_texts)
    batch = make_batch(follower.environment)
    if num_texts > 1:
        other = np.stack([TOKENIZER.encode("turn left")] * len(batch.tasks))
        batch = Batch(batch.tasks, np.stack([batch.tokens, other], axis=1))
    for i, one in enumerate(trace(follower, batch, TOKENIZER)):
        assert len(one.words) == (batch.tokens[i] != 0).sum()
        assert one.nodes[0] == one.steps[0].node
        assert len(one.nodes) in (len(one.steps), len(one.steps) + 1)
        for step, node in zip(one.steps, one.nodes, strict=False):
            assert step.node == node
            assert sum(step.probabilities) == pytest.approx(1, abs=1e-5)
            assert len(step.probabilities) == len(step.targets) + 1
            assert step.attention.shape == (len(one.words),)
            assert step.attention.sum() == pytest.approx(num_texts, abs=1e-4)


def test_attention_to_reversed_words_is_shown_in_reading_order():
    weights = np.array([3, 2, 1, 0, 5, 4, 0, 0], dtype=np.float32)  # two texts, padded to 4
    assert _reading_order(weights, [3, 2], True).tolist() == [1, 2, 3, 4, 5]
    assert _reading_order(weights, [3, 2], False).tolist() == [3, 2, 1, 5, 4]


def test_scores_are_the_logits_of_the_probabilities():
    follower = make_follower()
    for one in trace(follower, make_batch(follower.environment), TOKENIZER):
        for step in one.steps:
            share = np.exp(np.array(step.scores) - max(step.scores))
            np.testing.assert_allclose(step.probabilities, share / share.sum(), rtol=1e-4)
            assert len(step.directions) == len(step.targets)


@pytest.mark.parametrize("agent", ["random", "stop", "forward", "shortest"])
def test_agents_that_do_not_learn_leave_a_trace_too(agent):
    graphs = make_world()[0].graphs
    for task in tasks_in(graphs, 4):
        one = trace_simple(agent, graphs, task, seed=1)
        assert graphs.viewpoints[one.nodes[0]] == task.path[0]
        assert [step.node for step in one.steps] == one.nodes
        assert one.steps[-1].action == len(one.steps[-1].targets)
        for step, after in zip(one.steps, one.nodes[1:], strict=False):
            assert step.targets[step.action] == after
            assert not step.scores
            assert not len(step.attention)
        if agent == "shortest":
            assert graphs.viewpoints[one.nodes[-1]] == task.path[-1]
        if agent == "stop":
            assert len(one.nodes) == 1


pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def walks():
    """One task, walked by a follower with random weights and along the shortest path."""
    follower = make_follower()
    graphs, batch = follower.environment.graphs, make_batch(follower.environment)
    traces = [trace(follower, batch, TOKENIZER)[0]]
    traces.append(trace_simple("shortest", graphs, batch.tasks[0]))
    distance = graphs.by_name(batch.tasks[0].scan).distance
    return [
        Walked(
            name,
            one,
            graphs,
            score_path([graphs.viewpoints[n] for n in one.nodes], one.task.path, distance),
        )
        for name, one in zip(("follower <b>", "shortest"), traces, strict=True)
    ]


def test_a_step_shows_every_choice_once_and_the_one_that_was_made(walks):
    for walked in walks:
        step = walked.trace.steps[0]
        page = show_step(walked, 0)
        assert page.count("<tr>") == 2 + len(step.targets)
        assert page.count("&#9654;") == 1
        assert "data:image/png;base64," in page
        assert "<b>" not in page, "names are escaped"


def test_a_number_beyond_the_walk_shows_its_last_step(walks):
    last = len(walks[1].trace.steps)
    assert f"step {last} of {last}: 0.0 m to go, stops" in show_step(walks[1], 99)
    assert f"step 1 of {last}" in show_step(walks[1], -5)


def test_an_agent_without_scores_has_none_shown(walks):
    assert "reads nothing" in show_words([], np.zeros(0))
    cells = re.findall("<td .*?>(.*?)</td>", show_choices(walks[1].graphs, walks[1].trace.steps[0]))
    assert set(cells[4::6]) == set(cells[5::6]) == {""}


def test_the_most_read_word_is_the_darkest_and_words_are_escaped():
    page = show_words(["<i>", "walk"], np.array([0.1, 0.4]))
    assert "&lt;i&gt;" in page
    shades = [float(value) for value in re.findall(r"rgba\(31,119,180,([\d.]+)\)", page)]
    assert shades == [0.19, 0.75]


def test_a_map_is_a_png_and_differs_from_step_to_step(walks):
    one, graphs = walks[1].trace, walks[1].graphs
    first, last = (render_map(graphs, one, number) for number in (0, len(one.steps) - 1))
    assert first.startswith(b"\x89PNG")
    assert first != last


def test_scores_stand_below_their_headers(walks):
    for row in score_rows(walks):
        assert len(row) == len(score_headers())
    shortest = dict(zip(score_headers(), score_rows(walks)[1], strict=True))
    assert shortest["success (within 3 m)"] == "yes"
    assert shortest["SPL"] == shortest["nDTW"] == "1.00"


@pytest.mark.parametrize(
    ("angle", "words"),
    [(0.0, "ahead"), (pi / 2, "right 90°"), (-pi / 2, "left 90°"), (pi, "behind")],
)
def test_turns_are_said_in_words(angle, words):
    assert turn_of(angle) == turn_of(angle + 2 * pi) == words


def test_letters_go_on_after_z():
    assert [letter(i) for i in (0, 25, 26)] == ["A", "Z", "A1"]


pytest.importorskip("matplotlib")


WALKS = {"path": ["a", "b", "c"], "agent": ["a", "a", "d"]}


def test_a_walk_is_drawn_through_its_viewpoints():
    from matplotlib.figure import Figure

    axes = draw_map(make_graphs(), "house", WALKS, axes=Figure().add_subplot())
    lines = {line.get_label(): line.get_xydata().tolist() for line in axes.get_lines()}
    assert lines["path"] == [[0, 0], [0, 2], [2, 2]]
    assert lines["agent"] == [[0, 0], [0, 0], [2, 0]]


def test_a_walk_through_an_unknown_viewpoint_is_refused():
    from matplotlib.figure import Figure

    with pytest.raises(SimulatorError, match="'z'"):
        draw_map(make_graphs(), "house", {"x": ["z"]}, axes=Figure().add_subplot())


def test_a_picture_and_a_section_are_made(tmp_path):
    pytest.importorskip("matplotlib")
    follower = make_follower()
    one = trace(follower, make_batch(follower.environment), TOKENIZER)[0]
    save_trace(tmp_path / "a.png", follower.environment.graphs, one)
    assert (tmp_path / "a.png").stat().st_size > 1000
    section = describe_trace(follower.environment.graphs, one)
    assert section.count("<tr>") == 1 + len(one.steps)
    assert "m from the goal after" in section


def test_a_count_below_one_is_refused(tmp_path):
    with pytest.raises(ValueError, match="--count must be at least 1, got 0"):
        TrajectoriesConfig(run_dir=tmp_path, count=0)


@pytest.mark.parametrize("rows", [[], [{"step": 1, "loss": 2.0}, {"step": 2, "val_seen/spl": 0.1}]])
def test_a_picture_is_made_even_without_records(tmp_path, rows):
    pytest.importorskip("matplotlib")
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert draw_scores(tmp_path, "loss", "spl") == f"curve: {tmp_path / 'curve.png'}"
    assert (tmp_path / "curve.png").stat().st_size > 1000
