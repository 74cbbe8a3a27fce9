"""Losses and gradients that are not finite or too large, and posteriors that collapse."""

import math

import pytest
import torch
from jobs import states, steps_of

from optimus.runtime.logs import read_metrics
from optimus.runtime.precision import MixedPrecision


def broken_from_step_3_on(kind: str):
    """The loss, or only its gradient, is ``inf`` or ``nan`` from the third step on."""

    def patch(rank: int) -> None:
        backward, count = MixedPrecision.backward, 0

        def broken(self, loss, optimizer):
            nonlocal count
            backward(self, loss, optimizer)
            count += 1
            if count > 4:  # two micro-batches a step
                for group in optimizer.param_groups:
                    group["params"][0].grad.fill_(float(kind))

        MixedPrecision.backward = broken

    return patch


@pytest.mark.parametrize("kind", ["nan", "inf"])
@pytest.mark.parametrize("save_every", [1, 100])
def test_a_gradient_that_is_not_finite_stops_the_run_before_it_is_saved(
    job, tmp_path, kind, save_every
):
    run = tmp_path / "run"
    outcome = job.run(job.command(run, 8, save_every), before=broken_from_step_3_on(kind))
    assert outcome.codes == [2]
    assert "is not finite at step 3" in outcome.sentence
    assert "lower the learning rate" in outcome.sentence
    assert steps_of(run) == ([1, 2] if save_every == 1 else [])
    if save_every == 1:
        model = states(run)["model"]
        assert all(value.isfinite().all() for value in model.values())
        assert job.run(job.command(run, 8, save_every)).codes == [0], "the run can go on"


def test_a_loss_that_is_not_finite_stops_the_run_and_loses_nothing(job, tmp_path):
    run = tmp_path / "run"
    assert job.run(job.command(run, 4, 2)).codes == [0]
    kept = run / "checkpoints" / "00000004" / "model.pt"
    before = kept.read_bytes()
    outcome = job.run([*job.command(run, 12, 2), "--optimizer.lr", "1e30"])
    assert outcome.codes == [2]
    assert "is not finite" in outcome.sentence
    assert kept.read_bytes() == before


def test_an_exploding_gradient_is_logged_and_clipped(job, tmp_path):
    def explode(rank: int) -> None:
        backward = MixedPrecision.backward
        MixedPrecision.backward = lambda self, loss, optimizer: backward(
            self, 1e6 * loss, optimizer
        )

    run = tmp_path / "run"
    assert job.run(job.command(run, 4, 4), before=explode).codes == [0]
    norms = [row["gradient_norm"] for row in read_metrics(run) if "gradient_norm" in row]
    assert min(norms) > 1e4
    # Adam's first average is 0.1 of the gradient and decays: clipped to 1, it stays below 1.
    moments = states(run)["optimizer"]["state"].values()
    total = math.sqrt(sum(float(m["exp_avg"].square().sum()) for m in moments))
    assert total < 1
    assert all(torch.isfinite(value).all() for value in states(run)["model"].values())


def test_a_collapsed_posterior_is_said_with_its_cure_and_the_run_goes_on(job, tmp_path):
    run = tmp_path / "run"
    words = "--objective.beta 1000 --objective.free-bits 0 --optimizer.lr 0.005 --eval-every 160"
    outcome = job.run([*job.command(run, 160, 160), *words.split()])
    assert outcome.codes == [0], outcome.text
    assert "the posterior has collapsed onto the prior" in outcome.text
    assert "raise --objective.free-bits" in outcome.text
    assert "no latent dimension is active" in outcome.text
    assert steps_of(run) == [160]
    assert min(row["full_kl"] for row in read_metrics(run) if "full_kl" in row) < 0.05
