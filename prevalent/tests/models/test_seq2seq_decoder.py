"""The decoder of six actions against its formulas written out."""

import torch

from prevalent.models.decoders import (
    IGNORE_INPUT,
    NUM_ACTIONS,
    START_INPUT,
    LowLevelDecoder,
    RecurrentState,
)


def test_a_step_is_that_of_the_written_out_formula():
    torch.manual_seed(0)
    decoder = LowLevelDecoder(8, 6, 7, action_size=5).eval()
    view, context = torch.randn(3, 6), torch.randn(3, 4, 7)
    previous = torch.tensor([START_INPUT, IGNORE_INPUT, 2])
    padding = torch.tensor([[0, 0, 0, 0], [0, 0, 1, 1], [0, 1, 1, 1]]).bool()
    state = RecurrentState(torch.randn(3, 8), torch.randn(3, 8))
    step = decoder(view, previous, state, context, padding)
    inputs = torch.cat([decoder.embedding.weight[previous], view], dim=1)
    hidden, cell = decoder.lstm(inputs, tuple(state))
    layer = decoder.attention_layer
    scores = torch.einsum("btc,bc->bt", context, layer.linear_in(hidden))
    weights = scores.masked_fill(padding, -torch.inf).softmax(dim=1)
    recalled = torch.einsum("bt,btc->bc", weights, context)
    recalled = torch.tanh(layer.linear_out(torch.cat([recalled, hidden], dim=1)))
    torch.testing.assert_close(step.logits, decoder.decoder2action(recalled))
    torch.testing.assert_close(step.state.hidden, hidden)
    torch.testing.assert_close(step.state.cell, cell)
    assert step.logits.shape == (3, NUM_ACTIONS)
