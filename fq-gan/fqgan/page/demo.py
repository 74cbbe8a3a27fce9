"""``fqgan demo``: a family on toy shapes from training to score, sheet and curves; or a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from .. import plots
from ..biggan.sampling import build_sampler, load_weights
from ..config import presets_of
from ..data.images import normalize
from ..data.toy import toy_images
from ..pictures import save_sheet
from ..runs import train
from ..runtime.command import parse
from ..runtime.distributed import choose_device
from ..runtime.logs import read_metrics
from ..ugatit.config import directions
from .explorer import load_explorer
from .layout import serve
from .shapes import recognised, train_judge

NOT_COMPARABLE = "random features, not comparable with published figures"
DEMOS = {"biggan": "demo", "ugatit": "ugatit-demo", "stylegan2": "stylegan2-demo"}
"""The preset of each family, which is also the name of its folder."""
SHEET_NOISE = 0.7  # deviation of the noise behind the last sheet of shapes
SMALLEST = {"biggan": 4, "ugatit": 4, "stylegan2": 32}  # iterations, of stylegan2 images


@dataclass(frozen=True)
class DemoConfig:
    """Train the demo of a family, then show what came of it."""

    family: Literal["biggan", "ugatit", "stylegan2"] = "biggan"
    """biggan draws ten shapes, in four minutes, stylegan2 as well; ugatit inks filled shapes."""
    run_dir: str = ""
    """Folder of the run; empty: demo, ugatit-demo or stylegan2-demo in the folder --runs."""
    runs: str = "runs"
    """Where that folder is."""
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

    @property
    def folder(self) -> str:
        """Where the run is."""
        return self.run_dir or str(Path(self.runs) / DEMOS[self.family])


def main(argv: Sequence[str]) -> None:
    """Run ``fqgan demo`` or ``fqgan demo --serve``."""
    config = parse(DemoConfig, argv, "fqgan demo")
    if config.serve:
        show(config)
        return
    # The order of sums, and with it the shapes, would depend on the number of cores.
    torch.set_num_threads(1)
    for line in demo(config):
        print(line)


def show(config: DemoConfig) -> None:
    """Serve the page of a run until Ctrl-C."""
    command = "fqgan demo" + (f" --family {config.family}" if config.family != "biggan" else "")
    if config.run_dir:
        command += f" --run-dir {config.run_dir}"
    device = choose_device("auto")
    explorer = load_explorer(config.folder, config.images, command=command, device=device)
    serve(explorer, config.host, config.port)


def demo(config: DemoConfig) -> list[str]:
    """Train, draw, and return the lines that say what is where."""
    _, preset = presets_of(config.family)[DEMOS[config.family]]
    run = replace(preset, run_dir=config.folder)
    run = shorten(run, SMALLEST[config.family] if config.smallest else config.max_steps)
    if config.baseline:
        run = replace(run, quantizer=replace(run.quantizer, layers=()))
    train(run)
    curves = plots.try_plot(run.folder)
    found = translated(run) if config.family == "ugatit" else drawn(run)
    lines = [found[0], f"curves: {curves or plots.MISSING}", *found[1:]]
    if run.quantizer.layers:
        lines.append(codes_in_use(run))
    if config.family == "biggan":
        lines.append(shapes_recognised(run))
    return lines


def shorten(run: Any, steps: int) -> Any:
    """``run`` with so many iterations, or images, 0: all; drawn and scored at its end at least."""
    if run.kind == "stylegan2":
        kimg = steps / 1000 or run.schedule.total_kimg
        return replace(run, schedule=replace(run.schedule, total_kimg=kimg))
    steps = steps or getattr(run, "last_step", run.max_steps)
    return replace(
        run,
        max_steps=steps,
        evaluate_every=min(run.evaluate_every, steps),
        sample_every=min(run.sample_every, steps),
    )


def drawn(run: Any) -> list[str]:
    """The newest sheet of BigGAN or StyleGAN2, and the scores."""
    scored = [row for row in read_metrics(run.folder) if "fid" in row]
    fids = ", ".join(f"{row['fid']:.2f} at {int(row['step'])}" for row in scored)
    in_images = run.kind == "stylegan2"
    content = "random latents" if in_images else "one row a class"
    unit = "images" if in_images else "iteration"
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


def codes_in_use(run: Any) -> str:
    """Perplexity and dead codes of every dictionary at the end."""
    rows = [row for row in read_metrics(run.folder) if any(k.endswith("/dead") for k in row)]
    last = rows[-1]
    layers = [name.removesuffix("/dead") for name in last if name.endswith("/dead")]
    each = ", ".join(
        f"{last[f'{layer}/average_perplexity']:.0f} ({last[f'{layer}/dead']:.0f} dead) in {layer}"
        for layer in layers
    )
    return f"codes in use of every dictionary (perplexity): {each}"


def shapes_recognised(run: Any, each: int = 50) -> str:
    """The share of images of every class that a classifier of the shapes takes for their class.

    Their noise is truncated as BigGAN's is for pictures to look at. Writes a sheet with the first
    ten images of every class and its share. Says also how much pixels vary within a class, in the
    data and here: a generator with one picture a class would be recognised as well.
    """
    generator = load_weights(run.folder / "model").generator
    sampler = build_sampler(
        generator, seed=run.seed + 3, std=SHEET_NOISE, shared=False,
        statistics=run.sample_statistics, standing_batches=run.standing_batches,
        batch_size=run.step.batch_size,
    )  # fmt: skip
    classes = list(range(generator.num_classes))
    images = sampler.of_classes(classes, each)
    judge = train_judge(steps=min(300, run.max_steps), resolution=generator.resolution)
    shares = recognised(judge, images, torch.tensor(classes).repeat_interleave(each))
    most = sum(share > 0.5 for share in shares.values())
    words = [f"{name} {share:.2f}" for name, share in shares.items()]
    by_class = images.unflatten(0, (len(classes), each))
    spread = float(by_class.std(dim=1).mean())
    real = toy_images(
        len(images), seed=run.seed, resolution=generator.resolution,
        variation=run.data.toy_variation,
    )  # fmt: skip
    real_spread = float(normalize(real.pixels).unflatten(0, (each, -1)).std(dim=0).mean())
    first = by_class[:, :10].flatten(0, 1)
    factor = max(1, 48 // images.shape[-1])  # 16 pixels are hard to see
    first = first.repeat_interleave(factor, dim=2).repeat_interleave(factor, dim=3)
    sheet = save_sheet(first, run.folder / "samples" / "shapes.png", 10, row_titles=words)
    return (
        f"shapes that a classifier recognises in most of {each} images of noise of deviation "
        f"{SHEET_NOISE}: {most} of {len(shares)}; shares: {', '.join(words)}; deviation of their "
        f"pixels within a class: {spread:.2f}, of the data's {real_spread:.2f}; sheet: {sheet}"
    )
