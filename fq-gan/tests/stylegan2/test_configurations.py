"""Configurations a to f."""

from __future__ import annotations

import pytest

from fqgan.stylegan2 import CONFIGURATIONS, QuantizerConfig, build_recipe


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
