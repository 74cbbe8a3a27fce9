import pytest

from optimus.loop_options import LoopOptions, rows_per_process


def test_steps_come_from_epochs_unless_they_are_given():
    assert LoopOptions(epochs=2.5).steps(10) == 25
    assert LoopOptions(epochs=0.01).steps(10) == 1
    assert LoopOptions(max_steps=7).steps(10) == 7


def test_uneven_batches_and_wrong_numbers_are_refused():
    assert rows_per_process(8, 2) == 4
    with pytest.raises(ValueError, match="multiple of the 3 processes"):
        rows_per_process(8, 3)
    with pytest.raises(ValueError, match="--log-every must be at least 1"):
        LoopOptions(log_every=0)
    with pytest.raises(ValueError, match="--epochs must be positive"):
        LoopOptions(epochs=0)
