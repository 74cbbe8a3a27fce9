"""From a folder of weights to images: reading, fine-tuning, sampling by seed, mixing styles."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn

from ..gan import Latents
from ..pictures import loop_through, save_sheet, save_video
from ..quantizer import with_own_dictionaries
from ..runs import (
    first_weights,
    initial_folder,
    load_first,
    load_generator,
    load_network,
    read_folder,
)
from ..runtime import distributed
from ..runtime.checkpoint import read_part
from ..runtime.weight_files import read_weight_file
from .config import Stylegan2Config
from .legacy import build_discriminator, build_generator
from .networks import Generator, NoiseInputs, truncate_styles

logger = logging.getLogger(__name__)


class Weights(NamedTuple):
    config: Stylegan2Config
    generator: Generator  # in eval mode
    class_names: list[str]
    step: int
    lod: float  # halvings of the resolution that the networks have yet to grow by


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
        step: of a checkpoint of the run around ``folder``, in images, which is taken instead.
        device: where the generator goes.

    Raises:
        FileNotFoundError: there are no weights in ``folder``.
        ValueError: the weights do not fit the configuration beside them.
    """
    folder = Path(folder)
    config, beside = read_folder(folder, Stylegan2Config, "model")
    generator = load_generator(
        build_generator(config), folder, use_average=use_average, step=step, device=device
    )
    if step is not None:
        beside = {**beside, **read_part(folder.parent, "progress", step)[0]}
    names, images = beside.get("class_names", []), beside.get("step", 0)
    return Weights(config, generator, names, images, beside.get("lod", 0.0))


def load_discriminator(folder: str | Path, *, device: torch.device | str = "cpu") -> nn.Module:
    """The discriminator with its dictionaries, in eval mode; see `load_network`."""
    return load_network(folder, Stylegan2Config, build_discriminator, device=device)


def start_from(
    folder: str | Path,
    generator: nn.Module,
    discriminator: nn.Module,
    settings: Stylegan2Config | None = None,
) -> None:
    """Fine-tuning: load the networks of ``folder`` into freshly built ones.

    The generator without the moving average is preferred; a folder without a discriminator leaves
    the discriminator as it was initialised; dictionaries that it lacks or has in another size start
    anew, and with another number of classes so does what depends on it.

    Raises:
        FileNotFoundError: there are no weights in ``folder``.
        ValueError: they belong to other networks.
    """
    folder = initial_folder(folder, Stylegan2Config.kind)
    start_generator(folder, generator, "raw", settings)
    judge = folder / "discriminator.safetensors"
    if judge.exists():
        saved = with_own_dictionaries(discriminator, read_weight_file(judge))
        saved = with_own_classes(discriminator, saved, ("output.",))
        load_first(discriminator, judge, saved, settings)


def start_generator(
    folder: Path, generator: nn.Module, name: str, settings: Stylegan2Config | None = None
) -> None:
    """Fine-tuning: load ``name`` of a folder of weights, or the average where it is absent."""
    path = first_weights(folder, name, "model")
    saved = with_own_classes(generator, read_weight_file(path), ("label_concat.", "dense0."))
    load_first(generator, path, saved, settings)


def with_own_classes(
    network: nn.Module, state: Mapping[str, Tensor], parts: tuple[str, ...]
) -> dict[str, Tensor]:
    """``state``, where its numbers of classes fits; else ``parts`` as ``network`` has them.

    Other differences stay, so that loading names them.
    """
    own = network.state_dict()
    kept = dict(state)
    of_classes = [
        name
        for name in own.keys() | state.keys()
        if any(f".{name}".rpartition(f".{part}")[1] for part in parts)
    ]
    shapes = [(name, own.get(name), state.get(name)) for name in of_classes]
    if all(a is not None and b is not None and a.shape == b.shape for _, a, b in shapes):
        return kept
    for name, here, there in shapes:
        if here is None:
            del kept[name]
        elif there is None or here.shape != there.shape:
            logger.info("--initial-weights: %s depends on the classes and starts anew", name)
            kept[name] = here
    return kept


Noise = Literal["random", "fixed", "none"]


