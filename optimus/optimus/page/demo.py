"""``optimus demo``: a toy corpus, a model trained on it, its scores, and a walk in its latents."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..api import SentenceVAE
from ..data.toy import analogies, score_analogies, score_factors, write_toy
from ..decoding import Sampling, unique
from ..runtime.command import parse
from ..runtime.options import at_least
from ..runtime.text_files import read_texts
from .app import serve

SIZES = (20_000, 300, 300)  # sentences of train, valid and test; they share none
GREEDY = Sampling(max_new_tokens=20)  # no sentence of the grammar is longer


@dataclass(frozen=True)
class DemoConfig:
    """Train on sentences of a small grammar and show what the latent space has learned."""

    run_dir: Path = Path("runs/demo")
    """Folder of everything that the demo makes."""
    max_steps: int = 0
    """Optimizer steps; 0 takes the preset's (a few minutes on one core)."""
    smallest: bool = False
    """A few steps: does everything run."""
    analogies: int = 300
    """Analogies to score."""
    seed: int = 0
    """Seed of the corpus and of the analogies."""
    serve: bool = False
    """Show a page to play with the model of --run-dir, a run or a converted folder, instead."""
    text: Path | None = None
    """With --serve: sentences to compare with and to draw, one a line or `label TAB sentence`; by
    default held-out ones of the run's corpus."""
    step: int | None = None
    """With --serve: the step of the run's checkpoint to show; by default its newest weights."""
    host: str = "127.0.0.1"
    """With --serve: the address to listen on; 0.0.0.0 is every network of this machine."""
    port: int = 7860
    """With --serve: the port; 0 takes the first free one from 7860 on."""

    def __post_init__(self) -> None:
        at_least(self, max_steps=0, analogies=1)
        if not 0 <= self.port < 65536:
            raise ValueError(f"--port must be in [0, 65535], got {self.port}")


def main(argv: Sequence[str]) -> None:
    """Run ``optimus demo`` or ``optimus demo --serve``."""
    config = parse(DemoConfig, argv, "optimus demo")
    if config.serve:
        serve(config.run_dir, config.host, config.port, config.text, config.step)
    else:
        demo(config)


def demo(config: DemoConfig) -> dict[str, float]:
    """Train, score, interpolate and draw analogies; returns the shares of right analogies.

    Training and scoring are the commands a user would type, and are printed.
    """
    if config.smallest:
        config = replace(config, max_steps=20, analogies=20)
    corpus = config.run_dir / "corpus"
    if not (corpus / "test.txt").exists():
        write_toy(corpus, config.seed, SIZES)
    steps = ["--max-steps", str(config.max_steps)] if config.max_steps else []
    run_dir = str(config.run_dir)
    _run("train", "demo", "--run-dir", run_dir, "--data.folder", str(corpus), *steps)
    _run("evaluate", "--run-dir", run_dir, "--samples", "20", "--max-sentences", "300")
    vae = SentenceVAE.from_pretrained(config.run_dir / "model")
    _show_reconstruction(vae, read_texts(corpus / "test.txt"))
    _show_interpolation(vae)
    return _show_analogies(vae, config)


def _run(*words: str) -> None:
    print("\n$ optimus", *words, flush=True)
    done = subprocess.run([sys.executable, "-m", "optimus", *words], check=False)
    if done.returncode == 2:
        raise ValueError(f"`optimus {words[0]}` did not succeed, see its message above")
    if done.returncode:
        raise SystemExit(done.returncode)


def _show_reconstruction(vae: SentenceVAE, sentences: Sequence[str]) -> None:
    shares = score_factors(sentences, vae.reconstruct(sentences, GREEDY))
    print("\nReconstruction of unseen sentences from their mean, share of each factor kept")
    print("  " + "  ".join(f"{name} {share:.0%}" for name, share in shares.items()))


def _show_interpolation(vae: SentenceVAE) -> None:
    ends = "the dog chases a ball in the garden .", "the girls will watch a bird in the forest ."
    print("\nInterpolation, ten steps, repeats left out")
    for line in unique(vae.interpolate(*ends, 10, GREEDY)):
        print(f"  {line}")


def _show_analogies(vae: SentenceVAE, config: DemoConfig) -> dict[str, float]:
    items = analogies(config.analogies, seed=config.seed + 1)
    source, target, given = (
        vae.encode([getattr(item, name) for item in items])
        for name in ("source", "target", "given")
    )
    answers = vae.decode(given + target - source, GREEDY)
    print("\nAnalogies: A is to B as C is to ...")
    for item, answer in list(zip(items, answers, strict=True))[:6]:
        print(f"  {item.source}  ->  {item.target}\n  {item.given}  ->  {answer}\n")
    score = score_analogies(items, answers)
    print(
        f"Of {len(items)} analogies {score.exact:.0%} give the expected sentence word for word, "
        f"{score.factor:.0%} the asked change, {score.grammatical:.0%} a sentence of the grammar."
    )
    return {"exact": score.exact, "factor": score.factor, "grammatical": score.grammatical}
