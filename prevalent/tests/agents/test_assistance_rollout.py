"""Roll-outs of HANNA's agents in small houses."""

import numpy as np
import pytest
import torch

from prevalent.agents import hanna as assistance
from prevalent.agents.hanna import SearchConfig, records, search_losses
from tests.small_agents import make_bert
from tests.small_searches import make_agent, make_tasks


def walk(agent, feedback="sample", count=4, **options):
    tasks = make_tasks(agent.environment.graphs, count)
    return agent.rollout(tasks, "train_seen", feedback, **options), tasks


@pytest.mark.parametrize(
    ("ask", "steps"), [("never", []), ("every", [1, 3, 5]), ("random", None), ("learned", None)]
)
def test_the_rule_decides_when_help_is_requested(ask, steps):
    search = SearchConfig(train_length=6, ask=ask, ask_every=2)
    walked, _ = walk(make_agent(search=search))
    for step in walked.steps:
        able = step.seen.requestable & ~step.seen.ended
        assert not (step.asked & ~able).any()
        assert [message is not None for message in step.messages] == step.asked.tolist()
        if steps is not None and able.all() and all(s.seen.requestable.all() for s in walked.steps):
            assert step.asked.any() == (step.seen.time in steps)
    assert (walked.lesson is None) == (ask != "learned")


def test_an_agent_with_perfect_interpretation_follows_routes_like_the_teacher():
    search = SearchConfig(train_length=8, ask="every", ask_every=1, perfect_interpretation=True)
    walked, _ = walk(make_agent(search=search))
    for step in walked.steps:
        led = np.array([mode == "on_route" for mode in step.seen.modes]) & (step.teacher >= 0)
        assert (step.action == step.teacher)[led].all()


def test_hidden_words_leave_the_view_of_the_end_alone():
    search = SearchConfig(train_length=3, ask="every", ask_every=1, vision_only=True)
    agent, read = make_agent(search=search), []
    plain = agent.encode
    agent.encode = lambda text: read.append(text) or plain(text)
    walked, _ = walk(agent)
    assert set(read) <= {"find the bed", ""}
    assert any((step.seen.goal_row >= 0).any() for step in walked.steps)


def test_results_end_where_their_episodes_end():
    agent = make_agent()
    walked, tasks = walk(agent)
    for i, result in enumerate(records(walked, agent.environment, tasks)):
        steps = len(result["agent_nav"])
        assert len(result["agent_pose"]) == len(result["instruction"]) == steps + 1
        assert len(result["agent_ask"]) == len(result["teacher_ask"]) == steps
        assert result["agent_pose"][0][0] == tasks[i].start
        stopped = result["agent_nav"][-1] == 0 and result["agent_mode"][-2] == "main"
        assert stopped or steps == len(walked.steps)


@pytest.mark.parametrize("encoder", ["words", "dic"])
def test_agents_learn_what_they_are_taught(encoder):
    torch.manual_seed(0)
    bert = make_bert() if encoder == "dic" else None
    agent = make_agent(encoder=encoder, bert=bert, seed=1)
    tasks = make_tasks(agent.environment.graphs, 6)
    agent.updater.set_lr(1e-2)
    first = last = 0.0
    for number in range(25):
        torch.manual_seed(number % 5)
        loss = float(agent.learn(tasks, "train_seen")["loss"])
        agent.update()
        first, last = (loss, last) if number == 0 else (first, loss)
    assert last < 0.9 * first


def test_curiosity_only_counts_where_something_was_wrong_before():
    agent = make_agent()
    walked, _ = walk(agent)
    curious = search_losses(walked, SearchConfig(train_length=6, curiosity=1.0))
    plain = search_losses(walked, SearchConfig(train_length=6, curiosity=0.0))
    repeated = any((s.wrong & (s.teacher >= 0)[:, None]).any() for s in walked.steps)
    assert (curious.navigation < plain.navigation) == repeated
    assert curious.asking == plain.asking


def test_batches_of_any_size_walk_alike_if_agents_forget_on_their_own():
    agent = make_agent(reset="own").train(False)
    tasks = make_tasks(agent.environment.graphs, 5)
    together = agent.act([tasks], "train_seen")
    alone = agent.act([[task] for task in tasks], "train_seen")
    assert together == alone


def test_processes_that_share_a_batch_have_the_loss_of_one(monkeypatch):
    agent = make_agent(reset="own", search=SearchConfig(train_length=6))
    tasks = make_tasks(agent.environment.graphs, 5)

    def first(_, answers):
        return answers[0]

    whole = agent.rollout(tasks, "train_seen", "sample", pick=first)
    parts = []
    for rows in (slice(0, 2), slice(2, 5)):
        draws = [
            drawn[rows]
            for step in whole.steps
            for drawn in (np.maximum(step.action, 0), step.asked.astype(int))
        ]
        parts.append(agent.rollout(tasks[rows], "train_seen", "sample", pick=first, draws=draws))
    counts = []
    monkeypatch.setattr(assistance, "reduce_mean", lambda value: counts.append(value) or value)
    for part in parts:
        search_losses(part, agent.search)
    mean = sum(counts) / 2
    monkeypatch.setattr(assistance, "reduce_mean", lambda value: mean.clone())
    shared = [search_losses(part, agent.search) for part in parts]
    monkeypatch.setattr(assistance, "reduce_mean", lambda value: value)
    alone = search_losses(whole, agent.search)
    for name in ("navigation", "asking"):
        together = sum(getattr(one, name) for one in shared) / 2
        torch.testing.assert_close(together, getattr(alone, name))


@pytest.mark.parametrize("encoder", ["words", "dic"])
def test_bf16_walks_and_learns_too(encoder):
    bert = make_bert() if encoder == "dic" else None
    agent = make_agent(encoder=encoder, bert=bert, precision="bf16", reset="own")
    losses = agent.learn(make_tasks(agent.environment.graphs, 4), "train_seen")
    agent.update()
    assert all(value.isfinite() for value in losses.values())
