"""Gymnasium views of the simulator: goal-directed navigation with panoramic actions.

Needs the optional package ``gymnasium``. Action 0 stops; action j goes to the j-th candidate and
faces it. An action without a candidate stays where it is, since Gymnasium draws actions freely;
``action_mask`` of the observation says which are possible.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .geometry import (
    NUM_HEADINGS,
    NUM_VIEWS,
    VIEW_ELEVATIONS,
    VIEW_HEADINGS,
    VIEW_STEP,
    IntArray,
    angle_features,
    nearest_view,
)
from .graph import Graphs, candidates_of

try:
    import gymnasium
    from gymnasium import spaces
    from gymnasium.vector.utils import batch_space
except ImportError as error:
    raise ImportError(
        "prevalent.simulator.gym needs gymnasium; install it with `pip install prevalent-vln[gym]`"
    ) from error

SUCCESS_RADIUS = 3.0  # meters


class Start(NamedTuple):
    """An episode: where to begin and where to go."""

    scan: str
    viewpoint: str
    heading: float  # radians
    goal: str


class _World:
    """Tables and rules that both views share."""

    def __init__(self, graphs: Graphs, starts: Sequence[Start] | None, success_radius: float):
        self.graphs = graphs
        self.candidates = candidates_of(graphs)
        self.success_radius = success_radius
        self.width = self.candidates.target.shape[1]
        self.starts: list[tuple[int, int, int]] = [
            (
                graphs.node(s.scan, s.viewpoint),
                int(nearest_view(s.heading, 0.0)),
                graphs.node(s.scan, s.goal),
            )
            for s in starts or ()
        ]
        self.pose_table = angle_features(VIEW_HEADINGS, VIEW_ELEVATIONS, 4)
        self.observation_space = spaces.Dict(
            {
                "node": spaces.Discrete(len(graphs.viewpoints)),
                "view": spaces.Discrete(NUM_VIEWS),
                "pose": spaces.Box(-1, 1, (4,), np.float32),
                "candidates": spaces.Box(-1, 1, (self.width + 1, 4), np.float32),
                "action_mask": spaces.MultiBinary(self.width + 1),
            }
        )
        self.action_space = spaces.Discrete(self.width + 1)

    def draw(self, rng: np.random.Generator, count: int) -> IntArray:
        """(count, 3) node, view and goal: a listed episode each, or two places of one scan."""
        if self.starts:
            picked = rng.integers(len(self.starts), size=count)
            return np.array([self.starts[i] for i in picked], dtype=np.int64)
        rows = []
        for _ in range(count):
            nodes = self.graphs.connected(str(rng.choice(self.graphs.scans)))
            start, goal = rng.choice(nodes, 2, replace=False)
            rows.append((start, NUM_HEADINGS + rng.integers(NUM_HEADINGS), goal))
        return np.array(rows, dtype=np.int64)

    def observe(self, node: IntArray, view: IntArray) -> dict[str, NDArray]:
        """Observations of agents (B,), batched."""
        found = self.candidates
        count = found.count[node]
        turn = found.heading[node] - VIEW_STEP * (view % NUM_HEADINGS)[:, None]
        used = np.arange(self.width) < count[:, None]
        encoded = angle_features(turn, found.elevation[node], 4) * used[..., None]
        stop = np.zeros((len(node), 1, 4), dtype=np.float32)
        return {
            "node": node.copy(),
            "view": view.copy(),
            "pose": self.pose_table[view],
            "candidates": np.concatenate([stop, encoded], axis=1),
            "action_mask": (np.arange(self.width + 1) <= count[:, None]).astype(np.int8),
        }

    def step(
        self, node: IntArray, view: IntArray, action: NDArray
    ) -> tuple[IntArray, IntArray, NDArray[np.bool_]]:
        """New nodes and views of agents (B,), and which of them stopped."""
        action = np.asarray(action, dtype=np.int64)
        slot = np.maximum(action, 1) - 1
        moves = (action > 0) & (action <= self.candidates.count[node])
        target = self.candidates.target[node, slot].astype(np.int64)
        faced = self.candidates.view[node, slot].astype(np.int64)
        return np.where(moves, target, node), np.where(moves, faced, view), action == 0

    def info(self, node: IntArray, goal: IntArray) -> dict[str, NDArray]:
        """Distance to the goal in meters and whether it is near enough, (B,) each."""
        distance = self.graphs.distance(node, goal)
        return {"distance": distance, "success": distance < self.success_radius}


class NavigationEnv(gymnasium.Env):
    """One agent that looks for a viewpoint.

    Args:
        graphs: the scans.
        starts: episodes to draw from; random places of a random scan when None.
        max_steps: after which an episode is truncated.
        success_radius: in meters.

    The reward is the distance in meters by which a step comes nearer to the goal. ``info`` has the
    ``distance`` that remains and ``success``.
    """

    metadata = {"render_modes": []}  # noqa: RUF012

    def __init__(
        self,
        graphs: Graphs,
        starts: Sequence[Start] | None = None,
        *,
        max_steps: int = 30,
        success_radius: float = SUCCESS_RADIUS,
    ) -> None:
        self._world = _World(graphs, starts, success_radius)
        self.observation_space = self._world.observation_space
        self.action_space = self._world.action_space
        self.max_steps = max_steps

    def _observation(self) -> dict[str, Any]:
        batch = self._world.observe(self._node, self._view)
        one: dict[str, Any] = {name: values[0] for name, values in batch.items()}
        one["node"], one["view"] = np.int64(one["node"]), np.int64(one["view"])
        return one

    def _info(self) -> dict[str, Any]:
        info = self._world.info(self._node, self._goal)
        return {"distance": float(info["distance"][0]), "success": bool(info["success"][0])}

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Start an episode: a drawn one, or ``options["start"]``, a ``Start``."""
        super().reset(seed=seed)
        given = (options or {}).get("start")
        world = self._world if given is None else _World(self._world.graphs, [given], 0)
        drawn = world.draw(self.np_random, 1)
        self._node, self._view, self._goal = drawn.T.copy()
        self._steps = 0
        return self._observation(), self._info()

    def step(self, action: int) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Stop (0) or go to a candidate."""
        before = self._info()["distance"]
        batch = np.array([action])
        self._node, self._view, stopped = self._world.step(self._node, self._view, batch)
        self._steps += 1
        info = self._info()
        reward = before - info["distance"]
        return self._observation(), reward, bool(stopped[0]), self._steps >= self.max_steps, info


class NavigationVectorEnv(gymnasium.vector.VectorEnv):
    """B agents at once; an episode that ended starts anew with the next step.

    Args:
        graphs: the scans.
        num_envs: B.
        starts: episodes to draw from; random places of a random scan when None.
        max_steps: after which an episode is truncated.
        success_radius: in meters.
    """

    metadata = {"autoreset_mode": gymnasium.vector.AutoresetMode.NEXT_STEP}  # noqa: RUF012

    def __init__(
        self,
        graphs: Graphs,
        num_envs: int,
        starts: Sequence[Start] | None = None,
        *,
        max_steps: int = 30,
        success_radius: float = SUCCESS_RADIUS,
    ) -> None:
        self._world = _World(graphs, starts, success_radius)
        self.num_envs = num_envs
        self.max_steps = max_steps
        self.single_observation_space = self._world.observation_space
        self.single_action_space = self._world.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, NDArray], dict[str, NDArray]]:
        """Start B episodes; ``options`` are not used."""
        super().reset(seed=seed)
        self._node, self._view, self._goal = self._world.draw(self.np_random, self.num_envs).T
        self._steps = np.zeros(self.num_envs, dtype=np.int64)
        self._over = np.zeros(self.num_envs, dtype=bool)
        return self._observed()

    def _observed(self) -> tuple[dict[str, NDArray], dict[str, NDArray]]:
        info = self._world.info(self._node, self._goal)
        return self._world.observe(self._node, self._view), info

    def step(
        self, actions: NDArray
    ) -> tuple[dict[str, NDArray], NDArray, NDArray, NDArray, dict[str, NDArray]]:
        """Take B actions; agents whose episode ended before get a new one instead."""
        world, again = self._world, self._over
        before = world.info(self._node, self._goal)["distance"]
        node, view, stopped = world.step(self._node, self._view, actions)
        fresh = world.draw(self.np_random, int(again.sum())).reshape(-1, 3)
        if again.any():
            self._goal = self._goal.copy()
            node[again], view[again], self._goal[again] = fresh.T
        self._node, self._view = node, view
        self._steps = np.where(again, 0, self._steps + 1)
        observation, info = self._observed()
        reward = np.where(again, 0.0, before - info["distance"])
        terminated = stopped & ~again
        truncated = (self._steps >= self.max_steps) & ~again
        self._over = terminated | truncated
        return observation, reward, terminated, truncated, info
