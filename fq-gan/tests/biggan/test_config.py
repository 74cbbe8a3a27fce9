"""Settings say what is wrong with them."""

from __future__ import annotations

import pytest

from fqgan.biggan import (
    BigganConfig,
    DiscriminatorConfig,
    GeneratorConfig,
    QuantizerConfig,
    StepConfig,
)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: GeneratorConfig(hierarchical=True), "--generator.shared-dim"),
        (lambda: GeneratorConfig(channels=0), "--generator.channels must be at least 1"),
        (lambda: DiscriminatorConfig(power_iterations=0), "--discriminator.power-iterations"),
        (lambda: QuantizerConfig(codebook_size=0), "--quantizer.codebook-size"),
        (lambda: QuantizerConfig(decay=1.0), "--quantizer.decay"),
        (lambda: QuantizerConfig(revive_below=-1.0), "must not be negative"),
        (lambda: QuantizerConfig(layers=(1, 1)), "--quantizer.layers"),
        (lambda: BigganConfig(resolution=48), "--resolution"),
        (lambda: BigganConfig(num_classes=0), "--num-classes"),
        (lambda: StepConfig(num_d_steps=0), "--step.num-d-steps"),
        (lambda: StepConfig(generator_lr=0.0), "--step.generator-lr"),
    ],
)
def test_a_wrong_value_is_refused_by_the_name_of_its_option(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_an_iteration_takes_a_batch_per_step_and_accumulation():
    config = StepConfig(batch_size=8, num_d_steps=4, num_d_accumulations=2, generator_batch_size=4)
    assert config.images_per_step == 64
    assert config.fake_batch_size == 8


def test_the_networks_have_at_most_35_options():
    parts = (GeneratorConfig, DiscriminatorConfig, QuantizerConfig)
    nested = sum(len(part.__dataclass_fields__) for part in parts)
    assert nested + len(BigganConfig.__dataclass_fields__) - len(parts) <= 35
