"""Options that are too small or no number are named as on the command line."""

import math
from types import SimpleNamespace

import pytest

from prevalent.runtime.options import at_least, option, positive


@pytest.mark.parametrize(
    ("check", "sentence"),
    [
        (lambda one: at_least(one, num_layers=2), "--num-layers must be at least 2, got 1"),
        (lambda one: at_least(one, "model", num_layers=2), "--model.num-layers must be at least 2"),
        (lambda one: at_least(one, weight=0), "--weight must not be negative, got -1"),
        (lambda one: at_least(one, nan=0), "--nan must not be negative, got nan"),
        (lambda one: positive(one, "", "zero"), "--zero must be positive, got 0"),
        (lambda one: positive(one, "", "nan"), "--nan must be positive, got nan"),
        (lambda one: positive(one, "", "inf"), "--inf must be positive, got inf"),
    ],
)
def test_the_option_is_named_with_what_it_must_be(check, sentence):
    config = SimpleNamespace(num_layers=1, weight=-1, zero=0, nan=math.nan, inf=math.inf)
    with pytest.raises(ValueError, match=sentence):
        check(config)


def test_a_field_is_written_as_on_the_command_line():
    assert (option("lr"), option("max_words", "data")) == ("--lr", "--data.max-words")
