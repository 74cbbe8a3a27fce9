"""One preset for each row of the papers, its twin without FQ, every configuration, small runs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..data.datasets import DataConfig
from ..scoring import ScoringOptions
from .config import (
    DiscriminatorConfig,
    GeneratorConfig,
    MappingConfig,
    QuantizerConfig,
    ScheduleConfig,
    StepConfig,
)
from .configurations import CONFIGURATIONS, PLAIN, build_recipe
from .options import OF_THE_SCHEDULE, Stylegan2Train
from .schedule import TICK_KIMG

FFHQ = (32, 64, 128, 1024)
# Their fid50k: TensorFlow's network, 50,000 generated images against the first 50,000 real ones.
FID50K = ScoringOptions(features="inception", num_images=50_000, real_images=50_000)


def recipe(
    config: str, resolution: int, quantizer: QuantizerConfig = PLAIN, name: str = ""
) -> Stylegan2Train:
    """A configuration of StyleGAN2's Table 1 (``config-a`` .. ``config-f``) on FFHQ.

    Rows come every tick of the authors' loop; ten of them save, draw and score.
    """
    built = build_recipe(config, resolution, quantizer=quantizer)
    defaults: dict[str, Any] = {option: getattr(StepConfig, option) for option in OF_THE_SCHEDULE}
    tick = TICK_KIMG[resolution]
    return Stylegan2Train(
        name=name or f"stylegan2-{config}",
        log_kimg=tick,
        save_kimg=10 * tick,
        evaluate_kimg=10 * tick,
        sample_kimg=10 * tick,
        data=DataConfig("tfrecords", "data/tfrecords/ffhq", resolution=resolution, augment=True),
        mapping=built.networks.mapping,
        generator=built.networks.generator,
        discriminator=built.networks.discriminator,
        quantizer=built.networks.quantizer,
        step=replace(built.step, **defaults),
        schedule=built.schedule,
        scoring=FID50K,
    )


def without_quantizer(config: Stylegan2Train) -> Stylegan2Train:
    """The StyleGAN2 twin: everything alike, no block quantized."""
    return replace(config, name=f"{config.name}-baseline", quantizer=PLAIN)


# Blocks 4 and 5 (the authors' --discrete_layer 45), 128 codes each.
FQ = QuantizerConfig()
ROWS = {size: recipe("config-e", size, FQ, f"stylegan2-ffhq{size}") for size in FFHQ}
FULL = recipe("config-f", 1024, FQ, "stylegan2-ffhq1024-f")
SMALL = Stylegan2Train(
    name="stylegan2-cifar-small",
    channels_last=True,
    log_kimg=1,
    save_kimg=8,
    evaluate_kimg=16,
    sample_kimg=8,
    data=DataConfig("hdf5", "data/cifar10_jpeg.hdf5", augment=True, in_memory=True),
    mapping=MappingConfig(latent_dim=64, style_dim=64, hidden_dim=64, num_layers=4),
    generator=GeneratorConfig(channel_base=512, channel_max=48),
    discriminator=DiscriminatorConfig(channel_base=512, channel_max=48),
    quantizer=replace(FQ, codebook_size=128),
    step=StepConfig(r1_weight=0.1, average_kimg=2.0),
    schedule=ScheduleConfig(total_kimg=64, batch_size=32, device_batch_size=32),
    scoring=ScoringOptions(features="random", num_images=5000),
)
DEMO = replace(
    SMALL,
    name="stylegan2-demo",
    log_kimg=0.5,
    save_kimg=5,
    evaluate_kimg=5,
    sample_kimg=5,
    data=DataConfig("toy", "", toy_images=4000, in_memory=True),
    mapping=MappingConfig(latent_dim=32, style_dim=32, hidden_dim=32, num_layers=2),
    generator=GeneratorConfig(channel_base=256, channel_max=24),
    discriminator=DiscriminatorConfig(channel_base=256, channel_max=24),
    quantizer=replace(FQ, codebook_size=64),
    step=replace(SMALL.step, average_kimg=1.0),
    schedule=ScheduleConfig(total_kimg=20, batch_size=16, device_batch_size=16),
    scoring=ScoringOptions(features="random", num_images=500),
)
SMOKE = replace(
    DEMO,
    name="stylegan2-smoke",
    log_kimg=0.008,
    save_kimg=0.016,
    evaluate_kimg=0.032,
    sample_kimg=0.032,
    sheet_images=4,
    data=DataConfig("toy", "", toy_images=64),
    mapping=MappingConfig(latent_dim=8, style_dim=8, hidden_dim=8, num_layers=2),
    generator=GeneratorConfig(channel_base=64, channel_max=8),
    discriminator=DiscriminatorConfig(channel_base=64, channel_max=8),
    quantizer=replace(FQ, codebook_size=8),
    schedule=ScheduleConfig(total_kimg=0.032, batch_size=8, device_batch_size=4),
    scoring=ScoringOptions(features="random", num_images=16, batch_size=8, splits=2),
)
ABOUT = {
    "config-a": "StyleGAN of 2019, growing",
    "config-b": "StyleGAN with demodulated weights, growing",
    "config-c": "config-b with lazy regularization",
    "config-d": "config-c with path length regularization",
    "config-e": "StyleGAN2 without growing",
    "config-f": "StyleGAN2, large networks",
}

PRESETS: dict[str, tuple[str, Stylegan2Train]] = {
    **{
        f"stylegan2-ffhq{size}": (f"FQ-StyleGAN, FFHQ {size}x{size}", row)
        for size, row in ROWS.items()
    },
    **{
        f"stylegan2-ffhq{size}-baseline": (
            f"StyleGAN2 of config-e, FFHQ {size}x{size}",
            without_quantizer(row),
        )
        for size, row in ROWS.items()
    },
    "stylegan2-ffhq1024-f": ("FQ on StyleGAN2's large networks, FFHQ 1024x1024", FULL),
    "stylegan2-ffhq1024-f-baseline": (
        "StyleGAN2's large networks, FFHQ 1024x1024",
        without_quantizer(FULL),
    ),
    **{
        f"stylegan2-{name}": (f"{ABOUT.get(name, name)}, FFHQ 1024x1024", recipe(name, 1024))
        for name in CONFIGURATIONS
    },
    "stylegan2-cifar-small": ("FQ-StyleGAN of reduced width on CIFAR images, on a CPU", SMALL),
    "stylegan2-cifar-small-baseline": (
        "StyleGAN2 of reduced width on CIFAR images, on a CPU",
        without_quantizer(SMALL),
    ),
    "stylegan2-demo": ("FQ-StyleGAN on toy shapes, a few minutes on two CPU cores", DEMO),
    "stylegan2-smoke": ("a few tiny steps", SMOKE),
}
