"""Searching, following a route and departing in a square of four rooms."""

from __future__ import annotations

import numpy as np
import pytest

from prevalent.data.hanna import HannaTask, Route
from prevalent.environments.hanna import OWN_SLOT, Anna, HannaEnvironment, Message
from prevalent.simulator.graph import SimulatorError
from tests.factories import make_graphs

TASK = HannaTask("1_0", "house", "a", 0.0, ("c",), "find the bed")
ROUTE = Route("r", "house", ("a", "b", "c"), 13, "val", "walk on")


@pytest.fixture
def environment():
    graphs = make_graphs()
    rows = {graphs.long_id(node): node for node in range(4)}
    return HannaEnvironment(graphs, Anna(graphs, [ROUTE]), rows)


def towards(seen, target):
    """The action that leads to a node."""
    return np.array([list(seen.scene.target[0]).index(target)])


def test_a_request_puts_the_agent_on_a_route_until_it_departs(environment):
    seen = environment.search([TASK], "val")
    assert (seen.modes, seen.texts, seen.subgoals) == (("main",), ("find the bed",), (None,))
    assert seen.goal_row[0] == -1
    assert seen.requestable.all()
    (answer,) = environment.answers(0)
    seen = environment.act(np.array([-1]), [answer])
    assert (seen.modes, seen.texts, seen.subgoals) == (("on_route",), ("walk on",), ("r",))
    assert (seen.scene.view[0], seen.goal_row[0], seen.time_on_task[0]) == (13, 2, 0)
    assert seen.begins.all()
    seen = environment.act(towards(seen, 1), [None])
    assert (seen.scene.node[0], seen.time_on_task[0], seen.begins[0]) == (1, 1, False)
    seen = environment.act(np.array([0]), [None])
    assert (seen.modes, seen.texts, seen.ended[0]) == (("main",), ("find the bed",), False)
    assert seen.goal_row[0] == 2
    seen = environment.act(towards(seen, 2), [None])
    assert seen.scene.teacher[0] == 0
    seen = environment.act(np.array([0]), [None])
    assert seen.ended[0]
    assert seen.time == 5
    assert [pose[0] for pose in environment.every_pose()[0]] == ["a", "a", "b", "b", "c", "c"]


def test_actions_have_relative_views_and_stop_has_a_slot_of_its_own(environment):
    seen = environment.search([TASK], "val")
    assert seen.slot[0, 0] == OWN_SLOT
    assert ((seen.slot[0, 1:] >= 0) == seen.scene.mask[0, 1:]).all()
    ahead = seen.slot[0][seen.scene.target[0] == 1]
    assert ahead % 12 == 0  # b lies in front of an agent that looks along +y


def test_the_teacher_leads_to_the_nearest_of_several_goals(environment):
    task = HannaTask("1_0", "house", "a", 0.0, ("c", "d"), "find it")
    seen = environment.search([task], "val")
    assert seen.scene.target[0, seen.scene.teacher[0]] == 3
    assert seen.distance[0] == pytest.approx(2.0)


def test_a_route_must_begin_at_the_place_of_the_request_or_next_to_it(environment):
    environment.search([TASK], "val")
    with pytest.raises(SimulatorError, match="no neighbor"):
        environment.act(np.array([-1]), [Message("r", 0, "", 0, 2, 2, 2)])


def test_no_help_is_had_where_no_route_begins(environment):
    far = HannaTask("2_0", "house", "c", 0.0, ("a",), "find it")
    assert not environment.search([far], "val").requestable.any()


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
