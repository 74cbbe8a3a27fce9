"""Denoising: BERT's corruption of the encoder's input; the decoder still predicts clean text."""

from __future__ import annotations

import torch
from torch import Tensor

from .batches import Batch
from .tokenizers import Tokenizers


def corrupt_tokens(
    ids: Tensor,
    eligible: Tensor,
    mask_id: int,
    vocab_size: int,
    *,
    probability: float = 0.15,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Corrupt each eligible token of ``ids`` (B, S) independently with ``probability``.

    80 % of the chosen tokens become ``mask_id``, 10 % a random id, 10 % stay. Draws are made on
    the CPU, so that a seed gives the same tokens on every device. Returns a new (B, S) tensor.
    """
    if not 0 <= probability <= 1:
        raise ValueError(f"the share of corrupted tokens must be in [0, 1], got {probability}")
    draws = torch.rand((3, *ids.shape), generator=generator).to(ids.device)
    others = torch.randint(vocab_size, ids.shape, generator=generator).to(ids.device)
    chosen = (draws[0] < probability) & eligible
    masked = chosen & (draws[1] < 0.8)
    replaced = chosen & ~masked & (draws[2] < 0.5)
    return torch.where(masked, mask_id, torch.where(replaced, others, ids))


def corrupt(
    batch: Batch,
    tokenizers: Tokenizers,
    probability: float = 0.15,
    *,
    spare_special: bool = True,
    generator: torch.Generator | None = None,
) -> Batch:
    """``batch`` with a corrupted encoder side; labels, mask and lengths are untouched.

    Deviation: the authors let [CLS], [SEP] and padding be corrupted too;
    ``spare_special=False`` restores that.
    """
    ids = batch.encoder_ids
    eligible = torch.ones_like(batch.encoder_mask)
    if spare_special:
        ends = (ids == tokenizers.cls_id) | (ids == tokenizers.sep_id)
        eligible = batch.encoder_mask & ~ends
    corrupted = corrupt_tokens(
        ids,
        eligible,
        tokenizers.mask_id,
        tokenizers.encoder_vocab_size,
        probability=probability,
        generator=generator,
    )
    return batch._replace(encoder_ids=corrupted)
