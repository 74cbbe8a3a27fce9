"""What one can do with a run or a folder of weights: the working half of the page.

Everything here takes numbers, names and files and returns pictures and rows; what a user can mend
is a ``ValueError`` of one sentence.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from PIL import Image
from torch import Tensor, nn

from ..biggan import sampling as biggan
from ..biggan.config import BigganTrain, SampleStatistics
from ..biggan.sampling import Weights as BigganWeights, build_sampler
from ..data.batches import fixed_choice
from ..data.datasets import build_images
from ..data.images import Images, normalize
from ..data.unpaired import build_domains, list_images
from ..pictures import check_picture, enlarged, midpoints, read_square, tiled
from ..runs import kind_of, open_run
from ..runtime.run_folder import describe_unfinished
from ..stylegan2 import sampling as stylegan2
from ..stylegan2.config import Stylegan2Train
from ..stylegan2.networks import truncate_styles
from ..stylegan2.sampling import Weights as Stylegan2Weights, labels_for
from ..ugatit import translation as ugatit
from ..ugatit.translation import Direction, Translator, heat_colours
from .codebook import Codebook, draw_codes

logger = logging.getLogger(__name__)
MOST_TILES, MOST_SEED = 160, 2**31 - 1
TRUNCATIONS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25)


class Translation(NamedTuple):
    picture: Image.Image  # as the generator sees it
    translated: Image.Image
    heatmap: Image.Image  # from blue to red: where the generator looks
    sentence: str


class Samples(NamedTuple):
    """Images to look at, by domain; one domain but in image translation."""

    images: dict[str, Tensor]  # (N, 3, R, R) in [-1, 1]; N may be 0
    source: str


@dataclass(frozen=True)
class Explorer:
    """The parts that a family has; those it lacks are None or empty."""

    family: str
    samples: Samples
    codebooks: Mapping[str, Codebook]  # by the domain whose images the discriminator judges
    resolution: int
    gallery: Gallery | None = None
    translator: Translator | None = None

    def sheet(
        self, classes: Sequence[str], columns: int, seed: float | None, truncation: float
    ) -> Image.Image:
        """A row a class; the images of a column have the same noise."""
        gallery = self._gallery
        chosen = classes or gallery.class_names[:10]
        columns = max(1, min(int(columns), MOST_TILES // len(chosen)))
        first = seed_of(seed)
        draws = [
            Draw(first + column, self._label(name)) for name in chosen for column in range(columns)
        ]
        return tiled(gallery.images(draws, truncation), columns)

    def interpolation(
        self,
        start: tuple[str, float | None],
        end: tuple[str, float | None],
        steps: int,
        truncation: float,
    ) -> Image.Image:
        """Three rows from ``start`` (class, seed) to ``end``: noise and class, noise, class."""
        gallery, steps = self._gallery, max(2, min(int(steps), 16))
        first, last = (Draw(seed_of(seed), self._label(name)) for name, seed in (start, end))
        ways = [(first, last)]
        if first.label != last.label and first.seed != last.seed:
            ways += [
                (first, last._replace(label=first.label)),
                (first, last._replace(seed=first.seed)),
            ]
        rows = [gallery.interpolate(one, other, steps, truncation) for one, other in ways]
        return tiled(torch.cat(rows), steps)

    def truncations(self, name: str, seed: float | None, rows: int) -> Image.Image:
        """A row a seed, a column for each of ``TRUNCATIONS``."""
        rows, label, first = max(1, min(int(rows), 10)), self._label(name), seed_of(seed)
        draws = [Draw(first + row, label) for row in range(rows)]
        drawn = [self._gallery.images(draws, truncation) for truncation in TRUNCATIONS]
        return tiled(torch.stack(drawn, dim=1).flatten(0, 1), len(TRUNCATIONS))

    def translate(self, upload: str | None, number: float, direction: str) -> Translation:
        """Translate an ``upload``, or else the sample of that ``number``.

        Args:
            upload: file of the picture.
            number: of a sample of the domain that ``direction`` leaves.
            direction: one of `directions`.
        """
        translator = self.translator
        if translator is None:
            raise ValueError("these weights draw images and translate none")
        way: Direction = "a2b" if direction == self.directions[0] else "b2a"
        names = translator.weights.domain_names
        source, target = names if way == "a2b" else names[::-1]
        image = self.picture(upload, number, source)
        found = translator.translate(image.to(translator.device), way)
        heat = heat_colours(found.heatmap.float(), *image.shape[2:]).cpu()
        mixed = 0.5 * image + 0.5 * heat
        logit = float(found.cam_logits.float().mean())
        sentence = (
            f"{source} to {target}, {image.shape[-1]} pixels; the attention head's logit for "
            f"coming from {source} is {logit:.2f}"
        )
        return Translation(
            enlarged(image[0]), enlarged(found.images[0].cpu()), enlarged(mixed[0]), sentence
        )

    @property
    def directions(self) -> tuple[str, str]:
        """Both directions of translation, in words."""
        assert self.translator is not None
        first, second = self.translator.weights.domain_names
        return f"{first} to {second}", f"{second} to {first}"

    def codes(
        self, domain: str, layer: str, upload: str | None, number: float, code: float | None = None
    ) -> tuple[Image.Image, list[list[Any]]]:
        """The map of codes of an image, only of ``code`` where given, and what the codes do.

        Returns:
            The picture, and rows of code, places in this image, share of all places in percent.
        """
        book, index = self._fired(domain, layer, upload, number)
        image = enlarged(self.picture(upload, number, domain)[0])
        only = None if code is None else int(code)
        found, counts = index.unique(return_counts=True)
        shares = book.shares(layer)
        order = counts.argsort(descending=True, stable=True)
        rows = [
            [int(found[i]), int(counts[i]), round(100 * float(shares[found[i]]), 2)] for i in order
        ]
        return draw_codes(image, index, code=only), rows

    def code_at(
        self, domain: str, layer: str, upload: str | None, number: float, at: tuple[float, float]
    ) -> int:
        """The code at a place of the image, given as shares of its width and height."""
        _, index = self._fired(domain, layer, upload, number)
        height, width = index.shape
        column, row = (
            min(size - 1, max(0, int(share * size)))
            for share, size in zip(at, (width, height), strict=True)
        )
        return int(index[row, column])

    def patches(
        self, domain: str, layer: str, code: float | None
    ) -> tuple[Image.Image | None, str]:
        """The sheet of the patches that are nearest to ``code``, and a sentence about it."""
        book = self._book(domain, layer)
        size = book.sizes[layer]
        if code is None or not 0 <= code < size:
            raise ValueError(f"the codes of this layer are 0 to {size - 1}, got {code}")
        if not len(book.images):
            raise ValueError(f"there is no image to cut patches from: {self.samples.source}")
        found, share = book.patches(layer, int(code)), float(book.shares(layer)[int(code)])
        places = book.fired[layer].codes
        sentence = (
            f"code {int(code)} of {size}: {100 * share:.2f} % of the {places.numel()} places of "
            f"{len(book.images)} images"
        )
        if not len(found):
            return None, f"{sentence}; it is dead here"
        return tiled(found, 8, tile=64), sentence

    def picture(self, upload: str | None, number: float, domain: str) -> Tensor:
        """An upload, or the sample of that ``number`` of ``domain``: (1, 3, R, R) in [-1, 1]."""
        if upload:
            check_picture(upload)
            if self.translator is not None:
                return self.translator.read(upload).cpu()
            return read_square(upload, self.resolution)
        images = self.samples.images[domain]
        if not len(images):
            raise ValueError(f"there is no sample, so upload a picture: {self.samples.source}")
        return images[int(number or 0) % len(images)][None]

    def _fired(
        self, domain: str, layer: str, upload: str | None, number: float
    ) -> tuple[Codebook, Tensor]:
        book = self._book(domain, layer)
        return book, book.read(self.picture(upload, number, domain))[layer].codes[0]

    def _book(self, domain: str, layer: str) -> Codebook:
        book = self.codebooks[domain]
        if layer not in book.sizes:
            raise ValueError(f"there is no layer {layer}, only {', '.join(book.sizes)}")
        return book

    @property
    def _gallery(self) -> Gallery:
        if self.gallery is None:
            raise ValueError("these weights translate images and draw none")
        return self.gallery

    def _label(self, name: str) -> int:
        names = self._gallery.class_names
        if name not in names:
            raise ValueError(f"there is no class {name!r}, only {', '.join(names[:10])}")
        return names.index(name)


def load_explorer(
    folder: str | Path,
    pictures: str | Path = "",
    *,
    command: str = "fqgan demo",
    device: torch.device | str = "cpu",
) -> Explorer:
    """Open a run, or weights from a run or from `fqgan convert`, of any family.

    Args:
        folder: of the run or of the weights.
        pictures: folder of pictures to look at instead of those of the run's data.
        command: makes such a run; named where there is none.
        device: where the networks go.

    Raises:
        FileNotFoundError: there are no weights yet.
        ValueError: weights or pictures cannot be read.
    """
    folder = Path(folder)
    weights = folder / "model" if (folder / "model").is_dir() else folder
    if not (weights / "config.json").is_file() or not list(weights.glob("*.safetensors")):
        raise FileNotFoundError(
            f"--run-dir {folder} holds no weights; run `{command}` first, or give the folder of a "
            "run or of `fqgan convert`"
        )
    run = folder if weights != folder else None
    if unfinished := describe_unfinished(folder):
        logger.warning("%s", unfinished)
    return LOADERS[kind_of(weights)](weights, run, str(pictures), torch.device(device))


def _load_biggan(folder: Path, run: Path | None, pictures: str, device: torch.device) -> Explorer:
    weights = biggan.load_weights(folder, device=device)
    options: dict[str, Any] = {}
    config = open_run(run, "biggan").config if run else None
    if config:
        options["statistics"] = config.sample_statistics
        options["standing_batches"] = config.standing_batches
    gallery = BigganGallery(weights, **options)
    samples = _samples_of(gallery, pictures, config)
    books: dict[str, Codebook] = {}
    try:
        network = biggan.load_discriminator(folder, device=device)
    except FileNotFoundError:
        return Explorer("BigGAN", samples, books, gallery.resolution, gallery)

    def judge(images: Tensor) -> Any:
        labels = torch.zeros(len(images), dtype=torch.long, device=device)
        return network(images.to(device), labels)

    books["images"] = Codebook(network, judge, samples.images["images"])
    return Explorer("BigGAN", samples, _useful(books), gallery.resolution, gallery)


def _load_stylegan2(
    folder: Path, run: Path | None, pictures: str, device: torch.device
) -> Explorer:
    weights = stylegan2.load_weights(folder, device=device)
    gallery = Stylegan2Gallery(weights)
    samples = _samples_of(gallery, pictures, open_run(run, "stylegan2").config if run else None)
    books: dict[str, Codebook] = {}
    try:
        network: nn.Module = stylegan2.load_discriminator(folder, device=device)
    except FileNotFoundError:
        return Explorer("StyleGAN2", samples, books, gallery.resolution, gallery)
    classes = weights.config.label_size

    def judge(images: Tensor) -> Any:
        labels = torch.zeros(len(images), dtype=torch.long, device=device) if classes else None
        return network(images.to(device), labels, lod=weights.lod)

    books["images"] = Codebook(network, judge, samples.images["images"])
    return Explorer("StyleGAN2", samples, _useful(books), gallery.resolution, gallery)


def _load_ugatit(folder: Path, run: Path | None, pictures: str, device: torch.device) -> Explorer:
    weights = ugatit.load_weights(folder, device=device)
    translator, names = Translator(weights), weights.domain_names
    size, count = weights.config.image_size, sample_count(weights.config.image_size)
    config = open_run(run, "ugatit").config if run else None
    samples = Samples({name: torch.zeros(0, 3, size, size) for name in names}, "no run, no data")
    if pictures:
        found = _read_folder(pictures, size)
        samples = Samples(dict.fromkeys(names, found), f"{len(found)} pictures of {pictures}")
    elif config:
        try:
            data = replace(config.data, in_memory=False)
            domains = build_domains(data, "test", seed=config.seed)
            read = [_read_some(images, count) for images in domains]
            samples = Samples(dict(zip(names, read, strict=True)), "test images of the run's data")
        except (FileNotFoundError, ValueError) as error:
            samples = samples._replace(source=str(error))
    books: dict[str, Codebook] = {}
    try:
        judges = ugatit.load_discriminators(folder, device=device)
    except FileNotFoundError:
        return Explorer("U-GAT-IT", samples, books, size, translator=translator)
    for name, network in zip(names, judges, strict=True):
        judge = partial(_judge_there, network, device)
        books[name] = Codebook(network, judge, samples.images[name])
    return Explorer("U-GAT-IT", samples, _useful(books), size, translator=translator)


def _judge_there(network: nn.Module, device: torch.device, images: Tensor) -> Any:
    return network(images.to(device))


LOADERS = {"biggan": _load_biggan, "stylegan2": _load_stylegan2, "ugatit": _load_ugatit}


def _useful(books: dict[str, Codebook]) -> dict[str, Codebook]:
    """Those with a dictionary; plain networks have none."""
    return {name: book for name, book in books.items() if book.sizes}


def _samples_of(
    gallery: Gallery, pictures: str, config: BigganTrain | Stylegan2Train | None
) -> Samples:
    """Pictures of a folder, images of the run's data, or where there are none drawn ones."""
    count = sample_count(gallery.resolution)
    why = "no run, no data"
    if pictures:
        found = _read_folder(pictures, gallery.resolution)
        return Samples({"images": found}, f"{len(found)} pictures of {pictures}")
    if config:
        try:
            data = build_images(replace(config.data, in_memory=False), seed=config.seed)
            return Samples({"images": _read_some(data, count)}, f"images of the data ({data.name})")
        except (FileNotFoundError, ValueError) as error:
            why = str(error)
    labels = len(gallery.class_names)
    draws = [Draw(seed, seed % labels) for seed in range(min(count, 64))]
    drawn = gallery.images(draws, gallery.usual_truncation)
    return Samples({"images": drawn}, f"images drawn by the generator ({why})")


