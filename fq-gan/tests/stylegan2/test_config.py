"""Settings that cannot work are refused in words."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import replace

import pytest

from fqgan.data.datasets import DataConfig
from fqgan.stylegan2.config import (
    CONFIGURATIONS,
    FFHQ,
    PRESETS,
    SMOKE,
    DiscriminatorConfig,
    GeneratorConfig,
    MappingConfig,
    Phase,
    QuantizerConfig,
    ScheduleConfig,
    StepConfig,
    Stylegan2Config,
    Stylegan2Train,
    build_recipe,
    channels_at,
    phase_at,
    share_phase,
)


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


def test_every_configuration_can_be_had_at_other_resolutions():
    for name in CONFIGURATIONS:
        assert build_recipe(name, 64, label_size=3).networks.label_size == 3


def test_configurations_add_one_thing_after_the_other():
    rows = [build_recipe(f"config-{letter}") for letter in "abcdef"]
    assert [row.networks.growing for row in rows] == [True] * 4 + [False] * 2
    assert [row.step.discriminator_every for row in rows] == [0, 0, 16, 16, 16, 16]
    assert [row.step.path_length_weight for row in rows] == [0, 0, 0, 2, 2, 2]
    assert [row.step.r1_weight for row in rows] == [10, 10, 10, 10, 100, 10]
    assert [row.networks.generator.channel_base for row in rows] == [8192] * 5 + [16384]
    assert rows[0].networks.generator.architecture == "stylegan1"


def test_quantization_where_there_is_none_is_refused():
    with pytest.raises(ValueError, match="config-b has no feature quantization"):
        build_recipe("config-b", quantizer=QuantizerConfig())
    plain = build_recipe("config-e", quantizer=QuantizerConfig(layers=()))
    assert plain.networks.quantizer.layers == ()


def test_unknown_configurations_are_named():
    with pytest.raises(ValueError, match="config-e-Gorig-Dskip"):
        build_recipe("config-g")


def phase(batch_size, device_batch_size):
    return Phase(0.0, 0.0, 8, batch_size, device_batch_size, 0.002, 4.0)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"log_kimg": 0}, "--log-kimg must be positive"),
        ({"evaluate_kimg": -1}, "--evaluate-kimg must not be negative"),
        ({"keep": 0}, "--keep must be at least 1"),
        ({"step": replace(SMOKE.step, batch_size=8)}, "give --schedule.device-batch-size"),
        ({"step": replace(SMOKE.step, generator_lr=0.1)}, "give --schedule.lr"),
        ({"data": DataConfig("toy", "", resolution=24)}, "power of two"),
        ({"quantizer": replace(SMOKE.quantizer, layers=(6,))}, "--quantizer.layers"),
    ],
)
def test_a_bad_option_is_named(options, said):
    with pytest.raises(ValueError, match=said):
        replace(SMOKE, **options)


def test_the_folder_has_a_digest_of_what_matters_only():
    assert replace(SMOKE, log_kimg=1).folder == SMOKE.folder
    longer = replace(SMOKE, schedule=replace(SMOKE.schedule, total_kimg=9))
    assert longer.folder == SMOKE.folder
    assert replace(SMOKE, seed=1).folder != SMOKE.folder
    assert replace(SMOKE, run_dir="a").folder.name == "a"


def test_labels_are_those_of_the_data_where_they_are_wanted():
    assert Stylegan2Train().networks(10).label_size == 0
    assert Stylegan2Train(conditional=True).networks(10).label_size == 10


def test_processes_share_a_batch():
    assert share_phase(phase(32, 4), 1) == (4, 8)
    assert share_phase(phase(32, 4), 8) == (4, 1)
    assert share_phase(phase(32, 32), 4) == (8, 1)
    with pytest.raises(ValueError, match=r"--schedule.batch-size 32 cannot be shared by 3"):
        share_phase(phase(32, 4), 3)


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


FIELDS = {
    "kimg": "kimg", "lod": "lod", "resolution": "resolution", "batch_size": "minibatch_size",
    "device_batch_size": "minibatch_gpu", "lr": "G_lrate", "tick_kimg": "tick_kimg",
}  # fmt: skip


@pytest.mark.golden
@pytest.mark.cases("stylegan/schedules.json")
def test_phases_agree_with_recorded_ones(case):
    for name, rows in json.loads(case.read_text()).items():
        _, letters, resolution = name.split("_")  # as config_abcd_1024
        for letter in letters:
            config = CONFIGURATIONS[f"config-{letter}"].schedule
            for kimg, row in rows.items():
                phase = phase_at(round(float(kimg) * 1000), config, int(resolution))
                ours = {theirs: getattr(phase, field) for field, theirs in FIELDS.items()}
                expected = {key: row[key] for key in ours}
                assert ours == expected, f"{name} {letter} at {kimg}"


def test_growing_fades_between_two_resolutions():
    config = ScheduleConfig(growing=True, training_kimg=10, transition_kimg=10)
    lods = [phase_at(n * 1000, config, 32).lod for n in (0, 10, 15, 20, 25, 35, 40, 100)]
    assert lods == [2, 2, 1.5, 1, 1, 0.5, 0, 0]
    assert phase_at(15_000, config, 32).resolution == 16  # the larger one of the two


def test_the_learning_rate_may_rise_at_first():
    config = ScheduleConfig(lr=0.004, warmup_kimg=2)
    assert [phase_at(n, config, 32).lr for n in (0, 1000, 5000)] == [0, 0.002, 0.004]
