"""Checks of the agents' settings."""

import pytest

from prevalent.agents.follower import FollowerConfig
from prevalent.agents.rollout import RolloutConfig
from prevalent.agents.speaker import SpeakerConfig
from prevalent.optimizer import OptimizerConfig


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda: FollowerConfig(hidden_size=0), "--model.hidden-size must be at least 1, got 0"),
        (lambda: FollowerConfig(hidden_size=5), "must be even"),
        (lambda: FollowerConfig(dropout=1.0), r"must be in \[0, 1\), got 1.0"),
        (lambda: FollowerConfig(angle_size=6), "multiple of 4, got 6"),
        (lambda: SpeakerConfig(hidden_size=5), "--speaker.hidden-size must be even, got 5"),
        (lambda: SpeakerConfig(max_decode=0), "--speaker.max-decode must be at least 1"),
        (lambda: OptimizerConfig(lr=0.0), "--optimizer.lr must be positive"),
        (lambda: OptimizerConfig(max_norm=0.0), "--optimizer.max-norm must be positive"),
        (lambda: RolloutConfig(max_actions=0), "--rollout.max-actions must be at least 1"),
        (lambda: RolloutConfig(gamma=1.5), r"--rollout.gamma must be in \[0, 1\]"),
    ],
)
def test_impossible_settings_are_named(build, sentence):
    with pytest.raises(ValueError, match=sentence):
        build()
