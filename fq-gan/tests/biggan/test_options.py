from dataclasses import replace

import pytest

from fqgan.biggan.config import C10, BigganTrain, StepConfig, share_step


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
