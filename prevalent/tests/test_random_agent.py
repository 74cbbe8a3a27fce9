"""The random agent's expectation and the authors' one run are recomputed as recorded."""

import importlib.util
import random
from pathlib import Path

import numpy as np
import pytest

from prevalent.runtime.published import find_folder, read_evidence

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("random_agent", ROOT / "evidence/random_agent.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def recorded():
    return {
        (record.id, one.data, one.metric): float(one.value)
        for record in read_evidence(find_folder("evidence"))
        for one in record.results
    }


def test_the_order_of_python_2_is_a_shuffle_that_draws_fractions(script):
    items = list(range(1000))
    script.shuffle(items, random.Random(10))
    assert sorted(items) == list(range(1000))
    draws = random.Random(10)
    last = int(draws.random() * 1000)  # the first draw says which item comes last
    assert items[-1] == last
    turns = script.authors_turns(6000, 0)
    assert np.bincount(turns, minlength=12).min() > 400
    assert set(turns) == set(range(12))


@pytest.mark.parametrize(
    ("task", "split", "data", "names"),
    [
        ("r2r", "val_seen", "R2R val seen", {"TL": 0.001, "NE": 0.001, "SR": 0.01, "SPL": 0.01}),
        ("ndh", "val_unseen", "CVDN val unseen", {"GP": 0.001}),
    ],
)
def test_expectation_and_the_authors_run_are_as_recorded(
    script, recorded, data_dir, task, split, data, names
):
    scores = script.scores_by_turn(data_dir, task, split)
    turns = script.authors_turns(len(next(iter(scores.values()))), script.EARLIER_AGENTS[task])
    for name, tolerance in names.items():
        metric = "Oracle" if name == "GP" else name
        one = scores[name][np.arange(len(turns)), turns].mean()
        assert one == pytest.approx(recorded[f"{task}-random-run", data, metric], abs=tolerance)
        mean = scores[name].mean()
        expected = recorded[f"{task}-random-expectation", data, metric]
        assert mean == pytest.approx(expected, abs=tolerance)
