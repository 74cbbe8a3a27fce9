"""Gymnasium environments: read an instruction, look around, choose where to go.

Needs the optional package ``gymnasium``. Importing this module registers ``prevalent/R2R-v0``,
``prevalent/NDH-v0``, ``prevalent/HANNA-v0`` (`gym_hanna.py`), ``prevalent/Toy-v0`` and
``prevalent/Goal-v0``. Action 0 stops; action j goes to the j-th candidate and faces it. One without
a candidate stays, since Gymnasium draws actions freely; ``action_mask`` says which are possible.
"""

from __future__ import annotations

import operator
import os
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.datasets import WalkData, read_walks
from ..data.features import FeatureStore
from ..data.instructions import with_goals
from ..data.ndh import open_dialog_words, read_dialogs, tell
from ..data.results import check_goals
from ..data.tokenizers import WordTokenizer, read_vocabulary
from ..data.toy import ToyConfig, write_toy
from ..simulator.geometry import (
    NUM_HEADINGS,
    NUM_VIEWS,
    VIEW_ELEVATIONS,
    VIEW_HEADINGS,
    VIEW_STEP,
    IntArray,
    angle_features,
    nearest_view,
)
from ..simulator.graph import (
    Graphs,
    SimulatorError,
    as_array,
    candidates_of,
    default_cache_dir,
    shared_graphs,
)
from .navigation import Episode, Pose, check_tasks
from .scene import Caption, Scene, draw_scene, draw_view, tell_scene

try:
    import gymnasium
    from gymnasium import spaces
    from gymnasium.error import ResetNeeded
    from gymnasium.vector.utils import batch_space
except ImportError as error:
    raise ImportError(
        "prevalent.environments.gym needs gymnasium; install it with "
        "`pip install prevalent-vln[gym]`"
    ) from error

SUCCESS_RADIUS = 3.0  # meters
RENDER_MODES = ("rgb_array", "ansi", "view")


@dataclass(frozen=True)
class NavigationData:
    """What an environment is made of.

    Without ``episodes`` random places of a random scan are start and goal, and the goal must be
    seen (``goal_direction``).
    """

    graphs: Graphs
    episodes: Sequence[Episode] = ()
    tokens: IntArray | None = None
    """(number of episodes, L) encoded instructions."""
    vocab_size: int = 0
    features: FeatureStore | None = None
    """Image features of the panoramas."""


@dataclass(frozen=True)
class Rules:
    """How an episode ends and what it earns."""

    max_steps: int = 30
    """After which an episode is truncated."""
    success_radius: float = SUCCESS_RADIUS
    """In meters."""
    stop_reward: float = 2.0
    """Earned by stopping within the radius, lost by stopping outside (EnvDrop)."""
    goal_direction: bool = False
    """Show where the goal lies."""
    panorama: bool = True
    """Show the features of all 36 views, not only those of the candidates."""

    def __post_init__(self) -> None:
        _check_count("max_steps", self.max_steps)
        for name in ("success_radius", "stop_reward"):
            value = getattr(self, name)
            number = isinstance(value, int | float | np.integer | np.floating)
            if isinstance(value, bool) or not number or not np.isfinite(value):
                raise ValueError(f"{name} must be a finite number, got {value!r}")
        if self.success_radius <= 0:
            raise ValueError(f"success_radius must be positive, got {self.success_radius}")
        for name in ("goal_direction", "panorama"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} must be True or False, got {getattr(self, name)!r}")


