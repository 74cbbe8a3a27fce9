"""Environments in the style of the field's code bases, with nothing changed but the import.

The walkers of ``examples/code_bases.py`` make the calls of each code base. All of them, our own
environment and the recorded walks must agree.
"""

from __future__ import annotations

import gzip
import importlib
import importlib.util
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from prevalent.environments.navigation import Episode, NavigationEnvironment
from prevalent.metrics.navigation import score_path
from prevalent.simulator.graph import candidates_of, load_graphs
from tests.factories import random_scan, tasks_in, write_connectivity

ROOT = Path(__file__).parents[2]
TOLERANCE = 1e-6


def load_script():
    spec = importlib.util.spec_from_file_location("code_bases", ROOT / "examples/code_bases.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


script = load_script()
EnvDropStyle, HamtStyle = script.EnvDropStyle, script.HamtStyle
TOGETHER = "one batch"
TURN_BY_TURN = (EnvDropStyle, HamtStyle, TOGETHER)


@pytest.fixture
def world(tmp_path):
    for name, seed, size in (("one", 1, 12), ("two", 2, 30)):
        write_connectivity(tmp_path, name, random_scan(seed, size=size))
    return tmp_path, load_graphs(tmp_path)


def compare(walk, wanted):
    assert [pose[0] for pose in walk] == [pose[0] for pose in wanted]
    angles = np.array([pose[1:] for pose in walk])
    np.testing.assert_allclose(angles, [pose[1:] for pose in wanted], rtol=0, atol=TOLERANCE)


def at_random(task):
    """A policy that draws the same choices for a task wherever it walks."""
    rng = np.random.default_rng(int(task.id.split("_")[0]))

    def choose(here, names):
        return None if rng.random() < 0.2 else names[rng.integers(len(names))]

    return choose


def walk_ours(graphs, task, choose):
    """The walk of ``task`` in our own environment."""
    environment = NavigationEnvironment(graphs)
    seen = environment.reset([task])
    for _ in range(12):
        names = [graphs.viewpoints[n] for n in seen.target[0, : seen.count[0]]]
        chosen = choose(graphs.viewpoints[seen.node[0]], names)
        if chosen is None:
            break
        seen = environment.step([names.index(chosen)])
    return environment


@pytest.mark.parametrize("style", [*script.STYLES.values(), TOGETHER])
@pytest.mark.parametrize("policy", ["teacher", "random"])
def test_every_style_walks_as_our_own_environment_and_scores_alike(world, style, policy):
    folder, graphs = world
    tasks = tasks_in(graphs, 6)
    choose = script.lead_to_goal(graphs) if policy == "teacher" else at_random
    if style == TOGETHER:
        walks = script.walk_together(str(folder), tasks, choose)
    else:
        walks = script.walk_one_by_one(style, str(folder), tasks, choose)
    assert len(walks) == len(tasks)
    for task, walk in zip(tasks, walks, strict=True):
        environment = walk_ours(graphs, task, choose(task))
        ours = environment.micro_poses()[0] if style in TURN_BY_TURN else environment.poses()[0]
        compare(walk, ours)
        distance = graphs.by_name(task.scan).distance
        scores = score_path([p[0] for p in walk], task.path, distance)
        assert scores == score_path([p[0] for p in ours], task.path, distance)
        assert scores.success or policy == "random"


def test_the_script_prints_the_scores_of_every_style(toy_world, monkeypatch, capsys):
    words = ["code_bases.py", "--data-dir", str(toy_world), "--split", "val_unseen@2"]
    monkeypatch.setattr(sys, "argv", words)
    script.main()
    rows = capsys.readouterr().out.splitlines()
    assert [row[:28].strip() for row in rows] == [*script.STYLES, TOGETHER]
    assert all("success_rate 1.000  spl 1.000" in row for row in rows)


def names_of_code_bases():
    """Rows of the table of names in docs/simulator.md: code base, module, kind of object, name."""
    text = (ROOT / "docs" / "simulator.md").read_text()
    table = text.partition("## Names that code bases use")[2].partition("\n## ")[0]
    rows = [row.strip("|").split("|") for row in table.splitlines() if row.startswith("| ")]
    heads = [cell.strip() for cell in rows[0]]
    found = []
    for row in rows[1:]:
        module = re.findall(r"`([\w.]+)`", row[1])[0]
        for kind, cell in zip(heads[2:], row[2:], strict=True):
            found += [(row[0].strip(), module, kind, name) for name in re.findall(r"`(\w+)`", cell)]
    return found


def test_every_name_that_the_code_bases_use_is_there(world):
    folder, _ = world
    names = names_of_code_bases()
    bases = {base for base, *_ in names}
    for base in ("Speaker-Follower", "EnvDrop", "Recurrent VLN-BERT", "HAMT", "DUET"):
        assert any(base in row for row in bases), base
    assert len(names) > 80
    objects = {}
    for module in {module for _, module, *_ in names}:
        sim = importlib.import_module(module).Simulator()
        sim.setNavGraphPath(str(folder))
        sim.setRenderingEnabled(False)
        first = module.endswith("v1")
        sim.newEpisode(*(("one", "", 0, 0) if first else (["one"], [""], [0], [0])))
        state = sim.getState() if first else sim.getState()[0]
        objects |= {(module, "`Simulator`"): sim, (module, "a state"): state}
        objects[module, "a place"] = state.location
    missing = [one for one in names if not hasattr(objects[one[1], one[2]], one[3])]
    assert not missing
    calls = [one for one in names if one[2] == "`Simulator`"]
    assert all(callable(getattr(objects[one[1], one[2]], one[3])) for one in calls)


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