def _read_some(images: Images, count: int) -> Tensor:
    return normalize(images.read(fixed_choice(len(images), count)))


def _read_folder(folder: str, resolution: int) -> Tensor:
    """The pictures of ``folder``, their middle squares: (N, 3, R, R) in [-1, 1]."""
    path = Path(folder)
    if not path.is_dir():
        raise FileNotFoundError(f"--images {folder} is not a folder")
    names, _ = list_images(path)
    if not names:
        raise ValueError(f"--images {folder} holds no image")
    return torch.cat(
        [read_square(path / name, resolution) for name in names[: sample_count(resolution)]]
    )


def sample_count(resolution: int) -> int:
    """How many images of that size can be looked at in seconds."""
    return 300 if resolution <= 64 else 64


def seed_of(seed: float | None) -> int:
    """A seed as the page gives it; raises ``ValueError`` for one that cannot be used."""
    if seed is None or not 0 <= seed <= MOST_SEED:
        raise ValueError(f"a seed is a number from 0 to {MOST_SEED}, got {seed}")
    return int(seed)


class Draw(NamedTuple):
    """What a picture is drawn from."""

    seed: int
    label: int


class Gallery(Protocol):
    """Draws pictures; the same place gives the same picture."""

    class_names: list[str]  # one where there are no classes
    resolution: int
    truncation: str  # what the number means
    usual_truncation: float

    def images(self, draws: Sequence[Draw], truncation: float) -> Tensor:
        """One image a place: (N, 3, R, R) in [-1, 1]."""
        ...

    def interpolate(self, first: Draw, last: Draw, steps: int, truncation: float) -> Tensor:
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
        self.sampler = build_sampler(
            generator, seed=0, statistics=statistics, standing_batches=standing_batches
        )

    def images(self, draws: Sequence[Draw], truncation: float) -> Tensor:
        """See `Gallery.images`."""
        labels = torch.tensor([draw.label for draw in draws], device=self.device)
        return self.sampler.images(self._noise(draws) * truncation, labels).cpu()

    def interpolate(self, first: Draw, last: Draw, steps: int, truncation: float) -> Tensor:
        """See `Gallery.interpolate`; noise and class vectors both move on straight lines."""
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

    def _noise(self, draws: Sequence[Draw]) -> Tensor:
        return seeded_noise(draws, self.sampler.generator.latent_dim).to(self.device)


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

    def images(self, draws: Sequence[Draw], truncation: float) -> Tensor:
        """See `Gallery.images`; the network's own noise is used."""
        return self._draw(self._styles(draws, truncation))

    def interpolate(self, first: Draw, last: Draw, steps: int, truncation: float) -> Tensor:
        """See `Gallery.interpolate`."""
        ends = self._styles([first, last], truncation)
        return self._draw(midpoints(ends[:1], ends[1:], steps - 2)[0])

    @torch.no_grad()
    def _styles(self, draws: Sequence[Draw], truncation: float) -> Tensor:
        noise = seeded_noise(draws, self.generator.latent_dim).to(self.device)
        labels = torch.tensor([draw.label for draw in draws], device=self.device)
        styles = self.generator.styles(noise, labels_for(labels, self.generator.label_size))
        return truncate_styles(styles, self.generator.style_average, truncation)

    @torch.no_grad()
    def _draw(self, styles: Tensor, batch_size: int = 16) -> Tensor:
        parts = [
            self.generator.synthesis(some, noise="fixed", lod=self.lod).float().cpu()
            for some in styles.split(batch_size)
        ]
        return torch.cat(parts).clamp(-1, 1)


def seeded_noise(draws: Sequence[Draw], size: int) -> Tensor:
    """Standard normal noise (N, size), a row from each seed alone."""
    rows = [torch.randn(size, generator=torch.Generator().manual_seed(one.seed)) for one in draws]
    return torch.stack(rows)
