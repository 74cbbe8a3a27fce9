"""Does feature quantization improve a GAN? The same small GAN with and without it, seed by seed.

python evidence/quantization_claim.py train --out claim
python evidence/quantization_claim.py score --out claim --weights weights/squeezenet
python evidence/quantization_claim.py show --out claim [--curves claim.png]

The host is a class-conditional GAN of convolutions with spectral norm in D, a projection of the
class, hinge loss and Adam. All cells of a seed begin with the same weights, see the same batches
and draw the same noise; they differ in the quantizers behind the blocks of D alone. Runs come seed
by seed, so that what an interrupted experiment has is complete for its first seeds; the same
command goes on with the rest. `train` keeps 1,000 samples of the averaged G and a curve, FID on
random features; `score` compares samples with as many images of the training set on SqueezeNet's
features; `show` prints means, spreads and differences from the baseline seed by seed.

The interval of one score comes from halves of both sets drawn without replacement, whose deviation
is that of the whole (a bootstrap with replacement would bias KID by its pairs of equal images).
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from fqgan.data.batches import fixed_choice
from fqgan.data.datasets import DataConfig, build_images
from fqgan.data.images import normalize
from fqgan.gan import ModelAverage
from fqgan.metrics.distances import frechet_distance, kernel_distance, moments
from fqgan.metrics.features import FeatureExtractor, build_extractor
from fqgan.quantizer import FeatureQuantizer, quantizer_statistics
from fqgan.runtime.files import json_text

LATENT = 64
USED = {"codebook_start": "features", "revive_below": 0.1}
CELLS: dict[str, dict[str, Any] | None] = {
    "baseline": None,
    "authors' FQ, 1,024 codes": {"codebook_size": 1024},
    "authors' FQ, 64 codes": {"codebook_size": 64},
    "FQ, 64 codes in use": {"codebook_size": 64, **USED},
    "straight-through, 64 codes in use": {
        "codebook_size": 64, **USED, "forward_mode": "straight_through", "warmup_calls": 400,
    },
}  # fmt: skip
T95 = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57, 7: 2.45, 8: 2.36}
MORE_SEEDS = 2.31
"""Student's t of a two-sided 95 % interval by the number of seeds, and for 9 or more at most."""


