"""What one can do with the latents of a model and some sentences: the working half of the page.

Everything here takes text and numbers and returns text and numbers; what a user can mend is a
``ValueError`` of one sentence.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..api import SentenceVAE
from ..data.text import text_of
from ..data.toy import VALUES, read_factors
from ..decoding import Sampling, analogy, interpolate
from ..directions import Direction, learn_direction
from ..runs import open_run
from ..runtime.text_files import read_texts
from .examples import best_first, examples_for
from .plots import embed, render_page

GREEDY = Sampling(max_new_tokens=64)
LONGEST = 1000  # characters of a sentence that a page takes
MOST = 200  # sentences that a user may give at once
SLIDERS = 6
MADE = 100  # sentences that a model makes where there is no corpus; a large one needs its time
Projection = Literal["pca", "tsne"]


class Encoded(NamedTuple):
    """A sentence and its place."""

    latent: Tensor  # (Z,) the posterior mean
    sentence: str  # decoded from it
    nearest: list[tuple[str, float]]  # other sentences by distance, the nearest first


class Explorer:
    """A model and a sample of sentences with their latents.

    Args:
        vae: the model; a plain language model has no latents and is refused.
        sentences: N different sentences to compare with and to draw, at least 5.
        groups: attribute -> value of each of the N sentences; what the sliders change.
        source: where the sentences are from, to be told.
    """

    def __init__(
        self,
        vae: SentenceVAE,
        sentences: Sequence[str],
        groups: dict[str, list[str]] | None = None,
        source: str = "given",
    ) -> None:
        if vae.model.encoder is None:
            raise ValueError("this model is a plain language model: it has no latents to explore")
        if len(sentences) < 5:
            raise ValueError(f"at least 5 different sentences are needed, got {len(sentences)}")
        self.vae, self.sentences, self.groups = vae, list(sentences), groups or {}
        self.source = source
        self.latents = vae.encode(self.sentences)  # (N, Z)
        self.examples = examples_for(self.sentences)
        self.directions = find_directions(self.latents, self.groups, self._learned())
        self.openings = best_first(self.examples.sentences, self._reconstruct)
        """Sentences to begin with, those first that the model keeps best."""

    def encode(self, text: str, others: str = "", count: int = 8) -> Encoded:
        """``text`` and its nearest among ``others`` (one a line), by default of the sample."""
        (latent,) = self._encode(text=text)
        compared, latents = self.sentences, self.latents
        if others.strip():
            compared = _lines(others, "the sentences to compare with")
            latents = self.vae.encode(compared)
        (found,) = self.vae.neighbours(text, compared, count, latents=latents)
        nearest = [(one.text, round(one.distance, 3)) for one in found]
        return Encoded(latent, self._decode(latent[None])[0], nearest)

    def interpolate(self, source: str, target: str, steps: int) -> list[tuple[float, str]]:
        """Shares of the way from ``source`` to ``target``, and the sentence there."""
        first, last = self._encode(From=source, To=target)
        sentences = self._decode(interpolate(first, last, steps))
        return [(round(i / steps, 3), sentence) for i, sentence in enumerate(sentences)]

    def analogy(self, a: str, b: str, c: str, degree: float = 1.0) -> str:
        """What is to ``c`` as ``b`` is to ``a``."""
        source, target, query = self._encode(A=a, B=b, C=c)
        return self._decode(analogy(source, target, query, degree)[None])[0]

    def move(self, text: str, amounts: Sequence[float]) -> str:
        """``text`` moved by ``amounts`` along `directions`."""
        latent = self._encode(text=text)
        for amount, direction in zip(amounts, self.directions, strict=True):
            latent = direction.move(latent, amount)
        return self._decode(latent)[0]

    def variants(self, text: str, amount: float = 1.0) -> list[tuple[str, str]]:
        """The name of each direction, and ``text`` moved by ``amount`` along it alone."""
        latent = self._encode(text=text)
        moved = torch.cat([direction.move(latent, amount) for direction in self.directions])
        names = [direction.name for direction in self.directions]
        return list(zip(names, self._decode(moved), strict=True))

    def move_by_examples(self, text: str, lacking: str, having: str, amount: float) -> str:
        """``text`` moved from the mean of ``lacking`` to that of ``having`` (one a line)."""
        (latent,) = self._encode(text=text)
        without = self.vae.encode(_lines(lacking, "the sentences that lack it")).mean(dim=0)
        having_it = self.vae.encode(_lines(having, "the sentences that have it")).mean(dim=0)
        return self._decode((latent + amount * (having_it - without))[None])[0]

    def sample(self, text: str, radius: float, count: int, seed: int) -> list[tuple[str, int]]:
        """Sentences of ``count`` draws from N(z, radius^2 I), the most frequent first."""
        (latent,) = self._encode(text=text)
        noise = torch.Generator().manual_seed(int(seed))
        drawn = latent + radius * torch.randn(count, len(latent), generator=noise)
        return Counter(self._decode(drawn)).most_common()

    def draw_map(self, attribute: str, projection: Projection = "pca", own: str = "") -> str:
        """An HTML page of the latents in the plane, coloured by ``attribute`` of `groups`.

        ``own`` are sentences of the user, one a line, shown as a class of their own.
        """
        values = self.groups.get(attribute) or ["sample"] * len(self.sentences)
        texts, latents = list(self.sentences), self.latents
        if own.strip():
            mine = _lines(own, "your sentences")
            texts, values = texts + mine, values + ["yours"] * len(mine)
            latents = torch.cat([latents, self.vae.encode(mine)])
        points = _principal(latents) if projection == "pca" else embed(latents.numpy())
        names = sorted(set(values) - {"yours"}) + ["yours"] * bool(own.strip())
        labels = np.array([names.index(value) for value in values])
        return render_page(points, labels, names, texts=texts, title=f"latents by {attribute}")

    def _encode(self, **texts: str) -> Tensor:
        """Latents (n, Z) of the named texts."""
        for name, text in texts.items():
            _check(text, "the sentence" if name == "text" else f"sentence {name}")
        return self.vae.encode(list(texts.values()))

    def _decode(self, latents: Tensor) -> list[str]:
        return self.vae.decode(latents, GREEDY)

    def _reconstruct(self, texts: list[str]) -> list[str]:
        return self.vae.reconstruct(texts, GREEDY)

    def _learned(self) -> list[Direction]:
        """Directions of the attributes that the examples know."""
        return [
            self.vae.direction([b for _, b in pairs], [a for a, _ in pairs], name=name)
            for name, pairs in self.examples.attributes.items()
        ]


def find_directions(
    latents: Tensor,
    groups: dict[str, list[str]],
    learned: Sequence[Direction] = (),
    count: int = SLIDERS,
) -> list[Direction]:
    """At most ``count`` directions in ``latents`` (N, Z).

    An attribute of two to four values gives one for each value, from the mean of the sentences
    without it to the mean of those with it, but one only where there are two values. Those that
    were ``learned`` elsewhere follow, and principal components, of one standard deviation, fill up.
    """
    found: list[Direction] = []
    for attribute, values in groups.items():
        names = sorted(set(values))
        if not 2 <= len(names) <= 4:
            continue
        for name in names[1:] if len(names) == 2 else names:
            has = torch.tensor([value == name for value in values])
            found.append(learn_direction(latents[has], latents[~has], name=f"{attribute}: {name}"))
    found += learned
    spread = latents - latents.mean(dim=0)
    _, sizes, axes = torch.linalg.svd(spread, full_matrices=False)
    for number, (size, axis) in enumerate(zip(sizes, axes, strict=True), start=1):
        found.append(Direction(axis * size / len(latents) ** 0.5, f"component {number}"))
    return found[:count]


def load_explorer(
    run_dir: Path, text: Path | None = None, count: int = 500, *, step: int | None = None
) -> Explorer:
    """The explorer of a run, of one checkpoint of it, or of a model folder.

    The sentences are ``count`` of ``text``, else of the held-out files of the run's corpus, else
    sentences that the model makes from its prior.

    Raises:
        FileNotFoundError: there is no model, or no such ``text``.
        ValueError: it is a run of another kind.
    """
    if not (run_dir / "config.json").is_file():
        raise FileNotFoundError(
            f"{run_dir} holds no model: run `optimus demo --run-dir {run_dir}` first, or name a "
            "run or a converted folder with --run-dir"
        )
    if text is not None and not text.is_file():
        raise FileNotFoundError(f"--text {text} does not exist")
    vae = SentenceVAE.from_pretrained(run_dir, step=step)
    path = text or _corpus_of(run_dir)
    if path is None:
        count = min(count, MADE)
        made = vae.sample(count, GREEDY, generator=torch.Generator().manual_seed(0))
        return Explorer(vae, _some(made, count), source="made by the model from its prior")
    labels = _read(path)
    sentences = _some(labels, count)
    values = [labels[sentence] for sentence in sentences]
    groups = {"label": values} if any(values) else _toy_groups(sentences)
    return Explorer(vae, sentences, groups, str(path))


def _corpus_of(run_dir: Path) -> Path | None:
    """A text file of the run's corpus, of the held-out ones if there are any."""
    folders = [run_dir / "corpus"]
    if (run_dir / "model").is_dir():
        folders.append(open_run(run_dir).config.data.folder)
    for folder in folders:
        for split in ("test", "valid", "train"):
            if (path := text_of(folder, split)).is_file():
                return path
    return None


