"""The command ``fqgan``; ``python -m fqgan`` is the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from .runtime.command import run_command

VERBS = {
    "prepare": ("fqgan.data.prepare:main", "download, check and convert data sets"),
    "train": ("fqgan.config:train_main", "train a preset; run it again to continue"),
    "sample": ("fqgan.config:sample", "sheets, interpolations, image files, truncation curves"),
    "translate": (
        "fqgan.ugatit.commands:translate_main",
        "pictures of one domain into the other, heat maps, comparisons",
    ),
    "project": (
        "fqgan.stylegan2.projection:project_main",
        "styles and noise of StyleGAN2 for an image",
    ),
    "evaluate": (
        "fqgan.config:evaluate",
        "FID, KID, IS, precision and recall of a run or of files",
    ),
    "score": (
        "fqgan.metrics.score:main",
        "FID, KID, precision, recall of any two sets of images, runs or statistics files",
    ),
    "convert": ("fqgan.released.convert:main", "weights of the authors and of TF Hub into ours"),
    "migrate": ("fqgan.released.migrate:main", "the authors' command line into ours"),
    "plot": ("fqgan.plots:main", "curves of loss, FID and codebook perplexity as PNG"),
    "report": ("fqgan.report:main", "published figures with ours beside them"),
    "demo": (
        "fqgan.page.demo:main",
        "train on toy shapes, score, draw; --serve: a page to play with",
    ),
}


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run one verb and exit."""
    run_command("fqgan", VERBS, argv)


if __name__ == "__main__":
    main()
