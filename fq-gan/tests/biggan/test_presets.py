from dataclasses import replace

import pytest

from fqgan.biggan import build_discriminator, build_generator
from fqgan.biggan.presets import PRESETS

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


def test_the_small_runs_share_seed_and_budget():
    runs = [PRESETS[f"small-cifar10-{name}"][1] for name in ("biggan", "fq-commit", "fq-straight")]
    assert len({(run.seed, run.max_steps, run.step, run.generator) for run in runs}) == 1
    assert [run.quantizer.forward for run in runs[1:]] == ["commit_only", "straight_through"]
