"""Products with weights that are laid out anew are products with the weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from prevalent.models import kernels as products
from prevalent.models.kernels import (
    AVAILABLE,
    WORTHWHILE,
    DeferredLinear,
    DeferredLSTMCell,
    Ragged,
    multiply,
    ragged_lstm,
)


def agree(ours, inputs, matrix):
    wanted = (inputs.double() @ matrix.double()).float()
    torch.testing.assert_close(ours, wanted, rtol=1e-4, atol=1e-4)


def test_any_number_of_rows_is_multiplied_with_a_weight_or_its_transpose():
    torch.manual_seed(0)
    weight = nn.Parameter(torch.randn(WORTHWHILE // 256, 256))
    for shape in ((1,), (7,), (40,), (2, 3)):
        rows, turned = torch.randn(*shape, 256), torch.randn(*shape, len(weight))
        with torch.no_grad():
            for _ in range(2):
                agree(multiply(rows, weight), rows, weight.t())
                agree(multiply(turned, weight, transposed=True), turned, weight)


def test_a_changed_weight_is_laid_out_again():
    weight, rows = nn.Parameter(torch.randn(WORTHWHILE // 256, 256)), torch.randn(3, 256)
    with torch.no_grad():
        for _ in range(3):
            agree(multiply(rows, weight), rows, weight.t())
            weight.add_(1.0)


@pytest.mark.parametrize("options", [{"fused": True}, {"foreach": True}])
def test_a_step_of_an_optimizer_is_seen(options):
    weight, rows = nn.Parameter(torch.randn(WORTHWHILE // 256, 256)), torch.randn(3, 256)
    optimizer = torch.optim.AdamW([weight], lr=1.0, **options)
    for _ in range(3):
        with torch.no_grad():
            agree(multiply(rows, weight), rows, weight.t())
        weight.grad = torch.ones_like(weight)
        optimizer.step()


def test_layouts_go_with_their_weights_and_small_weights_have_none():
    before = len(products._layouts)
    large, small = torch.randn(WORTHWHILE // 256, 256), torch.randn(8, 256)
    rows = torch.randn(3, 256)
    multiply(rows, large)
    multiply(rows, small)
    assert len(products._layouts) == before + (1 if AVAILABLE else 0)
    del large
    assert len(products._layouts) == before


def test_without_the_library_a_plain_product_is_made(monkeypatch):
    monkeypatch.setattr(products, "AVAILABLE", False)
    weight, rows = torch.randn(WORTHWHILE // 256, 256), torch.randn(3, 256)
    assert torch.equal(multiply(rows, weight), rows @ weight.t())


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_precisions_stay_as_they_are(dtype):
    weight, rows = torch.randn(WORTHWHILE // 256, 256).to(dtype), torch.randn(3, 256).to(dtype)
    assert torch.equal(multiply(rows, weight), rows @ weight.t())


def walk(linear, cell, inputs, steps=4):
    """A recurrence that uses both modules at every step; returns a scalar."""
    state = (torch.zeros(len(inputs), 3), torch.ones(len(inputs), 3))
    for _ in range(steps):
        state = cell(linear(inputs) + linear(inputs[:, None]).sum(dim=1), state)
    return state[0].square().sum() + state[1].sum()


def twins():
    torch.manual_seed(0)
    plain = nn.ModuleList([nn.Linear(5, 4), nn.LSTMCell(4, 3)])
    ours = nn.ModuleList([DeferredLinear(5, 4), DeferredLSTMCell(4, 3)])
    ours.load_state_dict(plain.state_dict())
    return plain, ours


def assert_same_gradients(ours, plain):
    for (name, a), b in zip(ours.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, msg=name)


def test_gradients_agree_with_autograd_and_add_up_over_passes():
    plain, ours = twins()
    inputs = torch.randn(6, 5, requires_grad=True)
    others = inputs.detach().clone().requires_grad_()
    for _ in range(2):
        loss, other = walk(*ours, inputs), walk(*plain, others)
        torch.testing.assert_close(loss, other)
        loss.backward()
        other.backward()
        assert_same_gradients(ours, plain)
    torch.testing.assert_close(inputs.grad, others.grad)


def test_frozen_weights_and_inference_stay_as_they_are():
    plain, ours = twins()
    inputs = torch.randn(2, 5)
    ours[0].weight.requires_grad_(False)
    walk(*ours, inputs).backward()
    assert ours[0].weight.grad is None
    assert ours[0].bias.grad is not None
    with torch.no_grad():
        torch.testing.assert_close(walk(*ours, inputs), walk(*plain, inputs))


def test_autocast_goes_the_ordinary_way():
    plain, ours = twins()
    inputs = torch.randn(3, 5)
    for modules in (plain, ours):
        with torch.autocast("cpu", torch.bfloat16):
            loss = modules[0](inputs).float().square().sum()
        loss.backward()
    assert torch.equal(ours[0].weight.grad, plain[0].weight.grad)


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
