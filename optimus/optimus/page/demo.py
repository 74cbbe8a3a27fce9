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
from ..runtime.run_folder import read_plain
from ..runtime.text_files import read_texts
from .app import serve
from .examples import words_kept
from .explorer import load_explorer

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
    real: Path | None = None
    """Show what a trained model does instead: the folder of a run, or of a saved SentenceVAE."""
    analogies: int = 300
    """Analogies to score."""
    seed: int = 0
    """Seed of the corpus and of the analogies."""
    serve: bool = False
    """Show a page to play with the model of --run-dir, a run or a converted folder, instead."""
    text: Path | None = None
    """With --serve or --real: sentences to compare with and to draw, one a line or `label TAB
    sentence`; by default held-out ones of the run's corpus."""
    step: int | None = None
    """With --serve or --real: the step of the run's checkpoint to show; by default its newest
    weights."""
    host: str = "127.0.0.1"
    """With --serve: the address to listen on; 0.0.0.0 is every network of this machine."""
    port: int = 7860
    """With --serve: the port; 0 takes the first free one from 7860 on."""

    def __post_init__(self) -> None:
        at_least(self, max_steps=0, analogies=1)
        if not 0 <= self.port < 65536:
            raise ValueError(f"--port must be in [0, 65535], got {self.port}")


def main(argv: Sequence[str]) -> None:
    """Run ``optimus demo``, ``optimus demo --real FOLDER`` or ``optimus demo --serve``."""
    config = parse(DemoConfig, argv, "optimus demo")
    if config.real is not None:
        require_vae(config.real)
    if config.serve:
        serve(config.real or config.run_dir, config.host, config.port, config.text, config.step)
    elif config.real is not None:
        show_real(config.real, config.text, config.step)
    else:
        demo(config)


def require_vae(folder: Path) -> None:
    """Raise where ``folder`` holds public networks and no sentence VAE."""
    found = sorted(path for path in folder.glob("*/config.json") if path.parent.name != "model")
    if folder.is_dir() and not (folder / "config.json").is_file() and len(found) > 1:
        found.sort(key=lambda path: "LM" in str(read_plain(path).get("architectures", "")))
        names = " ".join(str(path.parent) for path in (found[0], found[-1]))
        raise ValueError(
            f"--real {folder} holds {len(found)} models that are no sentence VAE: train one of an "
            f"encoder and a decoder, such as `optimus train real-tatoeba-0.50 --model.init "
            f"{names} --data.folder CORPUS --run-dir RUN`, and show that run with --real RUN"
        )


def show_real(folder: Path, text: Path | None = None, step: int | None = None) -> float:
    """Print what a trained model makes of the examples; the share of words that it keeps.

    Args:
        folder: of a run or a saved SentenceVAE.
        text: sentences to compare with, as of ``--text``.
        step: of a run, the checkpoint to show.
    """
    explorer = load_explorer(folder, text, step=step)
    print(f"{folder}, compared with {len(explorer.sentences)} sentences: {explorer.source}")
    again = {sentence: explorer.encode(sentence) for sentence in explorer.openings}
    kept = [words_kept(sentence, found.sentence) for sentence, found in again.items()]
    share = sum(kept) / len(kept)
    print(f"\nFrom their vectors alone, {share:.0%} of the words kept")
    for sentence, found in again.items():
        print(f"  {sentence}\n    -> {found.sentence}")
    print("\nMoved by one unit along an attribute")
    for sentence in explorer.openings[:2]:
        print(f"  {sentence}")
        for name, moved in explorer.variants(sentence):
            print(f"    {name:<20} {moved}")
    print("\nInterpolation, ten steps, repeats left out")
    for pair in explorer.examples.pairs[:2]:
        for line in unique([line for _, line in explorer.interpolate(*pair, 10)]):
            print(f"  {line}")
        print()
    print("Analogies: A is to B as C is to ...")
    for a, b, c in explorer.examples.analogies:
        print(f"  {a}  ->  {b}\n  {c}  ->  {explorer.analogy(a, b, c)}\n")
    first = explorer.openings[0]
    print(f"Nearest to: {first}")
    for near, distance in again[first].nearest[:5]:
        print(f"  {distance:6.3f}  {near}")
    print(f"\n`optimus demo --real {folder} --serve` shows a page of it.")
    return share


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
