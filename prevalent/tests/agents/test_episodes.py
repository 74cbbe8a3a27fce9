"""Batches keep the authors' order, share it among processes and continue where they were."""

import numpy as np
import pytest
import torch

from prevalent.agents.rollout import EpisodeBatches, Episodes
from prevalent.data.instructions import Instruction
from prevalent.runtime.distributed import World
from tests.small_agents import TEXTS, TOKENIZER

CPU = torch.device("cpu")


def make_episodes(count=7):
    items = [
        Instruction(f"{i}_0", i, "house", ("a", "b"), 0.0, TEXTS[i % len(TEXTS)])
        for i in range(count)
    ]
    return Episodes.encode(items, TOKENIZER)


def ids(batch):
    return [task.id for task in batch.tasks]


def test_all_episodes_once_with_their_own_texts():
    episodes = make_episodes()
    batches = list(episodes.batches(3))
    assert sorted(name for batch in batches for name in ids(batch)) == [f"{i}_0" for i in range(7)]
    for batch in batches:
        for task, row in zip(batch.tasks, batch.tokens, strict=True):
            assert np.array_equal(row, TOKENIZER.encode(task.text))


def test_two_processes_share_out_the_batches_of_one():
    one = EpisodeBatches(make_episodes(), 4, World(0, 1, CPU))
    two = [EpisodeBatches(make_episodes(), 2, World(rank, 2, CPU)) for rank in range(2)]
    for _ in range(5):
        assert sorted(ids(next(one))) == sorted(ids(next(two[0])) + ids(next(two[1])))


def test_the_order_continues_after_a_restart_and_refuses_other_data():
    batches = EpisodeBatches(make_episodes(), 3, World(0, 1, CPU))
    for _ in range(4):
        next(batches)
    again = EpisodeBatches(make_episodes(), 3, World(0, 1, CPU))
    again.load_state_dict(batches.state_dict())
    assert [ids(next(batches)) for _ in range(4)] == [ids(next(again)) for _ in range(4)]
    with pytest.raises(ValueError, match="goes through 7 episodes, the data now has 5"):
        EpisodeBatches(make_episodes(5), 3, World(0, 1, CPU)).load_state_dict(again.state_dict())
