"""The command ``prevalent``."""

from __future__ import annotations

from collections.abc import Sequence

from .runtime.command import run_command

VERBS = {
    "prepare": ("prevalent.prepare:main", "fetch and check data sets, make features and triplets"),
    "pretrain": ("prevalent.tasks.pretraining:main", "pre-train on image-text-action triplets"),
    "probe": ("prevalent.tasks.probes:main", "ask a pre-trained encoder what it reads and sees"),
    "train-speaker": ("prevalent.tasks.speaker:main", "train the agent that describes paths"),
    "train-r2r": ("prevalent.tasks.r2r:main", "train an agent that follows R2R instructions"),
    "train-graph": ("prevalent.tasks.graph:main", "train an agent that draws a map, on R2R"),
    "train-ndh": ("prevalent.tasks.ndh:main", "train an agent that follows a dialog"),
    "train-hanna": ("prevalent.tasks.hanna:main", "train an agent that asks for help"),
    "evaluate": ("prevalent.evaluate:main", "score an agent or a result file"),
    "compare": (
        "prevalent.evaluate:main_compare",
        "whether the results of two agents differ",
    ),
    "check": (
        "prevalent.evaluate:main_check",
        "what is wrong with features or results",
    ),
    "baseline": (
        "prevalent.evaluate:main_baseline",
        "run the random, stop, forward or shortest agent",
    ),
    "submit": ("prevalent.evaluate:main_submit", "check results and write them for a leaderboard"),
    "trajectories": (
        "prevalent.page.trajectories:main",
        "a page of maps of what was walked",
    ),
    "convert": ("prevalent.convert:main", "the authors' checkpoints and agents to ours and back"),
    "report": ("prevalent.report:main", "published figures beside ours"),
    "demo": (
        "prevalent.demo:main",
        "pre-train in toy houses, compare agents; --serve: a page of walks",
    ),
    "demo-hanna": ("prevalent.demo:main_hanna", "compare toy agents that ask and do not"),
}


def main(argv: Sequence[str] | None = None) -> None:
    """Run ``prevalent VERB ...``."""
    run_command("prevalent", VERBS, argv)


if __name__ == "__main__":
    main()
