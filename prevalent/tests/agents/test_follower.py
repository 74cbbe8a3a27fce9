"""Training iterations against recorded ones, and what must hold for any follower."""

import numpy as np
import pytest
import torch

from prevalent.agents.follower import Follower, FollowerConfig, add_losses
from prevalent.agents.rollout import RolloutConfig
from prevalent.released.snapshots import load_snapshot
from tests.recorded_agents import (
    Recorded,
    accumulate,
    as_tensors,
    check_sums,
    rollout_cases,
    train_twice,
)
from tests.small_agents import SMALL, make_batch, make_bert, make_follower, make_world

# Absolute, after two RMSprop steps at a rate of 0.01: dividing by the root of tiny squares
# magnifies the rounding of gradients near 0.
AFTER_STEPS = 5e-4


@pytest.fixture(scope="module")
def recordings(golden, real_graphs, data_dir):
    return [Recorded.load(path, real_graphs, data_dir) for path in rollout_cases(golden)]


@pytest.mark.golden
def test_agents_that_leave_the_batch_at_their_stop_have_the_recorded_losses(
    golden, real_graphs, data_dir, device
):
    for path in rollout_cases(golden):
        recorded = Recorded.load(path, real_graphs, data_dir, device)
        # The second iteration starts from weights in which the optimizer magnified the rounding.
        train_twice(recorded, tolerance=1e-3, move_after_stop=False)


@pytest.mark.golden
def test_two_recorded_training_iterations_reach_the_same_weights(recordings):
    cases = [recorded for recorded in recordings if "train2" in recorded.case]
    if not cases:
        pytest.skip("no recorded training iterations")
    for recorded in cases:
        follower = train_twice(recorded)
        check_sums(follower.modules, recorded.case["train2"]["param_[sum,abssum]"])
        for name, module in follower.modules.items():
            state = module.state_dict()
            for key, value in as_tensors(recorded.arrays, f"after2/{name}/").items():
                torch.testing.assert_close(state[key], value, rtol=0, atol=AFTER_STEPS, msg=key)


@pytest.mark.golden
def test_a_recorded_snapshot_holds_what_two_iterations_of_ours_give(recordings):
    found = 0
    for recorded in recordings:
        if not recorded.snapshot.exists():
            continue
        found += 1
        trained, loaded = train_twice(recorded), recorded.follower()
        assert load_snapshot(recorded.snapshot, loaded.modules, loaded.optimizers) > 0
        for name, module in trained.modules.items():
            theirs = loaded.modules[name].state_dict()
            for key, value in module.state_dict().items():
                if not key.endswith("key.bias"):
                    torch.testing.assert_close(
                        value, theirs[key], rtol=0, atol=AFTER_STEPS, msg=key
                    )
            ours, theirs = trained.optimizers[name].state_dict(), loaded.optimizers[name]
            assert ours["state"].keys() == theirs.state_dict()["state"].keys()
            for number, state in ours["state"].items():
                other = theirs.state_dict()["state"][number]
                torch.testing.assert_close(
                    state["square_avg"], other["square_avg"], rtol=1e-3, atol=1e-6
                )
    if not found:
        pytest.skip("no recorded snapshots")


@pytest.mark.golden
def test_a_recorded_accumulated_step_with_back_translation_reaches_the_same_weights(recordings):
    name = "bt_accumulated_step"
    cases = [recorded for recorded in recordings if name in recorded.case]
    if not cases:
        pytest.skip("no recorded accumulated step")
    for recorded in cases:
        follower = accumulate(recorded, recorded.trained())
        check_sums(follower.modules, recorded.case[name]["param_[sum,abssum]"])


KINDS = ["lstm", "dic", "bert", "bert-projected"]


@pytest.mark.parametrize("encoder", KINDS)
def test_every_kind_of_follower_learns_and_acts(encoder):
    follower = make_follower(encoder, update_cross=True)
    one, two = make_batch(follower.environment), make_batch(follower.environment, seed=1)
    before = [p.clone() for p in follower.policy.decoder.parameters()]
    losses = follower.step(one, two, 0.2)
    assert all(torch.isfinite(value) for value in losses.values())
    after = follower.policy.decoder.parameters()
    assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
    results = follower.act([one, two])
    assert [r["instr_id"] for r in results] == [t.id for b in (one, two) for t in b.tasks]
    assert all(r["trajectory"][0][0] == t.path[0] for r, t in zip(results, one.tasks, strict=False))


@pytest.mark.parametrize("encoder", KINDS)
def test_a_batch_does_not_change_what_an_item_does(encoder):
    follower = make_follower(encoder)
    batch = make_batch(follower.environment)
    together = follower.act([batch])
    for i, result in enumerate(together):
        alone = batch._replace(tasks=batch.tasks[i : i + 1], tokens=batch.tokens[i : i + 1])
        assert follower.act([alone])[0] == result


def test_imitation_brings_the_teacher_s_walks():
    follower = make_follower(
        walk=RolloutConfig(max_actions=12), hidden_size=32, summary="max", seed=3
    )
    follower.updater.set_lr(1e-2)
    batch = make_batch(follower.environment, count=4)
    first = follower.step(batch)["imitation"].item()
    for _ in range(60):
        last = follower.step(batch)["imitation"].item()
    assert last < 0.2 * first


def test_a_frozen_transformer_has_no_gradient_and_a_trained_one_has():
    for update_language, update_cross in ((False, False), (False, True), (True, True)):
        follower = make_follower("dic", update_language=update_language, update_cross=update_cross)
        follower.imitate(make_batch(follower.environment))
        bert = follower.policy.encoder.bert
        reached = [p.grad is not None for p in bert.lalayer.parameters()]
        assert all(reached) if update_language else not any(reached)
        fused = [p.grad is not None for p in bert.vision_encoder.parameters()]
        assert all(fused) if update_cross else not any(fused)
        assert follower.policy.encoder.lstm.weight_ih_l0.grad is not None


