"""The authors' functions that build networks, and their keyword arguments, as our settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

from .config import (
    LEGACY,
    DiscriminatorArchitecture,
    DiscriminatorConfig,
    GeneratorArchitecture,
    GeneratorConfig,
    MappingConfig,
    QuantizerConfig,
    Stylegan2Config,
)

Arguments = Mapping[str, Any]

GENERATORS = ("G_main", "G_style")
SYNTHESIS: dict[str, GeneratorArchitecture] = {
    "G_synthesis_stylegan_revised": "growing",
    "G_synthesis": "stylegan1",
}
DISCRIMINATORS = ("D_stylegan2", "D_stylegan2_quant", "D_stylegan", "D_basic", "D_paper")
GROWING_DISCRIMINATORS: dict[str, DiscriminatorArchitecture] = {
    "D_stylegan": "growing",
    "D_basic": "stylegan1",
    "D_paper": "stylegan1",  # of ProGAN: without the blur
}
BLURS = {"D_basic": (1, 2, 1)}  # where the arguments do not say
# Arguments that change what a network computes, and the value with which it is built here.
ONLY = {
    "fmap_decay": 1.0, "nonlinearity": "lrelu", "mapping_nonlinearity": "lrelu",
    "normalize_latents": True, "use_wscale": True, "use_noise": True, "use_styles": True,
    "use_instance_norm": True, "use_pixel_norm": False, "const_input_layer": True,
    "blur_filter": (1, 2, 1), "fused_scale": "auto", "mapping_func": "G_mapping",
}  # fmt: skip
# What grows is judged by what grows.
JUDGES: dict[GeneratorArchitecture, DiscriminatorArchitecture] = {
    "growing": "growing",
    "stylegan1": "stylegan1",
}
MAKERS: dict[DiscriminatorArchitecture, GeneratorArchitecture] = {
    "growing": "growing",
    "stylegan1": "stylegan1",
}
# The one filter may be left out of a discriminator, and fused or not it computes the same.
FREE_IN_DISCRIMINATORS = ("blur_filter", "fused_scale")
MAX_RESOLUTION = 4096
STYLEGAN1_BASE, STYLEGAN2_BASE = 8 << 10, 16 << 10  # widths where the arguments do not say


def generator_settings(function: str, arguments: Arguments) -> Stylegan2Config:
    """Settings of a generator; its discriminator is one that goes with it.

    Args:
        function: that builds it.
        arguments: of the function.

    Raises:
        ValueError: the function is unknown, or an argument has no counterpart here.
    """
    if function not in GENERATORS:
        raise ValueError(f"{function} builds no generator that is known ({', '.join(GENERATORS)})")
    _check(function, arguments)
    first = function == "G_style"
    synthesis = arguments.get("synthesis_func", "G_synthesis" if first else "G_synthesis_stylegan2")
    if synthesis not in (*SYNTHESIS, "G_synthesis_stylegan2"):
        raise ValueError(f"synthesis_func {synthesis!r} of {function} is not known")
    default = cast(GeneratorArchitecture, arguments.get("architecture", "skip"))
    architecture = SYNTHESIS.get(synthesis, default)
    own = MappingConfig()
    mapping = MappingConfig(
        arguments.get("latent_size", own.latent_dim),
        arguments.get("dlatent_size", own.style_dim),
        arguments.get("mapping_fmaps", own.hidden_dim),
        arguments.get("mapping_layers", own.num_layers),
        arguments.get("mapping_lrmul", own.lr_multiplier),
    )
    width, decay = _width(arguments, first), arguments.get("dlatent_avg_beta", 0.995)
    generator = GeneratorConfig(
        architecture,
        *width,
        _fir(arguments),
        style_mixing=arguments.get("style_mixing_prob", 0.9) or 0.0,
        average_decay=1.0 if decay is None else decay,
    )
    partner: DiscriminatorArchitecture = JUDGES.get(architecture, "resnet")
    discriminator = DiscriminatorConfig(partner, *width, generator.fir)
    return Stylegan2Config(
        *_image(arguments), mapping, generator, discriminator, QuantizerConfig(layers=())
    )


def discriminator_settings(
    function: str, arguments: Arguments, dictionaries: Mapping[int, Arguments]
) -> Stylegan2Config:
    """Settings of a discriminator; its generator is one that goes with it.

    Args:
        function: that builds it.
        arguments: of the function.
        dictionaries: layer -> arguments of its quantizer.

    Raises:
        ValueError: the function is unknown, or an argument has no counterpart here.
    """
    if function not in DISCRIMINATORS:
        known = ", ".join(DISCRIMINATORS)
        raise ValueError(f"{function} builds no discriminator that is known ({known})")
    _check(function, {k: v for k, v in arguments.items() if k not in FREE_IN_DISCRIMINATORS})
    default = cast(DiscriminatorArchitecture, arguments.get("architecture", "resnet"))
    architecture = GROWING_DISCRIMINATORS.get(function, default)
    first = architecture == "stylegan1"
    width = _width(arguments, first)
    discriminator = DiscriminatorConfig(
        architecture,
        *width,
        _blur(function, arguments) if first else _fir(arguments),
        group_size=arguments.get("mbstd_group_size", 4) or 0,
        group_features=arguments.get("mbstd_num_features", 1),
    )
    partner: GeneratorArchitecture = MAKERS.get(architecture, "skip")
    return Stylegan2Config(
        *_image(arguments),
        MappingConfig(),
        GeneratorConfig(partner, *width, _fir(arguments)),
        discriminator,
        _quantizer(dictionaries),
    )


def joint_settings(made: Stylegan2Config, judged: Stylegan2Config) -> Stylegan2Config:
    """The generator of one configuration and the discriminator of another."""
    for name in ("resolution", "num_channels", "label_size"):
        if getattr(made, name) != getattr(judged, name):
            raise ValueError(f"generator and discriminator differ in {name}")
    if (made.generator.architecture in LEGACY) != judged.growing:
        raise ValueError("only one of generator and discriminator grows")
    return replace(made, discriminator=judged.discriminator, quantizer=judged.quantizer)


def _quantizer(dictionaries: Mapping[int, Arguments]) -> QuantizerConfig:
    usual = QuantizerConfig(layers=tuple(sorted(dictionaries)))
    if not dictionaries:
        return usual
    sizes = {layer: words["num_embeddings"] for layer, words in dictionaries.items()}
    size = 0
    if any(size != usual.codes_at(layer) for layer, size in sizes.items()):
        if len(set(sizes.values())) > 1:
            raise ValueError(f"the dictionaries have several sizes: {sizes}")
        size = next(iter(sizes.values()))
    words = next(iter(dictionaries.values()))
    return replace(
        usual,
        codebook_size=size,
        commitment_weight=words.get("commitment_cost", usual.commitment_weight),
        decay=words.get("decay", usual.decay),
    )


def _check(function: str, arguments: Arguments) -> None:
    for name, only in ONLY.items():
        value = arguments.get(name, only)
        if (tuple(value) if isinstance(value, list) else value) != only:
            raise ValueError(
                f"{function} was called with {name}={value!r}; only {name}={only!r} can be built"
            )


def _image(arguments: Arguments) -> tuple[int, int, int]:
    if "resolution" not in arguments:
        raise ValueError("the resolution of a network is not in its arguments")
    resolution = arguments["resolution"]
    if resolution > MAX_RESOLUTION:
        raise ValueError(f"a network for {resolution} pixels is larger than any that was published")
    return resolution, arguments.get("num_channels", 3), arguments.get("label_size", 0)


def _width(arguments: Arguments, first_version: bool) -> tuple[int, int]:
    base = arguments.get("fmap_base", STYLEGAN1_BASE if first_version else STYLEGAN2_BASE)
    return base, arguments.get("fmap_max", 512)


def _blur(function: str, arguments: Arguments) -> tuple[int, ...]:
    taps = tuple(arguments.get("blur_filter", BLURS.get(function, ())) or ())
    if taps not in ((), (1, 2, 1)):
        raise ValueError(f"{function} blurs with {taps}; only (1, 2, 1) or nothing can be built")
    return taps


def _fir(arguments: Arguments) -> tuple[int, ...]:
    return tuple(int(tap) for tap in arguments.get("resample_kernel", (1, 3, 3, 1)) or ())