def numbers(words: Sequence[str], option: str) -> list[int]:
    """Numbers and ranges such as ``85 100-103``, also with commas, as one list.

    Raises:
        ValueError: a word is neither, naming ``option``.
    """
    found: list[int] = []
    for word in (part for given in words for part in given.split(",") if part):
        first, dash, last = word.partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise ValueError(
                f"--{option} {word}: give numbers and ranges, such as 85 100 or 85-100"
            )
        if dash and int(last) < int(first):
            raise ValueError(f"--{option} {word}: a range goes up, such as {last}-{first}")
        found += range(int(first), int(last or first) + 1)
    return found


class Sampler:
    """Draws images from ``generator`` and leaves it, and torch's random state, as they are.

    Args:
        generator: any mode; a copy is used.
        seed: of latents, labels and noise.
        truncation: how far styles are pulled towards the average one; 1 leaves them.
        noise: inputs of the layers: new ones, the network's own, or none.
        lod: how much of the growing is still to come.
        batch_size: the most that goes through the generator at once.
        label: class of all images; random ones where absent.
        shared: False gives the whole stream to this process.
    """

    def __init__(
        self,
        generator: Generator,
        *,
        seed: int = 0,
        truncation: float = 1.0,
        noise: Noise = "random",
        lod: float = 0.0,
        batch_size: int = 64,
        label: int | None = None,
        shared: bool = True,
    ) -> None:
        self.generator = copy.deepcopy(generator).requires_grad_(False).eval()
        self.truncation, self.noise, self.lod = truncation, noise, lod
        self.batch_size, self.label = batch_size, label
        repeated_label(generator, label, 1)  # raises for a class that there is not
        self.device = next(generator.parameters()).device
        self.latents = Latents(
            generator.latent_dim,
            max(1, generator.label_size),
            seed=seed,
            device=self.device,
            shared=shared,
        )
        self._seed, self._drawn = seed, 0

    def __call__(self, count: int) -> Tensor:
        """The next ``count`` images (count, 3, R, R), about in [-1, 1]."""
        return self.draw(count)[0]

    def draw(self, count: int) -> tuple[Tensor, Tensor]:
        """The next ``count`` images and their classes (count,)."""
        latent = self.latents(count)
        if self.label is not None:
            latent = latent._replace(labels=torch.full_like(latent.labels, self.label))
        self._drawn += 1
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            # Every pass of every rank has noise of its own.
            number = (self._seed * 1_000_003 + self._drawn) * 4099 + distributed.rank()
            torch.manual_seed(number & (2**63 - 1))
            return self.images(latent.z, latent.labels), latent.labels

    @torch.no_grad()
    def images(self, z: Tensor, classes: Tensor) -> Tensor:
        """Images (N, 3, R, R) of latents (N, Z) and classes (N,)."""
        pieces = zip(z.split(self.batch_size), classes.split(self.batch_size), strict=True)
        return torch.cat(
            [
                self.generator(
                    latents,
                    labels_for(labels, self.generator.label_size),
                    truncation=self.truncation,
                    noise=self.noise,
                    lod=self.lod,
                ).float()
                for latents, labels in pieces
            ]
        )


def labels_for(classes: Tensor, label_size: int) -> Tensor | None:
    """``classes`` (N,) for networks with labels, None for those without."""
    return classes if label_size else None


def noise_inputs(generator: Generator) -> list[Tensor]:
    """The fixed noise maps (1, 1, h, w) of the layers, in order."""
    return cast(NoiseInputs, generator.synthesis).noise_buffers()


def seeded_inputs(
    generator: Generator, seed: int, device: torch.device | str = "cpu"
) -> tuple[Tensor, list[Tensor]]:
    """A latent (1, Z) and the noise of every layer, drawn as the authors' tool draws them.

    numpy's ``RandomState(seed)`` gives the latent first and then the layers' noise, in order.
    """
    state = np.random.RandomState(seed)
    latent = torch.from_numpy(state.randn(1, generator.latent_dim)).float()
    noise = [
        torch.from_numpy(state.randn(*buffer.shape)).float().to(device)
        for buffer in noise_inputs(generator)
    ]
    return latent.to(device), noise


@torch.no_grad()
def seeded_image(
    generator: Generator,
    seed: int,
    *,
    truncation: float = 0.5,
    label: int | None = None,
    lod: float = 0.0,
) -> Tensor:
    """The image (3, R, R) of one seed; ``label`` is the class of a conditional generator."""
    device = next(generator.parameters()).device
    latent, noise = seeded_inputs(generator, seed, device)
    labels = repeated_label(generator, label, 1)
    return generator(latent, labels, truncation=truncation, noise=noise, lod=lod)[0].float()


