"""Presets have the settings of the released code, and twins differ in one thing."""

import pytest

from fqgan.data.unpaired import OTHER_CYCLEGAN_SETS, SETS
from fqgan.released.migrate import differences
from fqgan.ugatit.config import DATASETS, PRESETS


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
