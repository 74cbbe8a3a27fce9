"""The toy comparison of agents that ask and that do not."""

import pytest

from prevalent.demo import ROWS_OF_HANNA, HannaDemoConfig, demo_hanna, describe_searches, judge


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
