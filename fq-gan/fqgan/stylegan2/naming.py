"""The authors' variable names and layouts, and the keys of our networks' state dicts.

Their networks are named by layers, as in ``G_synthesis/8x8/Conv0_up/mod_weight``. Convolutions
are (height, width, in, out) and dense layers (in, out).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

# Their name of a part of the network -> ours; other parts have the same name in lower case.
PARTS = {
    "G_synthesis": "synthesis",
    "G_mapping": "mapping",
    "LabelConcat": "label_concat",
    "StyleMod": "style_mod",
    "ToRGB": "to_rgb",
    "FromRGB": "from_rgb",
}
# Their name of a variable -> ours; others are the same.
LEAVES = {
    "mod_weight": "modulation.weight",
    "mod_bias": "modulation.bias",
    "dlatent_avg": "style_average",
}
# What their dictionaries have beside the embedding, and which of our buffers holds it.
QUANTIZER = {
    "embedding": "embed",
    "ema_cluster_size/biased": "cluster_size",
    "ema_dw/biased": "embed_avg",
    "ema_cluster_size/local_step": "steps",
}
IGNORED = ("lod", "G_synthesis/lod")  # progress of growing, not a weight


def key_of(name: str) -> str | None:
    """Our key of their variable ``name``; None for what has no place of its own.

    Variables of a generator's parts begin with ``G_mapping/`` or ``G_synthesis/``.
    """
    if name in IGNORED:
        return None
    found = re.fullmatch(r"Discrete_mapping_(\d+)/(?:Discrete_mapping_\w+/)?(.+)", name)
    if found:
        own = QUANTIZER.get(found[2])
        return None if own is None else f"quantizers.{found[1]}.{own}"
    *parts, leaf = name.split("/")
    return ".".join([*map(_our_part, parts), LEAVES.get(leaf, leaf)])


def _our_part(part: str) -> str:
    size = re.fullmatch(r"(\d+)x\1", part)
    if size:
        return f"blocks.{size[1]}"
    base, separator, rest = part.partition("_lod")
    return PARTS.get(base, base[0].lower() + base[1:]) + separator + rest


def name_of(key: str) -> str:
    """Their name of our ``key``: the inverse of `key_of`."""
    found = re.fullmatch(r"quantizers\.(\d+)\.(\w+)", key)
    if found:
        scope = f"Discrete_mapping_{found[1]}"
        theirs = {ours: name for name, ours in QUANTIZER.items()}[found[2]]
        return f"{scope}/{scope}/{theirs}" if "/" in theirs else f"{scope}/{theirs}"
    for theirs, ours in LEAVES.items():
        if key == ours or key.endswith(f".{ours}"):
            key = key.removesuffix(ours) + theirs
    *parts, leaf = re.sub(r"blocks\.(\d+)", r"\1x\1", key).split(".")
    return "/".join([*map(_their_part, parts), leaf])


def _their_part(part: str) -> str:
    base, separator, rest = part.partition("_lod")
    back = {ours: theirs for theirs, ours in PARTS.items()}
    return back.get(base, base[0].upper() + base[1:]) + separator + rest


def permutation(name: str, ndim: int) -> tuple[int, ...] | None:
    """The permutation that turns their ``name``, of ``ndim`` dimensions, into ours."""
    if name.endswith("LabelConcat/weight") or not name.endswith("weight"):
        return None
    return {4: (3, 2, 0, 1), 2: (1, 0)}.get(ndim)


def from_tf(variables: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Their variables as a state dict of ours; what has no place of its own is left out."""
    state = {}
    for name, value in variables.items():
        key = key_of(name)
        if key is not None:
            order = permutation(name, value.ndim)
            state[key] = value if order is None else value.permute(order).contiguous()
    return state


def to_tf(state: Mapping[str, Tensor], decay: float = 0.8) -> dict[str, Tensor]:
    """A state dict of ours as their variables, those included that follow from others.

    Args:
        state: of a generator or a discriminator.
        decay: of the dictionaries' averages.
    """
    variables = {}
    for key, value in state.items():
        name = name_of(key)
        order = permutation(name, value.ndim)
        back = None if order is None else tuple(order.index(i) for i in range(value.ndim))
        variables[name] = value if back is None else value.permute(back)
    for key in [key for key in state if key.endswith(".steps")]:
        base, scope = key.removesuffix("steps"), name_of(key).split("/")[0]
        weight = (1.0 - decay ** state[key]).clamp(min=torch.finfo(torch.float32).tiny)
        variables[f"{scope}/ema_cluster_size"] = state[f"{base}cluster_size"] / weight
        variables[f"{scope}/ema_dw"] = state[f"{base}embed_avg"] / weight
        variables[f"{scope}/{scope}/ema_dw/local_step"] = state[key]
    if "style_average" in state:
        variables["lod"] = torch.zeros(())
    return variables
