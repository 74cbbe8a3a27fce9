"""The authors' command-line flags, as they stand in their checkpoints, in our settings."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from .config import (
    BigganConfig,
    DiscriminatorConfig,
    GeneratorConfig,
    Init,
    Norm,
    QuantizerConfig,
    StepConfig,
)

INITS: dict[str, Init] = {"ortho": "ortho", "N02": "N02", "glorot": "glorot", "xavier": "glorot"}
NORMS: dict[str, Norm] = {"bn": "bn", "in": "in", "gn": "gn", "nonorm": "none"}


def config_from_flags(flags: Mapping[str, Any]) -> BigganConfig:
    """Networks as the authors' flags describe them; absent flags have the authors' defaults.

    ``resolution`` and ``n_classes``, which the authors derive from ``dataset``, are taken from
    there where they are absent. ``discrete_layer`` absent or empty means no quantization.

    Raises:
        ValueError: a value that has no counterpart here.
    """
    resolution, classes = _shape_of_data(flags)
    latent_dim = flags.get("dim_z", 128)
    shared = flags.get("G_shared", False)
    model = flags.get("model", "BigGANdeep" if "G_depth" in flags else "BigGAN")
    return BigganConfig(
        resolution=resolution,
        num_classes=classes,
        architecture="biggan-deep" if model == "BigGANdeep" else "biggan",
        init=_choice("G_init", flags.get("G_init", "ortho"), INITS),
        bn_eps=flags.get("BN_eps", 1e-5),
        sn_eps=flags.get("SN_eps", 1e-8),
        generator=GeneratorConfig(
            channels=flags.get("G_ch", 64),
            latent_dim=latent_dim,
            hierarchical=flags.get("hier", False),
            shared_dim=(flags.get("shared_dim", 0) or latent_dim) if shared else 0,
            attention=_resolutions(flags.get("G_attn", "64")),
            norm=_norm(flags),
            spectral_norm=flags.get("G_param", "SN") == "SN",
            singular_vectors=flags.get("num_G_SVs", 1),
            power_iterations=flags.get("num_G_SV_itrs", 1),
            depth=flags.get("G_depth", 1),
        ),
        discriminator=DiscriminatorConfig(
            channels=flags.get("D_ch", 64),
            wide=flags.get("D_wide", True),
            attention=_resolutions(flags.get("D_attn", "64")),
            singular_vectors=flags.get("num_D_SVs", 1),
            power_iterations=flags.get("num_D_SV_itrs", 1),
            depth=flags.get("D_depth", 1),
        ),
        quantizer=QuantizerConfig(
            layers=tuple(dict.fromkeys(int(digit) for digit in flags.get("discrete_layer", ""))),
            codebook_size=2 ** flags.get("dict_size", 10),
            commitment_weight=flags.get("commitment", 0.5),
            decay=flags.get("dict_decay", 0.8),
        ),
    )


def step_config_from_flags(flags: Mapping[str, Any]) -> StepConfig:
    """Settings of an iteration from the authors' flags; absent ones have their defaults."""
    return StepConfig(
        batch_size=flags.get("batch_size", 64),
        generator_batch_size=flags.get("G_batch_size", 0),
        num_d_steps=flags.get("num_D_steps", 2),
        num_d_accumulations=flags.get("num_D_accumulations", 1),
        num_g_accumulations=flags.get("num_G_accumulations", 1),
        generator_lr=flags.get("G_lr", 5e-5),
        discriminator_lr=flags.get("D_lr", 2e-4),
        generator_betas=(flags.get("G_B1", 0.0), flags.get("G_B2", 0.999)),
        discriminator_betas=(flags.get("D_B1", 0.0), flags.get("D_B2", 0.999)),
        adam_eps=flags.get("adam_eps", 1e-8),
        split_d=flags.get("split_D", False),
        generator_ortho=flags.get("G_ortho", 0.0),
        discriminator_ortho=flags.get("D_ortho", 0.0),
        ema_decay=flags.get("ema_decay", 0.9999),
        ema_start=flags.get("ema_start", 0),
    )


def _shape_of_data(flags: Mapping[str, Any]) -> tuple[int, int]:
    """Resolution and number of classes, given or from names such as C10, C100 and I64ext_hdf5."""
    name = str(flags.get("dataset", ""))
    match = re.fullmatch(r"(C|I)(\d+)(ext)?(_hdf5)?", name)
    resolution, classes = flags.get("resolution"), flags.get("n_classes")
    if match:
        number = int(match[2])
        resolution = resolution or (32 if match[1] == "C" else number)
        ext = 10 if number == 128 else 20
        classes = classes or (number if match[1] == "C" else ext if match[3] else 1000)
    if resolution is None or classes is None:
        raise ValueError(
            f"the flags name the data set {name!r}, whose resolution and number of classes are "
            "unknown; give resolution and n_classes"
        )
    return int(resolution), int(classes)


def _resolutions(text: str) -> tuple[int, ...]:
    """``64_32`` -> (64, 32); ``0`` -> ()."""
    return tuple(int(part) for part in str(text).split("_") if part and int(part) > 0)


def _norm(flags: Mapping[str, Any]) -> Norm:
    if flags.get("cross_replica", False):
        return "sync-bn"
    if flags.get("mybn", False):
        return "mybn"
    style = str(flags.get("norm_style", "bn"))
    return _choice("norm_style", style.split("_")[0], NORMS)


def _choice(flag: str, value: str, choices: Mapping[str, Any]) -> Any:
    if value not in choices:
        raise ValueError(f"flag {flag} is {value!r}; known are {', '.join(choices)}")
    return choices[value]
