"""Roll-outs against the recorded ones of both code bases, and what must hold for any agent."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from prevalent.agents import rollout as walker_module
from prevalent.agents.rollout import Batch, EpisodeBatches, Episodes, Policy, Walker, see
from prevalent.agents.search import search
from prevalent.data.instructions import Instruction
from prevalent.data.results import Reference, score_results, to_results
from prevalent.models.encoders import Words
from prevalent.objectives import actor_critic_loss
from prevalent.runtime.distributed import World
from tests.recorded_agents import Recorded, near, rollout_cases
from tests.small_agents import TEXTS, TOKENIZER, make_batch, make_follower, make_world

FORWARD = 1e-5  # absolute, float32
GRADIENT, GRADIENT_ON_A_GPU = 1e-4, 1e-3  # relative
SUMMED = 1e-4  # absolute, cross entropies summed over steps and agents


@pytest.fixture(scope="module")
def recordings(golden, real_graphs, data_dir, device):
    return [Recorded.load(path, real_graphs, data_dir, device) for path in rollout_cases(golden)]


def close(ours, theirs, tolerance=FORWARD):
    theirs = torch.as_tensor(np.asarray(theirs), dtype=torch.float32)
    allowed = near(ours.device, tolerance)
    torch.testing.assert_close(ours.detach().float().cpu(), theirs, rtol=0, atol=allowed)


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
    np.testing.assert_array_equal(rolled.rewards[:, order].cpu(), section["rewards"])
    np.testing.assert_array_equal(rolled.masks[:, order].cpu(), section["masks"])
    assert rolled.imitation.item() == pytest.approx(
        section["ml_loss_sum"], abs=near(recorded.device, SUMMED)
    )
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
    allowed = near(result.loss.device, FORWARD)
    assert result.loss.item() == pytest.approx(section["rl_loss"], abs=allowed)
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
                where = gradients[key].device
                relative = GRADIENT if where.type == "cpu" else GRADIENT_ON_A_GPU
                wanted = pytest.approx(norm, rel=relative, abs=near(where, 1e-5))
                assert float(gradients[key].norm()) == wanted, key


class Scripted(nn.Module):
    """A decoder whose scores are replaced by recorded ones (steps, B, K)."""

    def __init__(self, decoder, script):
        super().__init__()
        self.decoder, self.script, self.t = decoder, script, 0

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
            script = recorded.array("scripted_logits")[:, order]
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
        ours = to_results(follower.act(batches), "r2r")
        assert follower.critic.training
        for result in case["results"]:
            walked = ours[result["instr_id"]].viewpoints
            assert walked == [pose[0] for pose in result["trajectory"]]
        items = [recorded.instructions[name] for name in ids]
        references = [Reference(i.id, i.scan, i.path[0], {"path": i.path}) for i in items]
        scores = score_results(ours, references, real_graphs)
        for name, value in case["summary"].items():
            assert scores[name] == pytest.approx(value, abs=1e-6), name


def test_noise_multiplies_the_image_features_of_each_agent():
    environment, features = make_world()
    seen = environment.reset(make_batch(environment).tasks)
    plain, noise = see(features, seen), torch.rand(5, 6)
    noisy = see(features, seen, noise.unsqueeze(1))
    torch.testing.assert_close(noisy.images, plain.images * noise.unsqueeze(1))
    torch.testing.assert_close(
        noisy.candidates[..., :6], plain.candidates[..., :6] * noise[:, None]
    )
    assert torch.equal(noisy.angles, plain.angles)


def test_what_is_read_ahead_is_what_is_read_at_each_step(monkeypatch):
    follower = make_follower("dic").train(False)
    batch, environment = make_batch(follower.environment, count=6), follower.environment
    words = Words.of(batch.tokens)
    steps = []
    for most in (1, 7, 1000):  # a step, some steps, all steps at once
        monkeypatch.setattr(walker_module, "READ_TOGETHER", most)
        one = Walker(follower.policy, follower.features, words, None, True, follower.walk)
        one.read_ahead(environment, environment.reset(batch.tasks))
        steps.append(one.ahead)
    seen, ended = environment.reset(batch.tasks), np.zeros(6, dtype=bool)
    for t, read in enumerate(zip(*steps, strict=True)):
        rows = np.flatnonzero(~ended)
        panorama = follower.features.panorama(seen.row, seen.view)[rows]
        wanted = follower.policy.encoder(words.pick(rows), panorama)
        for encoding, own in read:
            length = own.ids.shape[1]
            assert torch.equal(own.ids, words.ids[rows, :length])
            torch.testing.assert_close(encoding.context, wanted.context[:, :length])
            torch.testing.assert_close(encoding.hidden, wanted.hidden)
        ended |= seen.teacher == seen.count
        assert ended.all() == (t == len(steps[0]) - 1)
        seen = environment.step(np.where(ended, -1, seen.teacher))


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
    two = [EpisodeBatches(make_episodes(), 4, World(rank, 2, CPU)) for rank in range(2)]
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
