"""The vision-language agent of NDH against recorded roll-outs and training steps."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from prevalent.agents.ndh import NDHRolloutConfig
from prevalent.agents.rollout import Batch
from prevalent.data.results import score_results, to_results
from tests.recorded_agents import check_sums, near
from tests.recorded_ndh import (
    FORWARD,
    RecordedDialogs,
    check_steps,
    check_walks,
    draws_of,
    sections_with,
)
from tests.small_ndh import make_agent, make_dialog_batch

SCORE = 1e-6
AFTER_A_STEP = 1e-3  # absolute, on a GPU: optimizers magnify the rounding of gradients near 0


@pytest.fixture(scope="module")
def recorded(golden, real_graphs, data_dir, device):
    return RecordedDialogs.load(golden, real_graphs, data_dir, device)


@pytest.mark.golden
def test_roll_outs_equal_the_recorded_ones(recorded):
    for section in recorded.sections():
        agent, batch = recorded.agent(section), recorded.batches(section)[0]
        feedbacks = sections_with(recorded.case[section], "traj")
        assert feedbacks
        for feedback in feedbacks:
            part = recorded.case[section][feedback]
            rolled = agent.rollout(batch, feedback, draws=draws_of(part), keep_steps=True)
            assert len(rolled.steps) == part["n_steps"]
            allowed = near(recorded.device, FORWARD)
            assert agent.loss(rolled).item() == pytest.approx(part["loss"], abs=allowed)
            assert rolled.ended[part["perm_idx"]].tolist() == part["ended"]
            assert list(batch.tokens.shape) == part["seq_shape"]
            check_steps(rolled.steps, part, recorded.arrays, f"{section}/{feedback}")
            check_walks(agent.environment.trajectories(), part)


@pytest.mark.golden
def test_greedy_walks_and_their_scores_equal_the_recorded_ones(recorded):
    sections = [name for name in recorded.sections() if "test" in recorded.case[name]]
    if not sections:
        pytest.skip("no section has a test pass")
    for section in sections:
        case, agent = recorded.case[section]["test"], recorded.agent(section)
        agent.walk = agent.walk.__class__()  # agents that have ended stay: it changes nothing
        results = to_results(agent.act(recorded.batches(section)), "ndh")
        for theirs in case["results"]:
            ours = results[str(theirs["inst_idx"])].viewpoints
            assert ours == [pose[0] for pose in theirs["trajectory"]]
        references = [dialog.reference for dialog in recorded.dialogs(section)]
        path_type = recorded.case[section]["path_type"]
        scores = score_results(results, references, recorded.graphs, "ndh", path_type=path_type)
        assert scores == pytest.approx(case["summary"], abs=SCORE)


@pytest.mark.golden
def test_training_steps_equal_the_recorded_ones(recorded):
    sections = [name for name in recorded.sections() if "train2_teacher" in recorded.case[name]]
    if not sections:
        pytest.skip("no section has training steps")
    for section in sections:
        case = recorded.case[section]["train2_teacher"]
        agent = recorded.agent(section, lr=5e-4, weight_decay=5e-4, max_norm=np.inf)
        steps = zip(case["loss"], recorded.batches(section), strict=False)
        for number, (loss, batch) in enumerate(steps):
            losses, allowed = agent.imitate(batch, "teacher"), near(recorded.device, FORWARD)
            if number and recorded.device.type != "cpu":
                allowed = AFTER_A_STEP
            assert losses["loss"].item() == pytest.approx(loss, abs=allowed)
            without = {k for k, p in agent.modules["encoder"].named_parameters() if p.grad is None}
            assert without == set(case["encoder_params_without_grad"])
            agent.update()
        sums = case["param_[sum,abssum]"]
        if recorded.device.type == "cpu":
            check_sums(agent.modules, {"encoder": sums["enc"], "decoder": sums["dec"]})


@pytest.mark.parametrize("encoder", ["dic", "lstm"])
def test_an_agent_does_not_depend_on_its_batch(encoder):
    agent = make_agent(encoder=encoder).train(False)
    batch = make_dialog_batch(agent.environment)
    together = agent.rollout(batch, "argmax", keep_steps=True)
    for i in range(len(batch.tasks)):
        alone = agent.rollout(
            Batch(batch.tasks[i : i + 1], batch.tokens[i : i + 1]), "argmax", keep_steps=True
        )
        for a, b in zip(alone.steps, together.steps, strict=False):
            possible = a.logits[0] > -torch.inf
            b_logits = b.logits[i, : len(possible)]
            torch.testing.assert_close(a.logits[0][possible], b_logits[possible])


@pytest.mark.parametrize("actions", ["panoramic", "low-level"])
def test_an_agent_learns_the_way_of_its_teacher(actions):
    agent = make_agent(encoder="lstm", actions=actions, lr=0.02)
    batch = make_dialog_batch(agent.environment, count=3)
    first = agent.imitate(batch, "teacher")["action_loss"].item()
    for _ in range(25):
        agent.update()
        last = agent.imitate(batch, "teacher")["action_loss"].item()
    assert last < 0.3 * first


def test_text_layers_that_are_run_once_an_episode_change_no_number():
    agent = make_agent(encoder="dic", update_language=True, update_cross=True)
    batch = make_dialog_batch(agent.environment)
    every = agent.loss(agent.rollout(batch, "teacher"))
    agent.actor.reuse_text = True
    torch.testing.assert_close(agent.loss(agent.rollout(batch, "teacher")), every)


def test_every_step_may_have_its_own_teacher():
    agent = make_agent(encoder="lstm")
    batch = make_dialog_batch(agent.environment)
    taught = agent.rollout(batch, "teacher")
    mixed = agent.rollout(batch, ["teacher"] * 2 + ["argmax"] * 4)
    np.testing.assert_array_equal(mixed.actions[:2], taught.actions[:2])


def test_an_encoder_of_other_views_is_refused():
    with pytest.raises(ValueError, match="sees views of 11 numbers, the features have 6 and"):
        make_agent(encoder="dic", image_dim=11)


KINDS = [("dic", "panoramic"), ("lstm", "panoramic"), ("lstm", "low-level")]


def agent_and_batch(encoder, actions, **options):
    agent = make_agent(encoder=encoder, actions=actions, **options)
    return agent, make_dialog_batch(agent.environment)


@pytest.mark.parametrize(("encoder", "actions"), KINDS)
def test_the_teacher_leads_to_the_end_of_the_path(encoder, actions):
    agent, batch = agent_and_batch(encoder, actions, max_actions=60)
    rolled = agent.rollout(batch, "teacher")
    assert rolled.ended.all()
    assert rolled.taught[0] == len(batch.tasks)
    assert (np.diff(rolled.taught) <= 0).all()
    for walk, task in zip(agent.environment.trajectories(), batch.tasks, strict=True):
        assert walk[-1][0] == task.path[-1]


@pytest.mark.parametrize(("encoder", "actions"), KINDS)
def test_agents_that_have_ended_are_neither_moved_nor_logged(encoder, actions):
    agent, batch = agent_and_batch(encoder, actions, max_actions=4)
    stop = np.full((4, len(batch.tasks)), agent.actor.stop)
    goes = np.full_like(stop, 1)
    draws = np.where(np.arange(4)[:, None] == 0, stop, goes)
    draws[0, 0] = 1  # one agent goes on, so that the episode does
    rolled = agent.rollout(batch, "sample", draws=draws)
    assert rolled.taught.tolist() == [len(batch.tasks), 1, 1, 1]
    starts = [task.path[0] for task in batch.tasks]
    walks = agent.environment.trajectories()
    assert [walk[-1][0] for walk in walks[1:]] == starts[1:]
    assert [len(walk) for walk in walks[1:]] == [1] * (len(batch.tasks) - 1)


def test_the_authors_agents_go_on_and_the_low_level_one_is_taught_on():
    for actions, taught_on in (("panoramic", False), ("low-level", True)):
        walk = NDHRolloutConfig(move_after_stop=True)
        agent, batch = agent_and_batch("lstm", actions, max_actions=3, walk=walk)
        draws = np.full((3, len(batch.tasks)), 1)
        draws[0] = agent.actor.stop
        draws[0, 0] = 1
        rolled = agent.rollout(batch, "sample", draws=draws)
        assert (rolled.taught[1] > 1) == taught_on
        assert [len(one) for one in agent.environment.trajectories()[1:]] == [1] * 3


def test_the_loss_is_the_sum_of_mean_cross_entropies():
    agent, batch = agent_and_batch("lstm", "panoramic")
    rolled = agent.rollout(batch, "teacher", keep_steps=True)
    wanted = 0.0
    for t, step in enumerate(rolled.steps):
        taught = rolled.actions[t] >= 0
        log_probs = step.logits.log_softmax(dim=1)[torch.from_numpy(taught)]
        chosen = torch.from_numpy(rolled.actions[t][taught])
        wanted -= log_probs.gather(1, chosen.unsqueeze(1)).mean()
    torch.testing.assert_close(agent.loss(rolled), wanted)


def test_draws_follow_the_policy():
    torch.manual_seed(0)
    agent, batch = agent_and_batch("lstm", "panoramic", max_actions=1)
    agent.train(False)
    step = agent.rollout(batch, "argmax", keep_steps=True).steps[0]
    counts = torch.zeros_like(step.logits)
    for _ in range(300):
        action = torch.from_numpy(agent.rollout(batch, "sample").actions[0])
        counts[torch.arange(len(action)), action] += 1
    assert (counts / 300 - step.logits.softmax(dim=1)).abs().max() < 0.12
