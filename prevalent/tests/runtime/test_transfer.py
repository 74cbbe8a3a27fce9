"""Batches made ahead: the same order, an exact position, faults that reach the caller."""

from typing import NamedTuple

import numpy as np
import pytest
import torch

from prevalent.runtime.transfer import ReadAhead, upload


class Batch(NamedTuple):
    ids: torch.Tensor
    count: float


class Numbers:
    """0, 1, 2, ...; fails at ``broken_at``."""

    def __init__(self, broken_at=-1):
        self.position, self.broken_at = 0, broken_at

    def __next__(self):
        if self.position == self.broken_at:
            raise ValueError("the source is broken")
        self.position += 1
        return Batch(torch.tensor([self.position - 1]), 1.0)

    def state_dict(self):
        return {"position": self.position}

    def load_state_dict(self, state):
        self.position = state["position"]


def take(batches, count):
    return [next(batches).ids.item() for _ in range(count)]


@pytest.mark.parametrize("threaded", [False, True])
def test_the_order_is_that_of_the_source_and_the_position_that_of_what_was_handed_out(threaded):
    batches = ReadAhead(Numbers(), "cpu", depth=3, threaded=threaded)
    assert batches.state_dict() == {"position": 0}
    assert take(batches, 5) == [0, 1, 2, 3, 4]
    assert batches.state_dict() == {"position": 5}
    resumed = ReadAhead(Numbers(), "cpu", threaded=threaded)
    resumed.load_state_dict(batches.state_dict())
    assert take(resumed, 3) == [5, 6, 7]
    batches.load_state_dict({"position": 2})
    assert take(batches, 2) == [2, 3]
    batches.close()
    resumed.close()
    assert batches.source.position == 4
    assert take(batches, 2) == [4, 5]
    batches.close()


def test_a_fault_of_the_source_comes_where_its_batch_is_asked_for():
    batches = ReadAhead(Numbers(broken_at=2), "cpu", threaded=True)
    assert take(batches, 2) == [0, 1]
    with pytest.raises(ValueError, match="the source is broken"):
        next(batches)


def test_an_upload_takes_arrays_and_tensors():
    assert torch.equal(upload(np.arange(3), "cpu"), torch.arange(3))
    assert upload(torch.ones(2), "cpu", torch.float64).dtype == torch.float64
