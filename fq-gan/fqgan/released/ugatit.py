"""TensorFlow checkpoints of U-GAT-IT and FQ-U-GAT-IT, and the names of their variables."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor

from ..ugatit.config import (
    DiscriminatorConfig,
    GanLoss,
    GeneratorConfig,
    QuantizerConfig,
    StepConfig,
    UgatitConfig,
)
from ..ugatit.networks import UgatitNetworks, build_networks
from ..ugatit.translation import FIRST, GENERATOR_UPDATES, JUDGE_UPDATES, SECOND
from .loading import Report, load_with_report
from .tensor_bundle import read_tensor_bundle

# UGATIT_light_q_selfie2anime_lsgan_4resblock_6dis_1_1_10_10_1000_sn_smoothing_123_2.0_0.85
NUMBER = r"\d+(?:\.\d+)?(?:e-?\d+)?"
FOLDER = re.compile(
    rf"UGATIT(?P<light>_light)?(?P<quant>_q)?_(?P<dataset>.+)_(?P<loss>{'|'.join(get_args(GanLoss))})"
    rf"_(?P<blocks>\d+)resblock_(?P<depth>\d+)dis_(?P<critic>\d+)_(?P<adversarial>{NUMBER})"
    rf"_(?P<cycle>{NUMBER})_(?P<identity>{NUMBER})_(?P<cam>{NUMBER})(?P<sn>_sn)?"
    rf"(?P<smoothing>_smoothing)?(?:_(?P<layers>\d+)_(?P<commitment>{NUMBER})_(?P<decay>{NUMBER}))?"
)
BETA2 = 0.999
SMALLEST_POWER = 1e-30  # of beta2; the number of updates comes from the file's name below it
FILLED = "sv0"  # the singular value, for logs, which TensorFlow does not keep


@dataclass(frozen=True)
class Released:
    """One checkpoint: variables under their names, nothing built yet."""

    prefix: Path
    config: UgatitConfig
    step_config: StepConfig
    step: int  # iterations behind it
    domain_names: tuple[str, str]  # from the name of the data set, such as selfie2anime
    arrays: Arrays

    @property
    def has_discriminators(self) -> bool:
        return any(name.startswith("discriminator") for name in self.arrays)


def find_prefix(path: str | Path) -> Path:
    """The checkpoint that ``path`` means: a folder with ``checkpoint``, a prefix, or an index.

    Raises:
        FileNotFoundError: there is none.
    """
    path = Path(path)
    if not path.is_dir():
        return Path(str(path).removesuffix(".index"))
    found = sorted(path.glob("*.index"), key=_number_of)
    latest = path / "checkpoint"
    if latest.is_file():
        named = re.search(r'^model_checkpoint_path:\s*"([^"]+)"', latest.read_text(), re.M)
        # The folder may have moved since: only the last part of the path counts.
        inside = path / f"{Path(named.group(1)).name}.index" if named else None
        if inside and inside.is_file():
            found.append(inside)
    if not found:
        raise FileNotFoundError(
            f"no checkpoint was found in {path}; give the folder that has "
            "UGATIT.model-NUMBER.index and .data-00000-of-00001, or the path of that index"
        )
    return Path(str(found[-1]).removesuffix(".index"))


def read_released(
    path: str | Path, *, image_size: int = 256, moments: bool = False, check: bool = True
) -> Released:
    """Read a checkpoint; the settings come from shapes and from the name of its folder.

    Args:
        path: folder with a file ``checkpoint``, prefix, or index file.
        image_size: of the training images, where no shape tells: in light networks.
        moments: read Adam's moments too.
        check: compare checksums (some seconds per 100 MB).

    Raises:
        FileNotFoundError: there is no checkpoint.
        ValueError: a damaged one, or one of another network.
    """
    prefix = find_prefix(path)
    arrays = read_tensor_bundle(
        prefix, check=check, wanted=lambda name: moments or ADAM.fullmatch(name) is None
    )
    if "generator_B/conv/conv2d/kernel" not in arrays:
        raise ValueError(f"{prefix} is not a checkpoint of U-GAT-IT: it has no generator_B")
    named = FOLDER.fullmatch(prefix.parent.name)
    words = named.groupdict() if named else {}
    try:
        config = _networks_of(arrays, words, image_size)
    except KeyError as error:
        raise ValueError(f"{prefix} is incomplete: the variable {error} is missing") from None
    # Theirs counts from 1 and is one ahead.
    step = max(_number_of(prefix) - 1, 0)
    return Released(prefix, config, _step_of(words), step, _domains_of(words), arrays)


def build_released(released: Released) -> tuple[UgatitNetworks, list[Report]]:
    """All four networks and a report on each; without discriminators theirs are new."""
    networks = build_networks(released.config)
    states, unknown = states_of(released.arrays, released.config)
    reports = []
    for scope, name in NETWORKS.items():
        if name.startswith("judge") and not released.has_discriminators:
            continue
        network, state = getattr(networks, name), dict(states.get(name, {}))
        own = network.state_dict()
        filled = tuple(key for key in own if key.endswith(FILLED))
        state.update({key: own[key] for key in filled})
        state.update({key: Tensor() for key in unknown if key.startswith(f"{scope}/")})
        reports.append(load_with_report(network, state, name, filled=filled))
    return networks, reports


def moments_by_name(released: Released) -> dict[str, Tensor]:
    """Adam's moments for `moments.load_moments`, as one flat state."""
    found: dict[str, Tensor] = {
        GENERATOR_UPDATES: _updates(released, "beta2_power"),
        JUDGE_UPDATES: _updates(released, "beta2_power_1"),
    }
    for place, first, second in moments_of(released.arrays, released.config):
        found[f"{place.network}.{place.name}{FIRST}"] = first
        found[f"{place.network}.{place.name}{SECOND}"] = second
    if len(found) == 2:
        raise ValueError(f"{released.prefix} has no moments of Adam; leave --moments out")
    return found


