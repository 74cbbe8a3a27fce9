"""``optimus score FILE``: reconstruction, KL, bounds and words of every sentence of a file."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from ..data.columns import Item
from ..metrics.latent import perplexities
from ..runtime.files import json_text
from ..runtime.options import at_least, require
from ..tasks.language_scores import SAMPLES
from ..tasks.training import Results, print_results
from .chunks import Chunks
from .encode import FileConfig, open_model, parse_with_run_dir, read_all

CHUNK = 1024
SUFFIXES = (".jsonl", ".tsv")
COLUMNS = ("id", "reconstruction", "kl", "elbo", "iw_nll", "tokens", "words", "text")
SUMMED = ("reconstruction", "kl", "elbo", "iw_nll", "tokens", "words")


@dataclass(frozen=True)
class ScoreConfig(FileConfig):
    """Score every sentence of a file in nats, as `optimus evaluate` scores a corpus.

    elbo is the negative bound, reconstruction + kl, and iw_nll the importance-weighted -log p(x).
    """

    samples: int = SAMPLES
    """Samples K of the importance-weighted likelihood; fewer are faster and give a looser bound."""
    seed: int = 42
    """Seed of the posterior samples."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, samples=1)
        require(
            self.output.suffix in SUFFIXES,
            f"--output {self.output} must end in one of {', '.join(SUFFIXES)}",
        )


def main(argv: Sequence[str]) -> None:
    """Run ``optimus score sentences.txt --model runs/x --output scores.jsonl``."""
    print_results(score(parse_with_run_dir(ScoreConfig, argv, "optimus score")))


def score(config: ScoreConfig) -> Results:
    """Write a row for each sentence; returns means and perplexities over all of them.

    Errors are those of ``encode``.
    """
    vae, plan = open_model(config)

    def make(items: list[Item], first: int) -> bytes:
        texts = [item.text for item in items]
        scores = vae.score(
            texts, config.samples, batch_size=config.batch_size, seed=config.seed, first=first
        )
        rows = []
        for number, item in enumerate(items):
            values: dict[str, Any] = {"id": item.id}
            values |= {name: float(getattr(scores, name)[number]) for name in SUMMED}
            values |= {name: int(values[name]) for name in ("tokens", "words")}
            rows.append(json_text({**values, "text": item.text}, ensure_ascii=False) + "\n")
        return "".join(rows).encode()

    plan |= {"samples": config.samples, "seed": config.seed, "chunk": CHUNK}
    with Chunks(config.output, plan) as chunks:
        blank = chunks.work(read_all(config), make, CHUNK)
        sums: dict[str, float] = chunks.finish(_join)
    count, tokens, words = (int(sums[name]) for name in ("count", "tokens", "words"))
    means = {name: sums[name] / count for name in ("elbo", "kl", "reconstruction", "iw_nll")}
    return {
        "sentences": count,
        "blank": blank,
        "samples": config.samples,
        **perplexities(sums["iw_nll"], count, tokens, words)._asdict(),
        **means,
    }


def _join(chunks: Sequence[Path], target: Path) -> dict[str, float]:
    """Write all rows to ``target``; returns the sums of their numbers."""
    sums = dict.fromkeys(("count", *SUMMED), 0.0)
    with target.open("w", encoding="utf-8", newline="") as file:
        writer = _Writer(file, target.suffix)
        for row in _rows(chunks):
            writer.write(row)
            sums["count"] += 1
            for name in SUMMED:
                sums[name] += row[name]
    return sums


def _rows(chunks: Sequence[Path]) -> Iterator[dict[str, Any]]:
    for chunk in chunks:
        with io.TextIOWrapper(chunk.open("rb"), encoding="utf-8", newline="\n") as lines:
            yield from map(json.loads, lines)


class _Writer:
    """Rows as JSON objects, or as cells below a line of names."""

    def __init__(self, file: TextIO, suffix: str) -> None:
        self._file, self._json = file, suffix == ".jsonl"
        self._cells = csv.writer(file, dialect="excel-tab", lineterminator="\n")
        if not self._json:
            self._cells.writerow(COLUMNS)

    def write(self, row: dict[str, Any]) -> None:
        if self._json:
            self._file.write(json_text(row, ensure_ascii=False) + "\n")
        else:
            text = " ".join(row["text"].split())  # a tab would end the cell
            self._cells.writerow([*(row[name] for name in COLUMNS[:-1]), text])
