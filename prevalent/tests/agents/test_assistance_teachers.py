"""When help should have been requested, and what was wrong before."""

import numpy as np
import pytest

from prevalent.agents.hanna import (
    ALREADY_ASKED,
    LOST,
    UNCERTAIN_WRONG,
    Moment,
    WrongTurns,
    lost_steps,
    teach_requests,
)
from tests.small_searches import make_tasks, make_world


def moment(node, distance, **flags):
    values = {"asked": 0, "stopped": 0, "ended": 0, "requestable": 1, "uncertain": 0, "wrong": 0}
    values |= flags
    arrays = {name: np.array([bool(value)]) for name, value in values.items()}
    return Moment(node=np.array([node]), distance=np.array([float(distance)]), **arrays)


@pytest.mark.parametrize(
    ("distance", "cuts", "lost"),
    [
        ([5, 3, 4, 2], [0, 0, 0], [0, 0, 0]),  # arrives nearer after the last step
        ([5, 3, 4, 6], [0, 0, 0], [0, 0, 1]),
        ([3, 4, 3, 9], [0, 0, 0], [0, 1, 1]),  # of equal ones the first counts
        ([3, 4, 9, 8, 9], [0, 1, 0, 0], [0, 1, 0, 0]),  # a new segment forgets the old one
    ],
)
def test_an_agent_is_lost_behind_its_nearest_approach(distance, cuts, lost):
    found = lost_steps(np.array(distance, dtype=float), np.array(cuts, dtype=bool))
    assert found.astype(int).tolist() == lost


def test_help_is_right_where_lost_or_uncertain_unless_asked_there_before():
    moments = [
        moment(0, 4, uncertain=1, wrong=1, asked=1),
        moment(0, 4, uncertain=1, wrong=1),
        moment(1, 5, uncertain=1),
        moment(2, 6, requestable=0),
        moment(2, 6, ended=1),
    ]
    lesson = teach_requests(moments, np.array([6.0]))
    assert lesson.decision[:, 0].tolist() == [1, 0, 1, -1, -1]
    reasons = lesson.reasons[:, 0]
    assert reasons[1, ALREADY_ASKED] == reasons[0, UNCERTAIN_WRONG] == reasons[2, LOST] == 1
    assert reasons[2, UNCERTAIN_WRONG] == 0
    assert not reasons[3:].any()


def test_a_wrong_turn_is_remembered_at_its_place():
    environment, _ = make_world()
    seen = environment.search(make_tasks(environment.graphs, 2), "train_seen")
    turns = WrongTurns(2)
    assert not turns.mask(seen).any()
    teacher = seen.scene.teacher.copy()
    action = np.where(teacher == 1, 0, 1)
    teacher[1] = -1
    turns.note(seen, action, teacher)
    mask = turns.mask(seen)
    assert mask[0].nonzero()[0].tolist() == [action[0]]
    assert not mask[1].any()