def _check_count(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise ValueError(f"{name} must be a whole number, got {value!r}")
    if value < 1:
        raise ValueError(f"{name} must be at least 1, got {value}")


@dataclass
class Agents:
    """Where B agents are; all arrays are (B,)."""

    node: IntArray
    view: IntArray
    goal: IntArray
    episode: IntArray  # number of the episode, -1 for a random one
    steps: IntArray = field(init=False)

    def __post_init__(self) -> None:
        self.steps = np.zeros(len(self.node), dtype=np.int64)


class World:
    """Tables, spaces and rules that all forms share.

    Args:
        data: graphs, episodes and features.
        rules: how an episode ends and what it earns.
        more: actions behind the candidates, that lead nowhere here.
    """

    def __init__(self, data: NavigationData, rules: Rules, more: int = 0) -> None:
        if not isinstance(data, NavigationData) or not isinstance(rules, Rules):
            raise ValueError(
                "an environment takes NavigationData and Rules, got "
                f"{type(data).__name__} and {type(rules).__name__}"
            )
        check_tasks(data.graphs, data.episodes)
        _check_tokens(data)
        if not data.episodes and not rules.goal_direction:
            raise ValueError(
                "without episodes there is no instruction to follow; give episodes or "
                "goal_direction=True"
            )
        self.data, self.rules, self.graphs = data, rules, data.graphs
        self.candidates = candidates_of(data.graphs)
        self.more, self.width = more, self.candidates.target.shape[1] + 1 + more  # actions
        self.starts = np.array([self._start(one) for one in data.episodes]).reshape(-1, 3)
        self.texts = [one.text for one in data.episodes]
        self.pose_table = angle_features(VIEW_HEADINGS, VIEW_ELEVATIONS, 4)
        self.rows = self._feature_rows()
        self.observation_space = spaces.Dict(self._spaces())
        self.action_space = spaces.Discrete(self.width)

    def _start(self, one: Episode) -> tuple[int, int, int]:
        node = self.graphs.node
        view = int(nearest_view(one.heading, 0.0))
        return node(one.scan, one.path[0]), view, node(one.scan, one.path[-1])

    def _feature_rows(self) -> IntArray:
        """Row (N,) of every node in the features, -1 without one."""
        graphs, store = self.graphs, self.data.features
        if store is None:
            return np.full(len(graphs.viewpoints), -1, dtype=np.int64)
        if store.num_views != NUM_VIEWS:
            raise ValueError(f"the features show {store.num_views} views, not {NUM_VIEWS}")
        store.check(graphs, {one.scan for one in self.data.episodes} or None)
        names = (graphs.long_id(node) for node in range(len(graphs.viewpoints)))
        return np.array([store.rows.get(name, -1) for name in names], dtype=np.int64)

    def _spaces(self) -> dict[str, spaces.Space]:
        data = self.data
        found: dict[str, spaces.Space] = {
            "view": spaces.Discrete(NUM_VIEWS),
            "pose": spaces.Box(-1, 1, (4,), np.float32),
            "candidates": spaces.Box(-1, 1, (self.width, 4), np.float32),
            "action_mask": spaces.MultiBinary(self.width),
        }
        if self.rules.goal_direction:
            found["goal"] = any_numbers(4)
        if any(self.texts):
            letters = "".join(sorted(set(string.printable).union(*self.texts)))
            longest = max(map(len, self.texts))
            found["text"] = spaces.Text(longest, min_length=0, charset=letters)
        if data.tokens is not None:
            length = data.tokens.shape[1]
            found["tokens"] = spaces.Box(0, data.vocab_size - 1, (length,), np.int64)
        if data.features is not None:
            width = data.features.width
            found["candidate_features"] = any_numbers(self.width, width)
            if self.rules.panorama:
                found["panorama"] = any_numbers(NUM_VIEWS, width)
        return found

    def chosen(self, options: dict[str, Any] | None, count: int) -> IntArray | None:
        """The numbers (count,) in ``options["episode"]``; None where none is asked for.

        Raises ``SimulatorError`` for another option, and unless they are ``count`` episodes.
        """
        if not isinstance(options, dict | None) or set(options or {}) - {"episode"}:
            raise SimulatorError(f"options may hold 'episode' alone, got {options!r}")
        given = (options or {}).get("episode")
        if given is None:
            return None
        numbers, known = np.atleast_1d(as_array(given)), len(self.starts)
        fit = numbers.shape == (count,) and numbers.dtype.kind in "iu"
        if not fit or (numbers < 0).any() or (numbers >= known).any():
            wanted = f"{count} whole numbers" if count > 1 else "a whole number"
            raise SimulatorError(
                f"there is no episode {given!r}; there are {known}: options['episode'] takes "
                f"{wanted} below that"
            )
        return numbers.astype(np.int64)

    def draw(self, rng: np.random.Generator, count: int) -> Agents:
        """Start ``count`` agents: an episode of the list each, or two places of one scan."""
        if len(self.starts):
            return self.begin(rng.integers(len(self.starts), size=count))
        rows = []
        for _ in range(count):
            nodes = self.graphs.connected(str(rng.choice(self.graphs.scans)))
            start, goal = rng.choice(nodes, 2, replace=False)
            rows.append((start, NUM_HEADINGS + rng.integers(NUM_HEADINGS), goal))
        node, view, goal = np.array(rows, dtype=np.int64).reshape(-1, 3).T.copy()
        return Agents(node, view, goal, np.full(count, -1))

    def begin(self, episodes: IntArray) -> Agents:
        """Start one agent per number of an episode."""
        node, view, goal = self.starts[episodes].T.copy()
        return Agents(node, view, goal, np.array(episodes))

    def observe(self, agents: Agents) -> dict[str, Any]:
        """Observations of B agents, batched; "text" is a tuple of B strings."""
        node, view, found = agents.node, agents.view, self.candidates
        count = found.count[node]
        turn = found.heading[node] - VIEW_STEP * (view % NUM_HEADINGS)[:, None]
        used = np.arange(turn.shape[1]) < count[:, None]
        encoded = angle_features(turn, found.elevation[node], 4) * used[..., None]
        seen: dict[str, Any] = {
            "view": view.copy(),
            "pose": self.pose_table[view],
            "candidates": self._by_action(encoded),
            "action_mask": (np.arange(self.width) <= count[:, None]).astype(np.int8),
        }
        if self.rules.goal_direction:
            seen["goal"] = self._goal_direction(agents)
        if "text" in self.observation_space.spaces:
            seen["text"] = tuple(self.texts[i] for i in agents.episode)
        if self.data.tokens is not None:
            seen["tokens"] = self.data.tokens[agents.episode]
        if self.data.features is not None:
            seen |= self._features(node, used)
        return seen

    def _goal_direction(self, agents: Agents) -> NDArray[np.float32]:
        """(B, 4): sine and cosine of the turn to the goal, meters on the plan, meters upwards."""
        offset = self.graphs.positions[agents.goal] - self.graphs.positions[agents.node]
        turn = np.arctan2(offset[:, 0], offset[:, 1]) - VIEW_HEADINGS[agents.view]
        flat = np.linalg.norm(offset[:, :2], axis=1)
        return np.stack([np.sin(turn), np.cos(turn), flat, offset[:, 2]], axis=1).astype(np.float32)

    def _features(self, node: IntArray, used: NDArray[np.bool_]) -> dict[str, NDArray[np.float32]]:
        assert self.data.features is not None
        images = self.data.features.array[self.rows[node]].astype(np.float32)  # (B, 36, D)
        view = np.maximum(self.candidates.view[node], 0).astype(np.int64)
        own = np.take_along_axis(images, view[..., None], axis=1) * used[..., None]
        seen = {"candidate_features": self._by_action(own)}
        return seen | ({"panorama": images} if self.rules.panorama else {})

    def _by_action(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Values (B, K, C) of candidates as (B, actions, C), zeros for the other actions."""
        return np.pad(values, ((0, 0), (1, self.more), (0, 0)))

    def info(self, agents: Agents) -> dict[str, NDArray]:
        """What is known but not seen, (B,) each; "teacher" is the action on the shortest path."""
        node, goal = agents.node, agents.goal
        distance = self.graphs.distance(node, goal)
        ahead = self.candidates.target[node] == self.graphs.next_hop(node, goal)[:, None]
        return {
            "node": node.copy(),
            "episode": agents.episode.copy(),
            "distance": distance,
            "success": distance < self.rules.success_radius,
            "teacher": np.where(ahead.any(axis=1), ahead.argmax(axis=1) + 1, 0),
        }

    def step(self, agents: Agents, action: IntArray) -> tuple[NDArray[np.float64], NDArray]:
        """Move B agents; returns what they earned and which of them stopped."""
        node, graphs = agents.node, self.graphs
        slot = np.maximum(action, 1) - 1
        moves = (action > 0) & (action <= self.candidates.count[node])
        target = self.candidates.target[node, slot].astype(np.int64)
        faced = self.candidates.view[node, slot].astype(np.int64)
        before = graphs.distance(node, agents.goal)
        agents.node = np.where(moves, target, node)
        agents.view = np.where(moves, faced, agents.view)
        agents.steps = agents.steps + 1
        left, stopped = graphs.distance(agents.node, agents.goal), action == 0
        near = np.where(left < self.rules.success_radius, 1.0, -1.0)
        return before - left + self.rules.stop_reward * near * stopped, stopped

    def checked(self, action: Any) -> int:
        """``action`` as an integer; raises ``SimulatorError`` unless it is one of the space."""
        try:
            number = operator.index(action)
        except TypeError:
            number = -1
        if isinstance(action, bool | np.bool_) or not 0 <= number < self.width:
            raise SimulatorError(
                f"action {action!r} is not possible; it must be an integer from 0 (stop) to "
                f"{self.width - 1}"
            )
        return number


def _check_tokens(data: NavigationData) -> None:
    """Raise ``ValueError`` unless there are ids of the vocabulary for every episode."""
    tokens = data.tokens
    if tokens is None:
        return
    tokens, rows = as_array(tokens), len(data.episodes)
    if tokens.ndim != 2 or len(tokens) != rows or tokens.dtype.kind not in "iu":
        raise ValueError(
            f"tokens must be integers ({rows}, L), a row for every episode, got {tokens.dtype} of "
            f"shape {tokens.shape}"
        )
    if tokens.size and not 0 <= tokens.min() <= tokens.max() < data.vocab_size:
        raise ValueError(
            f"tokens must be from 0 to vocab_size - 1 = {data.vocab_size - 1}, got "
            f"{tokens.min()} to {tokens.max()}"
        )


def any_numbers(*shape: int) -> spaces.Box:
    """Any finite numbers; Gymnasium's checker dislikes infinite bounds."""
    most = float(np.finfo(np.float32).max)
    return spaces.Box(-most, most, shape, np.float32)


class NavigationEnv(gymnasium.Env):
    """One agent.

    Args:
        data: graphs, episodes and features.
        rules: how an episode ends and what it earns.
        render_mode: "rgb_array" (a map), "ansi" (words), "view" (the camera's picture) or None.
        caption: what a view shows, for "ansi".
        skyboxes: folder of the scans' images, which "view" needs.

    The reward is the meters by which a step comes nearer to the goal, and ``Rules.stop_reward`` for
    stopping. ``info`` has what an agent should not see: ``distance``, ``success``, the
    ``teacher``'s action, ``node``, ``scan``, ``viewpoint`` and the number of the ``episode``.
    """

    metadata = {"render_modes": list(RENDER_MODES), "render_fps": 2}  # noqa: RUF012

    def __init__(
        self,
        data: NavigationData,
        rules: Rules | None = None,
        *,
        render_mode: str | None = None,
        caption: Caption | None = None,
        skyboxes: str | Path | None = None,
    ) -> None:
        if caption is not None and not callable(caption):
            raise ValueError(f"caption must be a function or None, got {caption!r}")
        if render_mode == "view" and skyboxes is None:
            raise ValueError("render_mode 'view' needs skyboxes, the folder of the scans' images")
        if render_mode not in (None, *RENDER_MODES):
            raise ValueError(
                f"render_mode must be None, 'rgb_array', 'ansi' or 'view', got {render_mode!r}"
            )
        self._world = self._build(data, rules)
        self.observation_space = self._world.observation_space
        self.action_space = self._world.action_space
        self.render_mode = render_mode
        self.caption = caption
        self._skyboxes = skyboxes
        self._agents: Agents | None = None
        self._over = False

    @staticmethod
    def _build(data: NavigationData, rules: Rules | None) -> World:
        return World(data, rules or Rules())

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Start a random episode, or the one whose number is ``options["episode"]``."""
        world, number = self._world, self._world.chosen(options, 1)
        super().reset(seed=seed)
        self._agents = world.draw(self.np_random, 1) if number is None else world.begin(number)
        self._over = False
        self._begin(self._agents)
        self._walk = [(int(self._agents.node[0]), int(self._agents.view[0]))]
        return self._observed(self._agents)

    def _begin(self, agents: Agents) -> None:
        """Set up what an environment has beside ``agents``, who stand at their start."""

    def step(self, action: Any) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Stop (0) or go to a candidate.

        Raises:
            SimulatorError: an action outside the space.
            ResetNeeded: there is no episode, or it has ended.
        """
        agents = self._acting()
        earned, stopped = self._world.step(agents, np.array([self._world.checked(action)]))
        self._walk.append((int(agents.node[0]), int(agents.view[0])))
        truncated = bool(agents.steps[0] >= self._world.rules.max_steps and not stopped[0])
        self._over = bool(stopped[0]) or truncated
        observation, info = self._observed(agents)
        return observation, float(earned[0]), bool(stopped[0]), truncated, info

    def render(self) -> Any:
        """The map (480, 480, 3), the words or the picture (H, W, 3); None without a mode."""
        if self.render_mode is None:
            return None
        scene = self.scene()
        if self.render_mode == "view":
            assert self._skyboxes is not None
            return draw_view(scene, Path(self._skyboxes))
        return (
            draw_scene(scene)
            if self.render_mode == "rgb_array"
            else tell_scene(scene, self.caption)
        )

    def scene(self) -> Scene:
        """Where the agent is, for drawing and telling."""
        agents, world = self._playing("render"), self._world
        number = int(agents.episode[0])
        return Scene(
            world.graphs,
            world.candidates,
            [node for node, _ in self._walk],
            int(agents.view[0]),
            int(agents.goal[0]),
            "" if number < 0 else world.texts[number],
            int(agents.steps[0]),
        )

    def trajectory(self) -> list[Pose]:
        """The walk in submission form: viewpoint, heading and elevation in radians."""
        names = self._world.graphs.viewpoints
        return [
            (names[node], float(VIEW_HEADINGS[view]), float(VIEW_ELEVATIONS[view]))
            for node, view in self._walk
        ]

    def _acting(self) -> Agents:
        agents = self._playing("step")
        if self._over:
            raise ResetNeeded("the episode has ended; call reset() before step()")
        return agents

    def _playing(self, call: str) -> Agents:
        if self._agents is None:
            raise ResetNeeded(f"there is no episode; call reset() before {call}()")
        return self._agents

    def _observed(self, agents: Agents) -> tuple[dict[str, Any], dict[str, Any]]:
        seen = {name: values[0] for name, values in self._world.observe(agents).items()}
        seen["view"] = np.int64(seen["view"])
        info = {name: values[0].item() for name, values in self._world.info(agents).items()}
        graphs = self._world.graphs
        return seen, info | {
            "scan": graphs.scan_of(info["node"]),
            "viewpoint": graphs.viewpoints[info["node"]],
        }


class NavigationVectorEnv(gymnasium.vector.VectorEnv):
    """B agents at once; an episode that ended starts anew with the next step.

    Args:
        data: graphs, episodes and features.
        num_envs: B.
        rules: how an episode ends and what it earns.

    Rewards and ``info`` are those of `NavigationEnv`, (B,) each.
    """

    metadata = {"autoreset_mode": gymnasium.vector.AutoresetMode.NEXT_STEP}  # noqa: RUF012

    def __init__(self, data: NavigationData, num_envs: int, rules: Rules | None = None) -> None:
        _check_count("num_envs", num_envs)
        self._world = World(data, rules or Rules())
        self.num_envs = num_envs
        self.single_observation_space = self._world.observation_space
        self.single_action_space = self._world.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._agents: Agents | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, NDArray]]:
        """Start B random episodes, or those whose numbers (B,) are ``options["episode"]``."""
        world, numbers = self._world, self._world.chosen(options, self.num_envs)
        super().reset(seed=seed)
        if numbers is None:
            self._agents = world.draw(self.np_random, self.num_envs)
        else:
            self._agents = world.begin(numbers)
        self._over = np.zeros(self.num_envs, dtype=bool)
        return self._world.observe(self._agents), self._world.info(self._agents)

    def step(
        self, actions: Any
    ) -> tuple[dict[str, Any], NDArray, NDArray, NDArray, dict[str, NDArray]]:
        """Take B actions; agents whose episode ended before get a new one instead.

        Raises:
            SimulatorError: actions outside the space; nobody has moved then.
            ResetNeeded: there is no episode.
        """
        if self._agents is None:
            raise ResetNeeded("there is no episode; call reset() before step()")
        world, agents, again = self._world, self._agents, self._over
        action = as_array(actions)
        if action.shape != (self.num_envs,) or action.dtype.kind not in "iu":
            raise SimulatorError(
                f"actions must be {self.num_envs} integers, got {action.dtype} of shape "
                f"{action.shape}"
            )
        for one in action[(action < 0) | (action >= world.width)]:
            world.checked(int(one))
        earned, stopped = world.step(agents, action.astype(np.int64))
        if again.any():
            fresh = world.draw(self.np_random, int(again.sum()))
            for name in ("node", "view", "goal", "episode", "steps"):
                getattr(agents, name)[again] = getattr(fresh, name)
        terminated = stopped & ~again
        truncated = (agents.steps >= world.rules.max_steps) & ~again & ~stopped
        self._over = terminated | truncated
        reward = np.where(again, 0.0, earned)
        return world.observe(agents), reward, terminated, truncated, world.info(agents)


