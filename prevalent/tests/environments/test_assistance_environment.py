"""Searching, following a route and departing in a square of four rooms."""

import numpy as np
import pytest

from prevalent.data.hanna import AssistanceTask, Route
from prevalent.environments.hanna import OWN_SLOT, Anna, AssistanceEnvironment, Message
from prevalent.simulator.graph import SimulatorError
from tests.factories import make_graphs

TASK = AssistanceTask("1_0", "house", "a", 0.0, ("c",), "find the bed")
ROUTE = Route("r", "house", ("a", "b", "c"), 13, "val", "walk on")


@pytest.fixture
def environment():
    graphs = make_graphs()
    rows = {graphs.long_id(node): node for node in range(4)}
    return AssistanceEnvironment(graphs, Anna(graphs, [ROUTE]), rows)


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
    task = AssistanceTask("1_0", "house", "a", 0.0, ("c", "d"), "find it")
    seen = environment.search([task], "val")
    assert seen.scene.target[0, seen.scene.teacher[0]] == 3
    assert seen.distance[0] == pytest.approx(2.0)


def test_a_route_must_begin_at_the_place_of_the_request_or_next_to_it(environment):
    environment.search([TASK], "val")
    with pytest.raises(SimulatorError, match="no neighbor"):
        environment.act(np.array([-1]), [Message("r", 0, "", 0, 2, 2, 2)])


def test_no_help_is_had_where_no_route_begins(environment):
    far = AssistanceTask("2_0", "house", "c", 0.0, ("a",), "find it")
    assert not environment.search([far], "val").requestable.any()
