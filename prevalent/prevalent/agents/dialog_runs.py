"""A trained agent of NDH from its run's folder, its walks over a split and their scores."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from ..data.scores import score_results
from ..dialog_options import NDHRun
from ..metrics.dialog import PathType
from ..runtime.distributed import World, choose_device, gather_objects
from ..runtime.rundir import read_config
from ..simulator.graph import Graphs
from .build import find_agent, settle
from .dialog import DialogAgent
from .dialog_build import (
    DialogEpisodes,
    DialogWorld,
    load_dialog_agent,
    open_dialogs,
)
from .validation import Results


class TrainedDialogAgent(NamedTuple):
    agent: DialogAgent
    world: DialogWorld
    episodes: DialogEpisodes
    config: NDHRun


def open_dialog_agent(
    run_dir: Path,
    split: str,
    *,
    snapshot: str = "best_val_unseen",
    data_dir: Path | None = None,
    device: str = "auto",
) -> TrainedDialogAgent:
    """The agent of a run's snapshot and the dialogs of ``split``.

    ``data_dir`` takes the place of the run's own data folder.

    Raises ``FileNotFoundError`` or ``ValueError`` where the run, the snapshot or data is missing.
    """
    config, chosen = read_config(NDHRun, run_dir), choose_device(device)
    folder = find_agent(run_dir, snapshot)
    config = settle(config, run_dir, World(0, 1, chosen))
    if data_dir is not None:
        config = replace(config, data_dir=data_dir)
    agent, world, tokenizer = load_dialog_agent(folder, config, [split], chosen)
    episodes = open_dialogs(config, world.splits[split], tokenizer)
    return TrainedDialogAgent(agent, world, episodes, config)


def walk_dialog_split(
    agent: DialogAgent, episodes: DialogEpisodes, batch_size: int, world: World | None = None
) -> Results:
    """Results of greedy walks by id; each process walks its share and all get everything."""
    mine = episodes if world is None else episodes.part(world.rank, world.size)
    records = agent.act(mine.batches(batch_size))
    gathered = [record for part in gather_objects(records) for record in part]
    by_id = {str(record["inst_idx"]): record for record in gathered}
    return {one.id: by_id[one.id] for one in episodes.instructions}


def score_dialog_walks(
    results: Results, episodes: DialogEpisodes, graphs: Graphs, path_type: PathType
) -> dict[str, float]:
    """Mean scores under the metric names of CVDN.

    Raises ``ValueError`` where a dialog has no goals (test split).
    """
    references = [one.reference for one in episodes.instructions]
    return score_results(results, references, graphs, "ndh", path_type=path_type)
