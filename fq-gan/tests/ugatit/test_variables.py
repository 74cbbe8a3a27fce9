"""Every variable of the authors' training graph has its place."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from factories import Recorded
from ugatit_cases import tiny_ugatit

from fqgan.released.ugatit import (
    ADAM,
    NETWORKS,
    Place,
    in_our_layout,
    is_implied,
    moments_of,
    place_of,
    states_of,
)
from fqgan.ugatit import GeneratorConfig, QuantizerConfig, UgatitConfig, build_networks
from fqgan.ugatit.layers import kernels

LISTS = pytest.mark.cases("ugatit/ugatit_variables_*.json")


def on_meta(config):
    with torch.device("meta"):
        return build_networks(config)


def config_of_list(recorded):
    return UgatitConfig(generator=GeneratorConfig(light="light" in recorded["model_name"].lower()))


@pytest.mark.golden
@LISTS
def test_names_shapes_and_roles_of_all_variables_agree(case):
    recorded = json.loads(case.read_text())
    config = config_of_list(recorded)
    networks = on_meta(config)
    parameters = {id(p) for p in networks.parameters()}
    expected = {
        Place(name, key): value
        for name in NETWORKS.values()
        for key, value in getattr(networks, name).state_dict(keep_vars=True).items()
        if not key.endswith("sv0")
    }
    slots = set()
    for variable, about in recorded["variables"].items():
        if slot := ADAM.fullmatch(variable):
            slots.add(place_of(slot.group(1), config))
            continue
        if is_implied(variable):
            continue
        place = place_of(variable, config)
        ours = expected.pop(place)
        theirs = in_our_layout(torch.empty(about["shape"], device="meta"), place.name)
        assert ours.shape == theirs.shape, variable
        learned = id(ours) in parameters
        # The dictionaries are flagged trainable there, and get no gradient.
        assert learned == about["trainable"] or ".quantizers." in place.name, variable
    assert not expected
    assert not slots or len(slots) == len(parameters)


@pytest.mark.golden
@LISTS
def test_the_regularized_kernels_are_the_recorded_ones(case):
    recorded = json.loads(case.read_text())
    config = config_of_list(recorded)
    networks = on_meta(config)
    names = {id(p): name for name, p in networks.named_parameters()}
    theirs = [name.removesuffix("/Regularizer/l2_regularizer:0") for name in
              recorded["reg_loss_names"]]  # fmt: skip
    places = {".".join(place_of(name, config)) for name in theirs}
    assert places == {names[id(kernel)] for kernel in kernels(networks)}
    assert len(theirs) == recorded["n_reg_losses"]


@pytest.mark.golden
@pytest.mark.cases("ugatit/ugatit_small_*.npz")
def test_recorded_states_have_no_variable_without_a_place(case):
    recorded = Recorded(case)
    depth = tiny_ugatit().discriminator.depth
    variables = [name.removeprefix("init/") for name in recorded.names if name.startswith("init/")]
    for variable in variables:
        slot = ADAM.fullmatch(variable)
        name = slot.group(1) if slot else variable
        assert is_implied(name) or place_of(name, tiny_ugatit()), (name, depth)


def test_kernels_change_their_layout_and_nothing_else_does():
    kernel = torch.randn(3, 4, 5, 6)
    assert in_our_layout(kernel, "first.weight").shape == (6, 5, 3, 4)
    assert in_our_layout(torch.zeros(5, 6), "gain.weight").shape == (6, 5)
    assert in_our_layout(torch.zeros(5, 6), "global_branch.quantizers.1.embed").shape == (5, 6)
    assert in_our_layout(torch.zeros(5), "first_norm.weight").shape == (5,)


def test_the_last_convolution_is_found_in_both_branches():
    config = tiny_ugatit()  # 4 layers in the global branch, 2 in the local one
    for branch, number in (("global", 3), ("local", 1)):
        place = place_of(f"discriminator_B/{branch}/conv_last/kernel", config)
        assert place == Place("judge_b", f"{branch}_branch.convs.{number}.weight")


def test_variables_of_upstream_without_spectral_norm_have_a_place():
    config = tiny_ugatit(quantizer=QuantizerConfig(layers=()))
    place = place_of("discriminator_A/local/D_logit/conv2d/kernel", config)
    assert place == Place("judge_a", "local_branch.logit.weight")


def test_unknown_variables_and_half_a_pair_of_moments_are_named():
    one = np.zeros(1, np.float32)
    _, unknown = states_of({"generator_A/extra/kernel": one}, tiny_ugatit())
    assert unknown == {"generator_A/extra/kernel"}
    with pytest.raises(ValueError, match="lacks generator_A/CAM_logit/bias/Adam_1"):
        list(moments_of({"generator_A/CAM_logit/bias/Adam": one}, tiny_ugatit()))
