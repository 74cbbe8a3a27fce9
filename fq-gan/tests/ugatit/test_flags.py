"""The flags of main.py, as the recorded runs and the specification have them."""

import json

import numpy as np
import pytest

from fqgan.released.migrate import UGATIT_FLAGS, differences, read_ugatit_flags, ugatit_train_config
from fqgan.ugatit.config import PRESETS


def config_of(line):
    notes = []
    return ugatit_train_config(read_ugatit_flags(line.split()), notes), notes


@pytest.mark.golden
@pytest.mark.cases("ugatit/ugatit_small_*.npz")
def test_recorded_command_lines_are_understood(case):
    recorded = np.load(case)
    words = json.loads(str(recorded["argv"]))
    flags = read_ugatit_flags(words)
    config = ugatit_train_config(flags, [])
    assert config.data.resolution == flags["img_size"]
    assert config.step.batch_size == flags["batch_size"]
    assert recorded["domain_A"].shape[1] == flags["img_size"]


def test_the_defaults_are_the_preset():
    config, _ = config_of("--phase train")
    preset = PRESETS["ugatit-selfie2anime"][1]
    assert differences(preset, config) == ["--data.path", "dataset/selfie2anime"]


def test_every_flag_arrives():
    config, notes = config_of(
        "--light True --dataset horse2zebra --epoch 7 --iteration 5 --batch_size 2 --print_freq 3 "
        "--decay_flag no --decay_epoch 4 --lr 0.5 --GP_ld 1 --adv_weight 2 --cycle_weight 3 "
        "--identity_weight 4 --cam_weight 5 --gan_type hinge --smoothing false --ch 8 --n_res 2 "
        "--n_dis 5 --n_critic 3 --sn false --img_size 64 --augment_flag false "
        "--commitment_cost 0.5 --quantization_layer 0129 --decay 0.9 --save_freq 2 --log_dir x"
    )
    assert (config.generator.light, config.generator.smoothing) == (True, False)
    assert config.domain_names == ("horse", "zebra")
    schedule, step = config.schedule, config.step
    assert (schedule.epochs, schedule.epoch_steps) == (7, 5)
    assert (schedule.decay, schedule.decay_epoch) == (False, 4)
    assert (step.batch_size, step.lr, step.loss, step.generator_every) == (2, 0.5, "hinge", 3)
    weights = (step.adversarial_weight, step.cycle_weight, step.identity_weight)
    assert (*weights, step.cam_weight, step.penalty_weight) == (2, 3, 4, 5, 1)
    assert (config.generator.channels, config.discriminator.channels) == (8, 8)
    assert (config.generator.num_blocks, config.discriminator.depth) == (2, 5)
    assert not config.discriminator.spectral_norm
    assert (config.data.resolution, config.data.augment, config.sample_every) == (64, False, 3)
    quantizer = config.quantizer
    assert (quantizer.layers, quantizer.commitment_weight, quantizer.decay) == ((1, 2), 0.5, 0.9)
    assert len(notes) == 4


def test_without_quantization_there_is_none():
    config, notes = config_of("--quant false")
    assert config.quantizer.layers == ()
    assert any("--quant false" in note for note in notes)
    assert UGATIT_FLAGS["quant"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--gan_type relativistic", "none of the authors'"),
        ("--img_ch 1", "3 channels"),
        ("--unknown 1", "would not accept this"),
        ("--n_dis 7 --img_size 64", "--discriminator.depth 7 halves"),
    ],
)
def test_flags_without_a_counterpart_are_named(line, said):
    with pytest.raises(ValueError, match=said):
        config_of(line)
