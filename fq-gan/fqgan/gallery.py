"""Pictures by seed and class from BigGAN's and StyleGAN2's generators, in the same words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from .biggan.options import SampleStatistics
from .biggan.sampling import Sampler
from .biggan.weights import Weights as BigganWeights
from .latents import Latents
from .sheets import midpoints
from .stylegan2.generator import truncate_styles
from .stylegan2.sampling import labels_for
from .stylegan2.weights import Weights as Stylegan2Weights


class Place(NamedTuple):
    """What a picture is drawn from."""

    seed: int
    label: int


class Gallery(Protocol):
    """Draws pictures; the same place gives the same picture."""

    class_names: list[str]  # one where there are no classes
    resolution: int
    truncation: str  # what the number means
    usual_truncation: float

    def images(self, places: Sequence[Place], truncation: float) -> Tensor:
        """One image a place: (N, 3, R, R) in [-1, 1]."""
        ...

    def between(self, first: Place, last: Place, steps: int, truncation: float) -> Tensor:
        """The way from one place to another, ends included: (steps, 3, R, R) in [-1, 1].

        Raises:
            ValueError: this generator cannot mix the two classes.
        """
        ...


class BigganGallery:
    """Pictures of BigGAN; the truncation is the standard deviation of the noise.

    Args:
        weights: from `load_weights`.
        statistics: of the norm layers, see `Sampler`; those of the run.
        standing_batches: behind ``standing`` statistics.
    """

    truncation = "standard deviation of the noise"
    usual_truncation = 1.0

    def __init__(
        self,
        weights: BigganWeights,
        *,
        statistics: SampleStatistics = "running",
        standing_batches: int = 16,
    ) -> None:
        generator = weights.generator
        numbers = [str(label) for label in range(weights.config.num_classes)]
        self.class_names = weights.class_names or numbers
        self.resolution = weights.config.resolution
        self.device = next(generator.parameters()).device
        latents = Latents(generator.latent_dim, weights.config.num_classes, device=self.device)
        self.sampler = Sampler(
            generator, latents, statistics=statistics, standing_batches=standing_batches
        )

    def images(self, places: Sequence[Place], truncation: float) -> Tensor:
        """See `Gallery.images`."""
        labels = torch.tensor([place.label for place in places], device=self.device)
        return self.sampler.images(self._noise(places) * truncation, labels).cpu()

    def between(self, first: Place, last: Place, steps: int, truncation: float) -> Tensor:
        """See `Gallery.between`; both the noise and the class vectors move on straight lines."""
        ends = self._noise([first, last]) * truncation
        z = midpoints(ends[:1], ends[1:], steps - 2)[0]
        labels = torch.tensor([first.label, last.label], device=self.device)
        with torch.no_grad():
            vectors = self.sampler.generator.embed(labels)
        if not vectors.is_floating_point():
            if first.label != last.label:
                raise ValueError(
                    "this generator has no shared class embedding, so there is nothing between two "
                    "classes; choose the same class twice"
                )
            return self.sampler.images(z, labels[:1].expand(steps)).cpu()
        classes = midpoints(vectors[:1], vectors[1:], steps - 2)[0]
        return self.sampler.images(z, classes).cpu()

    def _noise(self, places: Sequence[Place]) -> Tensor:
        return seeded_noise(places, self.sampler.generator.latent_dim).to(self.device)


class Stylegan2Gallery:
    """Pictures of StyleGAN2; the truncation is psi, and ways lead through the styles.

    Args:
        weights: from `load_weights`.
    """

    truncation = "psi: 0 is the average style, 1 leaves styles alone"
    usual_truncation = 0.7

    def __init__(self, weights: Stylegan2Weights) -> None:
        self.generator, self.lod = weights.generator, weights.lod
        size = self.generator.label_size
        numbers = [str(label) for label in range(size)]
        self.class_names = (weights.class_names if size else ["everything"]) or numbers
        self.resolution = self.generator.resolution
        self.device = next(self.generator.parameters()).device

    def images(self, places: Sequence[Place], truncation: float) -> Tensor:
        """See `Gallery.images`; the network's own noise is used."""
        return self._draw(self._styles(places, truncation))

    def between(self, first: Place, last: Place, steps: int, truncation: float) -> Tensor:
        """See `Gallery.between`."""
        ends = self._styles([first, last], truncation)
        return self._draw(midpoints(ends[:1], ends[1:], steps - 2)[0])

    @torch.no_grad()
    def _styles(self, places: Sequence[Place], truncation: float) -> Tensor:
        noise = seeded_noise(places, self.generator.latent_dim).to(self.device)
        labels = torch.tensor([place.label for place in places], device=self.device)
        styles = self.generator.styles(noise, labels_for(labels, self.generator.label_size))
        return truncate_styles(styles, self.generator.style_average, truncation)

    @torch.no_grad()
    def _draw(self, styles: Tensor, batch_size: int = 16) -> Tensor:
        parts = [
            self.generator.synthesis(some, noise="fixed", lod=self.lod).float().cpu()
            for some in styles.split(batch_size)
        ]
        return torch.cat(parts).clamp(-1, 1)


def seeded_noise(places: Sequence[Place], size: int) -> Tensor:
    """Standard normal noise (N, size), a row from each seed alone."""
    rows = [torch.randn(size, generator=torch.Generator().manual_seed(p.seed)) for p in places]
    return torch.stack(rows)
