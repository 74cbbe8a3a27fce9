"""``fqgan demo``: FQ-BigGAN on toy shapes from training to score, sheet and curves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from . import plots
from .biggan.options import BigganTrain
from .biggan.presets import PRESETS
from .biggan.train import train
from .runtime.command import parse
from .runtime.logs import read_metrics


@dataclass(frozen=True)
class DemoConfig:
    """Train the preset "demo", then show what came of it."""

    run_dir: str = "runs/demo"
    """Folder of the run."""
    max_steps: int = PRESETS["demo"][1].max_steps
    """Iterations."""
    smallest: bool = False
    """A few iterations: does everything run."""
    baseline: bool = False
    """Without the quantizer: plain BigGAN."""


def main(argv: Sequence[str]) -> None:
    """Run ``fqgan demo``."""
    config = parse(DemoConfig, argv, "fqgan demo")
    for line in demo(config):
        print(line)


def demo(config: DemoConfig) -> list[str]:
    """Train, draw, and return the lines that say what is where."""
    preset: BigganTrain = PRESETS["demo"][1]
    if config.smallest:
        config = replace(config, max_steps=4)
    run = replace(
        preset,
        run_dir=config.run_dir,
        max_steps=config.max_steps,
        evaluate_every=min(preset.evaluate_every, config.max_steps),
        sample_every=min(preset.sample_every, config.max_steps),
    )
    if config.baseline:
        run = replace(run, quantizer=replace(run.quantizer, layers=()))
    train(run)
    run_dir = Path(config.run_dir)
    curves = plots.try_plot(run_dir)
    scored = [row for row in read_metrics(run_dir) if "fid" in row]
    fids = ", ".join(f"{row['fid']:.2f} at {int(row['step'])}" for row in scored)
    sheet = run_dir / "samples" / f"fixed_{config.max_steps:06d}.png"
    return [
        f"samples, one row a class: {sheet}",
        f"curves: {curves or plots.MISSING}",
        f"FID by iteration, random features, not comparable with published figures: {fids}",
    ]
