from dataclasses import replace

import pytest

from fqgan.data.datasets import DataConfig
from fqgan.stylegan2.config import SMOKE, Phase, Stylegan2Train, share_phase


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