class TextObservation(gymnasium.ObservationWrapper):
    """What the agent sees in words, for language models; the actions are the numbers in it.

    Args:
        env: a `NavigationEnv`, wrapped or not.
        caption: what a view shows, from a captioner or a detector.
    """

    def __init__(self, env: gymnasium.Env, caption: Caption | None = None) -> None:
        super().__init__(env)
        self.caption = caption
        self.observation_space = _AnyText()

    def observation(self, observation: Any) -> str:
        """The instruction, the agent's direction and its numbered choices."""
        return tell_scene(self.get_wrapper_attr("scene")(), self.caption)


class _AnyText(spaces.Text):
    """Texts of any letters: captions are not known beforehand."""

    def __init__(self) -> None:
        super().__init__(max_length=100_000, min_length=0, charset=string.printable)

    def contains(self, x: Any) -> bool:
        return isinstance(x, str) and len(x) <= self.max_length


def open_r2r(
    data_dir: str | Path | None = None,
    split: str = "train",
    features: str | None = None,
    vocabulary: str = "r2r/train_vocab.txt",
    max_length: int = 80,
    data: WalkData = "r2r",
) -> NavigationData:
    """Room-to-Room, or another data set of walks.

    Args:
        data_dir: folder with ``r2r/`` and ``connectivity/``; ``$PREVALENT_DATA`` or ``data``.
        split: ``train``, ``val_seen``, ``val_unseen``, with ``@N`` for a random N.
        features: file relative to ``data_dir``; None: no image features.
        vocabulary: words, relative to ``data_dir``.
        max_length: L, length of the encoded instructions.
        data: ``r2r``, ``r4r``, ``rxr-en``, ``reverie``, ``soon``; goals are the ends of paths.

    Raises:
        FileNotFoundError, ValueError: a file is missing or bad, or the split hides its goals.
    """
    folder = data_folder(data_dir)
    read = read_walks(folder, data, split)
    if not read:
        raise ValueError(f"the split {split!r} is empty; give another")
    found = with_goals(read, split)
    tokenizer = WordTokenizer(read_vocabulary(folder / vocabulary), max_length)
    pairs = [(one, tokenizer.encode(one.text)) for one in found]
    kept = [(one, ids) for one, ids in pairs if ids is not None]
    return NavigationData(
        graphs_of(folder, {one.scan for one, _ in kept}),
        tuple(Episode(one.scan, one.path, one.heading, one.id, one.text) for one, _ in kept),
        np.stack([ids for _, ids in kept]),
        len(tokenizer),
        None if features is None else FeatureStore.open(folder / features),
    )


