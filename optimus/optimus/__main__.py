"""``optimus VERB ...`` and ``python -m optimus VERB ...``."""

from __future__ import annotations

from collections.abc import Sequence

from .runtime.command import run_command

VERBS = {
    "prepare": ("optimus.data.prepare:main", "fetch or make a corpus"),
    "train": ("optimus.train:main", "train a sentence VAE or a GPT-2 baseline (pre-, fine-)"),
    "evaluate": ("optimus.evaluate:main", "perplexity, ELBO, KL, MI, active units, BLEU"),
    "generate": ("optimus.generate:main", "reconstruct, sample, interpolate, analogy"),
    "train-dialog": ("optimus.train_dialog:main", "train dialog responses (SpaceFusion)"),
    "evaluate-dialog": ("optimus.evaluate_dialog:main", "answer contexts and score the answers"),
    "train-label-control": (
        "optimus.train_label_control:main",
        "train label-conditional generation (CARA)",
    ),
    "evaluate-label-control": (
        "optimus.evaluate_label_control:main",
        "transfer labels, generate by label, score both",
    ),
    "train-classifier": (
        "optimus.train_classifier:main",
        "classify with an encoder: GLUE, Yelp, few labels, several seeds",
    ),
    "plot-latents": ("optimus.plot_latents:main", "draw latents by label: t-SNE, MDS, Isomap"),
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
