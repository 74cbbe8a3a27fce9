"""KID of both directions on test images, the measure of the U-GAT-IT papers."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from ..data.batches import once
from ..data.images import Images
from ..data.unpaired import Domains
from ..metrics.kernel import KernelDistance, kernel_distance
from ..runtime import distributed
from ..scoring import open_extractor
from .generator import Translated
from .options import TranslationScoring, directions


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
