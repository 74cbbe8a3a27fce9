"""Options of HANNA's agents are checked when they are made."""

import pytest

from prevalent.agents.hanna import SearchConfig
from prevalent.models.hanna import AssistanceConfig


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        (AssistanceConfig, {"hidden_size": 10, "num_heads": 4}, "--model.hidden-size 10"),
        (AssistanceConfig, {"num_layers": 0}, "--model.num-layers"),
        (AssistanceConfig, {"dropout": 1.0}, "dropout probabilities"),
        (AssistanceConfig, {"angle_size": 6}, "multiple of 4"),
        (SearchConfig, {"train_length": 0}, "--search.train-length"),
        (SearchConfig, {"ask_every": 0}, "--search.ask-every"),
        (SearchConfig, {"ask_probability": 1.5}, "--search.ask-probability"),
        (SearchConfig, {"curiosity": -1.0}, "--search.curiosity"),
    ],
)
def test_an_impossible_option_is_named(kind, change, message):
    with pytest.raises(ValueError, match=message):
        kind(**change)
