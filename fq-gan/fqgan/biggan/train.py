"""Training of BigGAN and FQ-BigGAN: one function, top to bottom."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypeAlias, cast

import torch
from torch import Tensor, nn

from ..data.batches import next_images
from ..data.datasets import build_batches, build_images
from ..gan import Latents, check_weights
from ..progress import (
    RunProgress,
    improves,
    is_due,
    require_best_metric,
    training,
    write_parameter_counts,
)
from ..quantizer import quantizer_statistics
from ..runs import save_weights
from ..runtime import distributed
from ..runtime.checkpoint import Checkpoint
from ..runtime.files import write_atomically
from ..runtime.logs import Logs
from ..runtime.precision import MixedPrecision, check_finite
from ..runtime.rundir import open_run
from ..scoring import Scorer
from .config import BigganTrain, share_step
from .networks import DeepGenerator, Generator, build_discriminator, build_generator
from .sampling import Sampler, class_sheet, start_from
from .step import GanStep

AnyGenerator: TypeAlias = Generator | DeepGenerator


def train(config: BigganTrain) -> AnyGenerator:
    """Run ``config`` to its last step, continuing from the newest checkpoint in its folder.

    Returns:
        The generator for use: the moving average where there is one.

    Raises:
        ValueError, FileNotFoundError: options, data or weights are unusable; before the first step.
        FloatingPointError: a loss became NaN or infinite; nothing is saved after it.
    """
    with training(config) as (world, stop):
        images = build_images(config.data, seed=config.seed)
        scorer = Scorer(config.scoring, images, world.device) if config.evaluate_every else None
        options = share_step(config.step, world.size)
        networks = config.networks(len(images.class_names))
        torch.manual_seed(config.seed)  # the same initial weights on every rank
        generator, discriminator = build_generator(networks), build_discriminator(networks)
        if config.initial_weights:
            start_from(config.initial_weights, generator, discriminator)
        layout = torch.channels_last if config.channels_last else torch.contiguous_format
        for network in (generator, discriminator):
            network.to(world.device, memory_format=layout)  # type: ignore[call-overload]
        latents = Latents(
            generator.latent_dim, networks.num_classes, seed=config.seed, device=world.device
        )
        precision = MixedPrecision(config.precision, world.device)
        step = GanStep(generator, discriminator, options, precision=precision, draw=latents)
        chosen = cast(AnyGenerator, step.average.module) if config.use_average else generator
        batches = build_batches(
            config.data, images, options.batch_size, seed=config.seed, device=world.device
        )
        progress = RunProgress()
        parts = {
            "generator": generator,
            "discriminator": discriminator,
            "generator_optimizer": step.generator_optimizer,
            "discriminator_optimizer": step.discriminator_optimizer,
            "precision": precision,
            "data": batches,
            "latents": latents,
            "average": step.average,
            "progress": progress,
        }

        with open_run(config.folder, config) as run_dir:
            checkpoint = Checkpoint(run_dir, keep=config.keep, **parts)
            checkpoint.load_latest()
            step.use_options()
            if progress.step == 0:
                write_parameter_counts(run_dir, generator=generator, discriminator=discriminator)

            def save(folder: str) -> None:
                if world.is_main:
                    save_weights(
                        run_dir / folder,
                        networks,
                        chosen,
                        raw=generator if config.use_average else None,
                        discriminator=discriminator,
                        class_names=images.class_names,
                        step=progress.step,
                    )

            with Logs(run_dir, config.max_steps, progress.step) as logs:
                spectra = Spectra(run_dir, progress.step)
                while progress.step < config.max_steps:
                    real = next_images(batches, options.num_d_steps * options.num_d_accumulations)
                    progress.step += 1
                    losses = step(*real, progress.step)

                    last = progress.step == config.max_steps or stop.requested(progress.step)
                    logged = is_due(progress.step, config.log_every) or last
                    saved = is_due(progress.step, config.save_every) or last
                    scored = is_due(progress.step, config.evaluate_every, config.max_steps)
                    if logged or saved or scored:
                        check_finite(progress.step, **losses._asdict())
                    if saved or scored:
                        check_weights(progress.step, G=generator, D=discriminator)
                    row: dict[str, float | Tensor] = {}
                    if logged:
                        row = {f"loss_{name}": value for name, value in losses._asdict().items()}
                        row["codebook_perplexity"] = row.pop("loss_codebook_perplexity")
                        row |= quantizer_statistics(discriminator)
                        row |= {"images": batches.images_seen, "epoch": batches.epoch}
                    if scored and scorer:
                        row |= scores(config, scorer, chosen)
                        if improves(float(row[config.best_metric]), config.best_metric, progress):
                            save(f"best{progress.best_saved % config.keep_best}")
                            progress.best_saved += 1
                    if row:
                        logs.log(progress.step, **row)
                    logs.advance(progress.step)
                    if is_due(progress.step, config.spectra_every):
                        spectra.write(progress.step, G=generator, D=discriminator)
                    if is_due(progress.step, config.sample_every, config.max_steps):
                        write_fixed_sheet(config, chosen, run_dir, progress.step)
                    if saved:
                        checkpoint.save(progress.step)
                        save("model")
                    if last and progress.step < config.max_steps:
                        stop.leave(progress.step)
        return chosen


def sampler_of(config: BigganTrain, generator: AnyGenerator, seed: int, shared: bool) -> Sampler:
    """A sampler with a stream of its own: sampling does not disturb training."""
    latents = Latents(
        generator.latent_dim,
        generator.num_classes,
        seed=seed,
        device=next(generator.parameters()).device,
        shared=shared,
    )
    return Sampler(
        generator,
        latents,
        statistics=config.sample_statistics,
        standing_batches=config.standing_batches,
        batch_size=config.step.batch_size,
    )


def scores(config: BigganTrain, scorer: Scorer, generator: AnyGenerator) -> dict[str, float]:
    """Scores of the same latents at every call, computed by all ranks together."""
    found = scorer(sampler_of(config, generator, config.seed + 1, shared=True))
    require_best_metric(config.best_metric, found, config.scoring.features)
    return found


def write_fixed_sheet(
    config: BigganTrain, generator: AnyGenerator, run_dir: Path, step: int
) -> None:
    """``samples/fixed_STEP.png``: the same noise and classes at every step."""
    if distributed.is_main():
        sampler = sampler_of(config, generator, config.seed + 2, shared=False)
        class_sheet(sampler, run_dir / "samples" / f"fixed_{step:06d}.png")


class Spectra:
    """``spectra.jsonl``: the largest singular values of all weights, as spectral norm sees them."""

    def __init__(self, run_dir: Path, first_step: int) -> None:
        self.path = run_dir / "spectra.jsonl"
        if distributed.is_main() and self.path.exists():
            # A line that a kill cut short has no closing brace; its step is run again.
            lines = [line for line in self.path.read_text().splitlines() if line.endswith("}")]
            kept = [f"{line}\n" for line in lines if json.loads(line)["step"] <= first_step]
            write_atomically(self.path, "".join(kept))

    def write(self, step: int, **networks: nn.Module) -> None:
        """Append a row for ``step``; names are the authors', such as ``G_blocks_0_0_conv1_sv0``."""
        if not distributed.is_main():
            return
        row: dict[str, float] = {"step": step}
        for prefix, network in networks.items():
            for name, value in network.named_buffers():
                if name.rpartition(".")[2].startswith("sv"):
                    row[f"{prefix}_{name.replace('.', '_')}"] = float(value)
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")
