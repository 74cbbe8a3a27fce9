"""Sentences drawn with gradients: Gumbel-softmax in place of the choice of a token.

A loss on such a sentence reaches the latent that it was made from (Hu et al., ICML 2017; Jang et
al., ICLR 2017). The authors' code has such a sampler, which cannot be called.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from .decoder import LatentDecoder


class SoftSentences(NamedTuple):
    """B sentences of T positions, the first of which is <BOS>."""

    embedded: Tensor  # (B, T, H) means of token embeddings, weighted by the draws
    lengths: Tensor  # (B,) positions up to the first that is mostly <EOS>, that one included


def draw_softly(
    decoder: LatentDecoder,
    latent: Tensor,
    ends: tuple[int, int],
    *,
    num_tokens: int,
    temperature: float = 0.5,
) -> SoftSentences:
    """Draw a sentence for each row of ``latent`` (B, Z), differentiable in ``latent``.

    The embeddings themselves get no gradient. Memory grows with B x ``num_tokens`` x V.

    Args:
        decoder: z -> sentence, without gradient checkpointing, which drops the tokens so far.
        latent: sentence vectors.
        ends: ids of <BOS> and <EOS>.
        num_tokens: T, <BOS> counted.
        temperature: of the Gumbel-softmax; towards 0 it draws single tokens.
    """
    if decoder.checkpointing and decoder.training:
        raise ValueError("soft sampling needs a decoder without gradient checkpointing")
    bos, eos = ends
    table = decoder.gpt2.transformer.wte.weight.detach()  # (V, H)
    state = decoder.start(latent)
    rows = [table[bos].expand(len(latent), 1, -1)]
    lengths = torch.ones(len(latent), dtype=torch.long, device=latent.device)
    going = torch.ones_like(lengths, dtype=torch.bool)
    for _ in range(1, num_tokens):
        logits = decoder.head(decoder.advance_embedded(state, rows[-1])[:, -1])
        share = F.gumbel_softmax(logits.float(), tau=temperature)  # (B, V)
        rows.append((share.to(table.dtype) @ table)[:, None])
        lengths = lengths + going
        going = going & (share.argmax(dim=1) != eos)
    return SoftSentences(torch.cat(rows, dim=1), lengths)
