"""Soft-dot attention against the authors' outputs and a plain computation."""

import pytest
import torch

from prevalent.models.decoders import SoftDotAttention
from prevalent.released.checkpoints import restore
from tests.models.test_encoders import recorded_cases

FORWARD = 1e-5  # absolute, float32


@pytest.mark.golden
def test_recorded_attention_is_reproduced(golden):
    for name, arrays, state in recorded_cases(golden, "r2r_SoftDotAttention.npz"):
        attention = SoftDotAttention(arrays["h"].shape[-1], arrays["ctx"].shape[-1])
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
            torch.testing.assert_close(value.detach(), arrays[key], rtol=0, atol=FORWARD)


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