class Generator(nn.Module):
    """Noise (B, LATENT) and labels (B,) to images (B, 3, R, R)."""

    def __init__(self, width: int, resolution: int, num_classes: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(num_classes, LATENT)
        blocks: list[nn.Module] = [nn.Linear(2 * LATENT, 2 * width * 16, bias=False)]
        blocks += [nn.Unflatten(1, (2 * width, 4, 4)), nn.BatchNorm2d(2 * width), nn.ReLU()]
        inputs = 2 * width
        for _ in range(int(math.log2(resolution)) - 3):
            blocks += [nn.ConvTranspose2d(inputs, width, 4, 2, 1), nn.BatchNorm2d(width), nn.ReLU()]
            inputs = width
        blocks += [nn.ConvTranspose2d(inputs, 3, 4, 2, 1), nn.Tanh()]
        self.blocks = nn.Sequential(*blocks)

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        return self.blocks(torch.cat([z, self.embed(labels)], dim=1))


class Discriminator(nn.Module):
    """Images (B, 3, R, R) and labels (B,) to logits (B,) and quantization losses (B,)."""

    def __init__(self, width: int, resolution: int, num_classes: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList()
        inputs = 3
        for number in range(int(math.log2(resolution)) - 2):
            outputs = width * min(2, 1 + number)
            self.blocks.append(spectral_norm(nn.Conv2d(inputs, outputs, 4, 2, 1)))
            inputs = outputs
        self.widths = [block.out_channels for block in self.blocks]
        self.last = spectral_norm(nn.Conv2d(inputs, inputs, 3, 1, 1))
        self.linear = spectral_norm(nn.Linear(inputs, 1))
        self.embed = spectral_norm(nn.Embedding(num_classes, inputs))
        self.quantizers = nn.ModuleList()

    def forward(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        hidden, losses = images, images.new_zeros(len(images))
        for number, block in enumerate(self.blocks):
            hidden = block(hidden)
            if number < len(self.quantizers):
                hidden, loss, *_ = self.quantizers[number](hidden)
                losses = losses + loss
            hidden = F.leaky_relu(hidden, 0.1)
        pooled = F.leaky_relu(self.last(hidden), 0.1).sum(dim=(2, 3))
        logits = self.linear(pooled).squeeze(1) + (self.embed(labels) * pooled).sum(dim=1)
        return logits, losses


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("verb", choices=("train", "score", "show"))
    parser.add_argument("--data", default="toy", help="toy, or a zip of CIFAR-10 as images")
    parser.add_argument("--resolution", type=int, choices=(16, 32, 64), default=16)
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--lr", type=float, default=5e-4)
    parser.add_argument("--weight", type=float, default=1.0, help="of the commitment loss")
    parser.add_argument("--decay", type=float, default=0.9, help="of the dictionary")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    numbers = range(len(CELLS))
    parser.add_argument("--cells", type=int, nargs="+", choices=numbers, default=numbers)
    parser.add_argument("--samples", type=int, default=1000, help="images that are scored")
    parser.add_argument("--weights", default="", help="folder of SqueezeNet's weights")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, required=True, help="folder of rows and samples")
    parser.add_argument("--curves", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.verb == "train":
        args.out.mkdir(parents=True, exist_ok=True)
        train(args)
    elif args.verb == "score":
        score(args)
    elif not read_rows(args.out, "runs"):
        parser.error(f"--out {args.out} holds no run; the verb train makes them")
    else:
        show(read_rows(args.out, "runs"), read_rows(args.out, "scores"))
        if args.curves:
            draw_curves(read_rows(args.out, "runs"), args.curves)


def train(args: argparse.Namespace) -> None:
    """Every cell of every seed that is not in the folder yet."""
    names = ("data", "resolution", "images", "width", "batch", "steps", "lr", "weight", "decay")
    settings = {name: getattr(args, name) for name in names}
    settings["data"] = Path(args.data).name
    known = [(row["settings"], row["cell"], row["seed"]) for row in read_rows(args.out, "runs")]
    pixels, labels = read_images(args.data, settings)
    for seed in args.seeds:
        for cell in (list(CELLS)[number] for number in args.cells):
            if (settings, cell, seed) in known:
                continue
            begin = time.process_time()
            found, images = run(cell, seed, settings, pixels, labels, args.device)
            number = len(read_rows(args.out, "runs"))
            np.save(args.out / f"{number}.npy", images)
            row = {"run": number, "settings": settings, "cell": cell, "seed": seed, **found}
            row["cpu_seconds"] = round(time.process_time() - begin, 1)
            write_row(args.out, "runs", row)
            print(cell, seed, row["curve"], row["cpu_seconds"], flush=True)


def score(args: argparse.Namespace) -> None:
    """Scores of the samples of every run that has none yet, on SqueezeNet's features."""
    extractor = build_extractor("squeezenet", weights=args.weights, device=args.device)
    known = [row["run"] for row in read_rows(args.out, "scores")]
    real: dict[str, Tensor] = {}
    for row in read_rows(args.out, "runs"):
        settings = row["settings"]
        if row["run"] in known or settings["data"] != Path(args.data).name:
            continue
        key = json_text([settings["resolution"], settings["images"]])
        if key not in real:
            pixels, _ = read_images(args.data, settings)
            chosen = reference(pixels, args.samples)
            real[key] = score_features(extractor, chosen.to(args.device).split(50))
        images = torch.from_numpy(np.load(args.out / f"{row['run']}.npy")[: args.samples])
        fake = score_features(extractor, normalize(images).to(args.device).split(50))
        write_row(
            args.out,
            "scores",
            {"run": row["run"], "samples": args.samples, **distances(real[key], fake)},
        )


def read_rows(folder: Path, name: str) -> list[dict[str, Any]]:
    path = folder / f"{name}.jsonl"
    return [json.loads(line) for line in path.open()] if path.exists() else []


def write_row(folder: Path, name: str, row: dict[str, Any]) -> None:
    with (folder / f"{name}.jsonl").open("a") as file:
        file.write(json_text(row) + "\n")


def read_images(data: str, settings: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """Images (N, 3, R, R) in [-1, 1] and labels (N,)."""
    size, number = settings["resolution"], settings["images"]
    toy = DataConfig("toy", "", resolution=size, toy_images=number)
    config = toy if data == "toy" else DataConfig("zip", data, resolution=size, limit=number)
    images = build_images(config, seed=0)
    return normalize(images.read(torch.arange(len(images)))), images.labels


def reference(pixels: Tensor, number: int) -> Tensor:
    """A fixed random choice (``number``, 3, R, R): a zip has its images class after class."""
    return pixels[fixed_choice(len(pixels), number)]


def run(
    cell: str, seed: int, settings: dict[str, Any], pixels: Tensor, labels: Tensor, device: str
) -> tuple[dict[str, Any], np.ndarray]:
    """Train one cell: a curve and the use of the codes, and samples (1000, 3, R, R) as uint8."""
    resolution, batch, steps = settings["resolution"], settings["batch"], settings["steps"]
    num_classes, extractor = int(labels.max()) + 1, build_extractor("random", device=device)
    real = score_features(extractor, reference(pixels, 500).to(device).split(50))
    pixels, labels = pixels.to(device), labels.to(device)
    torch.manual_seed(seed)
    generator = Generator(settings["width"], resolution, num_classes).to(device)
    discriminator = Discriminator(settings["width"], resolution, num_classes).to(device)
    options = CELLS[cell]
    if options is not None:
        own = {"commitment_weight": settings["weight"], "decay": settings["decay"], **options}
        for width in discriminator.widths:
            discriminator.quantizers.append(FeatureQuantizer(width, **own).to(device))
    average = ModelAverage(generator, 0.995, start=100)
    optimizers = [
        torch.optim.Adam(network.parameters(), settings["lr"], betas, fused=True)
        for network, betas in ((generator, (0.5, 0.99)), (discriminator, (0.0, 0.99)))
    ]
    draws = torch.Generator().manual_seed(seed)
    curve: dict[int, float] = {}
    for step in range(1, steps + 1):
        chosen = torch.randint(len(pixels), (batch,), generator=draws).to(device)
        z, classes = noise(batch, num_classes, draws, device)
        fake = generator(z, classes)
        logits, loss = discriminator(
            torch.cat([fake.detach(), pixels[chosen]]), torch.cat([classes, labels[chosen]])
        )
        of_fake, of_real = logits.chunk(2)
        total = F.relu(1 + of_fake).mean() + F.relu(1 - of_real).mean() + 2 * loss.mean()
        update(optimizers[1], total)
        z, classes = noise(batch, num_classes, draws, device)
        logits, loss = discriminator(generator(z, classes), classes)
        update(optimizers[0], loss.mean() - logits.mean())
        average.update(generator, step)
        if step % max(1, steps // 5) == 0:
            parts = samples(average.module, num_classes, 500, device)
            fakes = score_features(extractor, parts)
            curve[step] = round(frechet_distance(moments(real), moments(fakes)), 4)
    used = quantizer_statistics(discriminator)
    found = {"curve": curve, **{name: float(value) for name, value in used.items()}}
    images = torch.cat(list(samples(average.module, num_classes, 1000, device)))
    return found, ((images + 1) * 127.5).round().to(torch.uint8).cpu().numpy()


def update(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def noise(
    number: int, num_classes: int, draws: torch.Generator, device: str
) -> tuple[Tensor, Tensor]:
    """Latents (N, LATENT) and labels (N,)."""
    z = torch.randn(number, LATENT, generator=draws)
    return z.to(device), torch.randint(num_classes, (number,), generator=draws).to(device)


@torch.no_grad()
def samples(generator: nn.Module, num_classes: int, number: int, device: str) -> Iterator[Tensor]:
    """The same latents at every call, 50 at a time."""
    draws = torch.Generator().manual_seed(10**6)
    for _ in range(number // 50):
        yield generator(*noise(50, num_classes, draws, device))


@torch.no_grad()
def score_features(extractor: FeatureExtractor, parts: Any) -> Tensor:
    """Features (N, D) of images in [-1, 1], rounded to 256 levels first."""
    rounded = (((part + 1) * 127.5).round() / 127.5 - 1 for part in parts)
    return torch.cat([extractor(part).pool.cpu() for part in rounded])


def distances(real: Tensor, fake: Tensor, halves: int = 10) -> dict[str, float]:
    """FID and KID x 100 of features (N, D), each with its deviation over halves of the images."""
    size = len(real) // 2
    draws = torch.Generator().manual_seed(0)
    fids = []
    for _ in range(halves):
        some, others = (torch.randperm(len(x), generator=draws)[:size] for x in (real, fake))
        fids.append(frechet_distance(moments(real[some]), moments(fake[others])))
    return {
        "fid": frechet_distance(moments(real), moments(fake)),
        "fid_deviation": stdev(fids),
        "kid_x100": 100 * kernel_distance(real, fake, subset_size=len(real)).mean,
        "kid_x100_deviation": 100 * kernel_distance(real, fake, subset_size=size).std,
    }


def show(rows: list[dict[str, Any]], scores: list[dict[str, Any]]) -> None:
    """A table for every setting: means and spreads over seeds, differences from the baseline."""
    scored = {row["run"]: row for row in scores}
    rows = [{**row, **curve_scores(row["curve"]), **scored.get(row["run"], {})} for row in rows]
    for settings in unique(row["settings"] for row in rows):
        own = [row for row in rows if row["settings"] == settings]
        print(json_text(settings))
        for cell in unique(row["cell"] for row in own):
            print(f"  {cell}")
            for name in ("random fid", "random fid, mean of the curve", "fid", "kid_x100"):
                its = [row for row in own if row["cell"] == cell and name in row]
                others = [row for row in own if row["cell"] == "baseline" and name in row]
                base = {row["seed"]: row[name] for row in others}
                if not its:
                    continue
                line = f"    {name}: {spread([row[name] for row in its])}"
                if f"{name}_deviation" in its[0]:
                    sampling = fmean(row[f"{name}_deviation"] for row in its)
                    line += f", by sampling +- {sampling:.2g}"
                pairs = [row[name] - base[row["seed"]] for row in its if row["seed"] in base]
                if cell != "baseline" and len(pairs) > 1:
                    line += (
                        f"; minus baseline {fmean(pairs):+.3g} +- {half_width(pairs):.2g} (95 %)"
                    )
                print(line)
            its = [row for row in own if row["cell"] == cell]
            used = [name for name in its[0] if name.endswith(("average_perplexity", "/dead"))]
            codes = (f"{name} {fmean(row[name] for row in its):.1f}" for name in used)
            print(f"    seeds {[row['seed'] for row in its]}, " + ", ".join(codes))


def curve_scores(curve: dict[str, float]) -> dict[str, float]:
    """FID on random features at the end, and its mean over the curve: how fast it fell."""
    values = list(curve.values())
    return {"random fid": values[-1], "random fid, mean of the curve": fmean(values)}


def unique(values: Iterator[Any]) -> list[Any]:
    found: list[Any] = []
    for value in values:
        if value not in found:
            found.append(value)
    return found


def half_width(differences: list[float]) -> float:
    """Half of the 95 % interval of their mean, of differences from the baseline seed by seed."""
    number = len(differences)
    return T95.get(number, MORE_SEEDS) * stdev(differences) / math.sqrt(number)


def spread(values: list[float], digits: int = 3) -> str:
    """Mean, deviation with a digit less, and each."""
    each = ", ".join(f"{value:.{digits}g}" for value in values)
    deviation = f" +- {stdev(values):.{digits - 1}g}" if len(values) > 1 else ""
    return f"{fmean(values):.{digits}g}{deviation} ({each})"


def draw_curves(rows: list[dict[str, Any]], path: Path) -> None:
    """FID on random features over the steps, a line a cell, a band for the least and greatest."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    last = rows[-1]["settings"]
    figure, axes = pyplot.subplots(figsize=(6, 4))
    for cell in CELLS:
        curves = [row["curve"] for row in rows if row["cell"] == cell and row["settings"] == last]
        if not curves:
            continue
        steps = [int(step) for step in curves[0]]
        points = [[curve[str(step)] for curve in curves] for step in steps]
        axes.plot(steps, [fmean(values) for values in points], label=cell)
        lows, highs = [min(values) for values in points], [max(values) for values in points]
        axes.fill_between(steps, lows, highs, alpha=0.12)
    axes.set(xlabel="iterations", ylabel="FID on random features", yscale="log")
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
