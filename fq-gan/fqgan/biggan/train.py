"""A training run of BigGAN or FQ-BigGAN: how it is opened, its step, its scores."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias, cast

import torch
from torch import Tensor

from .. import runs
from ..data.batches import next_images
from ..data.datasets import FIXED as FIXED_DATA, build_batches, build_images
from ..gan import Latents
from ..loop import Intervals, Task, Training
from ..old_runs import upgrade
from ..quantizer import FeatureQuantizer, quantizer_statistics
from ..runs import GanProgress, best_goal, save_weights, write_parameter_counts
from ..runtime.distributed import World, is_main
from ..runtime.files import json_text, write_atomically
from ..runtime.logs import Logs
from ..runtime.precision import MixedPrecision, check_finite, check_weights
from ..runtime.run_folder import RunFolder
from ..scoring import Scorer
from .config import BigganTrain, share_step
from .layers import stages
from .networks import DeepGenerator, Generator, build_discriminator, build_generator
from .sampling import Sampler, build_sampler, class_sheet, start_from
from .step import GanStep, StepLosses

AnyGenerator: TypeAlias = Generator | DeepGenerator


def train(config: BigganTrain) -> AnyGenerator:
    """Run ``config`` to its end; returns the generator for use: the average where there is one."""
    return cast(BigganTraining, runs.train(config)).chosen


class BigganTraining(Training):
    """A run that is built and ready for its next iteration.

    Raises:
        ValueError, FileNotFoundError: options, data or weights are unusable.
    """

    headline = (
        "loss_generator", "loss_real", "loss_fake", "codebook_perplexity",
        "fid", "kid_x100", "inception_score",
    )  # fmt: skip

    def __init__(self, config: BigganTrain, world: World, folder: RunFolder) -> None:
        self.config, device = config, world.device
        self.images = build_images(config.data, seed=config.seed)
        self.scorer = Scorer(config.scoring, self.images, device) if config.evaluate_every else None
        if self.scorer:
            self.scorer.require(config.best_metric)
        self.options = share_step(config.step, world.size)
        self.networks = config.networks(len(self.images.class_names))
        torch.manual_seed(config.seed)  # the same initial weights on every rank
        self.generator = build_generator(self.networks)
        self.discriminator = build_discriminator(self.networks)
        if config.initial_weights and not folder.started:
            networks = (self.generator, self.discriminator)
            start_from(config.initial_weights, *networks, self.networks)
        layout = torch.channels_last if config.channels_last else torch.contiguous_format
        for network in (self.generator, self.discriminator):
            network.to(device, memory_format=layout)  # type: ignore[call-overload]
        latents = Latents(
            self.generator.latent_dim, self.networks.num_classes, seed=config.seed, device=device
        )
        precision = MixedPrecision(config.precision, device)
        self.gan_step = GanStep(
            self.generator, self.discriminator, self.options, precision=precision, draw=latents
        )
        average = cast(AnyGenerator, self.gan_step.average.module)
        self.chosen = average if config.use_average else self.generator
        self.batches = build_batches(
            config.data, self.images, self.options.batch_size, seed=config.seed, device=device
        )
        self.progress: GanProgress = GanProgress(config.best_metric)
        self.total_steps = config.max_steps
        self.parts = {
            "generator": self.generator,
            "discriminator": self.discriminator,
            "generator_optimizer": self.gan_step.generator_optimizer,
            "discriminator_optimizer": self.gan_step.discriminator_optimizer,
            "precision": precision,
            "data": self.batches,
            "latents": latents,
            "average": self.gan_step.average,
        }
        self.intervals = Intervals(
            config.log_every, config.save_every, config.evaluate_every, config.evaluate_every > 0
        )
        self.also = (
            (config.spectra_every, self.write_spectra),
            (config.sample_every, self.write_fixed_sheet),
        )
        self.losses: StepLosses | None = None
        self.spectra_begun = False
        self.regions = [
            part
            for network in (self.generator, self.discriminator)
            for stage in stages(network.blocks)
            for part in stage
            if not isinstance(part, FeatureQuantizer)
        ]

    def begin(self, run_dir: Path, logs: Logs) -> None:
        if is_main():
            write_parameter_counts(
                run_dir, generator=self.generator, discriminator=self.discriminator
            )

    def step(self) -> None:
        """Some steps of D, one of G, an update of the average."""
        lrs = self.options.learning_rates(self.progress.step + 1, self.total_steps)
        self.gan_step.use_options(lrs)  # not those of a checkpoint
        images, labels = next_images(
            self.batches, self.options.num_d_steps * self.options.num_d_accumulations
        )
        self.progress.step += 1
        self.losses = self.gan_step(images, labels, self.progress.step)

    def check(self) -> None:
        assert self.losses is not None
        check_finite(self.progress.step, **self.losses._asdict())
        networks = {"G": self.generator, "D": self.discriminator}
        check_weights(self.progress.step, networks)

    def scalars(self) -> dict[str, float | Tensor | None]:
        assert self.losses is not None
        row: dict[str, float | Tensor | None] = {
            f"loss_{name}": value for name, value in self.losses._asdict().items()
        }
        row["codebook_perplexity"] = row.pop("loss_codebook_perplexity")
        row |= quantizer_statistics(self.discriminator)
        if self.options.schedule != "constant":
            rates = self.options.learning_rates(self.progress.step, self.total_steps)
            row |= dict(zip(("lr_generator", "lr_discriminator"), rates, strict=True))
        return row | {"images": self.batches.images_seen, "epoch": self.batches.epoch}

    def evaluate(self) -> dict[str, float]:
        """Scores of the same latents at every call, computed by all ranks together."""
        if self.scorer is None:
            return {}
        return self.scorer(self.sampler(self.config.seed + 1, shared=True))

    def goals(self, scores: Mapping[str, float]) -> dict[str, float]:
        return best_goal(scores, self.config.best_metric)

    def export(self, run_dir: Path, name: str) -> None:
        save_weights(
            run_dir / self.progress.folder_of(name, self.config.keep_best),
            self.networks,
            self.chosen,
            raw=self.generator if self.config.use_average else None,
            discriminator=self.discriminator,
            class_names=self.images.class_names,
            step=self.progress.step,
        )

    def sampler(self, seed: int, *, shared: bool) -> Sampler:
        """A sampler with a stream of its own: sampling does not disturb training."""
        return build_sampler(
            self.chosen, seed=seed, shared=shared,
            statistics=self.config.sample_statistics,
            standing_batches=self.config.standing_batches,
            batch_size=self.config.step.batch_size,
        )  # fmt: skip

    def write_fixed_sheet(self, run_dir: Path) -> None:
        """``samples/fixed_STEP.png``: the same noise and classes at every step."""
        if is_main():
            name = f"fixed_{self.progress.step:06d}.png"
            sampler = self.sampler(self.config.seed + 2, shared=False)
            class_sheet(sampler, run_dir / "samples" / name)

    def write_spectra(self, run_dir: Path) -> None:
        """A row of ``spectra.jsonl``: the largest singular values, as spectral norm sees them.

        Names are the authors', such as ``G_blocks_0_0_conv1_sv0``.
        """
        if not is_main():
            return
        path, step = run_dir / "spectra.jsonl", self.progress.step
        if not self.spectra_begun and path.exists():  # rows behind the checkpoint come again
            drop_rows_from(path, step)
        self.spectra_begun = True
        row: dict[str, float] = {"step": step}
        for prefix, network in (("G", self.generator), ("D", self.discriminator)):
            for name, value in network.named_buffers():
                if name.rpartition(".")[2].startswith("sv"):
                    row[f"{prefix}_{name.replace('.', '_')}"] = float(value)
        with path.open("a") as file:
            file.write(json_text(row) + "\n")


def drop_rows_from(path: Path, step: int) -> None:
    """Keep the rows of a JSON Lines file before ``step``; one that a kill cut short goes too."""
    lines = [line for line in path.read_text().splitlines() if line.endswith("}")]
    kept = [f"{line}\n" for line in lines if json.loads(line)["step"] < step]
    write_atomically(path, "".join(kept))


TASK = Task(
    "biggan",
    BigganTrain,
    BigganTraining,
    fixed=(
        *FIXED_DATA,
        *(
            "seed",
            "precision",
            "architecture",
            "init",
            "bn_eps",
            "sn_eps",
            "generator",
            "discriminator",
        ),
        *("quantizer.layers", "quantizer.codebook_size", "quantizer.forward"),
        *("quantizer.warmup_calls", "initial_weights", "best_metric"),
    ),
    upgrade=upgrade,
    unused=runs.unused_options,
)
