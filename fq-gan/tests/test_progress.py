import json
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from fqgan.progress import (
    RunProgress,
    improves,
    is_due,
    require_best_metric,
    training,
    write_parameter_counts,
)


def test_improvement_is_strict_and_has_a_direction():
    progress = RunProgress()
    assert improves(5.0, "fid", progress)
    progress.best_saved = 1
    assert not improves(5.0, "fid", progress)
    assert improves(4.0, "fid", progress)
    assert not improves(3.0, "inception_score", progress)
    assert improves(4.5, "inception_score", progress)


def test_intervals_of_zero_never_come_due():
    assert [step for step in range(1, 8) if is_due(step, 3, 7)] == [3, 6, 7]
    assert not any(is_due(step, 0, 7) for step in range(1, 8))


def test_the_sizes_of_networks_are_noted(tmp_path):
    write_parameter_counts(tmp_path, generator=nn.Linear(3, 2))
    assert json.loads((tmp_path / "parameters.json").read_text()) == {"generator": 8}


def test_a_metric_that_the_features_do_not_give_is_named():
    require_best_metric("fid", {"fid": 1.0}, "random")
    with pytest.raises(ValueError, match=r"inception_score .*features random \(fid\)"):
        require_best_metric("inception_score", {"fid": 1.0}, "random")


def test_a_run_gets_its_processes_and_its_random_state():
    launch = SimpleNamespace(device="cpu", seed=3, deterministic=False)
    with training(launch) as (world, stop):
        first = torch.rand(2)
        assert (world.rank, world.size, world.device.type) == (0, 1, "cpu")
        assert not stop.requested(1)
    with training(launch):
        assert torch.equal(torch.rand(2), first)
