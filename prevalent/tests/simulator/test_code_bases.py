"""Environments in the style of the field's code bases, with nothing changed but the import.

Each walker is written here anew after the calls its code base makes. All of them, our own
environment and the recorded walks must agree.
"""

from __future__ import annotations

import gzip
import json
import math

import numpy as np
import pytest

import prevalent.MatterSim as MatterSim
import prevalent.MatterSim.v1 as MatterSimV1
from prevalent.environments.navigation import Episode, NavigationEnvironment
from prevalent.metrics.navigation import score_path
from prevalent.simulator.graph import candidates_of, load_graphs
from tests.factories import random_scan, tasks_in, write_connectivity

TOLERANCE = 1e-6
VIEW = math.radians(30)


def sweep(reset, act, state):
    """Every neighbor with its best view, from 36 simulated ones, in the order of sighting."""
    found = {}
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

    def __init__(self, folder):
        self.sim = self.make(folder)
        self.helper = self.make(folder)

    @staticmethod
    def make(folder):
        sim = MatterSimV1.Simulator()
        sim.setNavGraphPath(folder)
        sim.setRenderingEnabled(False)
        sim.setDiscretizedViewingAngles(True)
        sim.setCameraResolution(640, 480)
        sim.setCameraVFOV(math.radians(60))
        sim.init()
        return sim

    def begin(self, scan, viewpoint, heading):
        self.sim.newEpisode(scan, viewpoint, heading, 0)
        self.walk = [self.pose()]

    def state(self):
        return self.sim.getState()

    def pose(self):
        state = self.state()
        return state.location.viewpointId, state.heading, state.elevation

    def candidates(self):
        state = self.state()
        start = (state.scanId, state.location.viewpointId, 0, math.radians(-30))
        return sweep(
            lambda: self.helper.newEpisode(*start), self.helper.makeAction, self.helper.getState
        )

    def act(self, *action):
        self.sim.makeAction(*action)
        self.walk.append(self.pose())

    def go(self, name, candidate):
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

    def go(self, name, candidate):
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
    def make(folder):
        sim = MatterSim.Simulator()
        sim.setNavGraphPath(folder)
        sim.setRenderingEnabled(False)
        sim.setDiscretizedViewingAngles(True)
        sim.setCameraResolution(640, 480)
        sim.setCameraVFOV(math.radians(60))
        sim.setBatchSize(1)
        sim.initialize()
        return sim

    def begin(self, scan, viewpoint, heading):
        self.sim.newEpisode([scan], [viewpoint], [heading], [0])
        self.walk = [self.pose()]

    def state(self):
        return self.sim.getState()[0]

    def candidates(self):
        state, helper = self.state(), self.helper
        start = ([state.scanId], [state.location.viewpointId], [0], [math.radians(-30)])
        return sweep(
            lambda: helper.newEpisode(*start),
            lambda *action: helper.makeAction(*([value] for value in action)),
            lambda: helper.getState()[0],
        )

    def act(self, *action):
        self.sim.makeAction(*([value] for value in action))
        self.walk.append(self.pose())