def open_ndh(
    data_dir: str | Path | None = None,
    split: str = "train",
    features: str | None = None,
    vocabulary: str = "ndh/train_vocab.txt",
    max_length: int = 160,
) -> NavigationData:
    """Navigation from Dialog History: the whole dialog is the instruction; see `open_r2r`."""
    folder = data_folder(data_dir)
    dialogs = read_dialogs(folder, split)
    if not dialogs:
        raise ValueError(f"the split {split!r} is empty; give another")
    check_goals([one.reference for one in dialogs], "ndh", split)
    tokenizer = open_dialog_words(folder / vocabulary, max_length)
    texts = [tell(one, "all") for one in dialogs]
    pairs = zip(dialogs, texts, strict=True)
    return NavigationData(
        graphs_of(folder, {one.scan for one in dialogs}),
        tuple(Episode(one.scan, one.path, one.heading, one.id, text) for one, text in pairs),
        np.stack([tokenizer.encode_dialog(one.turns, one.target, "all") for one in dialogs]),
        len(tokenizer),
        None if features is None else FeatureStore.open(folder / features),
    )


def open_toy(
    data_dir: str | Path | None = None,
    split: str = "train",
    train_houses: int = 24,
    unseen_houses: int = 6,
) -> NavigationData:
    """Houses, instructions and features made by code, written once into ``data_dir``.

    Args:
        data_dir: a folder below the user's cache when None.
        split: ``train``, ``val_seen`` or ``val_unseen``.
        train_houses, unseen_houses: how many.
    """
    name = f"toy-world-{train_houses}-{unseen_houses}"
    folder = default_cache_dir() / name if data_dir is None else Path(data_dir)
    if not (folder / "hanna" / "vocab.txt").is_file():  # the last file of a world
        write_toy(folder, ToyConfig(train_houses=train_houses, unseen_houses=unseen_houses))
    return open_r2r(folder, split, "features.npy")


