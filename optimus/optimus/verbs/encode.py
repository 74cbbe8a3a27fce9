"""``optimus encode FILE``: the posteriors of all sentences of a file, to disk, in fixed memory."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from ..api import SentenceVAE
from ..config import Device
from ..data.columns import Format, Item, read_items
from ..data.latents import SUFFIXES, check_writable, join_chunks, pack_chunk
from ..runtime.command import parse
from ..runtime.distributed import choose_device
from ..runtime.evaluation import versions
from ..runtime.options import at_least, require
from .chunks import SIZE, Chunks, identity

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FileConfig:
    """A model and a file of sentences: what `encode` and `score` share."""

    file: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FILE")]
    """Sentences: text, .tsv, .csv or .jsonl, each also .gz; - is standard input."""
    output: Path
    """File of the results; it must not exist. A command that was cut off goes on when it is given
    again."""
    model: Path = Path("runs/demo")
    """Folder of a model, or of a run; --run-dir is another name of this option."""
    step: int | None = None
    """Of a run: the step of the checkpoint to use; by default its newest weights."""
    column: str = ""
    """Column of the sentences: a name of the first line or key of the objects, or a number from 1
    where the file has no names. A file of one column needs none."""
    id_column: str = ""
    """Likewise, of whole numbers that identify the sentences; by default the number of the line, or
    record, from 0."""
    format: Format = "auto"
    """By default what the name of the file says."""
    batch_size: int = 64
    """Sentences encoded at once."""
    device: Device = "auto"
    """Where to compute."""

    def __post_init__(self) -> None:
        at_least(self, batch_size=1)


@dataclass(frozen=True)
class EncodeConfig(FileConfig):
    """Write ids, digests of the texts, means and log-variances of all sentences of a file."""

    dtype: Literal["float32", "float16"] = "float32"
    """Of the means and log-variances in the file."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.output.suffix in SUFFIXES,
            f"--output {self.output} must end in one of {', '.join(SUFFIXES)}",
        )


def main(argv: Sequence[str]) -> None:
    """Run ``optimus encode sentences.txt --model runs/x --output latents.npz``."""
    encode(parse_with_run_dir(EncodeConfig, argv, "optimus encode"))


def encode(config: EncodeConfig) -> int:
    """Do what ``config`` asks for; returns the sentences that were written.

    Raises:
        FileNotFoundError: there is no such file or model.
        FileExistsError: there is an output already.
        ImportError: a package for the form of the output is missing.
        ValueError: the model has no latents, or the file is not of its format.
    """
    check_writable(config.output)
    vae, plan = open_model(config)
    require(vae.model.encoder is not None, f"{config.model} is a language model without latents")

    def make(items: list[Item], first: int) -> bytes:
        texts = [item.text for item in items]
        posterior = vae.posterior(texts, config.batch_size)
        arrays = [rows.numpy().astype(config.dtype) for rows in posterior]
        return pack_chunk([item.id for item in items], texts, *arrays)

    with Chunks(config.output, {**plan, "dtype": config.dtype}) as chunks:
        blank = chunks.work(read_all(config), make)
        about = {"model": str(config.model), **plan, "blank": blank, **versions()}
        count = chunks.finish(lambda paths, target: join_chunks(paths, target, about))
    logger.info("%d sentences, %d blank lines left out: %s", count, blank, config.output)
    return int(count)


def parse_with_run_dir(kind: type[Any], argv: Sequence[str], prog: str) -> Any:
    """Read the options of ``kind``; ``--run-dir`` is another name of ``--model``."""
    words = [
        word.replace("--run-dir", "--model", 1) if word.split("=")[0] == "--run-dir" else word
        for word in argv
    ]
    return parse(kind, words, prog)


def read_all(config: FileConfig) -> Any:
    """The sentences of the file of ``config``."""
    return read_items(config.file, config.column, config.id_column, config.format)


def open_model(config: FileConfig) -> tuple[SentenceVAE, dict[str, Any]]:
    """The model, and all that decides on the results: its weights, the file and the columns."""
    plan = {"file": str(config.file), "file_sha256": identity(config.file)}
    vae = SentenceVAE.from_pretrained(
        config.model, str(choose_device(config.device)), step=config.step
    )
    plan |= {"column": config.column, "id_column": config.id_column, "format": config.format}
    return vae, {**plan, "weights_sha256": weights_digest(vae), "chunk": SIZE}


def weights_digest(vae: SentenceVAE) -> str:
    """SHA-256 of all tensors and of the vocabularies."""
    total = hashlib.sha256(vae.tokenizers.fingerprint.encode())
    for name, value in sorted(vae.model.state_dict().items()):
        total.update(name.encode())
        total.update(value.detach().cpu().contiguous().view(-1).numpy().view("uint8").data)
    return total.hexdigest()
