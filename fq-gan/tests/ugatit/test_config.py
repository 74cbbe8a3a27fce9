"""Settings that cannot be meant are refused when they are given."""

from __future__ import annotations

import pytest
from ugatit_cases import tiny_ugatit

from fqgan.ugatit import DiscriminatorConfig, GeneratorConfig, QuantizerConfig, ScheduleConfig
from fqgan.ugatit.config import StepConfig


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: GeneratorConfig(channels=0), "--generator.channels must be at least 1, got 0"),
        (lambda: DiscriminatorConfig(depth=3), "--discriminator.depth must be at least 4"),
        (lambda: tiny_ugatit(quantizer=QuantizerConfig(layers=(0, 1))), "--quantizer.layers has 0"),
        (lambda: QuantizerConfig(decay=1.0), "--quantizer.decay must be in"),
        (lambda: StepConfig(lr=0.0), "--step.lr must be positive"),
        (lambda: StepConfig(generator_every=0), "--step.generator-every must be at least 1"),
        (lambda: ScheduleConfig(epochs=0), "--schedule.epochs must be at least 1"),
        (lambda: tiny_ugatit(image_size=30), "--data.resolution must be a multiple of 4"),
        (lambda: tiny_ugatit(image_size=16), "--discriminator.depth 4 halves images of 16"),
        (lambda: tiny_ugatit(quantizer=QuantizerConfig(layers=(3,))), "the layers are 1 to 2"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_named(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_the_released_codebooks_are_the_default():
    config = QuantizerConfig()
    assert [config.codes_of(layer) for layer in (1, 2, 3, 4, 5)] == [64, 128, 128, 128, 128]
    assert QuantizerConfig(codebook_size=7).codes_of(1) == 7


def test_the_learning_rate_is_constant_and_then_falls_to_zero():
    schedule = ScheduleConfig(epochs=101, epoch_steps=10, decay_epoch=50)
    assert schedule.total_steps == 1010
    rates = [schedule.learning_rate(1.0, step) for step in (1, 500, 501, 511, 1010)]
    assert rates == [1.0, 1.0, 1.0, 50 / 51, 1 / 51]
    assert ScheduleConfig(decay=False).learning_rate(1.0, 10**6) == 1.0


def test_a_step_says_how_many_batches_it_takes():
    together = StepConfig(generator_every=3)
    assert [together.moves_generators(step) for step in (1, 2, 3, 4)] == [True, False, False, True]
    assert [together.batches_per_step(step) for step in (1, 2)] == [1, 1]
    separate = StepConfig(generator_every=3, separate_batches=True)
    assert [separate.batches_per_step(step) for step in (1, 2, 4)] == [2, 1, 2]