def open_goal(
    data_dir: str | Path | None = None, scans: Sequence[str] | None = None
) -> NavigationData:
    """Random starts and goals in ``scans``, all when None; needs ``connectivity/`` only."""
    return NavigationData(graphs_of(data_folder(data_dir), scans))


OPENERS: dict[str, Callable[..., NavigationData]] = {
    "R2R": open_r2r,
    "NDH": open_ndh,
    "Toy": open_toy,
    "Goal": open_goal,
}


def make(
    kind: str,
    render_mode: str | None = None,
    rules: Rules | None = None,
    skyboxes: str | Path | None = None,
    **options: Any,
) -> NavigationEnv:
    """One environment on the data that ``OPENERS[kind]`` opens with ``options``."""
    data, rules = _opener(kind)(**options), _rules(kind, rules)
    return NavigationEnv(data, rules, render_mode=render_mode, skyboxes=skyboxes)


def make_vector(
    kind: str, num_envs: int = 1, rules: Rules | None = None, **options: Any
) -> NavigationVectorEnv:
    """The vector form of `make`."""
    return NavigationVectorEnv(_opener(kind)(**options), num_envs, _rules(kind, rules))


def _opener(kind: str) -> Callable[..., NavigationData]:
    if kind not in OPENERS:
        raise ValueError(f"there is no kind {kind!r}; choose one of {', '.join(OPENERS)}")
    return OPENERS[kind]


def _rules(kind: str, rules: Rules | None) -> Rules:
    return rules or Rules(goal_direction=kind == "Goal")


def data_folder(given: str | Path | None) -> Path:
    """``given``, else ``$PREVALENT_DATA``, else ``data``."""
    return Path(given if given is not None else os.environ.get("PREVALENT_DATA", "data"))


def graphs_of(folder: Path, scans: Sequence[str] | set[str] | None) -> Graphs:
    """The graphs of ``scans`` in ``folder``, all where None, shared by the environments."""
    return shared_graphs(folder / "connectivity", None if scans is None else sorted(scans))


for _kind in OPENERS:
    gymnasium.register(
        f"prevalent/{_kind}-v0",
        entry_point=f"{__name__}:make",
        vector_entry_point=f"{__name__}:make_vector",
        kwargs={"kind": _kind},
    )
gymnasium.register(
    "prevalent/HANNA-v0",
    entry_point="prevalent.environments.gym_hanna:make",
    vector_entry_point="prevalent.environments.gym_hanna:make_vector",
)
