"""Options of ``train-hanna`` are checked when they are made."""

from pathlib import Path

import pytest

from prevalent.models.hanna import AssistanceConfig
from prevalent.tasks.hanna import HannaRun


def test_a_pre_trained_encoder_needs_the_encoder_that_can_hold_it():
    with pytest.raises(ValueError, match=r"--pretrained needs --model\.encoder dic"):
        HannaRun(pretrained=Path("runs/pretrain/base/model"))
    HannaRun(pretrained=Path("model"), model=AssistanceConfig(encoder="dic"))


def test_an_optimizer_state_is_not_taken_from_elsewhere():
    with pytest.raises(ValueError, match="--load-optimizer"):
        HannaRun(load_optimizer=True)
