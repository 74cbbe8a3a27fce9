"""One preset for each data set of the paper, light and FQ-off twins, and small runs."""

from __future__ import annotations

from dataclasses import replace

from ..data.unpaired import UnpairedConfig
from .config import (
    DiscriminatorConfig,
    GeneratorConfig,
    QuantizerConfig,
    ScheduleConfig,
    StepConfig,
)
from .options import TranslationScoring, UgatitTrain

# Data set -> what domains A and B show. The paper's names of the directions come from these.
DATASETS: dict[str, tuple[str, str]] = {
    "selfie2anime": ("selfie", "anime"),
    "horse2zebra": ("horse", "zebra"),
    "cat2dog": ("cat", "dog"),
    "portrait": ("portrait", "photo"),
    "vangogh2photo": ("vangogh", "photo"),
}

# A quarter of the width and of the side, twice the learning rate: 20 to 25 minutes on a CPU core.
# In so few iterations the authors' weight of 1000 teaches the attention and little else.
SMALL = UgatitTrain(
    channels_last=True,
    domain_names=DATASETS["selfie2anime"],
    log_every=10,
    save_every=200,
    evaluate_every=1200,
    sample_every=600,
    data=UnpairedConfig(path="data/selfie2anime", resolution=64, in_memory=True),
    generator=GeneratorConfig(channels=16),
    discriminator=DiscriminatorConfig(channels=16, depth=5),
    step=StepConfig(lr=2e-4, cam_weight=10.0),
    schedule=ScheduleConfig(epochs=20, epoch_steps=200, decay_epoch=10),
    scoring=TranslationScoring("random"),
)
DEMO = replace(
    SMALL,
    domain_names=("filled", "inked"),
    sample_images=8,
    data=UnpairedConfig("toy", "", resolution=32, in_memory=True),
    generator=GeneratorConfig(channels=12, num_blocks=2, light=True),
    discriminator=DiscriminatorConfig(channels=16, depth=4),
    quantizer=QuantizerConfig(layers=(1, 2)),
    step=StepConfig(lr=3e-4, cam_weight=10.0),
    schedule=ScheduleConfig(epochs=15, epoch_steps=100, decay_epoch=8),
    evaluate_every=500,
    sample_every=500,
)
SMOKE = replace(
    DEMO,
    max_steps=4,
    log_every=1,
    save_every=2,
    evaluate_every=4,
    sample_every=4,
    sample_images=2,
    data=replace(DEMO.data, resolution=24, toy_images=100),
    generator=GeneratorConfig(channels=2, num_blocks=1, light=True),
    discriminator=DiscriminatorConfig(channels=2, depth=4),
    quantizer=QuantizerConfig(layers=(1, 2), codebook_size=8),
    step=StepConfig(batch_size=1),
    scoring=TranslationScoring("random", subsets=4),
)


def without_quantizer(config: UgatitTrain) -> UgatitTrain:
    """The U-GAT-IT twin: everything alike, no layer quantized."""
    return replace(config, quantizer=replace(config.quantizer, layers=()))


def light(config: UgatitTrain) -> UgatitTrain:
    """The twin with the style from averaged features, which the authors call light."""
    return replace(config, generator=replace(config.generator, light=True))


def _presets() -> dict[str, tuple[str, UgatitTrain]]:
    presets: dict[str, tuple[str, UgatitTrain]] = {}
    for dataset, names in DATASETS.items():
        full = UgatitTrain(domain_names=names, data=UnpairedConfig(path=f"data/{dataset}"))
        table = f"image-to-image translation, {dataset}"
        presets |= {
            f"ugatit-{dataset}": (f"FQ-U-GAT-IT, {table}", full),
            f"ugatit-{dataset}-baseline": (f"U-GAT-IT, {table}", without_quantizer(full)),
            f"ugatit-{dataset}-light": (f"light FQ-U-GAT-IT, {table}", light(full)),
            f"ugatit-{dataset}-light-baseline": (
                f"light U-GAT-IT, {table}",
                without_quantizer(light(full)),
            ),
        }
    return presets


PRESETS: dict[str, tuple[str, UgatitTrain]] = {
    **_presets(),
    "ugatit-selfie2anime-small": ("64 pixels, reduced width, for a CPU", SMALL),
    "ugatit-selfie2anime-small-baseline": (
        "64 pixels, reduced width, no layer quantized",
        without_quantizer(SMALL),
    ),
    "ugatit-demo": ("toy shapes from filled to inked and back", DEMO),
    "ugatit-smoke": ("a few tiny steps", SMOKE),
}