def _networks_of(arrays: Arrays, words: Mapping[str, Any], image_size: int) -> UgatitConfig:
    first = arrays["generator_B/conv/conv2d/kernel"].shape  # 7, 7, image channels, channels
    middle = 4 * first[3]
    rows = arrays["generator_B/MLP/linear_0/dense/kernel"].shape[0]
    light = rows == middle
    size = image_size if light else 4 * round((rows / middle) ** 0.5)
    deepest = DiscriminatorConfig().depth  # or what small images allow, where there are none
    judges: dict[str, Any] = {"depth": min(deepest, max(4, (size // 3).bit_length()))}
    if "discriminator_A/global/CAM_logit/kernel" in arrays:
        judges = {
            "channels": arrays[_conv(arrays, "discriminator_A/global/conv_0")].shape[3],
            "depth": 1 + _count(arrays, r"discriminator_A/global/conv_(\d+)/.*"),
            "spectral_norm": "discriminator_A/global/CAM_logit/u" in arrays,
        }
    return UgatitConfig(
        size,
        first[2],
        GeneratorConfig(
            first[3], _count(arrays, r"generator_B/resblock_(\d+)/.*"), light,
            smoothing=not words or words["smoothing"] is not None,
        ),
        DiscriminatorConfig(**judges),
        _quantizer_of(arrays, words),
    )  # fmt: skip


def _quantizer_of(arrays: Arrays, words: Mapping[str, Any]) -> QuantizerConfig:
    pattern = re.compile(r"discriminator_A/global/vq_layer(\d+)/embedding")
    sizes = {
        int(found.group(1)): array.shape[1]
        for name, array in arrays.items()
        if (found := pattern.fullmatch(name))
    }
    config = QuantizerConfig(tuple(sorted(sizes)))
    if words.get("commitment"):
        weight, decay = float(words["commitment"]), float(words["decay"])
        config = replace(config, commitment_weight=weight, decay=decay)
    if any(config.codes_of(layer) != size for layer, size in sizes.items()):
        # One number for all layers; where they differ, the report names what does not fit.
        config = replace(config, codebook_size=max(sizes.values()))
    return config


def _step_of(words: Mapping[str, Any]) -> StepConfig:
    if not words:
        return StepConfig()
    return StepConfig(
        loss=words["loss"],
        adversarial_weight=float(words["adversarial"]),
        cycle_weight=float(words["cycle"]),
        identity_weight=float(words["identity"]),
        cam_weight=float(words["cam"]),
        generator_every=int(words["critic"]),
    )


def _domains_of(words: Mapping[str, Any]) -> tuple[str, str]:
    first, _, second = words.get("dataset", "").partition("2")
    return (first, second) if first and second else ("A", "B")


def _conv(arrays: Arrays, scope: str) -> str:
    """A convolution's kernel, with spectral norm or without."""
    return f"{scope}/kernel" if f"{scope}/kernel" in arrays else f"{scope}/conv2d/kernel"


def _count(arrays: Arrays, pattern: str) -> int:
    return len({found.group(1) for name in arrays if (found := re.fullmatch(pattern, name))})


def _number_of(path: Path) -> int:
    number = path.name.removesuffix(".index").rpartition("-")[2]
    return int(number) if number.isdigit() else 0


def _updates(released: Released, name: str) -> Tensor:
    """Updates of an optimizer, from the power of beta2 that it keeps (one ahead)."""
    power = float(released.arrays[name]) if name in released.arrays else 0.0
    if power < SMALLEST_POWER:
        return torch.tensor(float(released.step))
    return torch.tensor(float(round(np.log(power) / np.log(BETA2)) - 1))


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