def repeated_label(generator: Generator, label: int | None, count: int) -> Tensor | None:
    """The class ``label`` (0 where absent) ``count`` times; None without classes.

    Raises:
        ValueError: the generator has no such class.
    """
    if label is not None and not 0 <= label < generator.label_size:
        raise ValueError(
            f"--label {label}: these weights have {generator.label_size or 'no'} classes; give a "
            "smaller number, or none"
        )
    device = next(generator.parameters()).device
    return labels_for(torch.full((count,), label or 0, device=device), generator.label_size)


@torch.no_grad()
def seeded_styles(
    generator: Generator, seeds: Sequence[int], *, truncation: float, label: int | None = None
) -> Tensor:
    """Truncated styles (N, L, W) of ``seeds``; all layers are truncated."""
    device = next(generator.parameters()).device
    latents = torch.cat([seeded_inputs(generator, seed, device)[0] for seed in seeds])
    styles = generator.styles(latents, repeated_label(generator, label, len(seeds)))
    return truncate_styles(styles, generator.style_average, truncation)


@torch.no_grad()
def style_mixing_images(
    generator: Generator, rows: Tensor, columns: Tensor, layers: Sequence[int], lod: float = 0.0
) -> dict[tuple[int, int], Tensor]:
    """Images whose ``layers`` take the style of a column and whose others that of a row.

    Args:
        generator: its own noise is used.
        rows: (M, L, W) styles.
        columns: (N, L, W) styles.
        layers: numbers below L.
        lod: how much of the growing is still to come.

    Returns:
        (row, column) -> image (3, R, R). Row and column -1 hold the images that are mixed:
        ``(m, -1)`` row m alone and ``(-1, n)`` column n alone.
    """
    wrong = [layer for layer in layers if not 0 <= layer < generator.num_layers]
    if wrong:
        raise ValueError(
            f"--mixing-layers {wrong[0]}: this generator has layers 0 to {generator.num_layers - 1}"
        )

    def image(styles: Tensor) -> Tensor:
        return generator.synthesis(styles[None], noise="fixed", lod=lod)[0].float()

    found = {(m, -1): image(row) for m, row in enumerate(rows)}
    found |= {(-1, n): image(column) for n, column in enumerate(columns)}
    for m, row in enumerate(rows):
        for n, column in enumerate(columns):
            mixed = row.clone()
            mixed[list(layers)] = column[list(layers)]
            found[m, n] = image(mixed)
    return found


def style_mixing_sheet(images: dict[tuple[int, int], Tensor], path: str | Path) -> Path:
    """The authors' ``grid.png``: columns on top, rows at the left, mixtures between them."""
    rows = max(m for m, _ in images) + 1
    columns = max(n for _, n in images) + 1
    empty = -torch.ones_like(images[0, -1])
    cells = [images.get((m, n), empty) for m in range(-1, rows) for n in range(-1, columns)]
    return save_sheet(torch.stack(cells), path, columns + 1, border=0)


@torch.no_grad()
def truncation_sheet(
    generator: Generator,
    seeds: Sequence[int],
    truncations: Sequence[float],
    path: str | Path,
    *,
    label: int | None = None,
    lod: float = 0.0,
    titles: bool = False,
) -> Path:
    """A row a seed and a column for each of ``truncations``, with the network's own noise."""
    rows = []
    for seed in seeds:
        for truncation in truncations:
            styles = seeded_styles(generator, [seed], truncation=truncation, label=label)
            rows.append(generator.synthesis(styles, noise="fixed", lod=lod).float())
    return save_sheet(
        torch.cat(rows), path, len(truncations),
        row_titles=[str(seed) for seed in seeds] if titles else (),
        column_titles=[f"{truncation:g}" for truncation in truncations] if titles else (),
    )  # fmt: skip


@torch.no_grad()
def style_video(
    generator: Generator,
    seeds: Sequence[int],
    path: str | Path,
    *,
    frames: int,
    per_second: int,
    truncation: float,
    label: int | None = None,
    lod: float = 0.0,
) -> Path:
    """A closed way through the styles of ``seeds``, with the network's own noise."""
    styles = seeded_styles(generator, seeds, truncation=truncation, label=label)
    shown = [
        generator.synthesis(part, noise="fixed", lod=lod).float().cpu()
        for part in loop_through(styles, frames).split(8)
    ]
    return save_video(torch.cat(shown), path, per_second=per_second)
