"""Losses and gradients that are not finite or too large: said, and never saved."""

import pytest
import torch
from jobs import states, steps_of

from prevalent.optimizer import Updater
from prevalent.released.checkpoints import read_weights
from prevalent.runtime.logs import read_metrics
from prevalent.runtime.precision import MixedPrecision
from prevalent.tasks.hanna import train_hanna
from prevalent.tasks.ndh import train_ndh
from prevalent.tasks.r2r import train_r2r
from prevalent.tasks.speaker import train_speaker
from tests.toy_runs import follower_run, hanna_run, ndh_run, speaker_run

AGENTS = {
    train_r2r: follower_run,
    train_speaker: speaker_run,
    train_ndh: ndh_run,
    train_hanna: hanna_run,
}


def broken_from_step_3_on(kind: str):
    """A gradient is ``inf`` or ``nan`` from the third step on."""

    def patch(rank: int) -> None:
        backward, count = MixedPrecision.backward, 0

        def broken(self, loss, optimizer):
            nonlocal count
            backward(self, loss, optimizer)
            count += 1
            if count > 4:  # two micro-batches a step
                first = next(
                    p for g in optimizer.param_groups for p in g["params"] if p.grad is not None
                )
                first.grad.fill_(float(kind))

        MixedPrecision.backward = broken

    return patch


@pytest.mark.parametrize("kind", ["nan", "inf"])
def test_a_gradient_that_is_not_finite_stops_the_run_before_it_is_saved(job, tmp_path, kind):
    run = tmp_path / "run"
    outcome = job.run(job.command(run, 8, 1), before=broken_from_step_3_on(kind))
    assert outcome.codes == [2], outcome.text
    assert "not finite" in outcome.sentence
    assert "step 3" in outcome.sentence
    assert steps_of(run) == [1, 2]
    model = states(run)["model"]
    assert all(value.isfinite().all() for value in model.values())
    assert job.run(job.command(run, 4, 1)).codes == [0], "the run can go on"


def test_an_exploding_gradient_is_logged_and_clipped(job, tmp_path):
    def explode(rank: int) -> None:
        backward = MixedPrecision.backward
        MixedPrecision.backward = lambda self, loss, optimizer: backward(
            self, 1e6 * loss, optimizer
        )

    run = tmp_path / "run"
    assert job.run(job.command(run, 2, 2), before=explode).codes == [0]
    norms = [row["gradient_norm"] for row in read_metrics(run) if "gradient_norm" in row]
    assert min(norms) > 1e4
    assert all(torch.isfinite(value).all() for value in states(run)["model"].values())


@pytest.mark.parametrize("train", AGENTS, ids=lambda train: train.__name__)
def test_an_agent_that_is_not_finite_never_takes_the_place_of_a_good_snapshot(
    toy_world, tmp_path, train, monkeypatch
):
    step, count = Updater.step, 0

    def broken(self):
        nonlocal count
        count += 1
        if count == 2:
            weight = next(one for one in self.modules.values()).parameters()
            next(one for one in weight if one.grad is not None).grad.fill_(float("inf"))
        return step(self)

    monkeypatch.setattr(Updater, "step", broken)
    config = AGENTS[train](toy_world, tmp_path, max_steps=3, held_out=(), log_every=9, save_every=1)
    with pytest.raises(FloatingPointError, match="not finite at step 2"):
        train(config)
    kept = read_weights(tmp_path / "snapshots" / "last" / "model.safetensors")
    assert all(value.isfinite().all() for value in kept.values())
