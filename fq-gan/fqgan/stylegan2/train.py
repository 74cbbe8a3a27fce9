"""Training of StyleGAN2 and FQ-StyleGAN: one function, top to bottom. Progress is in images."""

from __future__ import annotations

import math
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from ..data.batches import Batches, next_images, some
from ..data.datasets import build_batches, build_images
from ..data.images import Images, normalize
from ..gan import Latents, check_weights
from ..pictures import save_sheet
from ..progress import RunProgress, improves, require_best_metric, training, write_parameter_counts
from ..quantizer import quantizer_statistics
from ..runs import load_into, save_weights
from ..runtime import distributed
from ..runtime.checkpoint import Checkpoint
from ..runtime.logs import Logs
from ..runtime.precision import MixedPrecision, check_finite
from ..runtime.rundir import open_run
from ..scoring import Scorer
from .config import Phase, Stylegan2Config, Stylegan2Train, phase_at, share_phase
from .legacy import build_discriminator, build_generator, fade_reals
from .networks import Generator
from .sampling import Sampler, labels_for, start_from
from .step import GanStep


class ImageProgress(RunProgress):
    """``step`` counts images here; a resumed run has to know how far the last iteration grew."""

    iteration: int
    lod: float

    def __init__(self) -> None:
        super().__init__(iteration=0, lod=0.0)


def train(config: Stylegan2Train) -> Generator:
    """Run ``config`` to its last image, continuing from the newest checkpoint in its folder.

    Returns:
        The generator for use: the moving average.

    Raises:
        ValueError, FileNotFoundError: options, data or weights are unusable; before the first step.
        FloatingPointError: a loss became NaN or infinite; nothing is saved after it.
    """
    with training(config) as (world, stop):
        resolution, total = config.data.resolution, config.total_images
        images = build_images(config.data, seed=config.seed)
        scorer = Scorer(config.scoring, images, world.device) if config.evaluate_kimg else None
        networks = config.networks(len(images.class_names))
        generator, discriminator = build_networks(config, networks, world.device)
        torch.manual_seed(config.seed + world.rank)  # noise that differs between the ranks
        latents = Latents(
            generator.latent_dim, max(1, networks.label_size), seed=config.seed, device=world.device
        )

        def draw(number: int) -> tuple[Tensor, Tensor | None]:
            latent = latents(number)
            return latent.z, labels_for(latent.labels, networks.label_size)

        precision = MixedPrecision(config.precision, world.device)
        step = GanStep(generator, discriminator, config.step, precision=precision, draw=draw)
        average = cast(Generator, step.average.module)
        if config.initial_weights:
            load_into(average, Path(config.initial_weights) / "model.safetensors")
        phase = phase_at(round(config.initial_kimg * 1000), config.schedule, resolution)
        batches = build_batches(
            config.data, images, share_phase(phase, world.size)[0], seed=config.seed,
            device=world.device,
        )  # fmt: skip
        progress = ImageProgress()
        progress.step = round(config.initial_kimg * 1000)
        parts = {
            "generator": generator,
            "discriminator": discriminator,
            "optimizers": step,
            "precision": precision,
            "data": batches,
            "latents": latents,
            "average": step.average,
            "progress": progress,
        }

        with open_run(config.folder, config) as run_dir:
            checkpoint = Checkpoint(run_dir, keep=config.keep, **parts)
            checkpoint.load_latest()
            if progress.iteration == 0:
                write_parameter_counts(run_dir, generator=generator, discriminator=discriminator)
                write_reals(images, config.sheet_images, run_dir)
                write_fixed_sheet(config, average, run_dir, progress, phase.lod)

            def save(folder: str) -> None:
                if world.is_main:
                    save_weights(
                        run_dir / folder,
                        networks,
                        average,
                        raw=generator,
                        discriminator=discriminator,
                        class_names=images.class_names,
                        step=progress.step,
                        lod=phase.lod,
                    )

            with Logs(run_dir, total, progress.step, unit="img") as logs:
                while progress.step < total:
                    phase = phase_at(progress.step, config.schedule, resolution)
                    enter_phase(phase, step, batches, progress)
                    real, classes = next_images(batches, step.num_accumulations)
                    labels = labels_for(classes, networks.label_size)
                    before = progress.step
                    progress.step += phase.batch_size
                    progress.iteration += 1
                    real = fade_reals(real, phase.lod)
                    losses = step(real, labels, progress.iteration, lod=phase.lod)

                    ended = progress.step >= total
                    last = ended or stop.requested(progress.iteration)
                    logged = passes(before, progress.step, config.log_kimg) or last
                    saved = passes(before, progress.step, config.save_kimg) or last
                    scored = passes(before, progress.step, config.evaluate_kimg, ended)
                    if logged or saved or scored:
                        check_finite(progress.step, **losses._asdict())
                    if saved or scored:
                        check_weights(progress.step, G=generator, D=discriminator)
                    row: dict[str, float | Tensor] = {}
                    if logged:
                        row = row_of(losses._asdict(), phase, progress, batches)
                        row |= quantizer_statistics(discriminator)
                    if scored and scorer:
                        row |= scores(config, scorer, average, phase.lod)
                        if improves(float(row[config.best_metric]), config.best_metric, progress):
                            save(f"best{progress.best_saved % config.keep_best}")
                            progress.best_saved += 1
                    if row:
                        logs.log(progress.step, **row)
                    logs.advance(progress.step)
                    if passes(before, progress.step, config.sample_kimg, ended):
                        write_fixed_sheet(config, average, run_dir, progress, phase.lod)
                    if saved:
                        checkpoint.save(progress.step)
                        save("model")
                    if last and not ended:
                        stop.leave(progress.step)
        return average


