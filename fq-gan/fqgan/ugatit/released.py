"""TensorFlow checkpoints of FQ-U-GAT-IT and of U-GAT-IT, read by name without TensorFlow."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor

from ..conversion import Report, load_with_report
from ..tensor_bundle import read_tensor_bundle
from .config import (
    DiscriminatorConfig,
    GanLoss,
    GeneratorConfig,
    QuantizerConfig,
    StepConfig,
    UgatitConfig,
)
from .moments import FIRST, GENERATOR_UPDATES, JUDGE_UPDATES, SECOND
from .networks import UgatitNetworks, build_networks
from .variables import ADAM, NETWORKS, Arrays, moments_of, states_of

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
