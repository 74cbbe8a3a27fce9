"""A training run of U-GAT-IT or FQ-U-GAT-IT: how it is opened, its step, its scores."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from .. import runs
from ..data.batches import one_pass
from ..data.images import Images, normalize
from ..data.unpaired import FIXED as FIXED_DATA, Domains, build_domains, build_unpaired_batches
from ..loop import Intervals, Task, Training
from ..metrics.distances import KernelDistance, kernel_distance
from ..old_runs import upgrade
from ..quantizer import quantizer_statistics
from ..runs import GanProgress, write_parameter_counts
from ..runtime import distributed
from ..runtime.distributed import World, is_main
from ..runtime.logs import Logs
from ..runtime.precision import MixedPrecision, check_finite, check_weights
from ..runtime.run_folder import RunFolder
from ..scoring import open_extractor
from .config import TranslationScoring, UgatitTrain, directions, share_step
from .networks import Translated, UgatitNetworks, build_networks
from .step import StepLosses, UgatitStep, l2_penalty
from .translation import save_comparison, save_weights, start_from


def train(config: UgatitTrain) -> UgatitNetworks:
    """Run ``config`` to its end; returns the four networks."""
    return cast(UgatitTraining, runs.train(config)).networks


class UgatitTraining(Training):
    """A run that is built and ready for its next iteration.

    Raises:
        ValueError, FileNotFoundError: options, data or weights are unusable.
    """

    headline = (
        "loss_discriminator", "loss_generator", "loss_cycle", "loss_cam", "codebook_perplexity",
        "kid_x100",
    )  # fmt: skip

    def __init__(self, config: UgatitTrain, world: World, folder: RunFolder) -> None:
        self.config, device = config, world.device
        options = share_step(config.step, world.size)
        domains = build_domains(config.data, "train", seed=config.seed)
        self.tests: Domains | None = None
        if config.evaluate_every or config.sample_every:
            self.tests = build_domains(config.data, "test", seed=config.seed)
        self.scorer: TranslationScorer | None = None
        if self.tests and config.evaluate_every:
            names = config.domain_names
            self.scorer = TranslationScorer(config.scoring, self.tests, names, device)
        torch.manual_seed(config.seed)  # the same initial weights on every rank
        self.networks = build_networks(config.networks())
        layout = torch.channels_last if config.channels_last else torch.contiguous_format
        self.networks.to(device, memory_format=layout)  # type: ignore[call-overload]
        precision = MixedPrecision(config.precision, device)
        self.gan_step = UgatitStep(self.networks, options, config.schedule, precision=precision)
        if config.initial_weights and not folder.started:
            start_from(config.initial_weights, self.networks, self.gan_step)
        self.batches = build_unpaired_batches(
            config.data, domains, options.batch_size, seed=config.seed, device=device
        )
        self.progress: GanProgress = GanProgress()
        self.total_steps = config.last_step
        self.parts = {"networks": self.networks, "step": self.gan_step, "data": self.batches}
        # Not the discriminators: a gradient penalty needs gradients of their gradients.
        self.regions = [
            block
            for generator in self.networks.generators()
            for block in (*generator.blocks, *generator.adaptive_blocks)
        ]
        self.intervals = Intervals(
            config.log_every, config.save_every, config.evaluate_every, config.evaluate_every > 0
        )
        self.also = ((config.sample_every, self.write_sheets),)
        self.losses: StepLosses | None = None

    def begin(self, run_dir: Path, logs: Logs) -> None:
        """The scores of the untrained networks are the first row."""
        if is_main():
            a_to_b, judge = self.networks.a_to_b, self.networks.judge_a
            write_parameter_counts(run_dir, generator=a_to_b, discriminator=judge)
        if self.scorer:
            logs.log(0, **self.evaluate())

    def step(self) -> None:
        """A step of both discriminators and one of both generators."""
        self.progress.step += 1
        number, batch = self.progress.step, next(self.batches)
        if self.config.step.batches_per_step(number) == 1:
            self.losses = self.gan_step(batch.a, batch.b, number)
        else:
            own = next(self.batches)
            self.losses = self.gan_step(
                batch.a, batch.b, number, generator_a=own.a, generator_b=own.b
            )

    def check(self) -> None:
        assert self.losses is not None
        check_finite(self.progress.step, **self.losses._asdict())
        check_weights(self.progress.step, {"networks": self.networks})

    def scalars(self) -> dict[str, float | Tensor | None]:
        """Unweighted losses, L2 terms, dictionaries, learning rate."""
        assert self.losses is not None
        config, networks = self.config, self.networks
        row: dict[str, float | Tensor | None] = {
            f"loss_{name}": value for name, value in self.losses._asdict().items()
        }
        row["codebook_perplexity"] = row.pop("loss_codebook_perplexity")
        if not config.quantizer.layers:
            del row["codebook_perplexity"]
        for name, parts in (
            ("generator", networks.generators()),
            ("discriminator", networks.discriminators()),
        ):
            row[f"l2_{name}"] = l2_penalty(parts, config.step.l2_weight)
        row["learning_rate"] = config.schedule.learning_rate(config.step.lr, self.progress.step)
        for name, value in quantizer_statistics(networks).items():
            row[name.replace(".global_branch.quantizers.", ".layer")] = value
        return row | {"images": self.batches.images_seen}

    def evaluate(self) -> dict[str, float]:
        """KID of both directions as columns such as ``kid_x100/selfie2anime``."""
        if self.scorer is None:
            return {}
        found = self.scorer(*self.networks.generators())
        return {f"{name}/{way}": value for way, row in found.items() for name, value in row.items()}

    def goals(self, scores: Mapping[str, float]) -> dict[str, float]:
        """The mean KID of both directions."""
        kids = [value for name, value in scores.items() if name.startswith("kid_x100/")]
        return {"best": -sum(kids) / len(kids)} if kids else {}

    def export(self, run_dir: Path, name: str) -> None:
        save_weights(
            run_dir / self.progress.folder_of(name),
            self.networks,
            domain_names=self.config.domain_names,
            step=self.progress.step,
        )

    def finish(self, run_dir: Path, logs: Logs) -> None:
        self.batches.close()

    def write_sheets(self, run_dir: Path) -> None:
        """``samples/DIRECTION_STEP.png``: the same test images at every step, both directions."""
        if not is_main() or self.tests is None:
            return
        device = next(self.networks.parameters()).device
        to_b, to_a = self.networks.generators()
        for name, images, there, back in zip(
            directions(self.config.domain_names),
            self.tests,
            (to_b, to_a),
            (to_a, to_b),
            strict=True,
        ):
            shown = some_images(images, self.config.sample_images).to(device)
            path = run_dir / "samples" / f"{name}_{self.progress.step:06d}.png"
            save_comparison(shown, there, back, path)


def some_images(images: Images, count: int) -> Tensor:
    """Evenly spaced ``images`` (at most ``count``, 3, R, R) in [-1, 1]: names sort by kind."""
    index = torch.linspace(0, len(images) - 1, min(count, len(images))).round().long()
    return normalize(images.read(index))


class TranslationScorer:
    """Scores two generators on the test images of two domains.

    Args:
        options: features and subsets.
        domains: the test images.
        names: of the domains.
        device: where features are computed.

    Raises:
        ValueError, FileNotFoundError: the weights of the features are missing or wrong, or there
            are not enough images.
    """

    def __init__(
        self,
        options: TranslationScoring,
        domains: Domains,
        names: tuple[str, str],
        device: torch.device | str = "cpu",
    ) -> None:
        self.options, self.domains, self.device = options, domains, torch.device(device)
        self.names = directions(names)
        fewest = min(map(len, domains))
        if fewest < max(4, options.subset_size):
            raise ValueError(
                f"{fewest} test images are too few for KID with --scoring.subset-size "
                f"{options.subset_size}; add images or lower it (4 are the least)"
            )
        self.subset_size = options.subset_size or fewest // 2
        self.extractor = open_extractor(options, device)
        self.real = [self._features(images, None) for images in domains]
        self.untranslated = 100 * self._distance(*self.real).mean

    def __call__(
        self, a_to_b: Callable[[Tensor], Translated], b_to_a: Callable[[Tensor], Translated]
    ) -> dict[str, dict[str, float]]:
        """Score both generators, in eval mode.

        Returns:
            For each direction, by name, ``kid_x100`` of its translations against the real images of
            the target domain, ``kid_x100_std`` over the subsets, ``kid_x100_low`` and ``_high``
            (95 % interval over resampled images), and ``kid_x100_untranslated`` of the source
            images as they are; the same on every process.
        """
        scores = {}
        for place, translate in enumerate((a_to_b, b_to_a)):
            fake = self._features(self.domains[place], translate)
            found = self._distance(self.real[1 - place], fake)
            scores[self.names[place]] = {
                "kid_x100": 100 * found.mean,
                "kid_x100_std": 100 * found.std,
                "kid_x100_low": 100 * found.low,
                "kid_x100_high": 100 * found.high,
                "kid_x100_untranslated": self.untranslated,
            }
        return scores

    def _distance(self, real: Tensor, fake: Tensor) -> KernelDistance:
        real, fake = real.to(self.device), fake.to(self.device)
        return kernel_distance(
            real, fake, subset_size=self.subset_size, subsets=self.options.subsets
        )

    def _features(self, images: Images, translate: Callable[[Tensor], Translated] | None) -> Tensor:
        """Features (N, D) of all images, or of their translations, over all ranks."""
        rows = [self.extractor(batch).pool.cpu() for batch in self._batches(images, translate)]
        own = torch.cat(rows) if rows else torch.empty(0, self.extractor.dim)
        features = own.new_empty(len(images), self.extractor.dim)
        for rank, part in enumerate(distributed.gather_objects(own)):
            features[rank :: distributed.world_size()] = part  # as `one_pass` dealt them out
        return features

    @torch.no_grad()
    def _batches(
        self, images: Images, translate: Callable[[Tensor], Translated] | None
    ) -> Iterator[Tensor]:
        for batch in one_pass(images, self.options.batch_size, device=self.device):
            pixels = batch.images
            if translate is not None:
                # One by one: a batch of images of 256 pixels needs gigabytes.
                pixels = torch.cat([translate(image[None]).images for image in pixels])
            # As if they were saved and read.
            yield ((pixels.float() + 1) * 127.5).round().clamp(0, 255) / 127.5 - 1


TASK = Task(
    "ugatit",
    UgatitTrain,
    UgatitTraining,
    fixed=(
        *FIXED_DATA,
        *("seed", "precision", "generator", "discriminator"),
        *("quantizer.layers", "quantizer.codebook_size", "quantizer.forward"),
        *("quantizer.warmup_calls", "initial_weights"),
    ),
    upgrade=upgrade,
    unused=runs.unused_options,
)
