"""HANNA for Gymnasium, ``prevalent/HANNA-v0``: find an object, and ask ANNA where she can help.

Nguyen & Daumé III, EMNLP 2019. The actions are those of `gym.NavigationEnv`, and the last one asks:
ANNA tells a route, whose words are the instruction until the agent leaves it by action 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from ..data.features import FeatureStore
from ..data.hanna import (
    HannaTask,
    SpaceTokenizer,
    read_routes,
    read_tasks,
    references,
    resolve_split,
)
from ..data.results import check_goals
from ..data.tokenizers import read_vocabulary
from ..metrics.navigation import HANNA_SUCCESS_RADIUS
from ..simulator.graph import Graphs
from .gym import Agents, NavigationData, NavigationEnv, Rules, World, data_folder, graphs_of
from .hanna import Anna, HannaEnvironment
from .navigation import Episode
from .scene import Caption, Scene

RULES = Rules(max_steps=50, success_radius=HANNA_SUCCESS_RADIUS)


@dataclass(frozen=True)
class HannaData:
    """What the environment is made of."""

    graphs: Graphs
    tasks: Sequence[HannaTask]
    anna: Anna
    helper: str
    """Split of the routes that ANNA tells."""
    tokenizer: SpaceTokenizer
    features: FeatureStore | None = None


class HannaEnv(NavigationEnv):
    """One agent that looks for an object.

    Args:
        data: tasks, ANNA and features.
        rules: how an episode ends and what it earns; by default 50 steps and 2 m.
        render_mode: as of `NavigationEnv`.
        caption: what a view shows, for "ansi".
        skyboxes: folder of the scans' images, which "view" needs.

    An observation has ``on_route`` beside those of `NavigationEnv`, and, where it has a panorama,
    ``goal_panorama``: the 36 views of the place where the route is to be left, zeros while there is
    none. The reward is the meters by which a step comes nearer to the nearest object, and
    ``Rules.stop_reward`` for the stop that ends the episode; asking and leaving a route cost
    nothing but the step. ``info`` has ``requestable``: is there an answer here; ``distance`` and
    ``success`` are of the objects, and the ``teacher`` leads to where the present instruction ends.
    """

    def __init__(
        self,
        data: HannaData,
        rules: Rules | None = None,
        *,
        render_mode: str | None = None,
        caption: Caption | None = None,
        skyboxes: str | Path | None = None,
    ) -> None:
        episodes = [Episode(t.scan, t.path, t.heading, t.id, t.text) for t in data.tasks]
        navigation = NavigationData(data.graphs, episodes, features=data.features)
        super().__init__(
            navigation, rules, render_mode=render_mode, caption=caption, skyboxes=skyboxes
        )
        self._data = data
        self.ask = self._world.width - 1
        """The action that asks for help."""
        rows = None if data.features is None else data.features.rows
        candidates = self._world.candidates
        self._search = HannaEnvironment(data.graphs, data.anna, rows, candidates=candidates)
        self.observation_space = self._space()

    @staticmethod
    def _build(data: NavigationData, rules: Rules | None) -> World:
        return World(data, rules or RULES, more=1)

    def _space(self) -> spaces.Dict:
        """That of the other environments with what changes here and what is there beside it."""
        data, known = self._data, dict(self._world.observation_space.spaces)
        texts = [*self._world.texts, *data.anna.texts(data.helper)]
        letters = "".join(sorted(set("".join(texts))))
        known["text"] = spaces.Text(max(map(len, texts)), min_length=0, charset=letters)
        words, length = len(data.tokenizer), data.tokenizer.max_length
        known["tokens"] = spaces.Box(0, words - 1, (length,), np.int64)
        known["on_route"] = spaces.Discrete(2)
        if "panorama" in known:
            known["goal_panorama"] = known["panorama"]
        return spaces.Dict(known)

    def _begin(self, agents: Agents) -> None:
        self._seen = self._search.search([self._data.tasks[agents.episode[0]]], self._data.helper)
        self._follow(agents)

    def step(self, action: Any) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Stop or leave the route (0), go to a candidate, or ask (the last action).

        Raises:
            SimulatorError: an action outside the space.
            ResetNeeded: there is no episode, or it has ended.
        """
        agents = self._acting()
        before = self._distance(agents)
        self._carry_out(self._world.checked(action))
        self._follow(agents)
        agents.steps = agents.steps + 1
        self._walk.append((int(agents.node[0]), int(agents.view[0])))
        left, stopped = self._distance(agents), bool(self._seen.ended[0])
        earned = before - left
        if stopped:
            rules = self._world.rules
            earned += rules.stop_reward * (1 if left <= rules.success_radius else -1)
        truncated = bool(agents.steps[0] >= self._world.rules.max_steps and not stopped)
        self._over = stopped or truncated
        observation, info = self._observed(agents)
        return observation, earned, stopped, truncated, info

    def _carry_out(self, number: int) -> None:
        """Take an action of the space; one that is not possible changes nothing."""
        search = self._search
        if number == self.ask:
            answers = search.answers(0)
            if answers:
                told = answers[self.np_random.integers(len(answers))]
                self._seen = search.act([-1], [told])
        elif number == 0:
            self._seen = search.act([0], [None])
        elif number <= search.candidates.count[search.node[0]]:
            # Candidates stand in the order of their views here, of the turn to them there.
            target = search.candidates.target[search.node[0], number - 1]
            self._seen = search.act(np.flatnonzero(self._seen.scene.target[0] == target), [None])

    def _follow(self, agents: Agents) -> None:
        """Let ``agents`` stand where the search has led."""
        search = self._search
        agents.node, agents.view, agents.goal = search.node, search.view, search.goal

    def _distance(self, agents: Agents) -> float:
        """Meters to the nearest object."""
        return float(self._data.graphs.distance(agents.node, np.array(self._search.goals[0])).min())

    def _observed(self, agents: Agents) -> tuple[dict[str, Any], dict[str, Any]]:
        seen, info = super()._observed(agents)
        requestable, text = bool(self._seen.requestable[0]), self._seen.texts[0]
        seen["text"], seen["tokens"] = text, self._data.tokenizer.encode(text)
        seen["on_route"] = np.int64(self._seen.modes[0] == "on_route")
        seen["action_mask"][self.ask] = requestable
        if "panorama" in seen:
            seen["goal_panorama"] = self._goal_panorama(seen["panorama"])
        distance = self._distance(agents)
        success = distance <= self._world.rules.success_radius
        return seen, info | {
            "distance": distance,
            "success": success,
            "requestable": requestable,
        }

    def _goal_panorama(self, panorama: NDArray[np.float32]) -> NDArray[np.float32]:
        """(36, D) views of the place where the route is left, zeros of ``panorama``'s form."""
        row = int(self._seen.goal_row[0])
        if row < 0:
            return np.zeros_like(panorama)
        assert self._data.features is not None
        return np.array(self._data.features.array[row], dtype=np.float32)

    def scene(self) -> Scene:
        """Where the agent is, for drawing and telling."""
        on_route = self._seen.modes[0] == "on_route"
        others = {0: "leave the route" if on_route else "stop here"}
        if self._seen.requestable[0]:
            others[self.ask] = "ask for help"
        return replace(super().scene(), text=self._seen.texts[0], others=others)


