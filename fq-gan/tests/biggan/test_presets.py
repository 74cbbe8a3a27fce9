from dataclasses import replace

import pytest
import torch

from fqgan.biggan import build_discriminator, build_generator
from fqgan.biggan.config import PRESETS
from fqgan.released.biggan import config_from_flags, step_config_from_flags
from fqgan.released.migrate import read_flags

# Parameters of the authors' four launch scripts; theirs for ImageNet 128 could not run.
PARAMETERS = {
    "biggan-c10": (4_304_387, 4_207_361, 10),
    "biggan-c100": (4_580_867, 4_230_401, 100),
    "biggan-i64": (31_969_540, 20_571_842, 1000),
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_networks_of_the_launch_scripts_have_the_authors_size(name):
    *expected, num_classes = PARAMETERS[name]
    config = replace(PRESETS[name][1], init="none").networks(num_classes)
    networks = build_generator(config), build_discriminator(config)
    found = [sum(p.numel() for p in network.parameters()) for network in networks]
    assert found == expected


@pytest.mark.parametrize("name", [name for name in PRESETS if name.endswith("-baseline")])
def test_a_baseline_differs_from_its_twin_in_the_quantizer_alone(name):
    baseline, twin = PRESETS[name][1], PRESETS[name.removesuffix("-baseline")][1]
    assert baseline.quantizer.layers == ()
    assert twin.quantizer.layers
    assert (baseline.step, baseline.generator) == (twin.step, twin.generator)
    assert baseline.networks(10).discriminator == twin.networks(10).discriminator


def test_the_preset_of_imagenet_128_has_the_class_embedding_that_the_script_forgot():
    generator = PRESETS["biggan-i128"][1].generator
    assert generator.hierarchical
    assert generator.shared_dim == 128


# Options of BigGAN-PyTorch's launch scripts, beyond the data set; absent ones have its defaults.
UPSTREAM = {
    "biggan-c10-upstream": "--dataset C10 --batch_size 50 --num_D_steps 4 --G_lr 2e-4 --D_lr 2e-4 "
    "--G_attn 0 --D_attn 0 --G_init N02 --D_init N02 --ema_start 1000",
    "biggan-i128-upstream-sagan": "--dataset I128_hdf5 --batch_size 128 --num_G_accumulations 2 "
    "--num_D_accumulations 2 --num_D_steps 1 --G_lr 1e-4 --D_lr 4e-4 --G_shared --G_init xavier "
    "--ema_start 2000",
    "biggan-i128-upstream-sngan": "--dataset I128_hdf5 --batch_size 64 --num_D_steps 5 "
    "--G_lr 2e-4 --D_lr 2e-4 --G_B2 0.9 --D_B2 0.9 --G_attn 0 --D_attn 0 --D_thin --G_init xavier",
    "biggan-i128-upstream-deep": "--model BigGANdeep --dataset I128_hdf5 --batch_size 256 "
    "--num_G_accumulations 8 --num_D_accumulations 8 --num_D_steps 1 --G_lr 1e-4 --D_lr 4e-4 "
    "--G_ch 128 --D_ch 128 --G_depth 2 --D_depth 2 --SN_eps 1e-6 --adam_eps 1e-6 --G_shared "
    "--hier --dim_z 128 --shared_dim 128 --ema_start 20000",
}


@pytest.mark.parametrize("name", UPSTREAM)
def test_presets_of_upstream_have_the_settings_of_its_scripts(name):
    config, flags = PRESETS[name][1], read_flags(UPSTREAM[name].split())
    flags |= {"G_depth": 2, "D_depth": 2}  # which mean nothing without BigGANdeep
    expected = config_from_flags({key: v for key, v in flags.items() if key != "discrete_layer"})
    found = config.networks(expected.num_classes)
    assert replace(found, init=expected.init, quantizer=expected.quantizer) == expected
    assert config.step == step_config_from_flags(flags)
    assert config.quantizer.layers == ()
    with torch.device("meta"):
        networks = replace(config, init="none").networks(expected.num_classes)
        assert build_generator(networks).num_classes == expected.num_classes
        assert build_discriminator(networks)


def test_the_small_runs_share_seed_and_budget():
    runs = [PRESETS[f"small-cifar10-{name}"][1] for name in ("biggan", "fq-commit", "fq-straight")]
    assert len({(run.seed, run.max_steps, run.step, run.generator) for run in runs}) == 1
    assert [run.quantizer.forward for run in runs[1:]] == ["commit_only", "straight_through"]
