"""How much of a dictionary is used in a small GAN: size, start and revival.

python evidence/codebook_use.py [--steps 1000] [--seeds 0 1 2] [--out FILE.jsonl]

A plain DCGAN learns toy shapes of 16 pixels with the quantizer behind the first layer of its
discriminator, as the README's example has it. Cells of a seed have the same data and initial
weights; what a cell gives is the perplexity of the average use of the codes (the last five calls,
which are those of D's and of G's steps), its share of K after a tenth of the steps and in the last
fifth, the codes replaced per call there, and the quantization loss. Cells that are in FILE already
are skipped.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fqgan.data.images import normalize
from fqgan.data.toy import toy_images
from fqgan.quantizer import FeatureQuantizer
from fqgan.runtime.files import json_text

LATENT = 32
SIZES = (32, 128, 512, 1024)
SETTINGS: tuple[dict[str, Any], ...] = (
    {"codebook_start": "random", "revive_below": 0.0},
    {"codebook_start": "random", "revive_below": 0.01},
    {"codebook_start": "random", "revive_below": 0.1},
    {"codebook_start": "features", "revive_below": 0.0},
    {"codebook_start": "features", "revive_below": 0.01},
    {"codebook_start": "features", "revive_below": 0.1},
    {"codebook_start": "features", "revive_below": 0.3},
    {"codebook_start": "kmeans++", "revive_below": 0.0},
    {"codebook_start": "kmeans++", "revive_below": 0.1},
)


def build_generator(width: int) -> nn.Module:
    """(B, LATENT) -> (B, 3, 16, 16)."""
    return nn.Sequential(
        nn.Linear(LATENT, 2 * width * 16),
        nn.Unflatten(1, (2 * width, 4, 4)),
        nn.BatchNorm2d(2 * width),
        nn.ReLU(),
        nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.ConvTranspose2d(width, 3, 4, stride=2, padding=1),
        nn.Tanh(),
    )


class Discriminator(nn.Module):
    """(B, 3, 16, 16) -> logits (B,) and quantization losses (B,)."""

    def __init__(self, width: int, quantizer: FeatureQuantizer) -> None:
        super().__init__()
        self.bottom = nn.Conv2d(3, width, 4, stride=2, padding=1)
        self.quantizer = quantizer
        self.top = nn.Sequential(
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Flatten(),
            nn.Linear(2 * width * 16, 1),
        )

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        hidden, quantization_loss, *_ = self.quantizer(self.bottom(images))
        return self.top(hidden).squeeze(1), quantization_loss


def run(
    codebook_size: int, *, steps: int, batch_size: int = 32, width: int = 32, seed: int = 0,
    **options: Any,
) -> dict[str, float]:  # fmt: skip
    """One cell; ``options`` are those of the quantizer."""
    images = normalize(toy_images(2000, resolution=16).pixels)
    torch.manual_seed(3 * seed)
    generator = build_generator(width)
    quantizer = FeatureQuantizer(width, codebook_size, **options)
    torch.manual_seed(3 * seed + 1)
    discriminator = Discriminator(width, quantizer)
    g_step = torch.optim.Adam(generator.parameters(), 1e-3, (0.5, 0.99))
    d_step = torch.optim.Adam(discriminator.parameters(), 1e-3, (0.5, 0.99))
    draws = torch.Generator().manual_seed(3 * seed + 2)
    perplexities, replaced, losses = [], [], []
    begin = time.process_time()
    for step in range(steps):
        real = images[torch.randint(len(images), (batch_size,), generator=draws)]
        fake = generator(torch.randn(batch_size, LATENT, generator=draws))
        logits, quantization = discriminator(torch.cat([fake.detach(), real]))
        of_fake, of_real = logits.chunk(2)
        loss = F.softplus(of_fake).mean() + F.softplus(-of_real).mean() + quantization.mean()
        d_step.zero_grad()
        loss.backward()
        d_step.step()
        logits, quantization = discriminator(fake)
        loss = F.softplus(-logits).mean() + quantization.mean()
        g_step.zero_grad()
        loss.backward()
        g_step.step()
        if step >= 0.8 * steps:
            perplexities.append(float(quantizer.average_perplexity()))
            replaced.append(float(quantizer.last_replaced))
            losses.append(float(quantization.detach().mean()))
        if step == steps // 10:
            early = float(quantizer.average_perplexity())
    perplexity = sum(perplexities) / len(perplexities)
    return {
        "early_share": early / codebook_size,  # after a tenth of the steps
        "perplexity": perplexity,
        "share": perplexity / codebook_size,
        "dead": float(quantizer.dead_codes()),
        "replaced": sum(replaced) / len(replaced),
        "quantization_loss": sum(losses) / len(losses),
        "seconds": time.process_time() - begin,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--batches", type=int, nargs="+", default=[32])
    parser.add_argument("--widths", type=int, nargs="+", default=[32])
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--starts", nargs="+", help="of the dictionary; absent: all")
    parser.add_argument("--revivals", type=float, nargs="+", help="absent: all")
    parser.add_argument("--out", type=Path, default=Path("codebook_use.jsonl"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    done = [json.loads(line) for line in args.out.open()] if args.out.exists() else []
    known = [row["cell"] for row in done]
    settings = [
        options
        for options in SETTINGS
        if options["codebook_start"] in (args.starts or options["codebook_start"])
        and (args.revivals is None or options["revive_below"] in args.revivals)
    ]
    for width, batch_size, size, options, seed in itertools.product(
        args.widths, args.batches, args.sizes, settings, args.seeds
    ):
        cell = {
            "codebook_size": size, "vectors": 2 * batch_size * 64, "width": width,
            "steps": args.steps, "seed": seed, **options,
        }  # fmt: skip
        if cell in known:
            continue
        found = run(
            size, steps=args.steps, batch_size=batch_size, width=width, seed=seed, **options
        )
        with args.out.open("a") as file:
            file.write(json_text({"cell": cell, **found}) + "\n")
        print(*cell.values(), {k: round(v, 3) for k, v in found.items()}, flush=True)


if __name__ == "__main__":
    main()
