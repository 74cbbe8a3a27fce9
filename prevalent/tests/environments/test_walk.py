"""Walks, their logs and the micro steps between views."""

import numpy as np
import pytest

from prevalent.environments.navigation import Episode, Walk, turns_between
from prevalent.simulator import SimulatorError
from tests.factories import make_graphs, make_scan, random_scan


@pytest.mark.parametrize(
    ("view", "target", "passed"),
    [
        (12, 12, []),
        (12, 14, [13, 14]),
        (14, 12, [15, 16, 17, 18, 19, 20, 21, 22, 23, 12]),
        (12, 25, [24, 25]),
        (0, 25, [12, 24, 25]),
        (35, 0, [23, 11, 0]),
    ],
)
def test_an_agent_tilts_first_and_then_turns_right(view, target, passed):
    assert turns_between(view, target) == passed


def test_logs_hold_the_start_and_every_move():
    graphs = make_graphs()
    walk = Walk(graphs)
    walk.begin([Episode("house", ("a", "c"), 0.0, "x")])
    b = graphs.nodes(["house"], ["b"])
    walk.go(b, np.array([12]))
    walk.go(b, np.array([12]))
    walk.go(graphs.nodes(["house"], ["c"]), np.array([15]))
    assert [pose[0] for pose in walk.poses()[0]] == ["a", "b", "c"]
    micro = walk.micro_poses()[0]
    assert [pose[0] for pose in micro] == ["a", "b", "b", "b", "b", "c"]
    assert walk.pose(0) == ("c", pytest.approx(np.pi / 2), 0.0)


def test_headings_snap_and_rows_are_looked_up():
    graphs = make_graphs()
    walk = Walk(graphs, {f"house_{name}": i + 5 for i, name in enumerate("abcd")})
    walk.begin([Episode("house", ("b", "a"), 1.6), Episode("house", ("d",), 6.2)])
    assert walk.view.tolist() == [15, 12]
    assert walk.row.tolist() == [6, 8]
    assert walk.goal.tolist() == [0, 3]


def test_a_goal_out_of_reach_is_named():
    graphs = make_graphs(house=make_scan(edges=[("a", "b"), ("c", "d")]), other=random_scan(1))
    with pytest.raises(SimulatorError, match="item 'x': viewpoint 'd' cannot be reached"):
        Walk(graphs).begin([Episode("house", ("a", "d"), id="x")])


def test_features_of_an_isolated_viewpoint_are_not_asked_for():
    graphs = make_graphs(house=make_scan(edges=[("a", "b"), ("b", "c")]))
    Walk(graphs, {"house_a": 0, "house_b": 1, "house_c": 2}).begin([Episode("house", ("a", "c"))])
    with pytest.raises(SimulatorError, match=r"lacks 1 of 3 viewpoints .* 'house_c'"):
        Walk(graphs, {"house_a": 0, "house_b": 1}).begin([Episode("house", ("a", "c"))])
