"""HANNA's networks: a recorded walk of the authors' network, and what must not matter."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from prevalent.data.features import expand_angles
from prevalent.models.hanna import (
    AskNetwork,
    DicEncoder,
    HannaConfig,
    LearnedTime,
    Memory,
    MultiHeadAttention,
    NavigationNetwork,
    Positions,
    Residual,
    Sight,
    StateLayer,
    Text,
    TextLayer,
    WordEncoder,
    goal_likeness,
    scatter_chances,
)
from tests.small_agents import make_bert

LOGITS = 1e-5
CONFIG = HannaConfig(
    hidden_size=8, num_heads=2, num_layers=2, dropout=0.0, ask_size=4, angle_size=4, reset="own"
)
WIDTH, WORDS = 6, 12


def load_recorded(path):
    """The network and the arrays of a recorded walk; weights stand in the order of their names."""
    with np.load(path) as file:
        arrays = dict(file)
    heads, layers, width, angle, length, words = arrays["sizes"].tolist()
    config = HannaConfig(
        hidden_size=width, num_heads=heads, num_layers=layers, dropout=0.0, angle_size=angle
    )
    network = NavigationNetwork(
        config, WordEncoder(config, words, length), arrays["table"].shape[2]
    )
    state, place = network.state_dict(), 0
    for name in sorted(state):
        count = state[name].numel()
        flat = torch.from_numpy(arrays["weights"][place : place + count])
        state[name], place = flat.view_as(state[name]), place + count
    assert place == len(arrays["weights"])
    network.load_state_dict(state)
    return network, arrays


def recorded_sight(arrays, t, angle_size):
    table = torch.from_numpy(np.concatenate([arrays["table"], 0 * arrays["table"][:1]]))
    images, goal = table[arrays[f"row_{t}"]], table[arrays[f"goal_row_{t}"]]  # -1 is blank
    blank = 0 * images[:, :1]
    view = torch.from_numpy(arrays[f"action_view_{t}"])
    agents = torch.arange(len(view))[:, None]
    shown = images[agents, view.clamp(min=0)] * (view >= 0).unsqueeze(2)
    angles = expand_angles(torch.from_numpy(arrays[f"action_angle_{t}"]), angle_size, "block")
    return Sight(
        torch.cat([images, blank], dim=1),
        torch.cat([goal, blank], dim=1),
        torch.cat([shown, angles], dim=2),
        torch.from_numpy(arrays[f"mask_{t}"]),
        torch.from_numpy(arrays[f"slot_{t}"]),
    )


@pytest.mark.golden
def test_a_recorded_walk_gives_the_recorded_logits(golden):
    paths = sorted((golden / "hanna").glob("navigation*.npz"))
    if not paths:
        pytest.skip(f"{golden}/hanna has no recorded walk of a navigation network")
    for path in paths:
        network, arrays = load_recorded(path)
        angle_size = int(arrays["sizes"][3])
        agents = torch.arange(len(arrays["row_0"]))
        recall, action, t = network.start(len(agents)), None, 0
        while f"row_{t}" in arrays:
            sight = recorded_sight(arrays, t, angle_size)
            if action is None:
                action = torch.zeros_like(sight.actions[:, 0])
            if f"ids_{t}" in arrays:
                new = torch.from_numpy(arrays[f"new_{t}"])
                network.read(recall, torch.from_numpy(arrays[f"ids_{t}"]), agents, new)
            logits = network(recall, sight, action, goal_likeness(sight.views, sight.goal))
            wanted = arrays[f"nav_logit_{t}"]
            np.testing.assert_allclose(logits.detach(), wanted, rtol=0, atol=LOGITS)
            action = sight.actions[agents, torch.from_numpy(arrays[f"action_{t}"])]
            t += 1
        assert t > 1


def make_networks(**changes):
    torch.manual_seed(0)
    config = HannaConfig(**{**CONFIG.__dict__, **changes})
    return [
        kind(config, WordEncoder(config, WORDS, 9), WIDTH).eval()
        for kind in (NavigationNetwork, AskNetwork)
    ]


def make_sight(batch=3, actions=4, seed=0):
    torch.manual_seed(seed)
    views, goal = torch.randn(2, batch, 37, WIDTH)
    mask = torch.ones(batch, actions, dtype=torch.bool)
    mask[0, -1] = False
    slot = torch.randint(37, (batch, actions))
    return Sight(views, goal, torch.randn(batch, actions, WIDTH + 4) * mask[..., None], mask, slot)


def steps(network, sights, ids, new_at=()):
    """Logits of a few steps; the second agent gets a new text before the steps ``new_at``."""
    batch = len(ids)
    recall, everyone = network.start(batch), torch.arange(batch)
    network.read(recall, ids, everyone, everyone)
    found = []
    for t, sight in enumerate(sights):
        if t in new_at:
            second = torch.tensor([1])
            network.read(recall, ids[1:2].flip(1), second, second)
        likeness = goal_likeness(sight.views, sight.goal)
        action = sight.actions[:, 1]
        found.append(network(recall, sight, action, likeness))
    return torch.stack(found)


def test_a_new_text_of_another_agent_changes_nothing_unless_the_batch_forgets():
    sights, ids = [make_sight(seed=s) for s in range(4)], torch.randint(1, WORDS, (3, 5))
    for reset, same in (("own", True), ("batch", False)):
        network = make_networks(reset=reset)[0]
        plain, other = steps(network, sights, ids), steps(network, sights, ids, new_at=(2,))
        assert torch.equal(plain[:, 0], other[:, 0]) is same
        assert not torch.allclose(plain[3, 1], other[3, 1])


def test_padding_of_texts_and_actions_changes_nothing():
    network = make_networks()[0]
    sights, ids = [make_sight(seed=s) for s in range(3)], torch.randint(1, WORDS, (3, 5))
    plain = steps(network, sights, ids)
    longer = torch.nn.functional.pad(ids, (0, 3))
    wider = [
        s._replace(
            actions=torch.nn.functional.pad(s.actions, (0, 0, 0, 2)),
            mask=torch.nn.functional.pad(s.mask, (0, 2)),
        )
        for s in sights
    ]
    padded = steps(network, wider, longer)
    torch.testing.assert_close(padded[..., :4], plain)
    assert (padded[..., 4:] == -torch.inf).all()


@pytest.mark.parametrize("reasons", [True, False])
def test_the_decision_to_ask_follows_from_the_reasons_if_there_are_any(reasons):
    network = make_networks(reasons=reasons)[1]
    sight, ids, agents = make_sight(), torch.randint(1, WORDS, (3, 5)), torch.arange(3)
    recall = network.start(3)
    network.read(recall, ids, agents, agents)
    likeness = goal_likeness(sight.views, sight.goal)
    step = network(recall, sight, torch.full((3,), 2), likeness, torch.rand(3, 37))
    assert step.logits.shape == (3, 2)
    followed = torch.allclose(step.logits, network.predictor(step.reasons)) if reasons else False
    assert followed is reasons


def test_likeness_is_the_best_cosine_and_zero_before_the_goal_is_known():
    views, goal = torch.randn(2, 2, 37, WIDTH)
    expected = torch.nn.functional.cosine_similarity(views[:, :, None], goal[:, None], dim=3)
    torch.testing.assert_close(goal_likeness(views, goal), expected.amax(dim=2))
    assert not goal_likeness(views, torch.zeros_like(goal)).any()


def test_chances_of_actions_in_one_view_add_up():
    logits = torch.tensor([[0.0, 0.0, 0.0, -torch.inf]])
    chances = scatter_chances(logits, torch.tensor([[36, 7, 7, -1]]))
    assert chances[0, 36] == pytest.approx(1 / 3)
    assert chances[0, 7] == pytest.approx(2 / 3)
    assert chances.sum() == pytest.approx(1)


@pytest.mark.parametrize("trained", [True, False])
def test_the_pre_trained_layers_learn_only_if_they_are_told_to(trained):
    config = HannaConfig(**{**CONFIG.__dict__, "encoder": "dic", "update_language": trained})
    encoder = DicEncoder(config, make_bert(), 9)
    encoder(torch.randint(1, 5, (2, 6))).words.square().sum().backward()
    weight = encoder.bert.lalayer[0].attention.self.query.weight
    assert (weight.grad is not None) is trained
    assert encoder.zero_layer.weight.grad is not None


def test_attention_agrees_with_pytorchs():
    torch.manual_seed(0)
    ours, theirs = MultiHeadAttention(8, 2, 0.0), nn.MultiheadAttention(8, 2, batch_first=True)
    parts = (ours.linear_query, ours.linear_key, ours.linear_value)
    theirs.in_proj_weight.data = torch.cat([part.weight for part in parts]).detach()
    theirs.in_proj_bias.data = torch.cat([part.bias for part in parts]).detach()
    theirs.out_proj.weight, theirs.out_proj.bias = ours.final_linear.weight, ours.final_linear.bias
    query, key, value = torch.randn(2, 3, 8), torch.randn(2, 5, 8), torch.randn(2, 5, 8)
    hidden = torch.tensor([[False] * 5, [False, False, False, True, True]])
    expected, _ = theirs(query, key, value, key_padding_mask=hidden)
    torch.testing.assert_close(ours(query, key, value, hidden), expected)


def test_positions_are_sines_and_cosines():
    table = Positions(4, 6).pe[0]
    assert math.isclose(table[3, 0], math.sin(3), abs_tol=1e-6)
    assert math.isclose(table[3, 5], math.cos(3 * 10000 ** (-4 / 6)), abs_tol=1e-6)


def test_a_residual_of_another_width_has_a_linear_shortcut():
    assert Residual(nn.Linear(4, 4), 4, 0.0, 4).shortcut_layer is None
    assert Residual(nn.Linear(8, 4), 4, 0.0, 8)(torch.randn(2, 8)).shape == (2, 4)


def test_time_moves_on_and_takes_account_of_another():
    torch.manual_seed(0)
    local, both = LearnedTime(4, 4), LearnedTime(4, 8)
    first = local(local.start(2))
    assert not torch.equal(first, local.start(2))
    assert not torch.equal(both(both.start(2), first), both(both.start(2), local.start(2)))


def test_a_state_departs_from_what_was_done_in_like_situations_only():
    torch.manual_seed(0)
    layer = StateLayer(8, 2, 0.0, similar=True)
    inputs, before = torch.randn(2, 8), torch.randn(2, 8)

    def run(keys, hidden=None):
        memory = Memory([torch.zeros(2, 8), keys], [torch.zeros(2, 8), before])
        return layer(inputs, memory, hidden)

    like = run(inputs)
    off = torch.tensor([[False, True]] * 2)
    assert not torch.allclose(like, run(inputs, off))
    assert torch.allclose(run(-inputs), run(-inputs, off))
    assert StateLayer(8, 2, 0.0, similar=False).gate is None


def test_layers_remember_one_key_and_one_value_a_step():
    torch.manual_seed(0)
    layer, memory = TextLayer(8, 2, 0.0), Memory.start(2, torch.zeros(8))
    text = Text(torch.randn(2, 3, 8), torch.zeros(2, 3, dtype=torch.bool))
    inputs = torch.randn(2, 8)
    layer(inputs, text, memory, torch.zeros(2, 1, dtype=torch.bool))
    assert torch.equal(memory.keys[1], inputs)
    keys, values = memory.stacked()
    assert keys.shape == values.shape == (2, 2, 8)
