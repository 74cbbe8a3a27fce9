"""``optimus VERB ...`` and ``python -m optimus VERB ...``."""

from __future__ import annotations

from collections.abc import Sequence

from .runtime.command import run_command

VERBS = {
    "prepare": ("optimus.data.prepare:main", "fetch or make a corpus"),
    "train": ("optimus.train:main", "train a sentence VAE or a GPT-2 baseline (pre-, fine-)"),
    "evaluate": ("optimus.evaluate:main", "perplexity, ELBO, KL, MI, active units, BLEU"),
    "generate": ("optimus.generate:main", "reconstruct, sample, interpolate, analogy"),
    "convert": ("optimus.convert:main", "read or write the authors' checkpoints"),
    "migrate": ("optimus.migrate:main", "turn the authors' command line into ours"),
    "report": ("optimus.report:main", "the paper's figures beside ours"),
    "demo": ("optimus.demo:main", "train on a toy corpus, score it and play with it"),
}


def main(argv: Sequence[str] | None = None) -> None:
    """Run one verb and exit."""
    run_command("optimus", VERBS, argv)


if __name__ == "__main__":
    main()
