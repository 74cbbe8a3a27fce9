"""Roll-outs against the recorded ones of both code bases, and what must hold for any agent."""

import numpy as np
import pytest
import torch
from torch import nn

from prevalent.agents.rollout import Policy
from prevalent.data.results import Reference, score_results
from prevalent.objectives import actor_critic_loss
from tests.recorded_agents import Recorded, rollout_cases

FORWARD = 1e-5  # absolute, float32
GRADIENT = 1e-4  # relative
SUMMED = 1e-4  # absolute, cross entropies summed over steps and agents


@pytest.fixture(scope="module")
def recordings(golden, real_graphs, data_dir):
    return [Recorded.load(path, real_graphs, data_dir) for path in rollout_cases(golden)]


def close(ours, theirs, tolerance=FORWARD):
    theirs = torch.as_tensor(np.asarray(theirs), dtype=torch.float32)
    torch.testing.assert_close(ours.detach().float(), theirs, rtol=0, atol=tolerance)


def draws_of(section):
    """Recorded draws in the order of the batch; the authors sort it by length."""
    if not section["sampled_actions"]:
        return None
    return np.array(section["sampled_actions"])[:, np.argsort(section["perm_idx"])]


def check_walks(environment, section):
    walks = environment.trajectories()
    for i, recorded in zip(section["perm_idx"], section["traj"], strict=True):
        assert [pose[0] for pose in walks[i]] == [pose[0] for pose in recorded["path"]]
        angles = [pose[1:] for pose in recorded["path"]]
        np.testing.assert_allclose([pose[1:] for pose in walks[i]], angles, rtol=0, atol=1e-6)


def check_rollout(recorded, name, follower, rolled):
    """Compare one recorded section with a roll-out in the authors' order."""
    section, order = recorded.case[name], recorded.case[name]["perm_idx"]
    assert len(rolled.hidden) == section["n_steps"]
    assert rolled.ended[order].tolist() == section["ended"]
    np.testing.assert_array_equal(rolled.rewards[:, order], section["rewards"])
    np.testing.assert_array_equal(rolled.masks[:, order], section["masks"])
    assert rolled.imitation.item() == pytest.approx(section["ml_loss_sum"], abs=SUMMED)
    values = follower.critic(rolled.hidden)
    if f"{name}/values" in recorded.arrays:
        close(values[:, order], recorded.arrays[f"{name}/values"])
    if section["log_probs"]:
        close(rolled.log_probs[:, order], section["log_probs"])
    if section["entropies"]:
        close(rolled.entropies[:, order], section["entropies"])
    for t, step in enumerate(rolled.steps):
        for key, ours in (("logit", step.logits), ("h", step.hidden)):
            if f"{name}/{key}_{t}" in recorded.arrays:
                unmasked = ours.masked_fill(ours == -torch.inf, 0.0)  # recorded before masking
                close(unmasked[order], recorded.arrays[f"{name}/{key}_{t}"])
    if "traj" in section:
        check_walks(follower.environment, section)


def check_reinforcement(follower, section, rolled):
    experience = follower.judge(rolled)
    result = actor_critic_loss(
        experience, gamma=follower.walk.gamma, normalize=follower.walk.normalize
    )
    order = section["perm_idx"]
    assert result.loss.item() == pytest.approx(section["rl_loss"], abs=FORWARD)
    assert float(result.actions) == section["total"]
    close(result.returns[0, order], section["final_return"])
    live = torch.from_numpy(~rolled.ended[order])
    recorded = torch.tensor(section["last_value"])
    close(experience.last_value[order], torch.where(live, recorded, 0.0))
    return result.loss


