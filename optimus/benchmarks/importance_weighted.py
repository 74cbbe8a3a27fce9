"""log p(x) of sentences of 64 tokens from 100 samples each (K = 100)."""

from __future__ import annotations

import functools
from typing import Any

import torch
from harness import DEVICE, build_model, main, random_ids
from plain import importance_weighted

from optimus.models.vae import OptimusModel, importance_scores

SENTENCES, SAMPLES = 1, 100
ENCODER_IDS, DECODER_IDS = random_ids(SENTENCES, 64)
EPS = torch.randn(SENTENCES, SAMPLES, 32, generator=torch.Generator(DEVICE).manual_seed(1))


@functools.cache
def model(attention: str) -> OptimusModel:
    """In evaluation mode."""
    return build_model(attention).eval()


def plain() -> torch.Tensor:
    """Sentence by sentence, in chunks of five samples, the encoder run for each chunk."""
    rows = [
        importance_weighted(
            model("eager"), ENCODER_IDS[i : i + 1], DECODER_IDS[i : i + 1], EPS[i : i + 1]
        )[0]
        for i in range(SENTENCES)
    ]
    return torch.cat(rows)


def ours(precision: str = "fp32") -> torch.Tensor:
    """The sentences as one batch, each encoded once."""
    with torch.autocast(DEVICE, torch.bfloat16, enabled=precision == "bf16"):
        scores = importance_scores(model("sdpa"), ENCODER_IDS, DECODER_IDS, eps=EPS)
    return scores.log_marginal()


def check() -> dict[str, Any]:
    """Largest relative difference of log p(x)."""
    expected = plain()
    return {
        f"relative difference, {name}": f"{float(((value - expected) / expected).abs().max()):.1e}"
        for name, value in (("fp32", ours()), ("bf16", ours("bf16")))
    }


if __name__ == "__main__":
    main(
        "importance_weighted",
        lambda: {"plain": plain, "ours": ours, "ours, bf16": lambda: ours("bf16")},
        repeats=3,
        target=5,
        check=check,
    )
