"""A step is shown whole: map, words, choices and scores."""

import re
from math import pi

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from prevalent.metrics.navigation import score_path
from prevalent.page.explorer import Walked, trace, trace_simple
from prevalent.page.scenes import (
    letter,
    render_map,
    score_headers,
    score_rows,
    show_choices,
    show_step,
    show_words,
    turn_of,
)
from tests.small_agents import TOKENIZER, make_batch, make_follower


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
