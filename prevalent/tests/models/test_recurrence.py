"""The LSTM over words alone is PyTorch's packed one, outputs and gradients."""

import pytest
import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from prevalent.models.kernels import Ragged, ragged_lstm


def packed(lstm, inputs, lengths):
    sequence = pack_padded_sequence(inputs, lengths, batch_first=True, enforce_sorted=False)
    outputs, (hidden, cell) = lstm(sequence)
    outputs, _ = pad_packed_sequence(outputs, batch_first=True, total_length=inputs.shape[1])
    return outputs, *(torch.cat(states.flip(0).unbind(0), dim=1) for states in (hidden, cell))


@pytest.mark.parametrize("both", [True, False])
@pytest.mark.parametrize("lengths", [[4, 2, 1], [1, 3, 3, 2], [1, 1], [5]])
@pytest.mark.parametrize("width", [4, 200])  # the wide one multiplies with weights laid out anew
def test_outputs_and_gradients_are_those_of_the_packed_one(both, lengths, width):
    torch.manual_seed(0)
    lstm = torch.nn.LSTM(3, width, batch_first=True, bidirectional=both)
    results = []
    for run in (packed, ragged_lstm):
        inputs = torch.randn(len(lengths), 5, 3, generator=torch.Generator().manual_seed(1))
        inputs.requires_grad_()
        found = run(lstm, inputs, torch.tensor(lengths))
        lstm.zero_grad()
        sum((one * (i + 1)).square().sum() for i, one in enumerate(found)).backward()
        results.append([*found, inputs.grad, *(p.grad for p in lstm.parameters())])
    for theirs, ours in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_words_stand_step_by_step_with_the_longest_text_first():
    ragged = Ragged.of(torch.tensor([1, 3, 2]), 4)
    assert ragged.order.tolist() == [1, 2, 0]
    assert ragged.sizes == [3, 2, 1]
    assert ragged.places.tolist() == [4, 8, 0, 5, 9, 6]
    assert ragged.mirrored.tolist() == [6, 9, 0, 5, 8, 4]
