"""Agents that read several instructions of a path, and self-critical reinforcement."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from prevalent.agents.rollout import Batch, Episodes
from prevalent.agents.search import search
from prevalent.data.instructions import Instruction
from tests.small_agents import TEXTS, TOKENIZER, make_batch, make_follower


def several(batch: Batch, num_texts: int) -> Batch:
    """Each text ``num_texts`` times."""
    return Batch(batch.tasks, batch.tokens[:, None].repeat(num_texts, axis=1))


def copy_weights(one, other):
    for name, module in one.modules.items():
        other.modules[name].load_state_dict(module.state_dict())


@pytest.mark.parametrize("merge", ["mean", "max"])
@pytest.mark.parametrize("encoder", ["lstm", "dic"])
def test_the_same_text_three_times_says_what_it_says_once(encoder, merge):
    once = make_follower(encoder).train(False)
    thrice = make_follower(encoder, num_texts=3, merge_texts=merge).train(False)
    copy_weights(once, thrice)
    batch = make_batch(once.environment)
    single = once.rollout(batch, "teacher")
    triple = thrice.rollout(several(batch, 3), "teacher")
    torch.testing.assert_close(triple.imitation, single.imitation)
    torch.testing.assert_close(triple.hidden, single.hidden)
    found = [search(one, each, 2) for one, each in ((once, batch), (thrice, several(batch, 3)))]
    for a, b in zip(*found, strict=True):
        assert [path.actions for path in a.paths] == [path.actions for path in b.paths]


@pytest.mark.parametrize("merge", ["mean", "max", "sum", "cat"])
def test_every_text_has_a_say(merge):
    follower = make_follower("dic", num_texts=2, merge_texts=merge).train(False)
    batch = several(make_batch(follower.environment), 2)
    before = follower.rollout(batch, "teacher").hidden
    for text in range(2):
        tokens = batch.tokens.copy()
        tokens[:, text] = TOKENIZER.encode("go up the stairs")
        after = follower.rollout(batch._replace(tokens=tokens), "teacher").hidden
        assert not torch.allclose(before, after)


def test_an_episode_has_the_texts_of_its_path_or_its_own_again():
    instructions = [
        Instruction(f"{path}_{j}", path, "one", ("a", f"b{path}"), 0.0, TEXTS[j])
        for path, count in ((1, 3), (2, 1))
        for j in range(count)
    ]
    shuffled = [instructions[i] for i in (2, 3, 0, 1)]
    episodes = Episodes.encode(shuffled, TOKENIZER, num_texts=3)
    texts = np.stack([TOKENIZER.encode(text) for text in TEXTS])
    for i in (0, 2, 3):
        assert np.array_equal(episodes.tokens[i], texts)
    assert np.array_equal(episodes.tokens[1], texts[[0, 0, 0]])
    alone = Episodes.encode(shuffled, TOKENIZER, num_texts=3, alone=True)
    assert np.array_equal(alone.tokens[0], texts[[2, 2, 2]])
    assert sum(len(batch.tasks) for batch in episodes.batches(3)) == 4


@pytest.mark.parametrize("reward", ["sr_sc", "spl", "spl_sc", "spl_last", "spl_last_sc"])
def test_a_walk_that_beats_the_greedy_one_becomes_likelier(reward):
    follower = make_follower("lstm", seed=1)
    batch = make_batch(follower.environment)
    teacher = follower.rollout(batch, "teacher").actions
    draws = np.where(teacher < 0, 0, teacher)
    before = follower.rollout(batch, "sample", draws=draws).log_probs.exp()
    losses = follower.criticize(batch, reward, draws=draws)
    assert losses["reward"] == 1
    assert ("greedy_reward" in losses) == reward.endswith("_sc")
    follower.update()
    recorded = follower.rollout(batch, "sample", draws=draws)
    live = recorded.masks.bool()
    assert recorded.log_probs.exp()[live].mean() > before[live].mean()


def test_the_mode_is_train_again_after_the_greedy_walk():
    follower = make_follower("dic")
    follower.criticize(make_batch(follower.environment), "spl_sc")
    assert follower.critic.training


def test_wrong_numbers_of_texts_are_named():
    with pytest.raises(ValueError, match=r"--model\.num-texts must be at least 1"):
        replace(make_follower().config, num_texts=0)
