"""HANNA's agent repeats recorded roll-outs, losses, updates and evaluations."""

import itertools

import numpy as np
import pytest

from prevalent.agents.hanna import records, search_losses
from prevalent.data.hanna import expand_tasks, references, resolve_split
from prevalent.data.results import score_results
from tests.recorded_searches import RecordedSearches, search_cases

LOGITS, LOSS, ANGLE = 1e-5, 1e-5, 1e-6
ACTIONS = ("agent_nav", "agent_ask")
SUMS = 1e-5  # of the absolute sum of a tensor


@pytest.fixture(scope="module")
def cases(golden, real_graphs, data_dir):
    return [RecordedSearches.load(path, real_graphs, data_dir) for path in search_cases(golden)]


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
    for step, wanted in zip(walked.steps, case.logits(variant, part, "nav_logit"), strict=True):
        np.testing.assert_allclose(step.logits.detach(), wanted, rtol=0, atol=LOGITS)
    asked = [step for step in walked.steps if step.ask_logits is not None]
    for step, wanted in zip(asked, case.logits(variant, part, "ask_logit"), strict=True):
        np.testing.assert_allclose(step.ask_logits.detach(), wanted, rtol=0, atol=LOGITS)
    for step, wanted in zip(asked, case.logits(variant, part, "reason_logit"), strict=True):
        np.testing.assert_allclose(step.reasons.detach(), wanted, rtol=0, atol=LOGITS)
    check_lessons(walked, recorded)
    losses = search_losses(walked, agent.search, reasons=agent.config.reasons)
    assert losses.navigation.item() == pytest.approx(recorded["nav_loss"], abs=LOSS)
    assert losses.asking.item() == pytest.approx(recorded["ask_loss"], abs=LOSS)
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
    if walked.lesson is not None:
        assert walked.lesson.decision.tolist() == recorded["ask_targets(step x batch)"]
        assert walked.lesson.reasons.tolist() == recorded["ask_reason_targets"]


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
                losses = search_losses(walked, agent.search, reasons=agent.config.reasons)
                loss = losses.navigation + losses.asking
                assert loss.item() == pytest.approx(recorded[part]["loss"], abs=LOSS)
                agent.updater.backward(loss)
                if part == "train_1":
                    frozen = recorded["params_without_grad"]
                    assert sorted(without_gradient(agent)) == sorted(frozen)
                agent.update()
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
    scores = score_results(results, references(tasks), case.graphs, "hanna")
    for metric, value in recorded["summary"].items():
        assert scores[metric] == pytest.approx(value, abs=1e-6), metric
