from dataclasses import replace

import pytest

from fqgan.ugatit.config import (
    PRESETS,
    TranslationScoring,
    UgatitTrain,
    directions,
    experiment_name,
)


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


def test_subsets_of_one_image_are_refused():
    for options, said in (({"subset_size": 1}, "subset-size"), ({"subsets": 0}, "subsets")):
        with pytest.raises(ValueError, match=said):
            TranslationScoring(**options)


def test_both_directions_are_named_after_the_domains():
    assert directions(("selfie", "anime")) == ("selfie2anime", "anime2selfie")
