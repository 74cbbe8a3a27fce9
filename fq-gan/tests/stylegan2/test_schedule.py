"""Schedules against recorded ones, and growing in between."""

from __future__ import annotations

import json

import pytest

from fqgan.stylegan2 import CONFIGURATIONS, ScheduleConfig, phase_at

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