@pytest.mark.golden
@pytest.mark.parametrize("feedback", ["teacher", "argmax", "sample"])
def test_recorded_rollouts_are_walked_again(recordings, feedback):
    for recorded in recordings:
        section, follower = recorded.case[feedback], recorded.follower()
        batch = recorded.batch(section["items"])
        seq = recorded.arrays[f"{feedback}/seq"]
        np.testing.assert_array_equal(batch.tokens[section["perm_idx"]][:, : seq.shape[1]], seq)
        draws, keep = draws_of(section), {"bootstrap": True, "keep_steps": True}
        rolled = follower.rollout(batch, feedback, draws=draws, **keep)
        check_rollout(recorded, feedback, follower, rolled)
        if "grad_norms" in section:
            check_reinforcement(follower, section, rolled).backward()
            check_gradients(follower, section["grad_norms"])
        elif "rl_loss" in section:
            check_reinforcement(follower, section, rolled)


def check_gradients(follower, norms):
    for name, module in follower.modules.items():
        gradients = {key: value.grad for key, value in module.named_parameters()}
        reached = {key for key, gradient in gradients.items() if gradient is not None}
        assert reached == set(norms[name])
        for key, norm in norms[name].items():
            if not key.endswith("key.bias"):  # analytically zero
                wanted = pytest.approx(norm, rel=GRADIENT, abs=1e-5)
                assert float(gradients[key].norm()) == wanted, key


class Scripted(nn.Module):
    """A decoder whose scores are replaced by recorded ones (steps, B, K)."""

    def __init__(self, decoder, script):
        super().__init__()
        self.decoder, self.script, self.t = decoder, torch.as_tensor(script), 0

    def forward(self, sight, *args, **options):
        step = self.decoder(sight, *args, **options)
        logits = self.script[self.t, :, : sight.mask.shape[1]]
        self.t += 1
        return step._replace(logits=logits.masked_fill(~sight.mask, -torch.inf))


def scripted_options(name):
    """``scripted_sample_batch_gamma0.9`` -> its settings."""
    parts = name.split("_")
    if len(parts) == 2:
        return parts[1], {}
    return parts[1], {"normalize": parts[2], "gamma": float(parts[3].removeprefix("gamma"))}


@pytest.mark.golden
def test_both_behaviors_after_a_stop_and_all_normalisations_are_reproduced(recordings):
    found = 0
    for recorded in recordings:
        for name in (name for name in recorded.case if name.startswith("scripted_")):
            feedback, options = scripted_options(name)
            section, follower = recorded.case[name], recorded.follower(**options)
            order = np.argsort(section["perm_idx"])
            script = recorded.arrays["scripted_logits"][:, order]
            decoder = Scripted(follower.policy.decoder, script)
            follower.policy = Policy(follower.policy.encoder, decoder)
            rolled = follower.rollout(
                recorded.batch(section["items"]),
                feedback,
                draws=draws_of(section),
                bootstrap="rl_loss" in section,
                keep_steps=True,  # the script has a row for every agent
            )
            check_rollout(recorded, name, follower, rolled)
            if "rl_loss" in section:
                check_reinforcement(follower, section, rolled)
            found += 1
    if not found:
        pytest.skip("no roll-out with scripted scores")


@pytest.mark.golden
def test_a_whole_evaluation_gives_the_recorded_trajectories_and_scores(recordings, real_graphs):
    for recorded in recordings:
        case, follower = recorded.case["test_argmax"], recorded.follower()
        ids = [result["instr_id"] for result in case["results"]]
        size = recorded.case["batch"]
        batches = [recorded.batch(ids[i : i + size]) for i in range(0, len(ids), size)]
        ours = {result["instr_id"]: result for result in follower.act(batches)}
        assert follower.critic.training
        for result in case["results"]:
            walk = ours[result["instr_id"]]["trajectory"]
            assert [pose[0] for pose in walk] == [pose[0] for pose in result["trajectory"]]
        items = [recorded.instructions[name] for name in ids]
        references = [Reference(i.id, i.scan, i.path[0], {"path": i.path}) for i in items]
        scores = score_results(ours, references, real_graphs)
        for name, value in case["summary"].items():
            assert scores[name] == pytest.approx(value, abs=1e-6), name
