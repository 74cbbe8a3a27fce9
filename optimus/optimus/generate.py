"""``optimus generate {reconstruct,sample,interpolate,analogy}``: play with the latent space."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro

from .api import SentenceVAE
from .config import Device
from .decoding import (
    Sampling,
    analogy as analogy_latents,
    check_used,
    interpolate as interpolate_latents,
    unique,
)
from .runtime.command import choose, parse
from .runtime.distributed import choose_device
from .runtime.files import write_atomically
from .runtime.options import at_least, require
from .runtime.text_files import decode_lines, read_texts

TAB = "\t"


@dataclass(frozen=True)
class GenerateConfig:
    """What the four kinds of generation share."""

    model: Annotated[Path, tyro.conf.arg(aliases=("--run-dir",))] = Path("runs/demo/model")
    """Folder of a model, or of a run."""
    step: int | None = None
    """Of a run: the step of the checkpoint to use; by default its newest weights."""
    decoding: Sampling = field(default_factory=lambda: Sampling(max_new_tokens=100))
    output: Path | None = None
    """File for the result; standard output if absent."""
    unique: bool = False
    """Leave out sentences that were made before."""
    batch_size: int = 64
    """Sentences encoded or decoded at once."""
    seed: int = 42
    """Seed of sampling."""
    device: Device = "auto"
    """Where to compute."""

    def __post_init__(self) -> None:
        at_least(self, batch_size=1)
        check_used(self.decoding)


@dataclass(frozen=True)
class ReconstructConfig(GenerateConfig):
    """Encode sentences and decode them again: the sentence, then what came back.

    A blank line of the input stays one, so that input and output go together line by line.
    """

    texts: tuple[str, ...] = ()
    """Sentences."""
    file: Path | None = None
    """File of sentences; - is standard input."""
    limit: int = 0
    """Only the first sentences; 0 is all."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, limit=0)


@dataclass(frozen=True)
class SampleConfig(GenerateConfig):
    """Decode draws from the prior."""

    count: int = 10
    """Sentences to make."""
    latent_scale: float = 1.0
    """Standard deviation of z."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, count=1)
        require(
            math.isfinite(self.latent_scale),
            f"--latent-scale must be finite, got {self.latent_scale}",
        )


@dataclass(frozen=True)
class InterpolateConfig(GenerateConfig):
    """Sentences on the line between two."""

    texts: tuple[str, ...] = ()
    """Two sentences."""
    file: Path | None = None
    """File of pairs, `source TAB target` a line; - is standard input."""
    steps: int = 10
    """Steps from the source to the target."""
    points: Literal["dataset", "interactive"] = "dataset"
    """dataset makes steps + 1 sentences, interactive steps + 2, as the authors' two modes do."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, steps=1)


