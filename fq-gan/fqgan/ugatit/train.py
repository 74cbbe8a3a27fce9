"""Training of U-GAT-IT and FQ-U-GAT-IT: one function, top to bottom."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from ..data.batches import once
from ..data.images import Images, normalize
from ..data.unpaired import Domains, UnpairedBatches, build_domains, build_unpaired_batches
from ..gan import check_weights
from ..metrics.distances import KernelDistance, kernel_distance
from ..progress import RunProgress, is_due, training, write_parameter_counts
from ..quantizer import quantizer_statistics
from ..runtime import distributed
from ..runtime.checkpoint import Checkpoint
from ..runtime.logs import Logs
from ..runtime.precision import MixedPrecision, check_finite
from ..runtime.rundir import open_run
from ..scoring import open_extractor
from .config import TranslationScoring, UgatitTrain, directions
from .networks import Translated, UgatitNetworks, build_networks
from .step import StepLosses, UgatitStep, l2_penalty
from .translation import save_comparison, save_weights, start_from


def train(config: UgatitTrain) -> UgatitNetworks:
    """Run ``config`` to its last step, continuing from the newest checkpoint in its folder.

    Raises:
        ValueError, FileNotFoundError: options, data or weights are unusable; before the first step.
        FloatingPointError: a loss became NaN or infinite; nothing is saved after it.
    """
    with training(config) as (world, stop):
        domains = build_domains(config.data, "train", seed=config.seed)
        tests = None
        if config.evaluate_every or config.sample_every:
            tests = build_domains(config.data, "test", seed=config.seed)
        scorer = None
        if tests and config.evaluate_every:
            scorer = TranslationScorer(config.scoring, tests, config.domain_names, world.device)
        torch.manual_seed(config.seed)  # the same initial weights on every rank
        networks = build_networks(config.networks())
        layout = torch.channels_last if config.channels_last else torch.contiguous_format
        networks.to(world.device, memory_format=layout)  # type: ignore[call-overload]
        precision = MixedPrecision(config.precision, world.device)
        step = UgatitStep(networks, config.step, config.schedule, precision=precision)
        if config.initial_weights:
            start_from(config.initial_weights, networks, step)
        batches = build_unpaired_batches(
            config.data, domains, config.step.batch_size, seed=config.seed, device=world.device
        )
        progress = RunProgress()
        parts = {"networks": networks, "step": step, "data": batches, "progress": progress}

        with open_run(config.folder, config) as run_dir:
            checkpoint = Checkpoint(run_dir, keep=config.keep, **parts)
            checkpoint.load_latest()
            if progress.step == 0:
                a_to_b, judge = networks.a_to_b, networks.judge_a
                write_parameter_counts(run_dir, generator=a_to_b, discriminator=judge)

            with Logs(run_dir, config.last_step, progress.step) as logs:
                if progress.step == 0 and scorer:
                    logs.log(0, **scores(scorer, networks))
                while progress.step < config.last_step:
                    progress.step += 1
                    losses = take_step(step, batches, progress.step)

                    last = progress.step == config.last_step or stop.requested(progress.step)
                    logged = is_due(progress.step, config.log_every) or last
                    saved = is_due(progress.step, config.save_every) or last
                    if logged or saved:
                        check_finite(progress.step, **losses._asdict())
                    if saved:
                        check_weights(progress.step, networks=networks)
                    row: dict[str, float | Tensor] = {}
                    if logged:
                        row = described(config, losses, networks, progress.step)
                        row["images"] = batches.images_seen
                    if is_due(progress.step, config.evaluate_every, config.last_step) and scorer:
                        row |= scores(scorer, networks)
                    if row:
                        logs.log(progress.step, **row)
                    logs.advance(progress.step)
                    if is_due(progress.step, config.sample_every, config.last_step) and tests:
                        write_sheets(config, networks, tests, run_dir, progress.step)
                    if saved:
                        checkpoint.save(progress.step)
                        if world.is_main:
                            save_weights(
                                run_dir / "model", networks,
                                domain_names=config.domain_names, step=progress.step,
                            )  # fmt: skip
                    if last and progress.step < config.last_step:
                        stop.leave(progress.step)
        batches.close()
        return networks


def take_step(step: UgatitStep, batches: UnpairedBatches, number: int) -> StepLosses:
    """Iteration ``number`` on the next batch, or, where the generators get their own, two."""
    batch = next(batches)
    if step.config.batches_per_step(number) == 1:
        return step(batch.a, batch.b, number)
    own = next(batches)
    return step(batch.a, batch.b, number, generator_a=own.a, generator_b=own.b)


def described(
    config: UgatitTrain, losses: StepLosses, networks: UgatitNetworks, step: int
) -> dict[str, float | Tensor]:
    """A row of ``metrics.jsonl``: unweighted losses, L2 terms, dictionaries, learning rate."""
    row: dict[str, float | Tensor] = {
        f"loss_{name}": value for name, value in losses._asdict().items()
    }
    row["codebook_perplexity"] = row.pop("loss_codebook_perplexity")
    if not config.quantizer.layers:
        del row["codebook_perplexity"]
    for name, parts in (
        ("generator", networks.generators()),
        ("discriminator", networks.discriminators()),
    ):
        row[f"l2_{name}"] = l2_penalty(parts, config.step.l2_weight)
    row["learning_rate"] = config.schedule.learning_rate(config.step.lr, step)
    for name, value in quantizer_statistics(networks).items():
        row[name.replace(".global_branch.quantizers.", ".layer")] = value
    return row


def scores(scorer: TranslationScorer, networks: UgatitNetworks) -> dict[str, float]:
    """KID of both directions as columns such as ``kid_x100/selfie2anime``."""
    found = scorer(*networks.generators())
    return {f"{name}/{way}": value for way, row in found.items() for name, value in row.items()}


def write_sheets(
    config: UgatitTrain, networks: UgatitNetworks, tests: Domains, run_dir: Path, step: int
) -> None:
    """``samples/DIRECTION_STEP.png``: the same test images at every step, both directions."""
    if not distributed.is_main():
        return
    to_b, to_a = networks.generators()
    for way, images, there, back in (
        (0, tests.a, to_b, to_a),
        (1, tests.b, to_a, to_b),
    ):
        name = directions(config.domain_names)[way]
        device = next(networks.parameters()).device
        shown = some_images(images, config.sample_images).to(device)
        save_comparison(shown, there, back, run_dir / "samples" / f"{name}_{step:06d}.png")


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
            the target domain, ``kid_x100_std`` over the subsets, and ``kid_x100_untranslated`` of
            the source images as they are; the same on every process.
        """
        scores = {}
        for place, translate in enumerate((a_to_b, b_to_a)):
            fake = self._features(self.domains[place], translate)
            found = self._distance(self.real[1 - place], fake)
            scores[self.names[place]] = {
                "kid_x100": 100 * found.mean,
                "kid_x100_std": 100 * found.std,
                "kid_x100_untranslated": self.untranslated,
            }
        return scores

    def _distance(self, real: Tensor, fake: Tensor) -> KernelDistance:
        return kernel_distance(
            real, fake, subset_size=self.subset_size, subsets=self.options.subsets
        )

    def _features(self, images: Images, translate: Callable[[Tensor], Translated] | None) -> Tensor:
        """Features (N, D) of all images, or of their translations, over all ranks."""
        rows = [self.extractor(batch).pool.cpu() for batch in self._batches(images, translate)]
        own = torch.cat(rows) if rows else torch.empty(0, self.extractor.dim)
        features = own.new_empty(len(images), self.extractor.dim)
        for rank, part in enumerate(distributed.gather_objects(own)):
            features[rank :: distributed.world_size()] = part  # as `once` dealt them out
        return features

    @torch.no_grad()
    def _batches(
        self, images: Images, translate: Callable[[Tensor], Translated] | None
    ) -> Iterator[Tensor]:
        for batch in once(images, self.options.batch_size, device=self.device):
            pixels = batch.images
            if translate is not None:
                # One by one: a batch of images of 256 pixels needs gigabytes.
                pixels = torch.cat([translate(image[None]).images for image in pixels])
            # As if they were saved and read.
            yield ((pixels.float() + 1) * 127.5).round().clamp(0, 255) / 127.5 - 1
