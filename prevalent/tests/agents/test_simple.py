"""The agents that do not learn, against their recorded walks."""

import gzip
import itertools
import json
from types import SimpleNamespace

import numpy as np
import pytest

from prevalent.agents.simple import hanna_results, ndh_results, r2r_results
from prevalent.environments.navigation import Episode
from prevalent.environments.panorama import PanoramicEnvironment
from tests.factories import make_graphs, random_scan, tasks_in

ANGLE_TOLERANCE = 1e-6


def compare(ours, recorded):
    assert [p[0] for p in ours] == [p[0] for p in recorded]
    angles = np.array([p[1:] for p in recorded])
    np.testing.assert_allclose([p[1:] for p in ours], angles, rtol=0, atol=ANGLE_TOLERANCE)


@pytest.mark.golden
@pytest.mark.parametrize("agent", ["stop", "shortest"])
def test_r2r_walks_equal_the_recorded_ones(golden, real_graphs, agent):
    path = golden / "metrics" / "simple_agents.json.gz"
    if not path.is_file():
        pytest.skip("no recorded simple agents")
    case = json.loads(gzip.decompress(path.read_bytes()))
    tasks = [
        Episode(item["scan"], tuple(item["path"]), item["heading"], f"{item['path_id']}_{j}")
        for item in case["items"]
        for j in range(len(item["instructions"]))
    ]
    ours = {r["instr_id"]: r["trajectory"] for r in r2r_results(agent, real_graphs, tasks)}
    recorded = case[agent.capitalize()]["results"]
    assert set(ours) == {r["instr_id"] for r in recorded}
    for result in recorded:
        compare(ours[result["instr_id"]], result["trajectory"])


@pytest.mark.golden
def test_recorded_random_walks_follow_the_rule(golden, real_graphs):
    """The draws differ, so only the shape is compared: turns first, then five moves."""
    path = golden / "metrics" / "simple_agents.json.gz"
    if not path.is_file():
        pytest.skip("no recorded simple agents")
    case = json.loads(gzip.decompress(path.read_bytes()))
    items = {str(item["path_id"]): item for item in case["items"]}
    for result in case["Random"]["results"]:
        item = items[result["instr_id"].rsplit("_", 1)[0]]
        task = Episode(item["scan"], tuple(item["path"]), item["heading"], result["instr_id"])
        walks = [r["trajectory"] for r in r2r_results("random", real_graphs, [task] * 150)]
        recorded = [(p[0], round(p[1], 5)) for p in result["trajectory"]]
        assert recorded in [[(p[0], round(p[1], 5)) for p in walk] for walk in walks]


def hanna_tasks(items):
    return [
        SimpleNamespace(
            id=f"{item['path_id']}_{j}", scan=item["scan"], heading=item["heading"],
            paths=item["paths"],
        )
        for item in items
        for j in range(len(item["instructions"]))
    ]  # fmt: skip


@pytest.fixture(scope="module")
def hanna(golden):
    path = golden / "hanna" / "hanna_base.json.gz"
    if not path.is_file():
        pytest.skip("no recorded HANNA agents")
    return json.loads(gzip.decompress(path.read_bytes()))


def hanna_items(case, results):
    """The recorded results do not say their split: it is the one whose starts agree."""
    starts = {(r["instr_id"], r["agent_pose"][0][0]) for r in results}
    for items in case["data"].values():
        tasks = hanna_tasks(items)
        if {(t.id, t.paths[0][0]) for t in tasks} == starts:
            return tasks
    raise AssertionError("no split starts where the recorded agents do")


@pytest.mark.golden
@pytest.mark.parametrize("agent", ["forward", "shortest"])
def test_hanna_walks_equal_the_recorded_ones(hanna, real_graphs, agent):
    results = hanna[f"{agent}_agent"]["results"]
    tasks = hanna_items(hanna, results)
    length = hanna["hparams"]["eval_episode_len"]
    ours = {r["instr_id"]: r for r in hanna_results(agent, real_graphs, tasks, max_steps=length)}
    for recorded in results:
        mine = ours[recorded["instr_id"]]
        assert mine["agent_nav"] == recorded["agent_nav"]
        compare(mine["agent_pose"], recorded["agent_pose"])


@pytest.mark.golden
def test_hannas_random_actions_lead_where_they_were_recorded(hanna, real_graphs):
    results = hanna["random_agent"]["results"]
    tasks = {t.id: t for t in hanna_items(hanna, results)}
    for recorded in results:
        task = tasks[recorded["instr_id"]]
        environment = PanoramicEnvironment(real_graphs)
        environment.reset([Episode(task.scan, tuple(task.paths[0]), task.heading, task.id)])
        poses = [environment.pose(0)]
        for action in recorded["agent_nav"]:
            environment.step(np.array([action]))
            poses.append(environment.pose(0))
        compare(poses, recorded["agent_pose"])


def world():
    return make_graphs(one=random_scan(1), two=random_scan(2, size=30))


def test_the_shortest_agent_arrives_along_edges():
    graphs = world()
    tasks = tasks_in(graphs, 20)
    for task, result in zip(tasks, r2r_results("shortest", graphs, tasks), strict=True):
        visited = [pose[0] for pose in result["trajectory"]]
        moved = [v for v, before in zip(visited, [None, *visited], strict=False) if v != before]
        assert moved == list(task.path)


@pytest.mark.parametrize("agent", ["random", "forward"])
def test_wandering_agents_move_five_times(agent):
    graphs = world()
    tasks = tasks_in(graphs, 20)
    results = ndh_results(agent, graphs, [_numbered(t, i) for i, t in enumerate(tasks)])
    assert [r["inst_idx"] for r in results] == list(range(20))
    for result in results:
        visited = [pose[0] for pose in result["trajectory"]]
        assert sum(a != b for a, b in itertools.pairwise(visited)) == 5


def _numbered(task, i):
    return Episode(task.scan, task.path, task.heading, str(i))


def test_the_random_agent_repeats_itself_with_the_same_seed_only():
    graphs = world()
    tasks = tasks_in(graphs, 20)
    first, again, other = (r2r_results("random", graphs, tasks, seed=s) for s in (1, 1, 2))
    assert first == again
    assert first != other


def test_the_stop_agent_stays_in_all_tasks():
    graphs = world()
    tasks = tasks_in(graphs, 3)
    assert all(len(r["trajectory"]) == 1 for r in r2r_results("stop", graphs, tasks))
    homes = [
        SimpleNamespace(id=t.id, scan=t.scan, heading=t.heading, paths=[t.path]) for t in tasks
    ]
    assert all(r["agent_nav"] == [0] for r in hanna_results("stop", graphs, homes))


def test_an_unknown_agent_is_named():
    graphs = world()
    with pytest.raises(ValueError, match="got 'clever'"):
        r2r_results("clever", graphs, tasks_in(graphs, 1))
