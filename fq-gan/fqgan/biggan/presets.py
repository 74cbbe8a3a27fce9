"""One preset for each row of the paper, its twin without FQ, ablations, and small runs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..data.datasets import DataConfig
from ..scoring import ScoringOptions
from .config import DiscriminatorConfig, GeneratorConfig, QuantizerConfig
from .options import BigganTrain
from .step import StepConfig

ALL_LAYERS = (0, 1, 2, 3)
CIFAR_STEP = StepConfig(
    batch_size=64, num_d_steps=4, generator_lr=2e-4, discriminator_lr=2e-4, ema_start=1000
)
C10 = BigganTrain(
    name_suffix="quant",
    max_steps=97_500,  # 500 epochs of 195 iterations
    init="N02",
    sample_statistics="batch",  # their script samples in training mode
    data=DataConfig("cifar10", "data/cifar"),
    quantizer=QuantizerConfig(
        layers=ALL_LAYERS, codebook_size=1024, commitment_weight=1.0, decay=0.8
    ),
    step=CIFAR_STEP,
)
C100 = replace(
    C10,
    evaluate_every=2000,
    data=DataConfig("cifar100", "data/cifar"),
    quantizer=QuantizerConfig(
        layers=ALL_LAYERS, codebook_size=64, commitment_weight=10.0, decay=0.9
    ),
)


def _imagenet(resolution: int, latent_dim: int, quantizer: QuantizerConfig) -> BigganTrain:
    attention = (resolution // 2,)
    batch_size = 2 * resolution
    return BigganTrain(
        name_suffix="quant",
        # 100 epochs of 1,281,167 images, four batches an iteration
        max_steps=-(-100 * 1_281_167 // (4 * batch_size)),
        sn_eps=1e-6,
        data=DataConfig("hdf5", f"data/ILSVRC{resolution}.hdf5", resolution=resolution),
        generator=GeneratorConfig(
            latent_dim=latent_dim, hierarchical=True, shared_dim=128, attention=attention
        ),
        discriminator=DiscriminatorConfig(attention=attention),
        quantizer=quantizer,
        step=StepConfig(
            batch_size=batch_size,
            num_d_steps=1,
            num_d_accumulations=4,
            num_g_accumulations=4,
            generator_lr=1e-4,
            discriminator_lr=4e-4,
            adam_eps=1e-6,
            ema_start=20_000,
        ),
    )


I64 = replace(
    _imagenet(
        64, 120, QuantizerConfig(layers=(2,), codebook_size=1024, commitment_weight=0.5, decay=0.7)
    ),
    name_suffix="test",
)
I128 = _imagenet(
    128,
    120,
    QuantizerConfig(layers=ALL_LAYERS, codebook_size=1024, commitment_weight=15.0, decay=0.8),
)
UPSTREAM_I128 = replace(
    I128,
    name_suffix="",
    evaluate_every=2000,
    max_steps=138_000,
    generator=replace(I128.generator, channels=96),
    discriminator=replace(I128.discriminator, channels=96),
    quantizer=replace(I128.quantizer, layers=()),
    step=replace(I128.step, num_d_accumulations=8, num_g_accumulations=8),
)
UPSTREAM_CH64 = replace(
    UPSTREAM_I128,
    generator=replace(I128.generator, channels=64),
    discriminator=replace(I128.discriminator, channels=64),
)
UPSTREAM_DEEP = replace(
    UPSTREAM_I128,
    architecture="biggan-deep",
    init="none",
    generator=replace(I128.generator, channels=128, latent_dim=128, depth=2),
    discriminator=replace(I128.discriminator, channels=128, depth=2),
)
UPSTREAM_SAGAN = replace(
    UPSTREAM_I128,
    name_suffix="SAGAN_bs128x2_ema",
    max_steps=500_456,
    init="glorot",
    sn_eps=1e-8,
    generator=GeneratorConfig(latent_dim=128, shared_dim=128, attention=(64,)),
    discriminator=DiscriminatorConfig(attention=(64,)),
    step=replace(
        I128.step,
        batch_size=128,
        num_d_accumulations=2,
        num_g_accumulations=2,
        adam_eps=1e-8,
        ema_start=2000,
    ),
)
UPSTREAM_SNGAN = replace(
    UPSTREAM_SAGAN,
    name_suffix="SNGAN",
    max_steps=400_365,
    use_average=False,
    generator=GeneratorConfig(latent_dim=128, attention=()),
    discriminator=DiscriminatorConfig(wide=False, attention=()),
    step=StepConfig(
        batch_size=64,
        num_d_steps=5,
        generator_lr=2e-4,
        discriminator_lr=2e-4,
        generator_betas=(0.0, 0.9),
        discriminator_betas=(0.0, 0.9),
    ),
)
UPSTREAM_C10 = replace(
    C10,
    name_suffix="",
    max_steps=125_000,  # 500 epochs of 250 iterations
    save_every=2000,
    evaluate_every=5000,
    quantizer=replace(C10.quantizer, layers=()),
    step=replace(CIFAR_STEP, batch_size=50),
)
SMALL = BigganTrain(
    max_steps=3000,
    init="N02",
    sample_statistics="standing",
    log_every=50,
    save_every=500,
    evaluate_every=1000,
    sample_every=500,
    keep_best=1,
    data=DataConfig("hdf5", "data/cifar10_jpeg.hdf5", in_memory=True),
    generator=GeneratorConfig(channels=16, latent_dim=64, shared_dim=32),
    discriminator=DiscriminatorConfig(channels=16),
    quantizer=QuantizerConfig(
        layers=ALL_LAYERS, codebook_size=256, commitment_weight=1.0, decay=0.8
    ),
    step=StepConfig(
        batch_size=32,
        num_d_steps=2,
        generator_lr=2e-4,
        discriminator_lr=2e-4,
        ema_decay=0.999,
        ema_start=200,
    ),
    scoring=ScoringOptions(features="random", num_images=5000),
)
# A generator without spectral norm and with momentum learns coarse shapes in few iterations; the
# weight is low: with 1, a trial's discriminator stopped telling real from fake.
DEMO = replace(
    SMALL,
    max_steps=2000,
    init="ortho",
    standing_batches=8,
    log_every=20,
    save_every=600,
    evaluate_every=200,
    sample_every=200,
    data=DataConfig("toy", "", toy_images=4000, in_memory=True),
    generator=GeneratorConfig(channels=8, latent_dim=64, shared_dim=32, spectral_norm=False),
    discriminator=DiscriminatorConfig(channels=8),
    quantizer=replace(SMALL.quantizer, codebook_size=256, commitment_weight=0.05),
    step=StepConfig(
        batch_size=16,
        num_d_steps=1,
        generator_lr=5e-4,
        discriminator_lr=1e-3,
        generator_betas=(0.5, 0.99),
        discriminator_betas=(0.0, 0.99),
        ema_decay=0.97,
        ema_start=100,
    ),
    scoring=ScoringOptions(features="random", num_images=500),
)
SMOKE = replace(
    DEMO,
    max_steps=4,
    log_every=1,
    save_every=2,
    evaluate_every=4,
    sample_every=4,
    standing_batches=2,
    data=DataConfig("toy", "", toy_images=64),
    generator=GeneratorConfig(channels=8, latent_dim=8, shared_dim=4),
    discriminator=DiscriminatorConfig(channels=8),
    quantizer=replace(SMALL.quantizer, codebook_size=16),
    step=replace(SMALL.step, batch_size=4, num_d_steps=1),
    scoring=ScoringOptions(features="random", num_images=16, batch_size=8, splits=2),
)


def without_quantizer(config: BigganTrain) -> BigganTrain:
    """The BigGAN twin: everything alike, no layer quantized."""
    return replace(config, name_suffix="baseline", quantizer=replace(config.quantizer, layers=()))


def _quantized(config: BigganTrain, **options: Any) -> BigganTrain:
    return replace(config, quantizer=replace(config.quantizer, **options))


TABLE = "class-conditional generation"
PRESETS: dict[str, tuple[str, BigganTrain]] = {
    "biggan-c10": (f"FQ-BigGAN, {TABLE}, CIFAR-10", C10),
    "biggan-c10-baseline": (f"BigGAN, {TABLE}, CIFAR-10", without_quantizer(C10)),
    "biggan-c10-straight": (
        "FQ-BigGAN as the paper draws it, D goes on with the codes, CIFAR-10",
        _quantized(C10, forward="straight_through", warmup_calls=5000),
    ),
    "biggan-c100": (f"FQ-BigGAN, {TABLE}, CIFAR-100", C100),
    "biggan-c100-baseline": (f"BigGAN, {TABLE}, CIFAR-100", without_quantizer(C100)),
    "biggan-i64": (f"FQ-BigGAN, {TABLE}, ImageNet 64x64", I64),
    "biggan-i64-baseline": (f"BigGAN, {TABLE}, ImageNet 64x64", without_quantizer(I64)),
    "biggan-i128": (f"FQ-BigGAN, {TABLE}, ImageNet 128x128", I128),
    "biggan-i128-baseline": (f"BigGAN, {TABLE}, ImageNet 128x128", without_quantizer(I128)),
    "biggan-c10-upstream": ("BigGAN-PyTorch's launch_cifar_ema", UPSTREAM_C10),
    "biggan-i128-upstream": ("BigGAN-PyTorch's launch_BigGAN_bs256x8", UPSTREAM_I128),
    "biggan-i128-upstream-ch64": ("BigGAN-PyTorch's launch_BigGAN_ch64_bs256x8", UPSTREAM_CH64),
    "biggan-i128-upstream-deep": ("BigGAN-PyTorch's launch_BigGAN_deep", UPSTREAM_DEEP),
    "biggan-i128-upstream-sagan": ("BigGAN-PyTorch's launch_SAGAN_bs128x2_ema", UPSTREAM_SAGAN),
    "biggan-i128-upstream-sngan": ("BigGAN-PyTorch's launch_SNGAN", UPSTREAM_SNGAN),
    **{
        f"biggan-c100-k{size}": (
            f"ablation, CIFAR-100: {size} codes",
            _quantized(C100, codebook_size=size),
        )
        for size in (16, 256, 1024)
    },
    **{
        f"biggan-c100-layer{layer}": (
            f"ablation, CIFAR-100: layer {layer} alone",
            _quantized(C100, layers=(layer,)),
        )
        for layer in ALL_LAYERS
    },
    **{
        f"biggan-c100-decay{decay}": (
            f"ablation, CIFAR-100: momentum {decay}",
            _quantized(C100, decay=decay),
        )
        for decay in (0.7, 0.8, 0.99)
    },
    **{
        f"biggan-c100-weight{weight}": (
            f"ablation, CIFAR-100: weight {weight}",
            _quantized(C100, commitment_weight=float(weight)),
        )
        for weight in (0.5, 1, 5)
    },
    "small-cifar10-biggan": ("BigGAN of reduced width on a CPU", without_quantizer(SMALL)),
    "small-cifar10-fq-commit": ("FQ-BigGAN of reduced width, as released", SMALL),
    "small-cifar10-fq-straight": (
        "FQ-BigGAN of reduced width, D goes on with the codes",
        _quantized(SMALL, forward="straight_through", warmup_calls=1000),
    ),
    "demo": ("toy shapes, about four minutes on two CPU cores", DEMO),
    "smoke": ("a few tiny steps", SMOKE),
}
