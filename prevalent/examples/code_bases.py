"""Walks in the style of the field's code bases, with nothing changed but the import.

Each walker makes the calls of its code base, written anew: how it opens simulators, finds the
candidates, turns and moves. All of them lead an agent to the goals of a split of Room-to-Room, and
its walks are scored:

    python examples/code_bases.py --data-dir data --split val_unseen@50

The walkers agree with our own environment and with walks recorded with the authors' code
(``tests/simulator/test_code_bases.py``).
"""

import argparse
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import prevalent.MatterSim as MatterSim  # was: import MatterSim
import prevalent.MatterSim.v1 as MatterSimV1  # was: import MatterSim, the first version
from prevalent.data.instructions import read_instructions
from prevalent.environments.navigation import Task
from prevalent.metrics.navigation import mean_scores, score_path
from prevalent.simulator.graph import Graphs, load_graphs

VIEW = math.radians(30)
Pose = tuple[str, float, float]  # viewpoint, heading and elevation in radians
Choose = Callable[[str, list[str]], str | None]
"""Which of the candidates an agent goes to from a viewpoint; None stops."""


def sweep(reset: Callable, act: Callable, state: Callable) -> dict[str, dict[str, Any]]:
    """Every neighbor with its best view, from 36 simulated ones, in the order of sighting."""
    found: dict[str, dict[str, Any]] = {}
    for view in range(36):
        if view == 0:
            reset()
        elif view % 12 == 0:
            act(0, 1.0, 1.0)
        else:
            act(0, 1.0, 0)
        now = state()
        assert now.viewIndex == view
        for slot, place in enumerate(now.navigableLocations[1:], start=1):
            away = math.sqrt(place.rel_heading**2 + place.rel_elevation**2)
            name = place.viewpointId
            if name not in found or away < found[name]["distance"]:
                entry = {"distance": away, "pointId": view, "idx": slot}
                entry["normalized_heading"] = now.heading + place.rel_heading
                entry["elevation"] = now.elevation + place.rel_elevation
                found[name] = entry  # a known key keeps its place in the order
    return found


class EnvDropStyle:
    """EnvDrop, PREVALENT and Recurrent VLN-BERT: v1, turn by turn to the candidate's view."""

    def __init__(self, folder: str) -> None:
        self.sim = self.make(folder)
        self.helper = self.make(folder)
        self.walk: list[Pose] = []

    @staticmethod
    def make(folder: str) -> Any:
        sim = MatterSimV1.Simulator()
        sim.setNavGraphPath(folder)
        sim.setRenderingEnabled(False)
        sim.setDiscretizedViewingAngles(True)
        sim.setCameraResolution(640, 480)
        sim.setCameraVFOV(math.radians(60))
        sim.init()
        return sim

    def begin(self, scan: str, viewpoint: str, heading: float) -> None:
        self.sim.newEpisode(scan, viewpoint, heading, 0)
        self.walk = [self.pose()]

    def state(self) -> Any:
        return self.sim.getState()

    def pose(self) -> Pose:
        state = self.state()
        return state.location.viewpointId, state.heading, state.elevation

    def candidates(self) -> dict[str, dict[str, Any]]:
        state = self.state()
        start = (state.scanId, state.location.viewpointId, 0, math.radians(-30))
        return sweep(
            lambda: self.helper.newEpisode(*start), self.helper.makeAction, self.helper.getState
        )

    def act(self, *action: float) -> None:
        self.sim.makeAction(*action)
        self.walk.append(self.pose())

    def go(self, name: str, candidate: dict[str, Any]) -> None:
        view = candidate["pointId"]
        while self.state().viewIndex // 12 < view // 12:
            self.act(0, 0, 1)
        while self.state().viewIndex // 12 > view // 12:
            self.act(0, 0, -1)
        while self.state().viewIndex != view:
            self.act(0, 1, 0)
        assert self.state().navigableLocations[candidate["idx"]].viewpointId == name
        self.act(candidate["idx"], 0, 0)


class SpeakerFollowerStyle(EnvDropStyle):
    """Speaker-Follower: v1, world states that are loaded into the simulator, shortest turns."""

    def go(self, name: str, candidate: dict[str, Any]) -> None:
        state = self.state()
        world_state = (state.scanId, *self.pose())
        self.sim.newEpisode(*world_state)
        turn = (candidate["pointId"] - self.state().viewIndex) % 12
        for _ in range(min(turn, 12 - turn)):
            self.sim.makeAction(0, 1.0 if turn <= 6 else -1.0, 0)
        levels = candidate["pointId"] // 12 - self.state().viewIndex // 12
        for _ in range(abs(levels)):
            self.sim.makeAction(0, 0, math.copysign(1.0, levels))
        places = self.state().navigableLocations
        slot = next(i for i, place in enumerate(places) if place.viewpointId == name)
        self.act(slot, 0, 0)


class HamtStyle(EnvDropStyle):
    """HAMT: v2, one simulator with a batch of one for each agent, turn by turn."""

    @staticmethod
    def make(folder: str) -> Any:
        return new_batch(folder, 1)

    def begin(self, scan: str, viewpoint: str, heading: float) -> None:
        self.sim.newEpisode([scan], [viewpoint], [heading], [0])
        self.walk = [self.pose()]

    def state(self) -> Any:
        return self.sim.getState()[0]

    def candidates(self) -> dict[str, dict[str, Any]]:
        state, helper = self.state(), self.helper
        start = ([state.scanId], [state.location.viewpointId], [0], [math.radians(-30)])
        return sweep(
            lambda: helper.newEpisode(*start),
            lambda *action: helper.makeAction(*([value] for value in action)),
            lambda: helper.getState()[0],
        )

    def act(self, *action: float) -> None:
        self.sim.makeAction(*([value] for value in action))
        self.walk.append(self.pose())


