"""Decoder and critic against the authors' outputs, and their dropout."""

import pytest
import torch

from prevalent.models.decoders import AttentionDecoder, Critic, DecoderState, Sight
from prevalent.released.checkpoints import restore
from tests.models.test_encoders import recorded_cases

FORWARD = 1e-5  # absolute, float32


def close(ours, theirs):
    torch.testing.assert_close(ours.detach(), theirs, rtol=0, atol=FORWARD)


@pytest.mark.golden
def test_recorded_decoder_steps_are_reproduced(golden):
    for name, arrays, state in recorded_cases(golden, "r2r_*AttnDecoderLSTM.npz"):
        angle_size = arrays["input_a_t"].shape[1]
        images, angles = arrays["f_t"].tensor_split([-angle_size], dim=-1)
        decoder = AttentionDecoder(
            arrays["c_0"].shape[1],
            images.shape[-1],
            angle_size,
            arrays["ctx"].shape[-1],
            action_size=len(state["embedding.0.bias"]),
        ).eval()
        restore(decoder, state, name)
        candidates = arrays["cand_feat"]
        mask = torch.ones(candidates.shape[:2], dtype=torch.bool)
        sight = Sight(arrays["input_a_t"], images, angles, candidates, mask)
        before = DecoderState(arrays["prev_h1"], arrays["c_0"])
        step = decoder(sight, before, arrays["ctx"], arrays["ctx_mask"])
        close(step.hidden, arrays["h_1"])
        close(step.state.cell, arrays["c_1"])
        close(step.state.attended, arrays["h_tilde"])
        close(step.logits, arrays["logit"])


@pytest.mark.golden
def test_the_recorded_critic_is_reproduced(golden):
    for name, arrays, state in recorded_cases(golden, "r2r_Critic.npz"):
        critic = Critic(arrays["x"].shape[1]).eval()
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
