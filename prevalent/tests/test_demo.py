"""The demo's verdict follows from its numbers; the whole of it runs under ``make demo``."""

from __future__ import annotations

import pytest

from prevalent.__main__ import main
from prevalent.demo import (
    FINDING,
    ROWS_OF_HANNA,
    DemoConfig,
    HannaDemoConfig,
    demo_hanna,
    describe,
    describe_searches,
    judge,
    score_simple,
)


@pytest.mark.parametrize(
    ("scratch", "pretrained", "verdict"),
    [
        ([0.1, 0.2], [0.3, 0.4], "Pre-training helps: +20.0 points"),
        ([0.1, 0.3], [0.2, 0.4], "ahead by 10.0 points, within the spread"),
        ([0.3, 0.3], [0.2, 0.2], "does not help here (-10.0 points)"),
    ],
    ids=["apart", "overlapping", "behind"],
)
def test_the_verdict_is_decided_by_the_numbers(scratch, pretrained, verdict):
    scores = {"random": [0.1, 0.1], "from scratch": scratch, "pre-trained": pretrained}
    text = describe(scores, DemoConfig(seeds=2))
    assert verdict in text
    assert "| random | 10.0 % | 10.0 % | 10.0 % |" in text


def test_dialogs_are_compared_in_meters():
    scores = {"random": [0.5, 0.7], "from scratch": [1.0, 1.2], "pre-trained": [1.5, 1.9]}
    text = describe(scores, DemoConfig(task="ndh", seeds=2))
    assert "| pre-trained | 1.70 m | 1.50 m | 1.90 m |" in text
    assert "Pre-training helps: +0.60 m" in text


def test_without_an_encoder_the_agents_are_shown_and_the_finding_is_told():
    scores = {"random": [0.1], "knows the way": [1.0], "from scratch": [0.7]}
    text = describe(scores, DemoConfig(seeds=1))
    assert "| from scratch | 70.0 % | 70.0 % | 70.0 % |" in text
    assert text.rstrip().endswith(FINDING)


def test_agents_that_do_not_learn_are_scored_on_both_tasks(toy_world):
    assert score_simple("shortest", toy_world, 0) == 1.0
    assert 0 <= score_simple("random", toy_world, 0) < 1
    best = score_simple("shortest", toy_world, 0, "ndh")
    assert score_simple("random", toy_world, 0, "ndh") < best


def test_an_impossible_size_is_refused():
    with pytest.raises(ValueError, match="--seeds must be at least 1, got 0"):
        DemoConfig(seeds=0)
    with pytest.raises(ValueError, match="--pretrain-steps must be at least 1, got 0"):
        HannaDemoConfig(pretrain_steps=0)


@pytest.mark.slow
def test_the_smallest_demo_runs_and_writes_its_table(tmp_path):
    scores = demo_hanna(HannaDemoConfig(run_dir=tmp_path, smallest=True))
    assert set(scores) == {"random", *ROWS_OF_HANNA}
    assert "| never asks |" in (tmp_path / "demo.md").read_text()


def test_the_verdict_follows_the_numbers():
    assert judge("Asking", [0.5, 0.6], [0.1, 0.2]).startswith("Asking helps: +40.0 points")
    assert "within the spread" in judge("Asking", [0.5, 0.1], [0.1, 0.2])
    assert "does not help here (-10.0 points)" in judge("Asking", [0.1], [0.2])


def test_the_table_has_a_row_for_every_agent():
    record = {"success_rate": 0.25, "spl": 0.125, "queries_per_ep": 2.0}
    text = describe_searches(
        {row: [record] for row in ("random", *ROWS_OF_HANNA)}, HannaDemoConfig(seeds=1)
    )
    assert "| asks | 25.0 % [25.0, 25.0] | 12.5 % [12.5, 12.5] | 2.0 [2.0, 2.0] |" in text


def test_an_impossible_number_is_named():
    with pytest.raises(ValueError, match="--agent-steps"):
        HannaDemoConfig(agent_steps=0)


@pytest.mark.parametrize("verb", ["demo", "demo-hanna"])
def test_a_run_is_no_place_for_a_demo(tmp_path, verb, capsys):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(SystemExit, match="2"):
        main([verb, "--smallest", "--run-dir", str(tmp_path)])
    assert "is a run; a demo makes several" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]
