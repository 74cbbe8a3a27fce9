"""Losses and gradients that are not finite, and dictionaries that nothing uses."""

import json

import pytest
from jobs import states, steps_of

from fqgan.biggan.step import GanStep
from fqgan.runtime.logs import read_metrics
from fqgan.runtime.precision import MixedPrecision


def gradient_from_step_3_on(kind: str):
    """Only the gradient is ``kind`` from the third step on; the losses of the step are fine."""

    def patch(rank: int) -> None:
        step, backward, count = GanStep.__call__, MixedPrecision.backward, 0

        def counted(self, *given):
            nonlocal count
            count += 1
            return step(self, *given)

        def broken(self, loss, optimizer):
            backward(self, loss, optimizer)
            if count >= 3:
                given = [p for group in optimizer.param_groups for p in group["params"]]
                next(p for p in given if p.grad is not None).grad.fill_(float(kind))

        GanStep.__call__, MixedPrecision.backward = counted, broken

    return patch


@pytest.mark.parametrize("kind", ["nan", "inf"])
def test_a_gradient_that_is_not_finite_stops_the_run_before_it_is_saved(job, tmp_path, kind):
    run = tmp_path / "run"
    outcome = job.run(job.command(run, 6, 1), before=gradient_from_step_3_on(kind))
    assert outcome.codes == [2]
    assert "is not finite at step 3" in outcome.sentence
    assert "lower the learning rate" in outcome.sentence
    assert steps_of(run) == [1, 2]
    assert all(value.isfinite().all() for value in states(run)["generator"].values())
    assert json.loads((run / "model" / "config.json").read_text())["step"] == 2
    assert job.run(job.command(run, 6, 1)).codes == [0], "the run can go on"


def test_a_loss_that_explodes_stops_the_run_and_loses_nothing(job, tmp_path):
    run = tmp_path / "run"
    assert job.run(job.command(run, 2, 2)).codes == [0]
    kept = (run / "checkpoints" / "00000002" / "generator.pt").read_bytes()
    wild = ["--step.discriminator-lr", "1e38", "--step.generator-lr", "1e38"]
    outcome = job.run([*job.command(run, 40, 40), *wild])
    assert outcome.codes == [2]
    assert "is not finite" in outcome.sentence
    assert (run / "checkpoints" / "00000002" / "generator.pt").read_bytes() == kept


def dead_codes(run):
    """Dead codes of every layer in the last row."""
    row = read_metrics(run)[-1]
    found = {name: value for name, value in row.items() if name.endswith("/dead")}
    assert found
    return found


def test_a_dead_dictionary_is_counted_and_revived_only_where_asked(job, tmp_path):
    large = ["--quantizer.codebook-size", "500"]
    plain, revived = tmp_path / "plain", tmp_path / "revived"
    assert job.run([*job.command(plain, 12, 12), *large]).codes == [0]
    dead = dead_codes(plain)
    assert max(dead.values()) > 0, "most of 500 codes are never used by these images"
    asked = [*large, "--quantizer.revive-below", "0.01"]
    assert job.run([*job.command(revived, 12, 12), *asked]).codes == [0]
    for name, value in dead_codes(revived).items():
        assert value <= dead[name]
    assert sum(dead_codes(revived).values()) < sum(dead.values())
    last = read_metrics(plain)[-1]
    assert any(name.endswith("/usage") and value < 0.5 for name, value in last.items())
