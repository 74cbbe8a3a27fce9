"""Settings that cannot be meant are refused when they are given."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ugatit_cases import tiny_networks

from fqgan.data.unpaired import OTHER_CYCLEGAN_SETS, SETS
from fqgan.runs import differences
from fqgan.ugatit.config import (
    DATASETS,
    PRESETS,
    DiscriminatorConfig,
    GeneratorConfig,
    QuantizerConfig,
    ScheduleConfig,
    StepConfig,
    TranslationScoring,
    UgatitTrain,
    directions,
    experiment_name,
)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: GeneratorConfig(channels=0), "--generator.channels must be at least 1, got 0"),
        (lambda: DiscriminatorConfig(depth=3), "--discriminator.depth must be at least 4"),
        (lambda: tiny_networks(quantizer=QuantizerConfig(layers=(0, 1))), "quantizer.layers has 0"),
        (lambda: QuantizerConfig(decay=1.0), "--quantizer.decay must be in"),
        (lambda: StepConfig(lr=0.0), "--step.lr must be positive"),
        (lambda: StepConfig(generator_every=0), "--step.generator-every must be at least 1"),
        (lambda: ScheduleConfig(epochs=0), "--schedule.epochs must be at least 1"),
        (lambda: tiny_networks(image_size=30), "--data.resolution must be a multiple of 4"),
        (lambda: tiny_networks(image_size=16), "--discriminator.depth 4 halves images of 16"),
        (lambda: tiny_networks(quantizer=QuantizerConfig(layers=(3,))), "the layers are 1 to 2"),
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


def test_the_name_of_the_experiment_is_the_authors_folder():
    config = PRESETS["ugatit-selfie2anime"][1]
    name = "UGATIT_q_selfie2anime_lsgan_4resblock_6dis_1_1_10_10_1000_sn_smoothing_123_2.0_0.85"
    assert experiment_name(config) == name
    assert str(config.folder) == f"runs/{name}"
    assert str(replace(config, run_dir="mine").folder) == "mine"
    config = PRESETS["ugatit-horse2zebra-light-baseline"][1]
    config = replace(
        config,
        generator=replace(config.generator, smoothing=False),
        discriminator=replace(config.discriminator, spectral_norm=False),
        step=replace(config.step, loss="wgan-gp", cycle_weight=0.5),
    )
    name = "UGATIT_light_horse2zebra_wgan-gp_4resblock_6dis_1_1_0.5_10_1000"
    assert experiment_name(config) == name


def test_the_schedule_says_how_many_iterations_there_are():
    config = UgatitTrain()
    assert config.last_step == 101 * 10_000
    assert replace(config, max_steps=3).last_step == 3


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"log_every": 0}, "--log-every must be at least 1"),
        ({"sample_images": 0}, "--sample-images must be at least 1"),
        ({"max_steps": -1}, "--max-steps must not be negative"),
        ({"data": replace(UgatitTrain().data, resolution=64)}, "--discriminator.depth 6 halves"),
        ({"quantizer": replace(UgatitTrain().quantizer, layers=(5,))}, "--quantizer.layers has 5"),
    ],
)
def test_a_bad_option_is_named(options, said):
    with pytest.raises(ValueError, match=said):
        UgatitTrain(**options)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("cat", "cat"), "both directions would have one name"),
        (("cat", "Cat"), "both directions would have one name"),
        (("", "dog"), "cannot name folders"),
        (("../cat", "dog"), "cannot name folders"),
    ],
)
def test_names_of_domains_tell_the_directions_apart(names, said):
    with pytest.raises(ValueError, match=f"--domain-names .*{said}"):
        UgatitTrain(domain_names=names)


def test_subsets_of_one_image_are_refused():
    for options, said in (({"subset_size": 1}, "subset-size"), ({"subsets": 0}, "subsets")):
        with pytest.raises(ValueError, match=said):
            TranslationScoring(**options)


def test_both_directions_are_named_after_the_domains():
    assert directions(("selfie", "anime")) == ("selfie2anime", "anime2selfie")


@pytest.mark.parametrize("dataset", sorted(SETS.keys() - OTHER_CYCLEGAN_SETS))
def test_every_data_set_of_the_paper_has_a_preset_and_its_twins(dataset):
    config = PRESETS[f"ugatit-{dataset}"][1]
    assert config.data.path == f"data/{dataset}"
    assert config.data.resolution == 256
    assert config.domain_names == DATASETS[dataset]
    for suffix, words in (
        ("-baseline", ["--quantizer.layers"]),
        ("-light", ["--generator.light"]),
        ("-light-baseline", ["--generator.light", "--quantizer.layers"]),
    ):
        assert differences(config, PRESETS[f"ugatit-{dataset}{suffix}"][1]) == words


def test_a_preset_has_the_settings_of_the_released_code():
    config = PRESETS["ugatit-selfie2anime"][1]
    step, schedule = config.step, config.schedule
    weights = (step.adversarial_weight, step.cycle_weight, step.identity_weight, step.cam_weight)
    assert weights == (1, 10, 10, 1000)
    assert (step.loss, step.lr, step.betas, step.l2_weight) == ("lsgan", 1e-4, (0.5, 0.999), 1e-4)
    assert (schedule.epochs, schedule.epoch_steps, schedule.decay_epoch) == (101, 10_000, 50)
    assert config.quantizer.layers == (1, 2, 3)
    assert [config.quantizer.codes_of(layer) for layer in (1, 2, 3)] == [64, 128, 128]
    assert (config.generator.channels, config.generator.num_blocks) == (64, 4)
    assert (config.discriminator.channels, config.discriminator.depth) == (64, 6)
