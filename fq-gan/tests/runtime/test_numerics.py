"""One place decides how a device computes with fp32, and islands of IEEE arithmetic hold."""

import pytest
import torch

from fqgan.runtime.numerics import arithmetic, ieee_fp32, set_numerics


@pytest.fixture(autouse=True)
def _restored():
    before = arithmetic(), torch.backends.cudnn.benchmark
    yield
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.benchmark = before[1]
    torch.backends.cuda.matmul.fp32_precision = before[0][0]
    torch.backends.cudnn.conv.fp32_precision = before[0][1]
    torch.backends.cudnn.rnn.fp32_precision = before[0][2]


def test_training_may_use_tf32_and_an_island_may_not():
    set_numerics()
    assert arithmetic() == ("tf32", "tf32", "tf32")
    with ieee_fp32():
        assert arithmetic() == ("ieee", "ieee", "ieee")
        with ieee_fp32():
            pass
        assert arithmetic() == ("ieee", "ieee", "ieee")
    assert arithmetic() == ("tf32", "tf32", "tf32")


def test_an_island_that_fails_gives_back_what_was_set():
    set_numerics()
    with pytest.raises(KeyError), ieee_fp32():
        raise KeyError
    assert arithmetic() == ("tf32", "tf32", "tf32")


def test_a_deterministic_run_is_ieee_and_searches_no_algorithms():
    set_numerics(deterministic=True)
    assert arithmetic() == ("ieee", "ieee", "ieee")
    assert torch.are_deterministic_algorithms_enabled()
    assert not torch.backends.cudnn.benchmark
