"""Templates of the toy world."""

import math

import numpy as np
import pytest

from prevalent.data.toy import LANDMARKS, STYLES, Step, direction, tell_walk


@pytest.mark.parametrize(
    ("turn", "climb", "words"),
    [
        (0, 0, "go straight"),
        (60, 0, "turn right"),
        (-60, 0, "turn left"),
        (170, 0, "turn around"),
        (-175, 0, "turn around"),
        (10, 1.5, "go up the stairs"),
        (10, -1.5, "go down the stairs"),
    ],
)
def test_turns_and_climbs_have_words(turn, climb, words):
    assert direction(Step(math.radians(turn), climb, "sofa")) == words


@pytest.mark.parametrize("style", STYLES)
def test_a_walk_ends_at_its_last_landmark(style):
    steps = [Step(0, 0, "lamp"), Step(1, 0, "sofa")]
    for seed in range(20):
        text = tell_walk(steps, style, np.random.default_rng(seed))
        assert text[0].isupper()
        assert text.endswith(" the sofa.")
        assert style == "mixed" or "lamp" in text


def test_landmarks_are_distinct_words():
    assert len(set(LANDMARKS)) == len(LANDMARKS)
    assert all(word.isalpha() and word.islower() for word in LANDMARKS)
