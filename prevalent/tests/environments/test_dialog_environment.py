"""The environment of NDH: what is logged, and where its teacher leads."""

import numpy as np

from prevalent.environments.panorama import DialogEnvironment
from tests.factories import make_graphs, random_scan, tasks_in


def start(count=5):
    graphs = make_graphs(one=random_scan(1), two=random_scan(2))
    environment = DialogEnvironment(graphs)
    return environment, environment.reset(tasks_in(graphs, count))


def test_following_the_teacher_arrives_and_logs_one_pose_a_move():
    environment, seen = start()
    ended = np.zeros(5, dtype=bool)
    for _ in range(40):
        ended = ended | (seen.teacher == 0)
        seen = environment.step(seen.teacher, ended)
        if ended.all():
            break
    assert (seen.distance == 0).all()
    for walk, task in zip(environment.trajectories(), environment.tasks, strict=True):
        assert [pose[0] for pose in walk] == list(task.path)


def test_an_agent_that_ended_may_move_without_being_logged():
    environment, _ = start(2)
    environment.step(np.array([1, 1]), np.array([False, True]))
    seen = environment.step(np.array([1, 0]), np.array([True, True]))
    walks = environment.trajectories()
    assert [len(walk) for walk in walks] == [2, 1]
    assert environment.graphs.viewpoints[seen.node[0]] != walks[0][-1][0]


def test_a_new_episode_forgets_the_last_one():
    environment, _ = start(2)
    environment.step(np.array([1, 1]))
    environment.reset(environment.tasks)
    assert [len(walk) for walk in environment.trajectories()] == [1, 1]


def test_agents_start_level():
    assert (start()[1].elevation == 0).all()
