"""Searches over a split, shared out among processes, and the endless batches of training."""

import pytest
import torch

from prevalent.runtime.distributed import World
from prevalent.tasks.hanna import TaskBatches, score_searches, search_tasks
from tests.small_searches import make_agent, make_tasks

CPU = torch.device("cpu")


def test_a_split_is_searched_in_order_whatever_the_batches():
    agent = make_agent(reset="own")
    tasks = make_tasks(agent.environment.graphs, 5)
    results = search_tasks(agent, tasks, "train", 2)
    assert list(results) == [task.id for task in tasks]
    assert results == search_tasks(agent, tasks, "train", 5)
    scores = score_searches(results, tasks, agent.environment.graphs)
    assert 0 <= scores["spl"] <= scores["success_rate"] <= 1


def test_processes_share_out_the_batches_of_one():
    tasks = list(range(7))
    whole = TaskBatches(tasks, 4, World(0, 1, CPU))
    parts = [TaskBatches(tasks, 2, World(rank, 2, CPU)) for rank in range(2)]
    for _ in range(4):
        together = next(whole)
        assert [next(part) for part in parts] == [together[::2], together[1::2]]


def test_the_order_is_continued_and_belongs_to_its_tasks():
    first = TaskBatches(list(range(7)), 3, World(0, 1, CPU))
    next(first), next(first)
    again = TaskBatches(list(range(7)), 3, World(0, 1, CPU))
    again.load_state_dict(first.state_dict())
    assert [next(first) for _ in range(5)] == [next(again) for _ in range(5)]
    with pytest.raises(ValueError, match="goes through 7 tasks"):
        TaskBatches([1], 1, World(0, 1, CPU)).load_state_dict(first.state_dict())
