"""A trained follower from its run's folder, and its walks over a split."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from ..agent_options import R2RRun
from ..runtime.distributed import World, choose_device
from ..runtime.rundir import read_config
from .build import AgentWorld, find_agent, load_follower, load_speaker, settle
from .episodes import Episodes, Tokenizer
from .follower import Follower
from .validation import Mixture, Results, choose_walks, search_split, tune_mixture, walk_split


class TrainedAgent(NamedTuple):
    follower: Follower
    world: AgentWorld
    episodes: Episodes
    tokenizer: Tokenizer
    config: R2RRun


class Walking(NamedTuple):
    """How a split is walked."""

    batch_size: int = 32
    beam: int = 0
    """Paths that a state-factored search collects; 0 walks greedily."""
    speaker: Path | None = None
    """Rescores the paths."""
    mixture: Mixture = Mixture()
    tune: bool = False
    """Choose the mixture that succeeds most often on this split."""
    forbid_revisits: bool = False
    """Greedy walks do not return to a place."""


def open_agent(
    run_dir: Path,
    split: str,
    *,
    snapshot: str = "best_val_unseen",
    data_dir: Path | None = None,
    device: str = "auto",
    alone: bool = False,
) -> TrainedAgent:
    """The follower of a run's snapshot and the episodes of ``split``.

    ``data_dir`` takes the place of the run's own data folder; ``alone`` has an agent that reads
    several instructions of a path read one of them only.

    Raises ``FileNotFoundError`` or ``ValueError`` where the run, the snapshot or data is missing.
    """
    config, chosen = read_config(R2RRun, run_dir), choose_device(device)
    folder = find_agent(run_dir, snapshot)
    config = settle(config, run_dir, World(0, 1, chosen))
    if data_dir is not None:
        config = replace(config, data_dir=data_dir)
    follower, world, tokenizer = load_follower(folder, config, [split], chosen)
    episodes = Episodes.encode(
        world.splits[split],
        tokenizer,
        f"the split {split!r}",
        num_texts=follower.config.num_texts,
        alone=alone,
    )
    return TrainedAgent(follower, world, episodes, tokenizer, config)


def walk_agent(agent: TrainedAgent, how: Walking) -> tuple[Results, Mixture | None]:
    """Results by id, and the mixture of scores that chose them if a search with a speaker did."""
    follower, world, episodes, _, config = agent
    if how.speaker is not None and not how.beam:
        raise ValueError("--speaker rescores the paths of a search; add --beam 20 or drop it")
    if how.tune and how.speaker is None:
        raise ValueError("--tune-alpha weighs a speaker against the follower; add --speaker RUN")
    if not how.beam:
        follower.walk = replace(follower.walk, forbid_revisits=how.forbid_revisits)
        return walk_split(follower, episodes, how.batch_size), None
    speaker = None
    if how.speaker is not None:
        words = config.data_dir / config.words
        speaker = load_speaker(how.speaker, world, words, max_length=config.max_length)
    found = search_split(follower, episodes, how.batch_size, how.beam, speaker)
    mixture = tune_mixture(found, episodes, world.graphs) if how.tune else how.mixture
    return choose_walks(found, mixture), mixture if speaker is not None else None
