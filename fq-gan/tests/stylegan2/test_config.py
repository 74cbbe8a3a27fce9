"""Settings that cannot work are refused in words."""

from __future__ import annotations

import pytest

from fqgan.stylegan2 import (
    DiscriminatorConfig,
    GeneratorConfig,
    MappingConfig,
    QuantizerConfig,
    ScheduleConfig,
    StepConfig,
    Stylegan2Config,
)
from fqgan.stylegan2.config import channels_at


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: Stylegan2Config(resolution=48), "power of two"),
        (lambda: Stylegan2Config(resolution=16, quantizer=QuantizerConfig((5,))), "3 to 4"),
        (lambda: Stylegan2Config(quantizer=QuantizerConfig((2,))), "has 2"),
        (lambda: QuantizerConfig(layers=(4, 4)), "different"),
        (lambda: QuantizerConfig(decay=1.0), "--quantizer.decay"),
        (lambda: MappingConfig(num_layers=0), "--mapping.num-layers"),
        (lambda: GeneratorConfig(style_mixing=2.0), "--generator.style-mixing"),
        (lambda: DiscriminatorConfig(group_size=-1), "--discriminator.group-size"),
        (lambda: StepConfig(batch_size=0), "--step.batch-size"),
        (lambda: StepConfig(r1_weight=-1.0), "--step.r1-weight"),
        (lambda: StepConfig(generator_lr=0.0), "--step.generator-lr"),
        (lambda: ScheduleConfig(total_kimg=0.0), "--schedule.total-kimg"),
        (lambda: Stylegan2Config(generator=GeneratorConfig("growing")), "both"),
        (
            lambda: Stylegan2Config(
                generator=GeneratorConfig("growing"), discriminator=DiscriminatorConfig("growing")
            ),
            "--quantizer.layers",
        ),
    ],
)
def test_the_option_is_named(build, words):
    with pytest.raises(ValueError, match=words):
        build()


def test_widths_halve_with_the_resolution_up_to_the_largest():
    config = GeneratorConfig()
    assert [channels_at(config, stage) for stage in (1, 4, 5, 9)] == [512, 512, 256, 16]


def test_codebooks_have_the_authors_sizes():
    config = QuantizerConfig()
    assert [config.codes_at(layer) for layer in (3, 4, 5, 6, 7, 10)] == [128] * 4 + [64] * 2
    assert QuantizerConfig(codebook_size=32).codes_at(4) == 32
