"""Parameters of the networks of presets, built without memory.

python evidence/networks.py [PRESET ...]
"""

from __future__ import annotations

import sys

import torch

from fqgan.biggan.config import PRESETS as BIGGAN
from fqgan.biggan.networks import build_discriminator, build_generator
from fqgan.stylegan2 import legacy as stylegan2
from fqgan.stylegan2.config import PRESETS as STYLEGAN2
from fqgan.ugatit.config import PRESETS as UGATIT
from fqgan.ugatit.networks import build_networks

NUM_CLASSES = {"biggan-c10": 10, "biggan-c100": 100, "biggan-i64": 1000, "biggan-i128": 1000}
PAPERS = (
    *NUM_CLASSES,
    "ugatit-selfie2anime",
    "ugatit-selfie2anime-light",
    "stylegan2-ffhq32",
    "stylegan2-ffhq64",
    "stylegan2-ffhq128",
    "stylegan2-ffhq1024",
    "stylegan2-ffhq1024-f",
)


def main() -> None:
    for preset in sys.argv[1:] or PAPERS:
        counts = {
            name: sum(parameter.numel() for parameter in network.parameters())
            for name, network in networks(preset).items()
        }
        print(preset, ", ".join(f"{name} {count:,}" for name, count in counts.items()))


def networks(preset: str) -> dict[str, torch.nn.Module]:
    """The networks of ``preset`` on the device without memory."""
    with torch.device("meta"):
        if preset in BIGGAN:
            sizes = BIGGAN[preset][1].networks(NUM_CLASSES.get(preset, 10))
            parts = build_generator(sizes), build_discriminator(sizes)
        elif preset in STYLEGAN2:
            styles = STYLEGAN2[preset][1].networks(0)
            parts = stylegan2.build_generator(styles), stylegan2.build_discriminator(styles)
        else:
            return dict(build_networks(UGATIT[preset][1].networks()).named_children())
    return dict(zip(("generator", "discriminator"), parts, strict=True))


if __name__ == "__main__":
    main()
