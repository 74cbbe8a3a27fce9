"""The authors' names and layouts against ours, one to one."""

from __future__ import annotations

import json

import pytest
import torch
from factories import Recorded
from stylegan_cases import tiny_config

from fqgan.released.stylegan2 import from_tf, key_of, name_of, to_tf
from fqgan.stylegan2 import CONFIGURATIONS, build_discriminator, build_generator, build_recipe
from fqgan.stylegan2.config import QuantizerConfig


@pytest.mark.golden
@pytest.mark.cases("stylegan/full_size_variables.json")
def test_full_size_networks_have_the_recorded_variables(case):
    for name, networks in json.loads(case.read_text()).items():
        configuration, resolution = name.split("_")[:2]  # as config-e_128, then remarks
        assert configuration in CONFIGURATIONS
        for kind, variables in networks.items():
            digits = {n.split("/")[0] for n in variables if n.startswith("Discrete_mapping_")}
            layers = tuple(sorted(int(d.rsplit("_", 1)[1]) for d in digits))
            recipe = build_recipe(
                configuration, int(resolution), quantizer=QuantizerConfig(layers=layers)
            )
            build = build_generator if kind.startswith("G") else build_discriminator
            with torch.device("meta"):
                network = build(recipe.networks)
            ours = to_tf(network.state_dict())
            theirs = {variable: entry[0] for variable, entry in variables.items()}
            assert {k: list(v.shape) for k, v in ours.items()} == theirs, f"{name} {kind}"
            trainable = {v for v, entry in variables.items() if entry[1]}
            learned = {name_of(key) for key, _ in network.named_parameters()}
            assert learned == {v for v in trainable if v.split("/")[0] not in digits}


@pytest.mark.golden
@pytest.mark.cases("stylegan/networks_losses*.npz")
def test_every_recorded_variable_has_a_key_or_follows_from_others(case):
    recorded = Recorded(case)
    for kind, names in recorded.json("names").items():
        if f"{kind}/{next(iter(names))}" not in recorded.names:
            continue  # a smaller file has some of the networks
        variables = {name: recorded[f"{kind}/{name}"] for name in names}
        back = to_tf(from_tf(variables))
        for name, value in variables.items():
            assert torch.equal(back[name], value) or "ema_" in name, name


@pytest.mark.parametrize("build", [build_generator, build_discriminator])
def test_states_survive_the_way_to_their_names_and_back(build):
    state = build(tiny_config((3, 4), label_size=2)).state_dict()
    back = from_tf(to_tf(state))
    assert back.keys() == state.keys()
    assert all(torch.equal(back[key], value) for key, value in state.items())
    assert all(key_of(name_of(key)) == key for key in state)


def test_names_are_those_of_the_authors():
    assert key_of("G_synthesis/8x8/Conv0_up/mod_weight") == (
        "synthesis.blocks.8.conv0_up.modulation.weight"
    )
    assert key_of("Discrete_mapping_4/Discrete_mapping_4_1/ema_dw/biased") == (
        "quantizers.4.embed_avg"
    )
    assert key_of("lod") is None
