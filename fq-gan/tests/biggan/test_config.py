"""Settings say what is wrong with them."""

from __future__ import annotations

import json
import string
from dataclasses import replace

import pytest
import torch

from fqgan.biggan.config import (
    C10,
    PRESETS,
    BigganConfig,
    BigganTrain,
    DiscriminatorConfig,
    GeneratorConfig,
    QuantizerConfig,
    StepConfig,
    authors_name,
    experiment_name,
    share_step,
)
from fqgan.biggan.networks import build_discriminator, build_generator
from fqgan.released.biggan import config_from_flags, step_config_from_flags
from fqgan.released.migrate import differences, read_flags, train_config


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
        (lambda: BigganConfig(resolution=48), "--data.resolution"),
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


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"max_steps": 0}, "--max-steps must be at least 1"),
        ({"evaluate_every": -1}, "--evaluate-every must not be negative"),
        ({"sample_statistics": "standing", "standing_batches": 0}, "--standing-batches"),
    ],
)
def test_a_bad_option_is_named_when_the_run_is_described(options, said):
    with pytest.raises(ValueError, match=said):
        BigganTrain(**options)


def test_processes_share_whole_accumulations_where_they_divide():
    step = StepConfig(batch_size=8, num_d_accumulations=4, num_g_accumulations=2)
    shared = share_step(step, 2)
    assert (shared.num_d_accumulations, shared.num_g_accumulations) == (2, 1)
    assert shared.batch_size == 8


def test_processes_split_the_batch_where_accumulations_do_not_divide():
    shared = share_step(StepConfig(batch_size=8, num_d_accumulations=3), 4)
    assert (shared.batch_size, shared.num_d_accumulations) == (2, 3)


def test_a_batch_that_cannot_be_shared_is_refused():
    with pytest.raises(ValueError, match="cannot be shared by 3 processes"):
        share_step(StepConfig(batch_size=8), 3)


def test_the_folder_of_a_run_without_a_name_comes_from_its_options():
    assert str(replace(C10, run_dir="elsewhere").folder) == "elsewhere"
    assert str(C10.folder).startswith("runs/BigGAN_C10_seed0")


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


@pytest.mark.golden
@pytest.mark.cases("biggan/misc/misc.json")
def test_names_are_those_of_the_authors(case):
    scripts = json.loads(case.read_text())["launch_scripts"]
    assert scripts
    for script in scripts.values():
        flags = {**read_flags([]), **script["config"]}
        assert authors_name(train_config(flags, [])) == script["name"]


def test_runs_that_the_authors_name_confuses_differ_in_the_digest():
    other = replace(C10, step=replace(C10.step, generator_lr=1e-4))
    assert authors_name(other) == authors_name(C10)
    assert experiment_name(other) != experiment_name(C10)
    assert experiment_name(C10).startswith(authors_name(C10))


def test_length_and_device_of_a_run_do_not_change_its_name():
    longer = replace(C10, max_steps=1, device="cpu", log_every=7, data=replace(C10.data, workers=1))
    assert experiment_name(longer) == experiment_name(C10)


def test_a_hashed_name_is_a_digest_that_every_process_agrees_on():
    name = experiment_name(replace(C10, naming="hashed"))
    assert len(name) == 8
    assert set(name) <= set(string.hexdigits)


def test_no_two_presets_that_differ_have_the_same_name():
    for one, (_, first) in PRESETS.items():
        for other, (_, second) in PRESETS.items():
            if one < other and differences(first, second):
                assert experiment_name(first) != experiment_name(second), (one, other)