@dataclass(frozen=True)
class AnalogyConfig(GenerateConfig):
    """source is to target as the input is to the answer: z = z_input + degree (z_t - z_s)."""

    source: str = ""
    """Sentence A."""
    target: str = ""
    """Sentence B."""
    texts: tuple[str, ...] = ()
    """Sentences C to transfer."""
    file: Path | None = None
    """File of sentences C, or of `source TAB target TAB input` lines; - is standard input."""
    degree: float = 1.0
    """How far to go; 0 stays."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(math.isfinite(self.degree), f"--degree must be finite, got {self.degree}")
        require(
            bool(self.source) == bool(self.target),
            "--source and --target belong together: sentences A and B",
        )


def main(argv: Sequence[str]) -> None:
    """Run ``optimus generate interpolate --model runs/x --texts "a man ." "a dog ."``."""
    kinds: dict[str, tuple[type[GenerateConfig], Callable[..., list[str]]]] = {
        "reconstruct": (ReconstructConfig, reconstruct),
        "sample": (SampleConfig, sample),
        "interpolate": (InterpolateConfig, interpolate),
        "analogy": (AnalogyConfig, analogy),
    }
    texts = {name: (kind.__doc__ or "").partition("\n")[0] for name, (kind, _) in kinds.items()}
    about = "Make sentences with the model of --model: a run, or a folder of weights."
    name, words = choose(texts, argv, "optimus generate", "kind", about)
    kind, function = kinds[name]
    config = parse(kind, words, f"optimus generate {name}")
    device = choose_device(config.device)
    vae = SentenceVAE.from_pretrained(config.model, str(device), step=config.step)
    generator = torch.Generator(device=device).manual_seed(config.seed)
    lines = function(config, vae, generator)
    lines = [re.sub(r"[\r\n]+", " ", line) for line in lines]  # bytes can spell an end of line
    text = "".join(f"{line}\n" for line in (unique(lines) if config.unique else lines))
    if config.output is None:
        sys.stdout.write(text)
    else:
        config.output.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(config.output, text)


def reconstruct(
    config: ReconstructConfig, vae: SentenceVAE, generator: torch.Generator
) -> list[str]:
    """``source TAB reconstruction`` of each sentence, z = posterior mean; blank lines stay."""
    texts = _read(config.texts, config.file)[: config.limit or None]
    given = [text for text in texts if text]
    latents = vae.encode(given, batch_size=config.batch_size)
    decoded = iter(_decode(config, vae, latents, generator))
    # a tab would end a field, and a line of the output answers each of the input
    return [f"{text}\t{next(decoded).replace(TAB, ' ') if text else ''}" for text in texts]


def sample(config: SampleConfig, vae: SentenceVAE, generator: torch.Generator) -> list[str]:
    """Sentences from z ~ N(0, scale^2 I); a plain language model starts from BOS alone."""
    return vae.sample(
        config.count,
        config.decoding,
        scale=config.latent_scale,
        batch_size=config.batch_size,
        generator=generator,
    )


def interpolate(
    config: InterpolateConfig, vae: SentenceVAE, generator: torch.Generator
) -> list[str]:
    """Sentences on the line from each source to its target."""
    if config.texts and len(config.texts) != 2:
        raise ValueError(f"--texts takes two sentences, got {len(config.texts)}")
    lines = ["\t".join(config.texts)] if config.texts else _read((), config.file)
    pairs = [_split(line, 2, "source TAB target") for line in lines if line]
    ends = vae.encode([text for pair in pairs for text in pair], batch_size=config.batch_size)
    latents = torch.cat(
        [
            interpolate_latents(a, b, config.steps, config.points)
            for a, b in zip(ends[::2], ends[1::2], strict=True)
        ]
    )
    return _decode(config, vae, latents, generator)


def analogy(config: AnalogyConfig, vae: SentenceVAE, generator: torch.Generator) -> list[str]:
    """z = z_input + degree (z_target - z_source), decoded, for every input."""
    lines = [line for line in _read(config.texts, config.file) if line]
    if config.source and config.target:
        rows = [[config.source, config.target, line] for line in lines]
    else:
        rows = [_split(line, 3, "source TAB target TAB input") for line in lines]
    texts = [text for row in rows for text in row]
    latents = vae.encode(texts, batch_size=config.batch_size).unflatten(0, (-1, 3))
    source, target, given = latents.unbind(dim=1)
    moved = analogy_latents(source, target, given, config.degree)
    return _decode(config, vae, moved, generator)


def _decode(
    config: GenerateConfig, vae: SentenceVAE, latents: torch.Tensor, generator: torch.Generator
) -> list[str]:
    return vae.decode(latents, config.decoding, batch_size=config.batch_size, generator=generator)


def _read(texts: Sequence[str], file: Path | None) -> list[str]:
    """Sentences of the command line, of a file or of standard input; blank ones are empty."""
    if texts and file is not None:
        raise ValueError("give --texts or --file, not both")
    if file is not None and str(file) == "-":
        stream = decode_lines(sys.stdin.buffer, "standard input")
        lines = [line.text for line in stream]
    elif file is not None:
        if not file.is_file():
            what = "is a folder" if file.is_dir() else "does not exist"
            raise FileNotFoundError(f"--file {file} {what}; give a file of sentences")
        lines = read_texts(file)
    else:
        lines = list(texts)
    lines = [line.strip() for line in lines]
    if not any(lines) and file is not None:
        raise ValueError(f"--file {file} holds no sentence")
    if not any(lines):
        raise ValueError("no sentence given: use --texts, or --file (- is standard input)")
    return lines


def _split(line: str, parts: int, form: str) -> list[str]:
    fields = [field.strip() for field in line.split("\t")]
    if len(fields) != parts or not all(fields):
        raise ValueError(f"the line {line!r} is not of the form `{form}`")
    return fields
