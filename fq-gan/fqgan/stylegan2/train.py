"""A training run of StyleGAN2 or FQ-StyleGAN: how it is opened, its step, its scores.

Progress is in images.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from .. import runs
from ..augment.adaptive import AdaptiveAugment
from ..data.batches import fixed_choice, next_images
from ..data.datasets import FIXED as FIXED_DATA, build_batches, build_images
from ..data.images import normalize
from ..gan import Latents
from ..loop import Intervals, Task, Training
from ..old_runs import upgrade
from ..pictures import save_sheet, square_columns
from ..quantizer import quantizer_statistics
from ..runs import GanProgress, best_goal, save_weights, write_parameter_counts
from ..runtime.distributed import World, is_main
from ..runtime.logs import Logs
from ..runtime.precision import MixedPrecision, check_finite, check_weights
from ..runtime.run_folder import RunFolder
from ..scoring import Scorer
from .config import Phase, Stylegan2Train, phase_at, share_phase
from .legacy import build_discriminator, build_generator, fade_reals
from .networks import Generator
from .sampling import Sampler, labels_for, start_from, start_generator
from .step import GanStep, StepLosses


class ImageProgress(GanProgress):
    """``step`` counts images here; a resumed run has to know how far the last iteration grew."""

    iteration: int
    lod: float


def train(config: Stylegan2Train) -> Generator:
    """Run ``config`` to its end; returns the generator for use: the moving average."""
    return cast(Stylegan2Training, runs.train(config)).average


class Stylegan2Training(Training):
    """A run that is built and ready for its next iteration.

    Raises:
        ValueError, FileNotFoundError: options, data or weights are unusable.
    """

    unit = "image"
    length_option = "--schedule.total-kimg"
    headline = (
        "loss_generator", "loss_real", "loss_fake", "loss_r1", "codebook_perplexity",
        "augment_p", "fid", "kid_x100", "inception_score",
    )  # fmt: skip

    def __init__(self, config: Stylegan2Train, world: World, folder: RunFolder) -> None:
        self.config, self.processes, device = config, world.size, world.device
        self.images = build_images(config.data, seed=config.seed)
        self.scorer = Scorer(config.scoring, self.images, device) if config.evaluate_kimg else None
        if self.scorer:
            self.scorer.require(config.best_metric)
        self.networks = config.networks(len(self.images.class_names))
        if config.schedule.growing and not self.networks.growing:
            raise ValueError(
                f"--schedule.growing begins with small images, which --generator.architecture "
                f"{config.generator.architecture} does not draw; give growing or stylegan1 as the "
                "architecture of both networks, or --schedule.no-growing"
            )
        torch.manual_seed(config.seed)  # the same first weights on every rank
        self.generator = build_generator(self.networks)
        self.discriminator = build_discriminator(self.networks)
        if config.initial_weights and not folder.started:
            networks = (self.generator, self.discriminator)
            start_from(config.initial_weights, *networks, self.networks)
        layout = torch.channels_last if config.channels_last else torch.contiguous_format
        for network in (self.generator, self.discriminator):
            network.to(device, memory_format=layout)  # type: ignore[call-overload]
        torch.manual_seed(config.seed + world.rank)  # noise that differs between the ranks
        classes = max(1, self.networks.label_size)
        self.latents = Latents(self.generator.latent_dim, classes, seed=config.seed, device=device)
        precision = MixedPrecision(config.precision, device)
        augment = AdaptiveAugment(config.adaptive, device) if config.adaptive.enabled else None
        self.gan_step = GanStep(
            self.generator, self.discriminator, config.step, precision=precision, draw=self.draw,
            augment=augment,
        )  # fmt: skip
        self.average = cast(Generator, self.gan_step.average.module)
        if config.initial_weights and not folder.started:
            folder_of_weights = runs.weights_folder(config.initial_weights)
            start_generator(folder_of_weights, self.average, "model", self.networks)
        images_before = round(config.initial_kimg * 1000)
        self.phase = phase_at(images_before, config.schedule, config.data.resolution)
        batch_size, _ = share_phase(self.phase, world.size)
        self.batches = build_batches(
            config.data, self.images, batch_size, seed=config.seed, device=device
        )
        self.progress: ImageProgress = ImageProgress(
            config.best_metric, iteration=0, lod=float(self.phase.lod)
        )
        self.progress.step = images_before
        self.total_steps = config.total_images
        self.parts = {
            "generator": self.generator,
            "discriminator": self.discriminator,
            "optimizers": self.gan_step,
            "precision": precision,
            "data": self.batches,
            "latents": self.latents,
            "average": self.gan_step.average,
        }
        self.intervals = Intervals(
            images_of(config.log_kimg), images_of(config.save_kimg),
            images_of(config.evaluate_kimg), config.evaluate_kimg > 0,
        )  # fmt: skip
        self.also = ((images_of(config.sample_kimg), self.write_fixed_sheet),)
        self.losses: StepLosses | None = None

    def draw(self, number: int) -> tuple[Tensor, Tensor | None]:
        """Latents and label vectors for the generator."""
        latent = self.latents(number)
        return latent.z, labels_for(latent.labels, self.networks.label_size)

    def begin(self, run_dir: Path, logs: Logs) -> None:
        """``samples/reals.png``, a fixed random choice of the data, and the untrained generator."""
        if not is_main():
            return
        write_parameter_counts(run_dir, generator=self.generator, discriminator=self.discriminator)
        if self.config.sample_kimg:
            index = fixed_choice(len(self.images), self.config.sheet_images)
            pixels = normalize(self.images.read(index).cpu())
            save_sheet(pixels, run_dir / "samples" / "reals.png", square_columns(len(index)))
            self.write_fixed_sheet(run_dir)

    def step(self) -> None:
        """An iteration, in the phase that the schedule says."""
        progress, config = self.progress, self.config
        phase = phase_at(progress.step, config.schedule, config.data.resolution)
        self.enter(phase)
        real, classes = next_images(self.batches, self.gan_step.num_accumulations)
        labels = labels_for(classes, self.networks.label_size)
        progress.step += phase.batch_size
        progress.iteration += 1
        real = fade_reals(real, phase.lod)
        self.losses = self.gan_step(real, labels, progress.iteration, lod=phase.lod)

    def enter(self, phase: Phase) -> None:
        """Set batches and rates; forget the moments of Adam where growing starts or ends."""
        batch_size, passes_per_update = share_phase(phase, self.processes)
        if batch_size != self.batches.sampler.batch_size:
            self.batches.resize(batch_size)
        self.gan_step.set_phase(
            batch_size=batch_size, num_accumulations=passes_per_update, lr=phase.lr
        )
        before, self.progress.lod = self.progress.lod, float(phase.lod)
        if self.progress.iteration and (
            math.floor(before) != math.floor(phase.lod) or math.ceil(before) != math.ceil(phase.lod)
        ):
            self.gan_step.reset_optimizers()
        self.phase = phase

    def check(self) -> None:
        assert self.losses is not None
        check_finite(self.progress.step, **self.losses._asdict())
        check_weights(self.progress.step, {"G": self.generator, "D": self.discriminator})

    def scalars(self) -> dict[str, float | Tensor | None]:
        assert self.losses is not None
        row: dict[str, float | Tensor | None] = {
            f"loss_{name}": value for name, value in self.losses._asdict().items()
        }
        for name in ("codebook_perplexity", "skipped"):
            row[name] = row.pop(f"loss_{name}")
        row |= {
            "iteration": self.progress.iteration,
            "epoch": self.batches.epoch,
            "lod": self.phase.lod,
            "batch_size": self.phase.batch_size,
            "lr": self.phase.lr,
        }
        if (augment := self.gan_step.augment) is not None:
            row |= {"augment_p": augment.probability, "augment_rt": augment.sign}
        return row | quantizer_statistics(self.discriminator)

    def evaluate(self) -> dict[str, float]:
        """Scores of the same latents at every call, computed by all ranks together."""
        if self.scorer is None:
            return {}
        sampler = Sampler(
            self.average, seed=self.config.seed + 1, lod=self.progress.lod,
            batch_size=self.config.scoring.batch_size,
        )  # fmt: skip
        return self.scorer(sampler)

    def goals(self, scores: Mapping[str, float]) -> dict[str, float]:
        return best_goal(scores, self.config.best_metric)

    def export(self, run_dir: Path, name: str) -> None:
        save_weights(
            run_dir / self.progress.folder_of(name, self.config.keep_best),
            self.networks,
            self.average,
            raw=self.generator,
            discriminator=self.discriminator,
            class_names=self.images.class_names,
            step=self.progress.step,
            lod=self.progress.lod,
        )

    def write_fixed_sheet(self, run_dir: Path) -> None:
        """``samples/fixed_IMAGES.png``: the same latents and noise at every time."""
        if not is_main():
            return
        count = self.config.sheet_images
        sampler = Sampler(
            self.average, seed=self.config.seed + 2, noise="fixed", lod=self.progress.lod,
            batch_size=self.config.schedule.device_batch_size, shared=False,
        )  # fmt: skip
        path = run_dir / "samples" / f"fixed_{self.progress.step:08d}.png"
        save_sheet(sampler(count), path, square_columns(count))


def images_of(kimg: float) -> int:
    """Thousands of images as images: at least one, but where it is 0, never."""
    return max(1, round(kimg * 1000)) if kimg else 0


TASK = Task(
    "stylegan2",
    Stylegan2Train,
    Stylegan2Training,
    fixed=(
        *FIXED_DATA,
        *("seed", "precision", "conditional", "mapping", "generator", "discriminator"),
        *("quantizer.layers", "quantizer.codebook_size", "quantizer.forward"),
        *("quantizer.warmup_calls", "initial_weights", "initial_kimg", "best_metric"),
    ),
    upgrade=upgrade,
    unused=runs.unused_options,
)
