"""A trained agent of HANNA from its run's folder, its searches over a split and their scores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from ..assistance_options import HannaRun
from ..data.assistance import AssistanceTask, references, resolve_split
from ..data.instructions import BatchOrder
from ..data.scores import score_results
from ..runtime.distributed import World, choose_device, gather_objects
from ..runtime.rundir import read_config
from ..simulator.graph import Graphs
from .assistance import AssistanceAgent
from .assistance_build import AssistanceWorld, load_assistance_agent
from .build import find_agent, settle
from .validation import Results


class TrainedAssistance(NamedTuple):
    agent: AssistanceAgent
    world: AssistanceWorld
    tasks: Sequence[AssistanceTask]
    config: HannaRun


class TaskBatches:
    """Endless batches of tasks; N processes share out batches of N times the size."""

    def __init__(self, tasks: Sequence[AssistanceTask], batch_size: int, world: World) -> None:
        self.tasks, self.world = tasks, world
        self.order = BatchOrder(len(tasks), batch_size * world.size)

    def __iter__(self) -> Iterator[list[AssistanceTask]]:
        return self

    def __next__(self) -> list[AssistanceTask]:
        return [self.tasks[i] for i in next(self.order)[self.world.rank :: self.world.size]]

    def state_dict(self) -> dict[str, Any]:
        return self.order.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if len(state["order"]) != len(self.tasks):
            raise ValueError(
                f"the checkpoint goes through {len(state['order'])} tasks, the data now has "
                f"{len(self.tasks)}; give the same --train, or a new --run-dir"
            )
        self.order.load_state_dict(state)


def open_assistance_agent(
    run_dir: Path,
    split: str,
    *,
    snapshot: str = "best_val_unseen",
    data_dir: Path | None = None,
    device: str = "auto",
) -> TrainedAssistance:
    """The agent of a run's snapshot and the tasks of ``split``.

    ``data_dir`` takes the place of the run's own data folder.

    Raises ``FileNotFoundError`` or ``ValueError`` where the run, the snapshot or data is missing.
    """
    config, chosen = read_config(HannaRun, run_dir), choose_device(device)
    folder = find_agent(run_dir, snapshot)
    config = settle(config, run_dir, World(0, 1, chosen))
    if data_dir is not None:
        config = replace(config, data_dir=data_dir)
    agent, world = load_assistance_agent(folder, config, [split], chosen)
    return TrainedAssistance(agent, world, world.splits[split], config)


def search_tasks(
    agent: AssistanceAgent,
    tasks: Sequence[AssistanceTask],
    split: str,
    batch_size: int,
    world: World | None = None,
) -> Results:
    """Results of greedy walks by id; each process walks its share and all get everything."""
    mine = list(tasks) if world is None else list(tasks[world.rank :: world.size])
    batches = [mine[i : i + batch_size] for i in range(0, len(mine), batch_size)]
    records = agent.act(batches, resolve_split(split)[1])
    gathered = [record for part in gather_objects(records) for record in part]
    by_id = {record["instr_id"]: record for record in gathered}
    return {one.id: by_id[one.id] for one in tasks}


def score_searches(
    results: Results, tasks: Sequence[AssistanceTask], graphs: Graphs
) -> dict[str, float]:
    """Mean scores under the metric names of HANNA."""
    return score_results(results, references(tasks), graphs, "hanna")
