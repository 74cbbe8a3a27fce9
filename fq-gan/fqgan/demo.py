"""``fqgan demo``: a model family on toy shapes from training to score, sheet and curves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from . import plots
from .biggan import presets as biggan
from .biggan.train import train as train_biggan
from .runtime.command import parse
from .runtime.logs import read_metrics
from .ugatit import presets as ugatit
from .ugatit.options import directions
from .ugatit.train import train as train_ugatit

NOT_COMPARABLE = "random features, not comparable with published figures"


@dataclass(frozen=True)
class DemoConfig:
    """Train the demo of a family, then show what came of it."""

    family: Literal["biggan", "ugatit"] = "biggan"
    """biggan draws ten shapes, in four minutes; ugatit turns filled shapes into inked ones."""
    run_dir: str = ""
    """Folder of the run; empty: runs/demo, runs/ugatit-demo."""
    max_steps: int = 0
    """Iterations; 0: those of the preset."""
    smallest: bool = False
    """A few iterations: does everything run."""
    baseline: bool = False
    """Without the quantizer: plain BigGAN or U-GAT-IT."""

    def __post_init__(self) -> None:
        if self.max_steps < 0:
            raise ValueError(f"--max-steps must not be negative, got {self.max_steps}")


def main(argv: Sequence[str]) -> None:
    """Run ``fqgan demo``."""
    config = parse(DemoConfig, argv, "fqgan demo")
    for line in demo(config):
        print(line)


def demo(config: DemoConfig) -> list[str]:
    """Train, draw, and return the lines that say what is where."""
    drawing = config.family == "biggan"
    name = "demo" if drawing else "ugatit-demo"
    preset: Any = (biggan if drawing else ugatit).PRESETS[name][1]
    steps = (
        4
        if config.smallest
        else config.max_steps or (preset.max_steps if drawing else preset.last_step)
    )
    run = replace(
        preset,
        run_dir=config.run_dir or f"runs/{name}",
        max_steps=steps,
        evaluate_every=min(preset.evaluate_every, steps),
        sample_every=min(preset.sample_every, steps),
    )
    if config.baseline:
        run = replace(run, quantizer=replace(run.quantizer, layers=()))
    (train_biggan if drawing else train_ugatit)(run)
    curves = plots.try_plot(run.folder)
    found = drawn(run.folder, steps) if drawing else translated(run, steps)
    return [found[0], f"curves: {curves or plots.MISSING}", *found[1:]]


def drawn(run_dir: Path, steps: int) -> list[str]:
    """The sheet of BigGAN, and its scores."""
    scored = [row for row in read_metrics(run_dir) if "fid" in row]
    fids = ", ".join(f"{row['fid']:.2f} at {int(row['step'])}" for row in scored)
    sheet = run_dir / "samples" / f"fixed_{steps:06d}.png"
    return [
        f"samples, one row a class: {sheet}",
        f"FID by iteration, {NOT_COMPARABLE}: {fids}",
    ]


def translated(run: Any, steps: int) -> list[str]:
    """The sheets of U-GAT-IT, and its scores in both directions."""
    ways = directions(run.domain_names)
    sheets = " and ".join(str(run.folder / "samples" / f"{way}_{steps:06d}.png") for way in ways)
    lines = [
        f"translations, a row an image; columns: itself, into its own domain, there, back: {sheets}"
    ]
    for way in ways:
        column = f"kid_x100/{way}"
        scored = [row for row in read_metrics(run.folder) if column in row]
        kids = ", ".join(f"{row[column]:.2f} at {int(row['step'])}" for row in scored)
        untouched = scored[-1][f"kid_x100_untranslated/{way}"]
        lines.append(
            f"KID x 100 of {way} by iteration, {NOT_COMPARABLE}: {kids}; "
            f"untranslated {untouched:.2f}"
        )
    return lines
