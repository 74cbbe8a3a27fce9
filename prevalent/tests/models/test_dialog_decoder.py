"""The decoder of NDH against recorded steps, and against its formulas written out."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from prevalent.models.decoders import DialogDecoder, DialogSight, RecurrentState, VisualAttention
from prevalent.released.checkpoints import restore

FORWARD = 1e-5  # absolute, float32


def make_case(seed=0):
    torch.manual_seed(seed)
    views, candidates = torch.randn(3, 5, 6), torch.randn(3, 4, 6)
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]]).bool()
    padding = torch.tensor([[0, 0, 0], [0, 0, 1], [0, 1, 1]]).bool()
    state = RecurrentState(torch.randn(3, 8), torch.randn(3, 8))
    return DialogSight(views, candidates, mask), torch.randn(3, 6), state, padding


@pytest.mark.golden
def test_recorded_steps_are_reproduced(golden):
    paths = sorted((golden / "ndh").glob("decoder_step_*.npz"))
    if not paths:
        pytest.skip("this golden folder has no ndh/decoder_step_*.npz")
    for path in paths:
        with np.load(path) as file:
            case = {name: torch.as_tensor(file[name]) for name in file.files}
        weights = {k.removeprefix("sd/"): v for k, v in case.items() if k.startswith("sd/")}
        decoder = DialogDecoder(
            case["h_0"].shape[1],
            case["u_prev"].shape[1],
            case["ctx"].shape[2],
            attention_size=len(weights["decoder2action.linear_in_h.weight"]),
            recur_on_text=path.stem.endswith("vc"),
        ).eval()
        restore(decoder, weights, path)
        everything = torch.ones(case["u_features"].shape[:2], dtype=torch.bool)
        step = decoder(
            DialogSight(case["feature_all"], case["u_features"], everything),
            case["u_prev"],
            RecurrentState(case["h_0"], case["c_0"]),
            case["ctx"],
            case["ctx_mask"].bool(),
        )
        ours = {"h": step.state.hidden, "c": step.state.cell}
        for name, value in {**ours, "alpha": step.words, "logit": step.logits}.items():
            torch.testing.assert_close(value, case[name], rtol=0, atol=FORWARD)


def test_scores_are_those_of_the_written_out_formula():
    sight, previous, state, padding = make_case()
    decoder = DialogDecoder(8, 6, 7, attention_size=9).eval()
    context = torch.randn(3, 3, 7)
    step = decoder(sight, previous, state, context, padding)
    look, scorer = decoder.visual_attention_layer, decoder.decoder2action
    keys, query = look.linear_in_v(sight.views), look.linear_in_h(state.hidden)
    weights = torch.einsum("bvs,bs->bv", keys, query).softmax(dim=1)
    attended = torch.einsum("bv,bvf->bf", weights, sight.views)
    hidden, cell = decoder.lstm(torch.cat([previous, attended], dim=1), tuple(state))
    recalled, _ = decoder.attention_layer(hidden, context, padding)
    product = scorer.linear_in_h(recalled).unsqueeze(1) * scorer.linear_in_a(sight.candidates)
    wanted = scorer.linear_out(product).squeeze(2).masked_fill(~sight.mask, -torch.inf)
    torch.testing.assert_close(step.logits, wanted)
    torch.testing.assert_close(step.state.cell, cell)
    torch.testing.assert_close(step.state.hidden, recalled)


def test_gradients_are_those_of_the_written_out_formula():
    torch.manual_seed(0)
    attention, views, hidden = VisualAttention(8, 6, 9), torch.randn(2, 5, 6), torch.randn(2, 8)
    attention(hidden, views).square().sum().backward()
    ours = attention.linear_in_v.weight.grad.clone()
    attention.zero_grad()
    scores = (attention.linear_in_v(views) * attention.linear_in_h(hidden).unsqueeze(1)).sum(dim=2)
    (F.softmax(scores, dim=1).unsqueeze(1) @ views).square().sum().backward()
    torch.testing.assert_close(ours, attention.linear_in_v.weight.grad)


def test_padding_changes_nothing():
    sight, previous, state, padding = make_case()
    decoder, context = DialogDecoder(8, 6, 7, attention_size=9).eval(), torch.randn(3, 3, 7)
    one = decoder(sight, previous, state, context, padding)
    noisy = sight._replace(candidates=sight.candidates + ~sight.mask.unsqueeze(2) * 9.0)
    two = decoder(noisy, previous, state, context + padding.unsqueeze(2) * 9.0, padding)
    torch.testing.assert_close(one.logits, two.logits)
