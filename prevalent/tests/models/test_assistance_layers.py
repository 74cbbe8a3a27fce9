"""Layers of HANNA's networks against independent computations."""

import math

import torch
from torch import nn

from prevalent.models.hanna import (
    LearnedTime,
    Memory,
    MultiHeadAttention,
    Positions,
    Residual,
    StateLayer,
    Text,
    TextLayer,
)


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
