import dataclasses

import pytest

from fqgan.stylegan2.config import CONFIGURATIONS, FFHQ, PRESETS


@pytest.mark.parametrize("size", FFHQ)
def test_the_rows_follow_the_authors_recipe(size):
    """Config-e, gamma 100, mirrored images, 25,000 kimg, layers 4 and 5 (README, run_training)."""
    run = PRESETS[f"stylegan2-ffhq{size}"][1]
    assert run.data.augment
    assert run.data.resolution == size
    assert run.quantizer.layers == (4, 5)
    assert (run.quantizer.commitment_weight, run.quantizer.decay) == (0.25, 0.8)
    assert run.step.r1_weight == 100
    assert run.generator.channel_base == 8192
    assert (run.schedule.total_kimg, run.schedule.batch_size, run.schedule.lr) == (25000, 32, 0.002)
    assert (run.scoring.num_images, run.scoring.real_images) == (50_000, 50_000)


@pytest.mark.parametrize("name", [name for name in PRESETS if name.endswith("-baseline")])
def test_a_baseline_differs_by_the_quantizer_alone(name):
    run, twin = PRESETS[name.removesuffix("-baseline")][1], PRESETS[name][1]
    assert run.quantizer.layers
    assert not twin.quantizer.layers
    assert dataclasses.replace(run, name=twin.name, quantizer=twin.quantizer) == twin


def test_every_configuration_has_a_preset():
    assert {f"stylegan2-{name}" for name in CONFIGURATIONS} <= set(PRESETS)
    assert PRESETS["stylegan2-config-f"][1].generator.channel_base == 16384
    assert PRESETS["stylegan2-config-a"][1].schedule.growing
    assert not PRESETS["stylegan2-config-e"][1].schedule.growing


def test_folders_of_runs_differ():
    assert len({run.folder for _, run in PRESETS.values()}) == len(PRESETS)
