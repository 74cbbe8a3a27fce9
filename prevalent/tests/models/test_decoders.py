"""Decoder and critic against the authors' outputs, and their dropout."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from prevalent.models.decoders import (
    IGNORE_INPUT,
    NUM_ACTIONS,
    START_INPUT,
    AttentionDecoder,
    Critic,
    DecoderState,
    FeatureDropout,
    LowLevelDecoder,
    NDHDecoder,
    NDHSight,
    PathFeatures,
    RecurrentState,
    Sight,
    SoftDotAttention,
    SpeakerDecoder,
    SpeakerEncoder,
    VisualAttention,
    drop_images,
)
from prevalent.released.checkpoints import restore
from tests.models.test_encoders import near, recorded_cases


def close(ours, theirs):
    torch.testing.assert_close(ours.detach(), theirs, rtol=0, atol=near(ours.device))


@pytest.mark.golden
def test_recorded_decoder_steps_are_reproduced(golden, device):
    for name, arrays, state in recorded_cases(golden, "r2r_*AttnDecoderLSTM.npz", device):
        angle_size = arrays["input_a_t"].shape[1]
        images, angles = arrays["f_t"].tensor_split([-angle_size], dim=-1)
        decoder = (
            AttentionDecoder(
                arrays["c_0"].shape[1],
                images.shape[-1],
                angle_size,
                arrays["ctx"].shape[-1],
                action_size=len(state["embedding.0.bias"]),
            )
            .eval()
            .to(device)
        )
        restore(decoder, state, name)
        candidates = arrays["cand_feat"]
        mask = torch.ones(candidates.shape[:2], dtype=torch.bool, device=device)
        sight = Sight(arrays["input_a_t"], images, angles, candidates, mask)
        before = DecoderState(arrays["prev_h1"], arrays["c_0"])
        step = decoder(sight, before, arrays["ctx"], arrays["ctx_mask"])
        close(step.hidden, arrays["h_1"])
        close(step.state.cell, arrays["c_1"])
        close(step.state.attended, arrays["h_tilde"])
        close(step.logits, arrays["logit"])


@pytest.mark.golden
def test_the_recorded_critic_is_reproduced(golden, device):
    for name, arrays, state in recorded_cases(golden, "r2r_Critic.npz", device):
        critic = Critic(arrays["x"].shape[1]).eval().to(device)
        restore(critic, state, name)
        close(critic(arrays["x"]), arrays["y"])


def make_step(**options):
    torch.manual_seed(0)
    decoder = AttentionDecoder(8, 6, 4, 8, action_size=5, **options)
    mask = torch.tensor([[True, True, False], [True, True, True]])
    candidates = torch.randn(2, 3, 10) * mask.unsqueeze(-1)
    candidates[0, 1] = candidates[1, 2] = 0.0  # STOP
    sight = Sight(torch.randn(2, 4), torch.randn(2, 36, 6), torch.randn(2, 36, 4), candidates, mask)
    state = DecoderState(torch.randn(2, 8), torch.randn(2, 8))
    return decoder, sight, state, torch.randn(2, 5, 8), torch.zeros(2, 5, dtype=torch.bool)


def test_a_stop_scores_zero_and_padding_is_impossible():
    decoder, *inputs = make_step()
    logits = decoder.eval()(*inputs).logits
    assert logits[0, 1] == logits[1, 2] == 0
    assert logits[0, 2] == -torch.inf


def test_feature_dropout_leaves_its_inputs_alone():
    decoder, sight, *rest = make_step(dropout=0.0, feature_dropout=0.5)
    kept = [part.clone() for part in sight]
    one, two = decoder(sight, *rest), decoder(sight, *rest)
    assert not torch.equal(one.hidden, two.hidden)
    for before, after in zip(kept, sight, strict=True):
        assert torch.equal(before, after)


def test_features_with_noise_are_not_dropped_again():
    decoder, *inputs = make_step(dropout=0.0, feature_dropout=0.5)
    one, two = decoder(*inputs, dropped=True), decoder(*inputs, dropped=True)
    assert torch.equal(one.logits, two.logits)


@pytest.mark.golden
def test_recorded_attention_is_reproduced(golden, device):
    for name, arrays, state in recorded_cases(golden, "r2r_SoftDotAttention.npz", device):
        attention = SoftDotAttention(arrays["h"].shape[-1], arrays["ctx"].shape[-1]).to(device)
        restore(attention, state, name)
        inputs = (arrays["h"], arrays["ctx"], arrays["mask"])
        tilde, weights = attention(*inputs)
        ours = {
            "tilde": tilde,
            "prob": weights,
            "weighted": attention.attend(*inputs).context,
            "raw_logit": attention.scores(*inputs),
        }
        for key, value in ours.items():
            torch.testing.assert_close(value.detach(), arrays[key], rtol=0, atol=near(device))


def test_many_queries_are_as_many_single_ones():
    torch.manual_seed(0)
    attention = SoftDotAttention(4, 6)
    queries, memory = torch.randn(2, 3, 4), torch.randn(2, 5, 6)
    padding = torch.tensor([[False] * 5, [False, False, True, True, True]])
    many, weights = attention(queries, memory, padding)
    for i in range(3):
        one, alone = attention(queries[:, i], memory, padding)
        torch.testing.assert_close(many[:, i], one)
        torch.testing.assert_close(weights[:, i], alone)
    assert not weights[1, :, 2:].any()


@pytest.mark.parametrize("p", [0.1, 0.3, 0.5, 0.9])
@pytest.mark.parametrize("shape", [(100_003,), (20, 36, 140)])
def test_masks_have_the_asked_share_of_zeros_and_keep_the_mean(p, shape):
    torch.manual_seed(0)
    dropped = FeatureDropout(p)(torch.ones(shape))
    zeros, scaled = dropped.unique().tolist()
    assert zeros == 0
    assert scaled == pytest.approx(1 / (1 - p), rel=1e-3)
    spread = 5 * (p * (1 - p) / dropped.numel()) ** 0.5
    assert (dropped == 0).float().mean().item() == pytest.approx(p, abs=spread)


def test_elements_are_dropped_independently():
    torch.manual_seed(0)
    mask = (FeatureDropout(0.5)(torch.ones(4, 50_000)) == 0).double()
    for shift in (1, 2, 3, 4):
        pairs = torch.stack([mask.flatten()[:-shift], mask.flatten()[shift:]])
        assert abs(torch.corrcoef(pairs)[0, 1].item()) < 0.01


def test_eval_mode_and_zero_return_the_features_themselves():
    features = torch.randn(3, 4)
    assert FeatureDropout(0.5).eval()(features) is features
    assert FeatureDropout(0.0)(features) is features


def test_gradients_are_masked_alike():
    features = torch.ones(1000, requires_grad=True)
    dropped = FeatureDropout(0.4)(features)
    dropped.sum().backward()
    torch.testing.assert_close(features.grad, dropped.detach())


def test_angles_are_never_dropped():
    torch.manual_seed(0)
    features = torch.ones(2, 3, 100)
    dropped = drop_images(FeatureDropout(0.5), features, angle_size=40)
    assert torch.equal(dropped[..., 60:], features[..., 60:])
    assert set(dropped[..., :60].unique().tolist()) == {0.0, 2.0}


def make_case(seed=0):
    torch.manual_seed(seed)
    views, candidates = torch.randn(3, 5, 6), torch.randn(3, 4, 6)
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]]).bool()
    padding = torch.tensor([[0, 0, 0], [0, 0, 1], [0, 1, 1]]).bool()
    state = RecurrentState(torch.randn(3, 8), torch.randn(3, 8))
    return NDHSight(views, candidates, mask), torch.randn(3, 6), state, padding


@pytest.mark.golden
def test_recorded_steps_are_reproduced(golden, device):
    paths = sorted((golden / "ndh").glob("decoder_step_*.npz"))
    if not paths:
        pytest.skip("this golden folder has no ndh/decoder_step_*.npz")
    for path in paths:
        with np.load(path) as file:
            case = {name: torch.as_tensor(file[name]).to(device) for name in file.files}
        weights = {k.removeprefix("sd/"): v for k, v in case.items() if k.startswith("sd/")}
        decoder = (
            NDHDecoder(
                case["h_0"].shape[1],
                case["u_prev"].shape[1],
                case["ctx"].shape[2],
                attention_size=len(weights["decoder2action.linear_in_h.weight"]),
                recur_on_text=path.stem.endswith("vc"),
            )
            .eval()
            .to(device)
        )
        restore(decoder, weights, path)
        everything = torch.ones(case["u_features"].shape[:2], dtype=torch.bool, device=device)
        step = decoder(
            NDHSight(case["feature_all"], case["u_features"], everything),
            case["u_prev"],
            RecurrentState(case["h_0"], case["c_0"]),
            case["ctx"],
            case["ctx_mask"].bool(),
        )
        ours = {"h": step.state.hidden, "c": step.state.cell}
        for name, value in {**ours, "alpha": step.words, "logit": step.logits}.items():
            torch.testing.assert_close(value, case[name], rtol=0, atol=near(device))


def test_scores_are_those_of_the_written_out_formula():
    sight, previous, state, padding = make_case()
    decoder = NDHDecoder(8, 6, 7, attention_size=9).eval()
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
    decoder, context = NDHDecoder(8, 6, 7, attention_size=9).eval(), torch.randn(3, 3, 7)
    one = decoder(sight, previous, state, context, padding)
    noisy = sight._replace(candidates=sight.candidates + ~sight.mask.unsqueeze(2) * 9.0)
    two = decoder(noisy, previous, state, context + padding.unsqueeze(2) * 9.0, padding)
    torch.testing.assert_close(one.logits, two.logits)


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


def weights_of(arrays, prefix):
    return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}


@pytest.mark.golden
def test_the_recorded_speaker_is_reproduced(golden, device):
    path = golden / "models/r2r_speaker.npz"
    if not path.exists():
        pytest.skip("no recorded speaker networks")
    with np.load(path) as file:
        arrays = {name: torch.as_tensor(file[name]).to(device) for name in file.files}
    seen = PathFeatures(arrays["can_feats"], arrays["img_feats"], arrays["lengths"])
    words, weights = arrays["words"], weights_of(arrays, "dec/")
    vocab, width = weights["embedding.weight"].shape
    hidden = weights["projection.weight"].shape[1]
    encoder = SpeakerEncoder(seen.candidates.shape[-1], 4, hidden).eval().to(device)
    decoder = SpeakerDecoder(vocab, width, hidden).eval().to(device)
    restore(encoder, weights_of(arrays, "enc/"), path)
    restore(decoder, weights, path)
    context, start = encoder(seen), decoder.start(len(words))
    logits, state = decoder(words, context, seen.padding, start)
    loss = F.cross_entropy(logits[:, :-1].transpose(1, 2), words[:, 1:], ignore_index=0)
    first, _ = decoder(words[:, :1], context, seen.padding, start)
    assert torch.equal(seen.padding, arrays["ctx_mask"])
    for ours, name in (
        (context, "ctx"),
        (logits, "logits"),
        (state.hidden, "h1"),
        (state.cell, "c1"),
        (first, "first_step_logits"),
        (loss, "teacher_forcing_loss"),
    ):
        close(ours, arrays[name])


def test_words_one_by_one_give_the_logits_of_all_at_once():
    torch.manual_seed(0)
    decoder = SpeakerDecoder(11, 6, 8).eval()
    words, context = torch.randint(1, 11, (2, 5)), torch.randn(2, 4, 8)
    padding = torch.tensor([[False] * 4, [False, False, True, True]])
    whole, _ = decoder(words, context, padding, decoder.start(2))
    state, steps = decoder.start(2), []
    for i in range(5):
        logits, state = decoder(words[:, i : i + 1], context, padding, state)
        steps.append(logits)
    close(torch.cat(steps, dim=1), whole.detach())
