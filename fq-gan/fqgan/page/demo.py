"""``fqgan demo``: a family on toy shapes from training to score, sheet and curves; or a page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import torch

from .. import plots
from ..biggan import config as biggan
from ..biggan.train import train as train_biggan
from ..runtime.command import parse
from ..runtime.logs import read_metrics
from ..stylegan2 import config as stylegan2
from ..stylegan2.config import Stylegan2Train
from ..stylegan2.train import train as train_stylegan2
from ..ugatit import config as ugatit
from ..ugatit.config import directions
from ..ugatit.train import train as train_ugatit
from .explorer import load_explorer
from .layout import serve

NOT_COMPARABLE = "random features, not comparable with published figures"


@dataclass(frozen=True)
class DemoConfig:
    """Train the demo of a family, then show what came of it."""

    family: Literal["biggan", "ugatit", "stylegan2"] = "biggan"
    """biggan draws ten shapes, in four minutes, stylegan2 as well; ugatit inks filled shapes."""
    run_dir: str = ""
    """Folder of the run; empty: runs/demo, runs/ugatit-demo, runs/stylegan2-demo."""
    max_steps: int = 0
    """Iterations, of stylegan2 images; 0: those of the preset."""
    smallest: bool = False
    """A few iterations: does everything run."""
    baseline: bool = False
    """Without the quantizer: plain BigGAN, U-GAT-IT or StyleGAN2."""
    serve: bool = False
    """Show a page to play with --run-dir instead: a run or converted weights, of any family."""
    images: str = ""
    """With --serve: folder of pictures to look at; empty: images of the run's data."""
    host: str = "127.0.0.1"
    """With --serve: the address to listen on; 0.0.0.0 is every network of this machine."""
    port: int = 7860
    """With --serve: the port; 0 takes the first free one from 7860 on."""

    def __post_init__(self) -> None:
        if self.max_steps < 0:
            raise ValueError(f"--max-steps must not be negative, got {self.max_steps}")
        if not 0 <= self.port < 65536:
            raise ValueError(f"--port must be in [0, 65535], got {self.port}")


class Demo(NamedTuple):
    """How the demo of a family runs."""

    preset: str
    presets: Mapping[str, tuple[str, Any]]
    shorten: Callable[[Any, int], Any]  # run and iterations (0: all) -> run
    train: Callable[[Any], Any]
    shown: Callable[[Any], list[str]]  # what lies where; the curves come second
    smallest: int  # iterations


def main(argv: Sequence[str]) -> None:
    """Run ``fqgan demo`` or ``fqgan demo --serve``."""
    config = parse(DemoConfig, argv, "fqgan demo")
    if config.serve:
        show(config)
        return
    for line in demo(config):
        print(line)


def show(config: DemoConfig) -> None:
    """Serve the page of a run until Ctrl-C."""
    folder = config.run_dir or f"runs/{DEMOS[config.family].preset}"
    command = "fqgan demo" + (f" --family {config.family}" if config.family != "biggan" else "")
    if config.run_dir:
        command += f" --run-dir {config.run_dir}"
    device = "cuda" if torch.cuda.is_available() else "cpu"
    explorer = load_explorer(folder, config.images, command=command, device=device)
    serve(explorer, config.host, config.port)


def demo(config: DemoConfig) -> list[str]:
    """Train, draw, and return the lines that say what is where."""
    chosen = DEMOS[config.family]
    preset = chosen.presets[chosen.preset][1]
    run = replace(preset, run_dir=config.run_dir or f"runs/{chosen.preset}")
    run = chosen.shorten(run, chosen.smallest if config.smallest else config.max_steps)
    if config.baseline:
        run = replace(run, quantizer=replace(run.quantizer, layers=()))
    chosen.train(run)
    curves = plots.try_plot(run.folder)
    found = chosen.shown(run)
    return [found[0], f"curves: {curves or plots.MISSING}", *found[1:]]


def shorten_iterations(run: Any, steps: int) -> Any:
    """``run`` with so many iterations, drawn and scored at its end at the latest."""
    steps = steps or getattr(run, "last_step", run.max_steps)
    return replace(
        run,
        max_steps=steps,
        evaluate_every=min(run.evaluate_every, steps),
        sample_every=min(run.sample_every, steps),
    )


def shorten_images(run: Stylegan2Train, count: int) -> Stylegan2Train:
    """``run`` with so many images; its end is always drawn and scored."""
    if not count:
        return run
    return replace(run, schedule=replace(run.schedule, total_kimg=count / 1000))


def drawn(run: Any) -> list[str]:
    """The newest sheet of BigGAN or StyleGAN2, and the scores."""
    scored = [row for row in read_metrics(run.folder) if "fid" in row]
    fids = ", ".join(f"{row['fid']:.2f} at {int(row['step'])}" for row in scored)
    unit = "images" if "iteration" in scored[-1] else "iteration"
    content = "random latents" if unit == "images" else "one row a class"
    sheet = max((run.folder / "samples").glob("fixed_*.png"))
    return [f"samples, {content}: {sheet}", f"FID by {unit}, {NOT_COMPARABLE}: {fids}"]


def translated(run: Any) -> list[str]:
    """The sheets of U-GAT-IT, and its scores in both directions."""
    ways = directions(run.domain_names)
    name = f"{run.max_steps:06d}.png"
    sheets = " and ".join(str(run.folder / "samples" / f"{way}_{name}") for way in ways)
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


DEMOS = {
    "biggan": Demo("demo", biggan.PRESETS, shorten_iterations, train_biggan, drawn, 4),
    "ugatit": Demo("ugatit-demo", ugatit.PRESETS, shorten_iterations, train_ugatit, translated, 4),
    "stylegan2": Demo(
        "stylegan2-demo", stylegan2.PRESETS, shorten_images, train_stylegan2, drawn, 32
    ),
}
