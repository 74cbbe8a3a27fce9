"""Scores of REVERIE and SOON on a square of 2 m sides, by hand."""

import math

import pytest

from prevalent.metrics.objects import points_at, score_reverie, score_soon
from tests.corpora import shares
from tests.factories import make_graphs, make_scan

FLAT = {"a": (0, 0, 0), "b": (0, 2, 0), "c": (2, 2, 0), "d": (2, 0, 0)}
DISTANCE = make_graphs(house=make_scan(FLAT)).by_name("house").distance
CORNERS = [[0.9, 0.1], [1.1, 0.1], [1.1, -0.1], [0.9, -0.1]]


def test_a_stop_where_the_object_is_seen_succeeds():
    walk = ["a", "a", "d", "c", "b"]  # 6 m, a turn at the start; the path has 4 m
    scores = score_reverie(walk, "abc", {"b", "c"}, DISTANCE, chosen="66", wanted="66")
    assert scores == {
        "nav_error": 0.0,
        "steps": 4.0,
        "lengths": 6.0,
        "success_rate": 1.0,
        "oracle_rate": 1.0,
        "spl": pytest.approx(4 / 6),
        "rgs": 1.0,
        "rgspl": pytest.approx(4 / 6),
    }


def test_the_object_counts_wherever_the_agent_stops_as_in_the_published_scores():
    scores = score_reverie(["a"], "abc", {"c"}, DISTANCE, chosen="66", wanted="66")
    assert (scores["success_rate"], scores["rgs"], scores["rgspl"]) == (0, 1, 1)
    assert scores["nav_error"] == 4
    named = score_reverie(["a"], "abc", {"c"}, DISTANCE, chosen=None, wanted="66")
    assert named["rgs"] == 0


def test_a_target_is_reached_wherever_the_path_ends():
    scores = score_soon(
        ["a", "b"], "adc", {"b": CORNERS, "c": CORNERS}, DISTANCE, direction=shares(1.0, 0.0)
    )
    assert (scores["nav_error"], scores["spl"], scores["found_spl"]) == (0, 1, 1)
    assert scores["goal_progress"] == 2
    missed = score_soon(["a", "b"], "adc", {"c": CORNERS}, DISTANCE, direction=shares(1.0, 0.0))
    assert (missed["nav_error"], missed["success_rate"], missed["found_rate"]) == (2, 1, 0)
    silent = score_soon(["a", "d", "c"], "adc", {"c": CORNERS}, DISTANCE)
    assert (silent["success_rate"], silent["found_rate"]) == (1, 0)


@pytest.mark.parametrize("around", [0.0, 1.0, 3.1, 6.2])
def test_a_direction_is_inside_or_outside_around_the_whole_circle(around):
    corners = [[(heading - 1.0 + around) % (2 * math.pi), up] for heading, up in CORNERS]
    turn = 2 * math.pi
    for heading, elevation, inside in (
        (0.0, 0.0, True),
        (0.09, -0.09, True),
        (0.11, 0.0, False),
        (0.0, 0.11, False),
        (math.pi, 0.0, False),
    ):
        assert points_at(shares((around + heading) % turn, elevation), corners) is inside


def test_a_walk_that_begins_elsewhere_is_refused():
    for score in (
        lambda: score_reverie(["b"], "abc", {"c"}, DISTANCE),
        lambda: score_soon([], "abc", {"c": CORNERS}, DISTANCE),
    ):
        with pytest.raises(ValueError, match="the trajectory begins at"):
            score()
