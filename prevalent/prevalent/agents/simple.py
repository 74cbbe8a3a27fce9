"""Agents that do not learn: random, stop, forward and shortest path, for R2R, NDH and HANNA.

Their results have the form of the tasks' submission files.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Literal, Protocol

import numpy as np

from ..environments.low_level import FORWARD, RIGHT, LowLevelEnvironment
from ..environments.navigation import Episode, Pose, Task
from ..environments.panorama import PanoramicEnvironment
from ..simulator.geometry import NUM_HEADINGS, IntArray
from ..simulator.graph import Graphs

SimpleAgent = Literal["random", "stop", "forward", "shortest"]
R2R_STEPS, NDH_STEPS, HANNA_STEPS = 30, 130, 50
NUM_MOVES = 5  # after which the random agent ends
HANNA_MOVES = 10  # after which HANNA's forward agent stops


class ObjectTask(Protocol):
    """A HANNA item: one shortest path per viewpoint from which the object can be seen."""

    @property
    def id(self) -> str: ...
    @property
    def scan(self) -> str: ...
    @property
    def heading(self) -> float: ...
    @property
    def paths(self) -> Sequence[Sequence[str]]: ...


def walk(
    agent: SimpleAgent, graphs: Graphs, tasks: Sequence[Task], *, max_steps: int, seed: int = 0
) -> list[list[Pose]]:
    """Walk all tasks at once in the six-action space.

    ``random`` turns right 0 to 11 times, then goes forward, turning right where nothing is ahead,
    until it has moved five times; ``forward`` does the same without the turns in the beginning;
    ``shortest`` follows the teacher to the goal. ``max_steps`` bounds the first two.
    """
    environment = LowLevelEnvironment(graphs)
    if agent == "stop":
        environment.reset(tasks)
    elif agent == "shortest":
        _follow(environment, tasks)
    elif agent in ("random", "forward"):
        rng = np.random.default_rng(seed)
        turns = rng.integers(NUM_HEADINGS, size=len(tasks)) if agent == "random" else 0
        _wander(environment, tasks, np.broadcast_to(turns, len(tasks)).copy(), max_steps)
    else:
        raise ValueError(f"agent must be random, stop, forward or shortest, got {agent!r}")
    return environment.trajectories()


def _follow(environment: LowLevelEnvironment, tasks: Sequence[Task]) -> None:
    seen = environment.reset(tasks)
    while seen.teacher_step.any():
        steps = seen.teacher_step
        seen = environment.step_raw(steps, ended=~steps.any(axis=1))


def _wander(
    environment: LowLevelEnvironment, tasks: Sequence[Task], turns: IntArray, max_steps: int
) -> None:
    seen = environment.reset(tasks)
    moves = np.zeros_like(turns)
    for _ in range(max_steps):
        ended = moves >= NUM_MOVES
        if ended.all():
            break
        forward = (turns == 0) & seen.can_move & ~ended
        action = np.where(forward, FORWARD, RIGHT)
        action[ended] = -1
        turns = np.maximum(turns - 1, 0)
        moves = moves + forward
        seen = environment.step(action)


def r2r_results(
    agent: SimpleAgent, graphs: Graphs, tasks: Sequence[Task], seed: int = 0
) -> list[dict[str, Any]]:
    """``[{"instr_id", "trajectory"}]`` of the R2R leaderboard."""
    walks = walk(agent, graphs, tasks, max_steps=R2R_STEPS, seed=seed)
    return [
        {"instr_id": task.id, "trajectory": poses} for task, poses in zip(tasks, walks, strict=True)
    ]


def ndh_results(
    agent: SimpleAgent, graphs: Graphs, tasks: Sequence[Task], seed: int = 0
) -> list[dict[str, Any]]:
    """``[{"inst_idx", "trajectory"}]`` of the CVDN leaderboard; task ids are ``inst_idx``."""
    walks = walk(agent, graphs, tasks, max_steps=NDH_STEPS, seed=seed)
    return [
        {"inst_idx": int(task.id), "trajectory": poses}
        for task, poses in zip(tasks, walks, strict=True)
    ]


def hanna_results(
    agent: SimpleAgent,
    graphs: Graphs,
    tasks: Sequence[ObjectTask],
    *,
    max_steps: int = HANNA_STEPS,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """``[{"scan", "instr_id", "agent_pose", "agent_nav"}]`` of HANNA, without asking for help.

    ``random`` draws among stop and the neighbors, ``forward`` takes the neighbor straightest ahead
    ten times, ``shortest`` goes to the nearest of the goals.
    """
    if agent not in ("random", "stop", "forward", "shortest"):
        raise ValueError(f"agent must be random, stop, forward or shortest, got {agent!r}")
    environment = PanoramicEnvironment(graphs)
    starts = [Episode(t.scan, (t.paths[0][0], t.paths[0][-1]), t.heading, t.id) for t in tasks]
    seen = environment.reset(starts)
    goals = _padded_goals(graphs, tasks)
    rng, ended = np.random.default_rng(seed), np.zeros(len(tasks), dtype=bool)
    poses: list[list[Pose]] = [[walk[0]] for walk in environment.poses()]
    actions: list[list[int]] = [[] for _ in tasks]
    for t in range(max_steps):
        if ended.all():
            break
        if agent == "random":
            action = rng.integers(seen.count)
        elif agent == "forward":
            action = np.full(len(tasks), int(t < HANNA_MOVES))
        elif agent == "shortest":
            nearest = graphs.distance(seen.node[:, None], goals).argmin(axis=1)
            environment.set_goals(goals[np.arange(len(tasks)), nearest])
            action = environment.observe().teacher
        else:
            action = np.zeros(len(tasks), dtype=np.int64)
        action = np.where(ended, -1, np.minimum(action, seen.count - 1))
        seen = environment.step(action)
        for i in np.flatnonzero(~ended):
            actions[i].append(int(action[i]))
            poses[i].append(environment.pose(int(i)))
        ended |= action == 0
    return [
        {"scan": t.scan, "instr_id": t.id, "agent_pose": poses[i], "agent_nav": actions[i]}
        for i, t in enumerate(tasks)
    ]


def _padded_goals(graphs: Graphs, tasks: Iterable[ObjectTask]) -> IntArray:
    """Goal nodes (B, G) of the tasks; the first one fills unused places."""
    goals = [[graphs.node(t.scan, path[-1]) for path in t.paths] for t in tasks]
    width = max(map(len, goals), default=1)
    return np.array([row + row[:1] * (width - len(row)) for row in goals]).reshape(-1, width)
