"""HANNA's agent repeats recorded roll-outs, losses, updates and evaluations."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from prevalent.agents import hanna as assistance
from prevalent.agents.hanna import (
    ALREADY_ASKED,
    LOST,
    UNCERTAIN_WRONG,
    HannaRolloutConfig,
    RequestStep,
    WrongTurns,
    hanna_losses,
    lost_steps,
    records,
    request_targets,
)
from prevalent.data.hanna import expand_tasks, references, resolve_split
from prevalent.data.results import score_results, to_results
from tests.recorded_agents import near
from tests.recorded_hanna import RecordedSearches, search_cases
from tests.small_agents import make_bert
from tests.small_hanna import make_agent, make_tasks, make_world

LOGITS, LOSS, ANGLE = 1e-5, 1e-5, 1e-6
AFTER_A_STEP = 1e-3  # absolute, on a GPU: Adam magnifies the rounding of gradients near 0
ACTIONS = ("agent_nav", "agent_ask")
SUMS = 1e-5  # of the absolute sum of a tensor


@pytest.fixture(scope="module")
def cases(golden, real_graphs, data_dir, device):
    paths = search_cases(golden)
    return [RecordedSearches.load(path, real_graphs, data_dir, device) for path in paths]


def same_walk(ours, recorded):
    for key, value in ours.items():
        if key == "agent_pose":
            assert [pose[0] for pose in value] == [pose[0] for pose in recorded[key]]
            angles = np.array([pose[1:3] for pose in recorded[key]])
            np.testing.assert_allclose([pose[1:] for pose in value], angles, atol=ANGLE)
        else:
            assert value == recorded[key], key


@pytest.mark.golden
def test_recorded_roll_outs_of_every_option_are_repeated(cases):
    for case in cases:
        for variant in case.variants():
            agent = case.agent(variant)
            for part, recorded in case.case[variant].items():
                if part == "train_0":
                    check_roll_out(case, agent, variant, part, recorded)


def check_roll_out(case, agent, variant, part, recorded):
    walked = case.walk(agent, recorded)
    allowed = near(case.device, LOGITS)

    def same(ours, wanted):
        np.testing.assert_allclose(ours.detach().cpu(), wanted, rtol=0, atol=allowed)

    for step, wanted in zip(walked.steps, case.logits(variant, part, "nav_logit"), strict=True):
        same(step.logits, wanted)
    asked = [step for step in walked.steps if step.ask_logits is not None]
    for step, wanted in zip(asked, case.logits(variant, part, "ask_logit"), strict=True):
        same(step.ask_logits, wanted)
    for step, wanted in zip(asked, case.logits(variant, part, "reason_logit"), strict=True):
        same(step.reasons, wanted)
    check_lessons(walked, recorded)
    losses = hanna_losses(walked, agent.search, reasons=agent.config.reasons)
    allowed = near(case.device, LOSS)
    assert losses.navigation.item() == pytest.approx(recorded["nav_loss"], abs=allowed)
    assert losses.asking.item() == pytest.approx(recorded["ask_loss"], abs=allowed)
    tasks = case.tasks("train", recorded["instr_ids"])
    for ours, wanted in zip(
        records(walked, agent.environment, tasks), recorded["traj"], strict=True
    ):
        same_walk(ours, wanted)


def check_lessons(walked, recorded):
    for t, step in enumerate(walked.steps):
        assert step.teacher.tolist() == recorded["nav_pos_targets"][t]
        wrong = step.wrong & (step.teacher >= 0)[:, None]
        assert np.flatnonzero(wrong).tolist() == sorted(recorded["nav_neg_targets"][t])
    if walked.requests is not None:
        assert walked.requests.decision.tolist() == recorded["ask_targets(step x batch)"]
        assert walked.requests.reasons.tolist() == recorded["ask_reason_targets"]


@pytest.mark.golden
def test_recorded_updates_are_repeated(cases):
    checked = 0
    for case in cases:
        for variant in case.variants():
            recorded = case.case[variant]
            if (sums := recorded.get("after_2_adam_steps_[sum,abssum]")) is None:
                continue
            agent = case.agent(variant)
            for part in ("train_0", "train_1"):
                walked = case.walk(agent, recorded[part])
                losses = hanna_losses(walked, agent.search, reasons=agent.config.reasons)
                loss = losses.navigation + losses.asking
                on_cpu = case.device.type == "cpu"
                allowed = LOSS if on_cpu else AFTER_A_STEP
                assert loss.item() == pytest.approx(recorded[part]["loss"], abs=allowed)
                agent.updater.backward(loss)
                if part == "train_1":
                    frozen = recorded["params_without_grad"]
                    assert sorted(without_gradient(agent)) == sorted(frozen)
                agent.update()
            if on_cpu:
                check_sums(agent, sums)
            checked += 1
    if not checked:
        pytest.skip("no updates were recorded")


def without_gradient(agent):
    return [
        f"{module}.{name}"
        for module, network in agent.modules.items()
        for name, value in network.named_parameters()
        if value.grad is None
    ]


def check_sums(agent, recorded):
    for name, sums in recorded.items():
        module, _, key = name.partition(".")
        # Analytically without gradient: only rounding and weight decay.
        if key.endswith(("key.bias", "linear_in_v.bias", "linear_out.bias")):
            continue
        value = agent.modules[module].state_dict()[key].double()
        ours = [float(value.sum()), float(value.abs().sum())]
        assert ours == pytest.approx(sums, rel=0, abs=SUMS * max(1.0, sums[1])), name


@pytest.mark.golden
def test_recorded_evaluations_are_repeated(cases):
    for case in cases:
        for variant in case.variants():
            agent = case.agent(variant)
            for part, recorded in case.case[variant].items():
                if part.startswith("eval_"):
                    check_evaluation(case, agent, part.removeprefix("eval_"), recorded)


def check_evaluation(case, agent, name, recorded):
    """The recorded batches are unknown and a walk depends on its companions a little.

    A task that does not walk as recorded in the batches of the file is tried with all companions.
    """
    split, helper = resolve_split(name)
    tasks = list(expand_tasks(case.case["data"][split], case.name))
    size = case.case["batch"]
    batches = [(tasks + tasks)[i : i + size] for i in range(0, len(tasks), size)]
    results = {}
    for one in agent.act(batches, helper):
        results.setdefault(one["instr_id"], one)
    wanted = {one["instr_id"]: one for one in recorded["results"]}
    for task in tasks:
        others = itertools.permutations(tasks, size - 1)
        while any(results[task.id][key] != wanted[task.id][key] for key in ACTIONS):
            results[task.id] = agent.act([[task, *next(others)]], helper)[0]
    for one in wanted.values():
        same_walk(results[one["instr_id"]], one)
    walked = to_results(results.values(), "hanna")
    scores = score_results(walked, references(tasks), case.graphs, "hanna")
    for metric, value in recorded["summary"].items():
        assert scores[metric] == pytest.approx(value, abs=1e-6), metric


def walk(agent, feedback="sample", count=4, **options):
    tasks = make_tasks(agent.environment.graphs, count)
    return agent.rollout(tasks, "train_seen", feedback, **options), tasks


@pytest.mark.parametrize(
    ("ask", "steps"), [("never", []), ("every", [1, 3, 5]), ("random", None), ("learned", None)]
)
def test_the_rule_decides_when_help_is_requested(ask, steps):
    search = HannaRolloutConfig(train_length=6, ask=ask, ask_every=2)
    walked, _ = walk(make_agent(search=search))
    for step in walked.steps:
        able = step.seen.requestable & ~step.seen.ended
        assert not (step.asked & ~able).any()
        assert [message is not None for message in step.messages] == step.asked.tolist()
        if steps is not None and able.all() and all(s.seen.requestable.all() for s in walked.steps):
            assert step.asked.any() == (step.seen.time in steps)
    assert (walked.requests is None) == (ask != "learned")


def test_an_agent_with_perfect_interpretation_follows_routes_like_the_teacher():
    search = HannaRolloutConfig(
        train_length=8, ask="every", ask_every=1, perfect_interpretation=True
    )
    walked, _ = walk(make_agent(search=search))
    for step in walked.steps:
        led = np.array([mode == "on_route" for mode in step.seen.modes]) & (step.teacher >= 0)
        assert (step.action == step.teacher)[led].all()


def test_hidden_words_leave_the_view_of_the_end_alone():
    search = HannaRolloutConfig(train_length=3, ask="every", ask_every=1, vision_only=True)
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
    curious = hanna_losses(walked, HannaRolloutConfig(train_length=6, curiosity=1.0))
    plain = hanna_losses(walked, HannaRolloutConfig(train_length=6, curiosity=0.0))
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
    agent = make_agent(reset="own", search=HannaRolloutConfig(train_length=6))
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
        hanna_losses(part, agent.search)
    mean = sum(counts) / 2
    monkeypatch.setattr(assistance, "reduce_mean", lambda value: mean.clone())
    shared = [hanna_losses(part, agent.search) for part in parts]
    monkeypatch.setattr(assistance, "reduce_mean", lambda value: value)
    alone = hanna_losses(whole, agent.search)
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


def moment(node, distance, **flags):
    values = {"asked": 0, "stopped": 0, "ended": 0, "requestable": 1, "uncertain": 0, "wrong": 0}
    values |= flags
    arrays = {name: np.array([bool(value)]) for name, value in values.items()}
    return RequestStep(node=np.array([node]), distance=np.array([float(distance)]), **arrays)


@pytest.mark.parametrize(
    ("distance", "cuts", "lost"),
    [
        ([5, 3, 4, 2], [0, 0, 0], [0, 0, 0]),  # arrives nearer after the last step
        ([5, 3, 4, 6], [0, 0, 0], [0, 0, 1]),
        ([3, 4, 3, 9], [0, 0, 0], [0, 1, 1]),  # of equal ones the first counts
        ([3, 4, 9, 8, 9], [0, 1, 0, 0], [0, 1, 0, 0]),  # a new segment forgets the old one
    ],
)
def test_an_agent_is_lost_behind_its_nearest_approach(distance, cuts, lost):
    found = lost_steps(np.array(distance, dtype=float), np.array(cuts, dtype=bool))
    assert found.astype(int).tolist() == lost


def test_help_is_right_where_lost_or_uncertain_unless_asked_there_before():
    moments = [
        moment(0, 4, uncertain=1, wrong=1, asked=1),
        moment(0, 4, uncertain=1, wrong=1),
        moment(1, 5, uncertain=1),
        moment(2, 6, requestable=0),
        moment(2, 6, ended=1),
    ]
    lesson = request_targets(moments, np.array([6.0]))
    assert lesson.decision[:, 0].tolist() == [1, 0, 1, -1, -1]
    reasons = lesson.reasons[:, 0]
    assert reasons[1, ALREADY_ASKED] == reasons[0, UNCERTAIN_WRONG] == reasons[2, LOST] == 1
    assert reasons[2, UNCERTAIN_WRONG] == 0
    assert not reasons[3:].any()


def test_a_wrong_turn_is_remembered_at_its_place():
    environment, _ = make_world()
    seen = environment.search(make_tasks(environment.graphs, 2), "train_seen")
    turns = WrongTurns(2)
    assert not turns.mask(seen).any()
    teacher = seen.scene.teacher.copy()
    action = np.where(teacher == 1, 0, 1)
    teacher[1] = -1
    turns.note(seen, action, teacher)
    mask = turns.mask(seen)
    assert mask[0].nonzero()[0].tolist() == [action[0]]
    assert not mask[1].any()
