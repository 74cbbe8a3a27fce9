"""Small data with and without augmentation: 500 CIFAR-10 images of one class.

python evidence/small_data.py --images cifar10_jpeg.zip --weights weights/squeezenet
python evidence/small_data.py --host stylegan2 --images cifar10_jpeg.zip

Runs that were finished are not trained again, one that was cut short is continued. A table of what
is there is printed at the end, also with --table alone.
"""

from __future__ import annotations

import argparse
import json
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from fqgan.augment.adaptive import AdaptiveOptions
from fqgan.biggan import commands as biggan
from fqgan.biggan.config import ALL_POLICIES, PRESETS as BIGGAN
from fqgan.data.datasets import DataConfig
from fqgan.data.folders import read_zip
from fqgan.data.hdf5 import write_hdf5
from fqgan.data.images import Subset, in_memory
from fqgan.runs import train
from fqgan.runtime.files import json_text
from fqgan.scoring import ScoringOptions
from fqgan.stylegan2 import commands as stylegan2
from fqgan.stylegan2.config import PRESETS as STYLEGAN2

HOSTS = {"biggan": 600, "stylegan2": 2000}  # and their iterations
CONDITIONS = ("plain", "augmented")
SEEDS = (0, 1, 2)
TRAINED = 500
SCORES = (
    *("fid", "kid_x100", "kid_x100_low", "kid_x100_high"),
    *("precision", "recall", "density", "coverage"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--host", choices=HOSTS, default="biggan")
    parser.add_argument("--preset", default="small-cifar10-fq-commit", help="of BigGAN")
    parser.add_argument("--images", default="", help="zip of CIFAR-10")
    parser.add_argument("--class", dest="label", type=int, default=7, help="of CIFAR: 7 is horse")
    parser.add_argument("--features", choices=("squeezenet", "random"), default="squeezenet")
    parser.add_argument("--weights", default="weights/squeezenet", help="folder of SqueezeNet's")
    parser.add_argument("--samples", type=int, default=2000, help="images that are scored")
    parser.add_argument("--out", default="runs/small-data", help="folder of all runs")
    parser.add_argument("--steps", type=int, default=0, help="iterations; 0: those of the host")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--table", action="store_true", help="only print what is there")
    options = parser.parse_args()
    out = Path(options.out) / options.host
    if not options.table:
        for seed in options.seeds:
            for condition in CONDITIONS:
                run = out / f"{condition}-{seed}"
                if not (run / "scores.json").exists():
                    scores = scores_of(options, condition, seed, run)
                    (run / "scores.json").write_text(json_text(scores, indent=2) + "\n")
    print_table(out)


def scores_of(
    options: argparse.Namespace, condition: str, seed: int, run: Path
) -> dict[str, float]:
    """Train one run, or continue it, and score it."""
    steps = options.steps or HOSTS[options.host]
    augmented = condition == "augmented"
    common: dict[str, Any] = {"run_dir": str(run), "seed": seed, "device": "cpu"}
    learned, judged = class_files(options, run.parents[1])
    data = DataConfig("hdf5", learned, resolution=32, augment=True, in_memory=True)
    reference = DataConfig("hdf5", judged, resolution=32, in_memory=True)
    scoring_options = ScoringOptions(
        options.features, weights=options.weights, num_images=options.samples,
        cache_dir=str(run.parents[1] / "cache"),
    )  # fmt: skip
    if options.host == "biggan":
        own = BIGGAN[options.preset][1]
        train(
            replace(
                own, **common, max_steps=steps, evaluate_every=0, sample_every=0, data=data,
                step=replace(own.step, augment=ALL_POLICIES if augmented else ()),
            )
        )  # fmt: skip
        found = biggan.evaluate(
            biggan.EvaluateConfig(
                run_dir=str(run), device="cpu", data=reference, scoring=scoring_options,
                sample_statistics="standing",
            )
        )  # fmt: skip
    else:
        styles = STYLEGAN2["stylegan2-cifar-small"][1]
        kimg = steps * styles.schedule.batch_size / 1000
        train(
            replace(
                styles, **common, evaluate_kimg=0, sample_kimg=0, data=data,
                schedule=replace(styles.schedule, total_kimg=kimg),
                # In a short run p has to be able to rise.
                adaptive=AdaptiveOptions(enabled=augmented, kimg=kimg),
            )
        )  # fmt: skip
        found = stylegan2.evaluate(
            stylegan2.EvaluateConfig(
                run_dir=str(run), device="cpu", data=reference, scoring=scoring_options
            )
        )
    return {name: found[name] for name in SCORES}


def class_files(options: argparse.Namespace, folder: Path) -> tuple[str, str]:
    """HDF5 files of the images that are learned from, and of all others of the class."""
    names = [folder / f"class{options.label}-{part}.hdf5" for part in ("learned", "judged")]
    if not all(name.exists() for name in names):
        folder.mkdir(parents=True, exist_ok=True)
        images = read_zip(options.images, resolution=32)
        index = torch.nonzero(images.labels == options.label).flatten()
        order = torch.randperm(len(index), generator=torch.Generator().manual_seed(0))
        parts = index[order[:TRAINED].sort().values], index[order[TRAINED:].sort().values]
        for name, part in zip(names, parts, strict=True):
            chosen = in_memory(Subset(images, part))
            chosen.labels = torch.zeros_like(chosen.labels)
            chosen.class_names = [images.class_names[options.label]]
            write_hdf5(chosen, name)
    return str(names[0]), str(names[1])


def print_table(out: Path) -> None:
    """Scores of every condition, mean and deviation over the seeds that are there."""
    for condition in CONDITIONS:
        files = sorted(out.glob(f"{condition}-*/scores.json"))
        found = [json.loads(file.read_text()) for file in files]
        if not found:
            print(condition, "not run")
            continue
        print(condition, f"{len(found)} seeds")
        for name in found[0]:
            values = [row[name] for row in found]
            spread = statistics.stdev(values) if len(values) > 1 else float("nan")
            each = ", ".join(f"{value:.4g}" for value in values)
            print(f"  {name}: {statistics.mean(values):.4g} +- {spread:.2g} ({each})")


if __name__ == "__main__":
    main()