def _read(path: Path) -> dict[str, str]:
    """Sentences of a file and their labels, which are empty unless each line has ``label TAB``."""
    lines = [line.strip()[:LONGEST] for line in read_texts(path) if line.strip()]
    if all("\t" in line for line in lines):
        pairs = [line.split("\t", 1) for line in lines]
        return {text.strip(): label.strip() for label, text in pairs if text.strip()}
    return dict.fromkeys(lines, "")


def _toy_groups(sentences: Sequence[str]) -> dict[str, list[str]]:
    """The factors of the toy grammar, where all sentences are of it."""
    factors = [read_factors(sentence) for sentence in sentences]
    if None in factors:
        return {}
    rows = [asdict(each) for each in factors if each is not None]
    return {name: [row[name] for row in rows] for name in ("tense", "number", *VALUES)}


def _some(sentences: Iterable[str], count: int) -> list[str]:
    """``count`` different sentences, spread evenly over all of them."""
    every = list(dict.fromkeys(text for text in sentences if text.strip()))
    return every[:: max(1, len(every) // count)][:count]


def _principal(latents: Tensor) -> np.ndarray:
    """The first two principal components (N, 2) of ``latents`` (N, Z)."""
    spread = latents - latents.mean(dim=0)
    _, _, axes = torch.linalg.svd(spread, full_matrices=False)
    points = torch.zeros(len(latents), 2)
    points[:, : len(axes[:2])] = spread @ axes[:2].T
    return points.numpy()


def _check(text: str, what: str) -> None:
    if not (text or "").strip():
        raise ValueError(f"{what} is empty: type one")
    if len(text) > LONGEST:
        raise ValueError(f"{what} has {len(text)} characters, at most {LONGEST} are taken")


def _lines(text: str, what: str) -> list[str]:
    """Sentences of a text box, one a line."""
    lines = [line.strip() for line in (text or "").split("\n") if line.strip()]
    if not lines:
        raise ValueError(f"{what} are missing: type one a line")
    if len(lines) > MOST:
        raise ValueError(f"{what} are {len(lines)}, at most {MOST} are taken")
    for number, line in enumerate(lines, start=1):
        _check(line, f"line {number} of {what}")
    return lines
