"""Names and layouts of U-GAT-IT's TensorFlow variables, and what they are called here."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .config import UgatitConfig

Arrays = Mapping[str, np.ndarray]

NETWORKS = {
    "generator_B": "a_to_b",
    "generator_A": "b_to_a",
    "discriminator_A": "judge_a",
    "discriminator_B": "judge_b",
}
ENDS = {
    "kernel": "weight", "bias": "bias", "gamma": "weight", "beta": "bias", "rho": "rho", "u": "u0",
}  # fmt: skip
# Patterns of a variable's scope inside its network, and the module it belongs to.
GENERATOR_SCOPES = (
    (r"conv/conv2d", "first"),
    (r"ins_norm", "first_norm"),
    (r"conv_(\d+)/conv2d", r"down.\1"),
    (r"ins_norm_(\d+)", r"down_norms.\1"),
    (r"resblock_(\d+)/res(\d)/conv_0/conv2d", r"blocks.\1.conv\2"),
    (r"resblock_(\d+)/res(\d)/instance_norm", r"blocks.\1.norm\2"),
    (r"CAM_logit", "cam.judge"),
    (r"conv_1x1/conv2d", "cam.mix"),
    (r"MLP/linear_(\d+)/dense", r"style.\1"),
    (r"MLP/gamma/dense", "gain"),
    (r"MLP/beta/dense", "bias"),
    (r"adaptive_resblock(\d+)/res(\d)/conv_0/conv2d", r"adaptive_blocks.\1.conv\2"),
    (r"adaptive_resblock(\d+)/res(\d)/instance_layer_norm", r"adaptive_blocks.\1.norm\2"),
    (r"up_conv_(\d+)/conv2d", r"up.\1"),
    (r"layer_ins_norm_(\d+)", r"up_norms.\1"),
    (r"G_logit/conv2d", "last"),
)
# Without spectral norm the convolutions of a discriminator have the scope conv2d too.
DISCRIMINATOR_SCOPES = (
    (r"(local|global)/conv_(\d+)(?:/conv2d)?", r"\1_branch.convs.\2"),
    (r"(local|global)/conv_last(?:/conv2d)?", r"\1_branch.convs.last"),
    (r"(local|global)/CAM_logit", r"\1_branch.cam.judge"),
    (r"(local|global)/conv_1x1/conv2d", r"\1_branch.cam.mix"),
    (r"(local|global)/D_logit(?:/conv2d)?", r"\1_branch.logit"),
)
QUANTIZER = re.compile(r"(discriminator_[AB])/global/vq_layer(\d+)/(.+)")
QUANTIZER_ENDS = {
    "embedding": "embed",
    "ema_cluster_size/biased": "cluster_size",
    "ema_dw/biased": "embed_avg",
    "ema_cluster_size/local_step": "steps",
}
# Implied by those: the averages without their bias, and a second counter.
IMPLIED = {"ema_cluster_size", "ema_dw", "ema_dw/local_step"}
ADAM = re.compile(r"(.+)/Adam(_1)?")
BETA_POWERS = re.compile(r"beta[12]_power(_1)?")


class Place(NamedTuple):
    """Where a variable goes."""

    network: str  # a_to_b, b_to_a, judge_a or judge_b
    name: str  # in the network's state


def place_of(variable: str, config: UgatitConfig) -> Place | None:
    """Our place of a variable; None where it is implied by others, or not of these networks."""
    quantizer = QUANTIZER.fullmatch(variable)
    if quantizer:
        scope, layer, rest = quantizer.groups()
        # The averages' own variables repeat the whole scope inside the scope.
        end = QUANTIZER_ENDS.get(rest.removeprefix(f"{scope}/global/vq_layer{layer}/"))
        return Place(NETWORKS[scope], f"global_branch.quantizers.{layer}.{end}") if end else None
    scope, _, rest = variable.partition("/")
    inner, _, end = rest.rpartition("/")
    if scope not in NETWORKS or end not in ENDS:
        return None
    patterns = GENERATOR_SCOPES if scope.startswith("generator") else DISCRIMINATOR_SCOPES
    for pattern, module in patterns:
        if found := re.fullmatch(pattern, inner):
            name = found.expand(module)
            if name.endswith("convs.last"):
                shallower = 2 if name.startswith("local") else 0
                name = name.replace("last", str(config.discriminator.depth - 1 - shallower))
            return Place(NETWORKS[scope], f"{name}.{ENDS[end]}")
    return None


def is_implied(variable: str) -> bool:
    """Whether other variables say what this one says."""
    quantizer = QUANTIZER.fullmatch(variable)
    if not quantizer:
        return BETA_POWERS.fullmatch(variable) is not None
    scope, layer, rest = quantizer.groups()
    return rest.removeprefix(f"{scope}/global/vq_layer{layer}/") in IMPLIED


def in_our_layout(tensor: Tensor, name: str) -> Tensor:
    """A variable's value as our state has it: kernels (O, I, H, W) and (outputs, inputs)."""
    if name.endswith("weight") and tensor.ndim == 4:
        return tensor.permute(3, 2, 0, 1).contiguous()
    if name.endswith("weight") and tensor.ndim == 2:
        return tensor.t().contiguous()
    return tensor


def states_of(
    arrays: Arrays, config: UgatitConfig
) -> tuple[dict[str, dict[str, Tensor]], set[str]]:
    """States by network, and the variables that have no place here.

    Slots of Adam are no weights and are passed over; see `moments_of`.
    """
    states: dict[str, dict[str, Tensor]] = {}
    unknown = set()
    for variable, array in arrays.items():
        if ADAM.fullmatch(variable) or is_implied(variable):
            continue
        place = place_of(variable, config)
        if place is None:
            unknown.add(variable)
        else:
            state = states.setdefault(place.network, {})
            state[place.name] = in_our_layout(torch.from_numpy(array), place.name)
    return states, unknown


def moments_of(arrays: Arrays, config: UgatitConfig) -> Iterator[tuple[Place, Tensor, Tensor]]:
    """Place of a parameter and Adam's first and second moment of it."""
    for variable, array in arrays.items():
        slot = ADAM.fullmatch(variable)
        if slot is None or slot.group(2):
            continue
        place = place_of(slot.group(1), config)
        if place is None:
            raise ValueError(f"{variable} is a moment of a variable that has no place here")
        second = arrays.get(f"{variable}_1")
        if second is None:
            raise ValueError(f"the checkpoint has {variable} and lacks {variable}_1")
        yield (
            place,
            in_our_layout(torch.from_numpy(array), place.name),
            in_our_layout(torch.from_numpy(second), place.name),
        )
