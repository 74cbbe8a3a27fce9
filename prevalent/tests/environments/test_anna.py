"""What ANNA answers in a square of four rooms."""

import pytest

from prevalent.data.hanna import Route
from prevalent.environments.hanna import Anna
from prevalent.simulator.graph import SimulatorError
from tests.factories import make_graphs


def route(name, path, split="train_seen"):
    return Route(name, "house", tuple(path), 5, split, f"tell {name}")


def nodes(graphs, names):
    return [graphs.node("house", name) for name in names]


def test_the_route_that_comes_nearest_to_a_goal_is_told():
    graphs = make_graphs()
    anna = Anna(graphs, [route("far", "ab"), route("near", "abc")])
    a, b, c = nodes(graphs, "abc")
    (answer,) = anna.answers("train_seen", a, [c])
    assert (answer.route, answer.start, answer.depart, answer.goal) == ("near", a, c, c)
    assert len(anna.answers("train_seen", a, [b])) == 2
    assert answer.record(graphs) == {
        "path_id": "near",
        "request_node": "a",
        "instruction": "tell near",
        "view_id": 5,
        "start_node": "a",
        "depart_node": "c",
        "goal_node": "c",
    }


def test_own_routes_come_before_those_of_near_neighbors():
    graphs = make_graphs()
    routes = [route("next door", "bc"), route("own", "abc"), route("too far", "dc")]
    a, c = nodes(graphs, "ac")
    for radius, names in ((2.0, ["own", "next door", "too far"]), (1.0, ["own"])):
        answers = Anna(graphs, routes, radius).answers("train_seen", a, [c])
        assert [one.route for one in answers] == names


def test_help_is_refused_where_the_best_route_is_of_another_split():
    graphs = make_graphs()
    anna = Anna(graphs, [route("mine", "ab"), route("theirs", "abc", "val")])
    a, c = nodes(graphs, "ac")
    assert anna.answers("train_seen", a, [c]) == []
    assert [one.route for one in anna.answers("val", a, [c])] == ["theirs"]
    assert anna.answers("val", c, [a]) == []


def test_a_route_through_an_unknown_place_is_named():
    with pytest.raises(SimulatorError, match=r"route 'lost'.*'z'"):
        Anna(make_graphs(), [route("lost", "az")])
    assert not Anna(make_graphs(), [Route("r", "elsewhere", ("a",), 0, "val", "")]).answers(
        "val", 0, [1]
    )
