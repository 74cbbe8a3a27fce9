"""The command ``prevalent``."""

from __future__ import annotations

from collections.abc import Sequence

from .runtime.command import run_command

VERBS = {
    "prepare": ("prevalent.prepare:main", "fetch and check data sets, make features and triplets"),
    "pretrain": ("prevalent.pretrain:main", "pre-train on image-text-action triplets"),
    "evaluate": ("prevalent.evaluate:main", "score a result file of R2R, NDH or HANNA"),
    "baseline": ("prevalent.baseline:main", "run the random, stop, forward or shortest agent"),
    "submit": ("prevalent.submit:main", "check a result file and write it for a leaderboard"),
    "convert": ("prevalent.convert:main", "the authors' checkpoints to ours and back"),
    "report": ("prevalent.report:main", "published figures beside ours"),
    "demo": ("prevalent.demo:main", "make a toy world, pre-train on it, score the simple agents"),
}


def main(argv: Sequence[str] | None = None) -> None:
    """Run ``prevalent VERB ...``."""
    run_command("prevalent", VERBS, argv)


if __name__ == "__main__":
    main()