class DuetStyle(HamtStyle):
    """DUET: v2; an agent is put at the next viewpoint by a new episode."""

    def go(self, name, candidate):
        view = candidate["pointId"]
        heading, elevation = (view % 12) * VIEW, (view // 12 - 1) * VIEW
        self.sim.newEpisode([self.state().scanId], [name], [heading], [elevation])
        self.walk.append(self.pose())


STYLES = [EnvDropStyle, SpeakerFollowerStyle, HamtStyle, DuetStyle]
TURN_BY_TURN = (EnvDropStyle, HamtStyle)


@pytest.fixture
def world(tmp_path):
    for name, seed, size in (("one", 1, 12), ("two", 2, 30)):
        write_connectivity(tmp_path, name, random_scan(seed, size=size))
    return tmp_path, load_graphs(tmp_path)


def walk_of(walker, task, choose):
    """Walk ``task`` with the walker; ``choose`` picks among the names of the candidates."""
    walker.begin(task.scan, task.path[0], task.heading)
    for _ in range(12):
        found = walker.candidates()
        name = choose(walker.state().location.viewpointId, list(found))
        if name is None:
            break
        walker.go(name, found[name])
    return walker.walk


def compare(walk, wanted):
    assert [pose[0] for pose in walk] == [pose[0] for pose in wanted]
    angles = np.array([pose[1:] for pose in walk])
    np.testing.assert_allclose(angles, [pose[1:] for pose in wanted], rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("policy", ["teacher", "random"])
def test_every_style_walks_as_our_own_environment_and_scores_alike(world, style, policy):
    folder, graphs = world
    for i, task in enumerate(tasks_in(graphs, 6)):
        rng = np.random.default_rng(i)
        environment = NavigationEnvironment(graphs)
        observation = environment.reset([task])
        goal = graphs.node(task.scan, task.path[-1])

        def choose(here, names, task=task, rng=rng, goal=goal):
            if policy == "random":
                return None if rng.random() < 0.2 else names[rng.integers(len(names))]
            hop = int(graphs.next_hop(graphs.node(task.scan, here), goal))
            return None if hop == goal == graphs.node(task.scan, here) else graphs.viewpoints[hop]

        walk = walk_of(style(str(folder)), task, choose)
        rng = np.random.default_rng(i)
        for _ in range(12):
            names = [graphs.viewpoints[n] for n in observation.target[0, : observation.count[0]]]
            chosen = choose(graphs.viewpoints[observation.node[0]], names, rng=rng)
            if chosen is None:
                break
            observation = environment.step([names.index(chosen)])
        ours = environment.micro_poses()[0] if style in TURN_BY_TURN else environment.poses()[0]
        compare(walk, ours)
        distance = graphs.by_name(task.scan).distance
        assert score_path([p[0] for p in walk], task.path, distance) == score_path(
            [p[0] for p in ours], task.path, distance
        )


@pytest.mark.parametrize("style", [EnvDropStyle, HamtStyle])
def test_the_sweep_over_views_finds_our_candidates(world, style):
    folder, graphs = world
    found, walker = candidates_of(graphs), style(str(folder))
    for node in range(len(graphs.viewpoints)):
        walker.begin(graphs.scan_of(node), graphs.viewpoints[node], 0.0)
        count = found.count[node]
        ours = walker.candidates()
        wanted = [graphs.viewpoints[n] for n in found.target[node, :count]]
        assert list(ours) == wanted
        entries = list(ours.values())
        assert [e["pointId"] for e in entries] == found.view[node, :count].tolist()
        assert [e["idx"] for e in entries] == found.slot[node, :count].tolist()
        headings = [e["normalized_heading"] for e in entries]
        np.testing.assert_allclose(headings, found.heading[node, :count], rtol=0, atol=1e-9)


@pytest.mark.golden
@pytest.mark.parametrize("style", [EnvDropStyle, HamtStyle])
def test_recorded_batches_are_walked_again(golden, data_dir, style):
    paths = sorted((golden / "env").glob("env_r2r_*.json.gz"))
    if not paths:
        pytest.skip("no recorded panoramic environment")
    walker = style(str(data_dir / "connectivity"))
    for path in paths:
        case = json.loads(gzip.decompress(path.read_bytes()))
        for batch in case["batches"]:
            for i, item in enumerate(batch["items"]):
                task = Episode(item["scan"], tuple(item["path"]), item["heading"])
                walker.begin(task.scan, task.path[0], task.heading)
                for step in batch["steps"]:
                    seen = step["obs"][i]
                    found = walker.candidates()
                    assert walker.state().viewIndex == seen["viewIndex"]
                    assert list(found) == [c["viewpointId"] for c in seen["candidate"]]
                    for mine, theirs in zip(found.values(), seen["candidate"], strict=True):
                        assert (mine["pointId"], mine["idx"]) == (theirs["pointId"], theirs["idx"])
                        assert mine["elevation"] == pytest.approx(
                            theirs["elevation"], abs=TOLERANCE
                        )
                    places = [place.viewpointId for place in walker.state().navigableLocations]
                    assert places == [place[0] for place in seen["navigableLocations"]]
                    action = step["action_taken"][i]
                    if 0 <= action < len(found):
                        name = list(found)[action]
                        walker.go(name, found[name])
                compare(walker.walk, batch["traj"][i])
