"""From a folder of weights to images: reading, fine-tuning, sampling, sheets."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..gan import Latents
from ..pictures import loop_through, midpoints, save_sheet, save_video, square_columns
from ..quantizer import FeatureQuantizer, with_own_dictionaries
from ..runs import (
    first_weights,
    initial_folder,
    load_first,
    load_generator,
    load_network,
    read_folder,
)
from ..runtime.weight_files import read_weight_file
from .config import BigganConfig, SampleStatistics
from .layers import stages, standing_statistics
from .networks import (
    DeepDiscriminator,
    DeepGenerator,
    Discriminator,
    Generator,
    ProjectionDiscriminator,
    build_discriminator,
    build_generator,
)

logger = logging.getLogger(__name__)


class Weights(NamedTuple):
    config: BigganConfig
    generator: Generator | DeepGenerator  # in eval mode
    class_names: list[str]
    step: int


def load_weights(
    folder: str | Path,
    *,
    use_average: bool = True,
    step: int | None = None,
    device: torch.device | str = "cpu",
) -> Weights:
    """Read what `save_weights` wrote.

    Args:
        folder: of the weights.
        use_average: False takes the generator without the moving average, if it was saved.
        step: of a checkpoint of the run around ``folder``, which is taken instead.
        device: where the generator goes.

    Raises:
        FileNotFoundError: there are no weights in ``folder``.
        ValueError: the weights do not fit the configuration beside them.
    """
    config, beside = read_folder(folder, BigganConfig, "model")
    generator = load_generator(
        build_generator(config), Path(folder), use_average=use_average, step=step, device=device
    )
    at = beside.get("step", 0) if step is None else step
    return Weights(config, generator, beside.get("class_names", []), at)


def load_discriminator(
    folder: str | Path, *, device: torch.device | str = "cpu"
) -> Discriminator | DeepDiscriminator:
    """The discriminator with its dictionaries, in eval mode; see `load_network`."""
    return load_network(folder, BigganConfig, build_discriminator, device=device)


def start_from(
    folder: str | Path,
    generator: Generator | DeepGenerator,
    discriminator: nn.Module,
    settings: BigganConfig | None = None,
) -> None:
    """Fine-tuning: load the networks of ``folder`` into freshly built ones.

    The generator without the moving average is preferred; a folder without a discriminator leaves
    the discriminator as it was initialised, and so does another number of classes with everything
    whose shape depends on it. Dictionaries that the folder lacks or has in another size start anew.

    Raises:
        FileNotFoundError: there are no weights in ``folder``.
        ValueError: they belong to other networks.
    """
    folder = initial_folder(folder, BigganConfig.kind)
    first = first_weights(folder, "raw", "model")
    classes = (generator.num_classes, read_folder(folder, BigganConfig)[0].num_classes)
    judge = folder / "discriminator.safetensors"
    for network, path in ((generator, first), (discriminator, judge)):
        if not path.exists():
            continue
        own, saved = network.state_dict(), read_weight_file(path)
        if isinstance(network, ProjectionDiscriminator):
            saved = with_own_dictionaries(network, renumbered(saved, network))
        for name in own.keys() & saved.keys():
            shapes = own[name].shape, saved[name].shape
            differing = [sizes for sizes in zip(*shapes, strict=False) if sizes[0] != sizes[1]]
            if differing and all(sizes == classes for sizes in differing):
                logger.info("--initial-weights: %s depends on the classes and starts anew", name)
                saved[name] = own[name]
        load_first(network, path, saved, settings)


def renumbered(
    state: Mapping[str, Tensor], discriminator: ProjectionDiscriminator
) -> dict[str, Tensor]:
    """``state`` with the parts of every block under the numbers that they have here.

    Attention stands behind the quantizer in a block that has both.
    """
    moved = dict(state)
    for number, block in enumerate(stages(discriminator.blocks)):
        start = f"blocks.{number}."
        keys = [key for key in state if key.startswith(start)]
        there = [int(key.split(".")[2]) for key in keys if key.endswith(".embed")]
        here = [i for i, part in enumerate(block) if isinstance(part, FeatureQuantizer)]
        parts = {key: moved.pop(key) for key in keys}
        for key, value in parts.items():
            index = int(key.split(".")[2])
            if index in there:
                places = here  # none where the block is not quantized here
            else:
                plain = index - sum(place < index for place in there)
                places = [plain + sum(place <= plain for place in here)]
            rest = key.split(".", 3)[3]
            moved |= {f"{start}{place}.{rest}": value for place in places}
    return moved


class Sampler:
    """Draws images from ``generator`` and leaves it as it is.

    Args:
        generator: any mode; a copy is used.
        latents: where noise and labels come from.
        statistics: of the norm layers. ``running`` takes those of training, ``batch`` those of
            each batch of samples (the authors' CIFAR runs, which sample in training mode; an
            image then depends on its neighbours), ``standing`` collects new ones first.
        standing_batches: behind ``standing``.
        batch_size: of those batches, and the most that goes through the generator at once.
    """

    def __init__(
        self,
        generator: Generator | DeepGenerator,
        latents: Latents,
        *,
        statistics: SampleStatistics = "running",
        standing_batches: int = 16,
        batch_size: int = 64,
    ) -> None:
        self.generator = copy.deepcopy(generator).requires_grad_(False)
        self.latents, self.batch_size = latents, batch_size
        if statistics == "standing":
            draws = [latents(batch_size) for _ in range(standing_batches)]
            standing_statistics(self.generator, draws)
        self.generator.train(statistics == "batch")

    def __call__(self, count: int) -> Tensor:
        """The next ``count`` images (count, 3, R, R) in [-1, 1]."""
        return self.draw(count)[0]

    def draw(self, count: int) -> tuple[Tensor, Tensor]:
        """The next ``count`` images and their labels (count,)."""
        latent = self.latents(count)
        return self.images(latent.z, latent.labels), latent.labels

    @torch.no_grad()
    def images(self, z: Tensor, classes: Tensor) -> Tensor:
        """Images (N, 3, R, R) of noise (N, Z) and labels (N,) or class vectors (N, E)."""
        pieces = zip(z.split(self.batch_size), classes.split(self.batch_size), strict=True)
        return torch.cat([self.generator(*piece).float() for piece in pieces])

    def of_classes(self, labels: Sequence[int], each: int) -> Tensor:
        """``each`` images of every label, label by label: (len(labels) * each, 3, R, R)."""
        z = self.latents(len(labels) * each).z
        chosen = torch.tensor(labels, device=z.device).repeat_interleave(each)
        return self.images(z, chosen)


def build_sampler(
    generator: Generator | DeepGenerator,
    *,
    seed: int,
    std: float = 1.0,
    shared: bool = True,
    **options: Any,
) -> Sampler:
    """A sampler with a stream of its own; ``std``, ``shared`` as in `Latents`, else `Sampler`."""
    latents = Latents(
        generator.latent_dim, generator.num_classes, seed=seed, std=std, shared=shared,
        device=next(generator.parameters()).device,
    )  # fmt: skip
    return Sampler(generator, latents, **options)


def class_sheet(
    sampler: Sampler,
    path: Path,
    labels: Sequence[int] | None = None,
    columns: int = 10,
    titles: Sequence[str] = (),
) -> Path:
    """A row of ``columns`` images for each label, by default for the first 20 classes."""
    if labels is None:
        labels = range(min(20, sampler.latents.num_classes))
    images = sampler.of_classes(list(labels), columns)
    return save_sheet(images, path, columns, row_titles=titles)


def interpolation_video(
    sampler: Sampler, path: Path, labels: Sequence[int], *, frames: int, per_second: int
) -> Path:
    """A closed way through as many latents as there are ``labels``, each of its class.

    Classes fade where the generator has one class embedding for all blocks; else they change half
    way between two of them.
    """
    labels = list(labels) if len(labels) > 1 else [labels[0]] * 4
    z = loop_through(sampler.latents(len(labels)).z, frames, keep_spread=True)
    with torch.no_grad():
        embedded = sampler.generator.embed(torch.tensor(labels, device=z.device))
    if embedded.is_floating_point():
        classes = loop_through(embedded, frames)
    else:
        nearest = (torch.arange(frames, device=z.device) * len(labels) / frames).round().long()
        classes = embedded[nearest % len(labels)]
    return save_video(sampler.images(z, classes), path, per_second=per_second)


def random_sheet(sampler: Sampler, path: Path, count: int = 64) -> Path:
    """``count`` images of random classes, about square."""
    return save_sheet(sampler(count), path, columns=square_columns(count))


def interpolation_sheets(
    sampler: Sampler, folder: Path, *, number: int = 0, rows: int = 16, between: int = 8
) -> list[Path]:
    """Sheets on the way from one latent to another: noise and class, noise alone, class alone.

    ``interpZY``, ``interpZ`` and ``interpY``, followed by ``number``; each row goes from one end
    to the other over ``between`` images. Classes can only be mixed where the generator has one
    class embedding for all blocks; otherwise the two sheets that do are left out.
    """
    first, last = sampler.latents(rows), sampler.latents(rows)
    embed = sampler.generator.embed
    with torch.no_grad():
        start, end = embed(first.labels), embed(last.labels)
    steps = between + 2
    fixed_class = start.repeat_interleave(steps, dim=0)
    path_z = midpoints(first.z, last.z, between).flatten(0, 1)
    pairs = {"Z": (path_z, fixed_class)}
    if start.is_floating_point():
        path_class = midpoints(start, end, between).flatten(0, 1)
        pairs["ZY"] = (path_z, path_class)
        pairs["Y"] = (first.z.repeat_interleave(steps, dim=0), path_class)
    else:
        logger.info("this generator has no shared class embedding: classes cannot be interpolated")
    return [
        save_sheet(sampler.images(z, classes), folder / f"interp{name}{number}.png", steps)
        for name, (z, classes) in pairs.items()
    ]
