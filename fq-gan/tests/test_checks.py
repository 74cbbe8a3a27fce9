"""Options that are out of range are named as they are written."""

from types import SimpleNamespace

import pytest

from fqgan.checks import at_least, option, positive


def test_what_is_in_range_passes():
    at_least(SimpleNamespace(batch_size=1, warmup=0), "step", batch_size=1, warmup=0)
    positive(SimpleNamespace(lr=1e-9), "step", "lr")


def test_what_is_out_of_range_is_named():
    config = SimpleNamespace(batch_size=0, log_every=-1, lr=0.0)
    with pytest.raises(ValueError, match=r"--step\.batch-size must be at least 1, got 0"):
        at_least(config, "step", batch_size=1)
    with pytest.raises(ValueError, match="--log-every must not be negative, got -1"):
        at_least(config, log_every=0)
    with pytest.raises(ValueError, match=r"--step\.lr must be positive, got 0\.0"):
        positive(config, "step", "lr")
    assert option("log_every") == "--log-every"
