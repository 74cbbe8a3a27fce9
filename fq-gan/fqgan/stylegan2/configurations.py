"""The configurations a to f of StyleGAN2's Table 1: networks, iteration and schedule of each."""

from __future__ import annotations

from typing import NamedTuple, cast

from .config import (
    DiscriminatorArchitecture,
    DiscriminatorConfig,
    GeneratorArchitecture,
    GeneratorConfig,
    QuantizerConfig,
    ScheduleConfig,
    StepConfig,
    Stylegan2Config,
)

PLAIN = QuantizerConfig(layers=())
GROWING_SCHEDULE = ScheduleConfig(
    growing=True,
    batch_size_at=((8, 256), (16, 128), (32, 64)),
    device_batch_size_at=((8, 32), (16, 16), (32, 8)),
    lr=0.001,
    lr_at=((128, 0.0015), (256, 0.002), (512, 0.003), (1024, 0.003)),
)
NOT_LAZY = {"discriminator_every": 0, "generator_every": 0}


class Recipe(NamedTuple):
    """One configuration."""

    networks: Stylegan2Config
    step: StepConfig
    schedule: ScheduleConfig


def _legacy(architecture: str, step: StepConfig) -> Recipe:
    networks = Stylegan2Config(
        generator=GeneratorConfig(architecture=cast(GeneratorArchitecture, architecture)),
        discriminator=DiscriminatorConfig(
            architecture=cast(DiscriminatorArchitecture, architecture)
        ),
        quantizer=PLAIN,
    )
    return Recipe(networks, step, GROWING_SCHEDULE)


def _modern(generator: str, discriminator: str, base: int, gamma: float) -> Recipe:
    networks = Stylegan2Config(
        generator=GeneratorConfig(
            architecture=cast(GeneratorArchitecture, generator), channel_base=base
        ),
        discriminator=DiscriminatorConfig(
            architecture=cast(DiscriminatorArchitecture, discriminator), channel_base=base
        ),
    )
    return Recipe(networks, StepConfig(r1_weight=gamma), ScheduleConfig())


def _growing_step(**options: float) -> StepConfig:
    return StepConfig(generator_lr=0.001, discriminator_lr=0.001, **options)  # type: ignore[arg-type]


CONFIGURATIONS = {
    "config-a": _legacy("stylegan1", _growing_step(path_length_weight=0.0, **NOT_LAZY)),
    "config-b": _legacy("growing", _growing_step(path_length_weight=0.0, **NOT_LAZY)),
    "config-c": _legacy("growing", _growing_step(path_length_weight=0.0)),
    "config-d": _legacy("growing", _growing_step()),
    "config-e": _modern("skip", "resnet", 8192, 100.0),
    "config-f": _modern("skip", "resnet", 16384, 10.0),
    **{
        f"config-e-G{g}-D{d}": _modern(g, d, 8192, 100.0)
        for g in ("orig", "skip", "resnet")
        for d in ("orig", "skip", "resnet")
    },
}


def build_recipe(
    name: str,
    resolution: int = 1024,
    *,
    label_size: int = 0,
    quantizer: QuantizerConfig | None = None,
) -> Recipe:
    """Configuration ``name`` at a resolution.

    Args:
        name: ``config-a`` to ``config-f``, or as ``config-e-Gorig-Dresnet``.
        resolution: side of the images.
        label_size: size of the label vectors; 0: unconditional.
        quantizer: feature quantization; absent: layers 4 and 5 in configurations e and f.

    Raises:
        ValueError: there is no such configuration, or it has no feature quantization.
    """
    if name not in CONFIGURATIONS:
        raise ValueError(
            f"there is no {name!r}; the configurations are {', '.join(CONFIGURATIONS)}"
        )
    recipe = CONFIGURATIONS[name]
    networks = recipe.networks
    if quantizer is not None and quantizer.layers and networks.growing:
        raise ValueError(
            f"{name} has no feature quantization; take config-e or config-f, or empty "
            "--quantizer.layers"
        )
    networks = Stylegan2Config(
        resolution=resolution,
        label_size=label_size,
        mapping=networks.mapping,
        generator=networks.generator,
        discriminator=networks.discriminator,
        quantizer=networks.quantizer if quantizer is None else quantizer,
    )
    return recipe._replace(networks=networks)