def open_hanna(
    data_dir: str | Path | None = None,
    split: str = "train",
    features: str | None = None,
    vocabulary: str = "hanna/vocab.txt",
    max_length: int = 50,
) -> HannaData:
    """HANNA's tasks of ``split`` and the routes that help there.

    Args:
        data_dir: folder with ``hanna/`` and ``connectivity/``; ``$PREVALENT_DATA`` or ``data``.
        split: as `data.hanna.resolve_split` takes it.
        features: file relative to ``data_dir``; None: no image features.
        vocabulary: words, relative to ``data_dir``.
        max_length: L, length of the encoded instructions.

    Raises:
        FileNotFoundError, ValueError: a file is missing or bad, or the split hides its goals.
    """
    folder = data_folder(data_dir)
    tasks = read_tasks(folder, split)
    if not tasks:
        raise ValueError(f"the split {split!r} is empty; give another")
    check_goals(references(tasks), "hanna", split)
    graphs = graphs_of(folder, {one.scan for one in tasks})
    return HannaData(
        graphs,
        tasks,
        Anna(graphs, read_routes(folder, graphs.scans)),
        resolve_split(split)[1],
        SpaceTokenizer(read_vocabulary(folder / vocabulary), max_length),
        None if features is None else FeatureStore.open(folder / features),
    )


def make(
    render_mode: str | None = None,
    rules: Rules | None = None,
    skyboxes: str | Path | None = None,
    **options: Any,
) -> HannaEnv:
    """One environment on the data that `open_hanna` opens with ``options``."""
    return HannaEnv(open_hanna(**options), rules, render_mode=render_mode, skyboxes=skyboxes)


def make_vector(
    num_envs: int = 1, rules: Rules | None = None, **options: Any
) -> gymnasium.vector.SyncVectorEnv:
    """``num_envs`` of them, one after the other, on the same data and tables."""
    data = open_hanna(**options)
    return gymnasium.vector.SyncVectorEnv([lambda: HannaEnv(data, rules)] * num_envs)