class DuetStyle(HamtStyle):
    """DUET: v2; an agent is put at the next viewpoint by a new episode."""

    def go(self, name: str, candidate: dict[str, Any]) -> None:
        view = candidate["pointId"]
        heading, elevation = (view % 12) * VIEW, (view // 12 - 1) * VIEW
        self.sim.newEpisode([self.state().scanId], [name], [heading], [elevation])
        self.walk.append(self.pose())


STYLES = {
    "Speaker-Follower": SpeakerFollowerStyle,
    "EnvDrop, Recurrent VLN-BERT": EnvDropStyle,
    "HAMT": HamtStyle,
    "DUET": DuetStyle,
}


def new_batch(folder: str, size: int) -> Any:
    """A simulator of the second version with ``size`` environments."""
    sim = MatterSim.Simulator()
    sim.setNavGraphPath(folder)
    sim.setRenderingEnabled(False)
    sim.setDiscretizedViewingAngles(True)
    sim.setCameraResolution(640, 480)
    sim.setCameraVFOV(math.radians(60))
    sim.setBatchSize(size)
    sim.initialize()
    return sim


def walk_one_by_one(
    style: type[EnvDropStyle], folder: str, tasks: Sequence[Task], choose: Callable[[Task], Choose]
) -> list[list[Pose]]:
    """The walks of ``tasks``, one agent after the other."""
    walker, walks = style(folder), []
    for task in tasks:
        walker.begin(task.scan, task.path[0], task.heading)
        choice = choose(task)
        for _ in range(12):
            found = walker.candidates()
            name = choice(walker.state().location.viewpointId, list(found))
            if name is None:
                break
            walker.go(name, found[name])
        walks.append(walker.walk)
    return walks


def walk_together(
    folder: str, tasks: Sequence[Task], choose: Callable[[Task], Choose]
) -> list[list[Pose]]:
    """The same in one simulator, in the style of the second version's own Room-to-Room agents.

    All environments act at once: an agent turns, moves, or waits with (0, 0, 0) for the others.
    """
    sim, looking = new_batch(folder, len(tasks)), HamtStyle(folder)
    sim.newEpisode(
        [task.scan for task in tasks],
        [task.path[0] for task in tasks],
        [task.heading for task in tasks],
        [0.0] * len(tasks),
    )
    choices = [choose(task) for task in tasks]
    goals: list[dict[str, Any] | None] = [None] * len(tasks)  # where each agent is on its way to
    moves, ended = [0] * len(tasks), [False] * len(tasks)
    walks: list[list[Pose]] = [[_pose(state)] for state in sim.getState()]
    while not all(ended):
        actions = []
        for i, state in enumerate(sim.getState()):
            if goals[i] is None and not ended[i]:
                looking.begin(state.scanId, state.location.viewpointId, 0)
                found = looking.candidates()
                name = choices[i](state.location.viewpointId, list(found))
                ended[i] = name is None or moves[i] == 12
                goals[i] = None if ended[i] else found[str(name)]
            actions.append(_towards(state, goals[i]))
        sim.makeAction(*(list(column) for column in zip(*actions, strict=True)))
        for i, state in enumerate(sim.getState()):
            if goals[i] is not None:
                walks[i].append(_pose(state))
            if actions[i][0]:
                goals[i], moves[i] = None, moves[i] + 1
    return walks


def _pose(state: Any) -> Pose:
    return state.location.viewpointId, state.heading, state.elevation


def _towards(state: Any, goal: dict[str, Any] | None) -> tuple[int, float, float]:
    """The next action of an agent on its way: levels first, then to the right, then ahead."""
    if goal is None:
        return 0, 0.0, 0.0
    levels = goal["pointId"] // 12 - state.viewIndex // 12
    if levels:
        return 0, 0.0, math.copysign(1.0, levels)
    if state.viewIndex != goal["pointId"]:
        return 0, 1.0, 0.0
    return goal["idx"], 0.0, 0.0


def lead_to_goal(graphs: Graphs) -> Callable[[Task], Choose]:
    """Choose the shortest path, as the teachers of all code bases do."""

    def of_task(task: Task) -> Choose:
        goal = graphs.node(task.scan, task.path[-1])

        def choose(here: str, names: list[str]) -> str | None:
            node = graphs.node(task.scan, here)
            return None if node == goal else graphs.viewpoints[int(graphs.next_hop(node, goal))]

        return choose

    return of_task


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-dir", type=Path, default=Path("data"))
    parser.add_argument("--split", default="val_unseen@50", help="NAME@N takes a random N paths")
    options = parser.parse_args()
    tasks = read_instructions(options.data_dir, [options.split])
    folder = options.data_dir / "connectivity"
    graphs = load_graphs(folder, sorted({task.scan for task in tasks}))
    teacher = lead_to_goal(graphs)
    walkers = {
        name: lambda style=style: walk_one_by_one(style, str(folder), tasks, teacher)
        for name, style in STYLES.items()
    }
    walkers["one batch"] = lambda: walk_together(str(folder), tasks, teacher)
    for name, walk in walkers.items():
        began = time.perf_counter()
        walks = walk()
        seconds = time.perf_counter() - began
        scores = mean_scores(
            [
                score_path([p[0] for p in one], task.path, graphs.by_name(task.scan).distance)
                for one, task in zip(walks, tasks, strict=True)
            ]
        )
        steps = sum(map(len, walks))
        shown = "  ".join(f"{metric} {scores[metric]:.3f}" for metric in ("success_rate", "spl"))
        print(f"{name:28} {shown}  {steps} poses  {seconds:.1f} s", flush=True)


if __name__ == "__main__":
    main()
