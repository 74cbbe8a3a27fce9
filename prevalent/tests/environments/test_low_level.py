"""The six-action environment and its teacher."""

import numpy as np
import pytest

from prevalent.environments.low_level import END, FORWARD, LEFT, RIGHT, UP, LowLevelEnvironment
from prevalent.environments.navigation import Episode
from prevalent.simulator import SimulatorError
from tests.factories import make_graphs, make_scan, random_scan, tasks_in


def square(heading=0.0, path=("a", "b")):
    environment = LowLevelEnvironment(make_graphs())
    return environment, environment.reset([Episode("house", path, heading, "1")])


def test_the_teacher_goes_to_a_viewpoint_in_view_and_ends_at_the_goal():
    environment, seen = square()
    assert seen.teacher.tolist() == [FORWARD]
    seen = environment.step(np.array([FORWARD]))
    assert seen.distance.tolist() == [0]
    assert seen.teacher.tolist() == [END]
    assert [pose[0] for pose in environment.trajectories()[0]] == ["a", "b"]


@pytest.mark.parametrize(
    ("heading", "action"), [(90, LEFT), (270, RIGHT), (180, RIGHT), (210, RIGHT), (150, LEFT)]
)
def test_the_teacher_turns_the_short_way_and_right_when_both_are_equal(heading, action):
    assert square(np.deg2rad(heading))[1].teacher.tolist() == [action]


def test_the_teacher_looks_back_to_the_horizon_before_it_searches():
    environment, _ = square(np.pi)
    seen = environment.step_raw([[0, 0, -1]])
    assert seen.view.tolist() == [6]
    assert seen.teacher.tolist() == [UP]


def test_the_teacher_tilts_up_to_a_steep_viewpoint_but_no_further_than_it_can():
    steep = make_scan({"a": (0, 0, 0), "b": (0, 1, 9)}, [("a", "b")])
    environment = LowLevelEnvironment(make_graphs(house=steep))
    seen = environment.reset([Episode("house", ("a", "b"), id="1")])
    assert seen.teacher.tolist() == [UP]
    assert environment.step(np.array([UP])).teacher.tolist() == [FORWARD]


def test_following_the_teacher_steps_arrives():
    graphs = make_graphs(one=random_scan(1), two=random_scan(2, size=30))
    environment = LowLevelEnvironment(graphs)
    seen = environment.reset(tasks_in(graphs, 12))
    for _ in range(400):
        if not seen.teacher_step.any():
            break
        seen = environment.step_raw(seen.teacher_step)
    assert (seen.distance == 0).all()


def test_an_agent_that_ended_is_not_logged():
    environment, _ = square()
    environment.step(np.array([RIGHT]))
    environment.step(np.array([-1]))
    environment.step(np.array([END]))
    assert len(environment.trajectories()[0]) == 2


def test_forward_with_nothing_ahead_is_refused():
    environment, seen = square(np.pi)
    assert not seen.can_move[0]
    with pytest.raises(SimulatorError, match="out of range"):
        environment.step(np.array([FORWARD]))
