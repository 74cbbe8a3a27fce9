"""Options of NDH that exclude each other, and what they default to."""

from dataclasses import replace
from pathlib import Path

import pytest

from prevalent.agents.ndh import DialogConfig, DialogWalk
from prevalent.tasks.ndh import NDHRun

SEQ2SEQ = DialogConfig(encoder="lstm", actions="low-level")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DialogConfig(actions="low-level"), "goes with --model.encoder lstm"),
        (lambda: DialogConfig(view_stride=0), "--model.view-stride must be 1 to 36, got 0"),
        (lambda: DialogConfig(hidden_size=0), "--model.hidden-size must be at least 1, got 0"),
        (lambda: DialogConfig(encoder="lstm", hidden_size=7), "7 must be even"),
        (lambda: DialogWalk(max_actions=-1), "--walk.max-actions must not be negative, got -1"),
        (lambda: NDHRun(sample_ratio=2.0), r"--sample-ratio must be in \[0, 1\], got 2.0"),
        (lambda: NDHRun(max_length=-1), "--max-length must be at least 0, got -1"),
        (lambda: NDHRun(pretrained=Path("a"), model=SEQ2SEQ), "--pretrained needs --model.encoder"),
    ],
)
def test_a_bad_option_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_text_and_episode_are_as_long_as_the_authors():
    run = NDHRun()
    assert (run.text_length, run.max_actions) == (300, 40)
    assert replace(run, path_type="planner_path").max_actions == 20
    assert replace(run, history="oracle_ans").text_length == 70
    assert replace(run, max_length=50, walk=DialogWalk(max_actions=7)).text_length == 50
    base = replace(run, model=SEQ2SEQ)
    assert (base.text_length, base.max_actions) == (720, 80)