def build_networks(
    config: Stylegan2Train, networks: Stylegan2Config, device: torch.device
) -> tuple[Generator, nn.Module]:
    """G and D on ``device``, with first weights or those to go on from, alike on every rank."""
    torch.manual_seed(config.seed)
    generator, discriminator = build_generator(networks), build_discriminator(networks)
    if config.initial_weights:
        start_from(config.initial_weights, generator, discriminator)
    layout = torch.channels_last if config.channels_last else torch.contiguous_format
    for network in (generator, discriminator):
        network.to(device, memory_format=layout)  # type: ignore[call-overload]
    return generator, discriminator


def enter_phase(phase: Phase, step: GanStep, batches: Batches, progress: ImageProgress) -> None:
    """Set batches and learning rates; forget the moments of Adam where growing starts or ends."""
    batch_size, passes_per_update = share_phase(phase, distributed.world_size())
    if batch_size != batches.sampler.batch_size:
        batches.resize(batch_size)
    step.set_phase(batch_size=batch_size, num_accumulations=passes_per_update, lr=phase.lr)
    before, progress.lod = progress.lod, float(phase.lod)
    if progress.iteration and (
        math.floor(before) != math.floor(phase.lod) or math.ceil(before) != math.ceil(phase.lod)
    ):
        step.reset_optimizers()


def passes(before: int, now: int, kimg: float, ended: bool = False) -> bool:
    """Whether a multiple of ``kimg`` thousands of images (0: never) lies in (before, now]."""
    every = max(1, round(kimg * 1000))
    return kimg > 0 and (ended or now // every > before // every)


def row_of(
    losses: dict[str, Tensor], phase: Phase, progress: ImageProgress, batches: Batches
) -> dict[str, float | Tensor]:
    """The row of metrics.jsonl without the quantizers' own columns."""
    row: dict[str, float | Tensor] = {f"loss_{name}": value for name, value in losses.items()}
    for name in ("codebook_perplexity", "skipped"):
        row[name] = row.pop(f"loss_{name}")
    return row | {
        "iteration": progress.iteration,
        "epoch": batches.epoch,
        "lod": phase.lod,
        "batch_size": phase.batch_size,
        "lr": phase.lr,
    }


def scores(
    config: Stylegan2Train, scorer: Scorer, generator: Generator, lod: float
) -> dict[str, float]:
    """Scores of the same latents at every call, computed by all ranks together."""
    sampler = Sampler(
        generator, seed=config.seed + 1, lod=lod, batch_size=config.scoring.batch_size
    )
    found = scorer(sampler)
    require_best_metric(config.best_metric, found, config.scoring.features)
    return found


def write_fixed_sheet(
    config: Stylegan2Train, generator: Generator, run_dir: Path, progress: ImageProgress, lod: float
) -> None:
    """``samples/fixed_IMAGES.png``: the same latents and noise at every time."""
    if distributed.is_main():
        batch_size = config.schedule.device_batch_size
        sampler = Sampler(
            generator, seed=config.seed + 2, noise="fixed", lod=lod, batch_size=batch_size,
            shared=False,
        )  # fmt: skip
        path = run_dir / "samples" / f"fixed_{progress.step:08d}.png"
        save_sheet(sampler(config.sheet_images), path, sheet_columns(config.sheet_images))


def write_reals(images: Images, count: int, run_dir: Path) -> None:
    """``samples/reals.png``: a fixed random choice of the data set."""
    if distributed.is_main():
        index = some(len(images), count)
        pixels = normalize(images.read(index).cpu())
        save_sheet(pixels, run_dir / "samples" / "reals.png", sheet_columns(len(index)))


def sheet_columns(count: int) -> int:
    """Columns of a sheet that is about square."""
    return max(1, round(count**0.5))
