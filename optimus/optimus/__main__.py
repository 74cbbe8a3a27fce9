"""``optimus VERB ...`` and ``python -m optimus VERB ...``."""

from __future__ import annotations

from collections.abc import Sequence

from .runtime.command import run_command

VERBS = {
    "prepare": ("optimus.data.prepare:main", "fetch or make a corpus"),
    "train": (
        "optimus.tasks.language_model:train_command",
        "train a sentence VAE or a GPT-2 baseline (pre-, fine-)",
    ),
    "evaluate": (
        "optimus.tasks.language_scores:evaluate_command",
        "perplexity, ELBO, KL, MI, active units, BLEU",
    ),
    "generate": ("optimus.generate:main", "reconstruct, sample, interpolate, analogy"),
    "encode": ("optimus.verbs.encode:main", "write latents of a file's sentences to disk"),
    "score": ("optimus.verbs.score:main", "likelihood and KL of every sentence of a file"),
    "edit": ("optimus.verbs.edit:main", "learn an attribute's direction, move sentences along it"),
    "train-dialog": ("optimus.tasks.dialog:train_command", "train dialog responses (SpaceFusion)"),
    "evaluate-dialog": (
        "optimus.tasks.dialog:evaluate_command",
        "answer contexts and score the answers",
    ),
    "train-label-control": (
        "optimus.tasks.label_control:train_command",
        "train label-conditional generation (CARA)",
    ),
    "evaluate-label-control": (
        "optimus.tasks.label_control:evaluate_command",
        "transfer labels, generate by label, score both",
    ),
    "train-classifier": (
        "optimus.tasks.classifier:train_command",
        "classify with an encoder: GLUE, Yelp, few labels, several seeds",
    ),
    "plot-latents": ("optimus.page.plots:main", "draw latents by label: t-SNE, MDS, Isomap"),
    "convert": ("optimus.released.checkpoints:main", "read or write the authors' checkpoints"),
    "migrate": ("optimus.released.commands:main", "turn the authors' command line into ours"),
    "report": ("optimus.report:main", "the paper's figures beside ours"),
    "demo": ("optimus.page.demo:main", "train on a toy corpus, score it and play with it"),
}


def main(argv: Sequence[str] | None = None) -> None:
    """Run one verb and exit."""
    run_command("optimus", VERBS, argv)


if __name__ == "__main__":
    main()