@pytest.mark.parametrize("feedback", ["teacher", "sample"])
def test_text_is_encoded_once_an_episode_in_eval_mode_and_at_every_step_in_train_mode(feedback):
    follower = make_follower("dic")
    encoder, read = follower.policy.encoder, []
    encode = encoder.bert.encode_text
    encoder.bert.encode_text = lambda ids, *args: (read.append(len(ids)), encode(ids, *args))[1]
    batch = make_batch(follower.environment)
    follower.act([batch])
    assert read == [5]
    read.clear()
    walked = follower.rollout(batch, feedback)
    assert sum(read) == walked.masks.sum() < walked.masks.numel()
    read.clear()
    follower.walk = RolloutConfig(max_actions=6, reuse_text=True)
    follower.rollout(batch, feedback)
    assert read == [5]


@pytest.mark.parametrize("encoder", KINDS)
@pytest.mark.parametrize("noisy", [False, True])
def test_two_batches_that_walk_together_learn_what_they_learn_alone(encoder, noisy):
    walk = RolloutConfig(max_actions=6, entropy_weight=0.1)
    follower = make_follower(encoder, walk=walk).train(False)
    imitated = make_batch(follower.environment, count=3)
    sampled = make_batch(follower.environment, seed=1)
    draws = np.random.default_rng(0).integers(0, 2, size=(6, 5))
    noises = (torch.rand(6), torch.rand(6)) if noisy else (None, None)
    alone = follower.imitate(imitated, 0.3, noise=noises[0])
    alone = add_losses(alone, follower.reinforce(sampled, noise=noises[1], draws=draws))
    wanted = gradients_of(follower)
    follower.updater.clear()
    options = {"noises": noises, "draws": draws}
    together = follower.imitate_and_reinforce(imitated, sampled, 0.3, **options)
    assert together.keys() == alone.keys()
    for name, value in alone.items():
        torch.testing.assert_close(together[name], value, msg=name)
    for name, value in gradients_of(follower).items():
        torch.testing.assert_close(value, wanted[name], rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize("encoder", KINDS)
@pytest.mark.parametrize("feedback", ["teacher", "sample"])
def test_agents_that_leave_the_batch_change_nothing_for_the_others(encoder, feedback):
    follower = make_follower(encoder).train(False)
    batch = make_batch(follower.environment, count=7)
    draws = np.random.default_rng(0).integers(0, 3, size=(6, 7)) if feedback == "sample" else None
    options = {"draws": draws, "bootstrap": True}
    results, gradients = [], []
    for stay in (True, False):
        recorded = follower.rollout(batch, feedback, keep_steps=stay, **options)
        live = recorded.masks.unsqueeze(-1)
        loss = recorded.imitation + (recorded.hidden * live).sum()
        if feedback == "sample":
            loss = loss + (recorded.entropies * recorded.masks).sum()
        follower.updater.clear()
        loss.backward()
        gradients.append(gradients_of(follower))
        kept = torch.from_numpy(~recorded.ended).unsqueeze(1)
        results.append((loss, recorded.rewards, recorded.masks, recorded.last_hidden * kept))
    assert not results[0][2].all()
    torch.testing.assert_close(*results)
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6)


def gradients_of(follower):
    return {
        f"{part}.{name}": parameter.grad.clone()
        for part, module in follower.modules.items()
        for name, parameter in module.named_parameters()
        if parameter.grad is not None
    }


def test_the_encoder_can_be_kept_from_the_noise_of_back_translation():
    noise = torch.zeros(6)
    rolled = []
    for sees in (True, False):
        follower = make_follower("dic", encoder_sees_noise=sees).train(False)
        batch = make_batch(follower.environment)
        rolled.append(follower.rollout(batch, "teacher", noise=noise).hidden)
    assert not torch.allclose(*rolled)


def test_what_is_missing_or_does_not_fit_is_said_in_one_sentence():
    environment, features = make_world()
    with pytest.raises(ValueError, match="lstm needs a word vocabulary"):
        Follower(SMALL, environment, features)
    with pytest.raises(ValueError, match="dic needs a pre-trained model"):
        Follower(FollowerConfig(encoder="dic", angle_size=4), environment, features)
    with pytest.raises(ValueError, match="sees views of 99 numbers"):
        Follower(
            FollowerConfig(encoder="dic", angle_size=4),
            environment,
            features,
            bert=make_bert(image_dim=99),
        )
    with pytest.raises(ValueError, match=r"--model.angle-size 128 differs from the 4"):
        Follower(FollowerConfig(), environment, features, vocab_size=9)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_critic_that_is_judged_without_gradient_first_still_learns(dtype, monkeypatch):
    """Copies of its weights that are made without gradient must not be kept for the second time."""
    follower, kept = make_follower("lstm"), []
    critic = follower.critic
    asked = critic.forward

    def forward(hidden):
        if not torch.is_grad_enabled():
            kept.append(torch.is_autocast_cache_enabled())
        return asked(hidden)

    monkeypatch.setattr(critic, "forward", forward)
    batch = make_batch(follower.environment)
    with torch.autocast("cpu", dtype):
        recorded = follower.rollout(batch, "sample", bootstrap=True)
    with torch.autocast("cpu", dtype):
        values = follower.judge(recorded).values.float().sum()
        assert torch.is_autocast_cache_enabled()
    values.backward()
    assert kept == [False]
    assert all(weight.grad is not None for weight in critic.parameters())
