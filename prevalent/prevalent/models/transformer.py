"""Post-LayerNorm transformer blocks of the two streams, under the authors' parameter names.

Attribute names such as ``self``, ``att``, ``lang_inter`` are the keys of the released checkpoint.
Attention runs in PyTorch's fused kernels.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..config import ModelConfig

MASKED_SCORE = -10000.0  # the authors' bias on padding; exp() of it is 0 in every precision


def attention_bias(mask: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """Turn ``mask`` (B, T), 1 = word and 0 = padding, into a bias (B, 1, 1, T) on the scores."""
    if mask is None:
        return None
    return ((1.0 - mask.to(dtype)) * MASKED_SCORE)[:, None, None, :]


class Packing(NamedTuple):
    """Texts without their padding: the words of a batch, one after the other, are (N, d).

    Everything but attention works on single words, so padding need not be computed. The result at
    the words is the same.
    """

    positions: Tensor  # (N,) places of the words in B*T, ascending
    batch: int  # B
    length: int  # T

    def pack(self, padded: Tensor) -> Tensor:
        """(B, T, ...) -> (N, ...)."""
        return padded.flatten(0, 1)[self.positions]

    def unpack(self, packed: Tensor) -> Tensor:
        """(N, d) -> (B, T, d), zeros at the padding."""
        padded = packed.new_zeros(self.batch * self.length, packed.shape[1])
        return padded.index_copy(0, self.positions, packed).view(self.batch, self.length, -1)


class TextEmbeddings(nn.Module):
    """Sum of word, position and token-type embeddings, normalized."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.position_embeddings = nn.Embedding(config.max_positions, config.hidden_size)
        self.token_type_embeddings = nn.Embedding(config.num_token_types, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, input_ids: Tensor, packing: Packing | None = None) -> Tensor:
        """(B, T) ids -> (B, T, d), or (N, d) if packed; every token has type 0."""
        if packing is None:
            positions = self.position_embeddings.weight[: input_ids.shape[1]]  # (T, d)
        else:
            input_ids = packing.pack(input_ids)
            positions = self.position_embeddings(packing.positions % packing.length)
        words = self.word_embeddings(input_ids)
        return self.dropout(
            self.LayerNorm(words + positions + self.token_type_embeddings.weight[0])
        )


class Attention(nn.Module):
    """Multi-head attention of queries over a memory."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.query = nn.Linear(config.hidden_size, config.hidden_size)
        self.key = nn.Linear(config.hidden_size, config.hidden_size)
        self.value = nn.Linear(config.hidden_size, config.hidden_size)
        self.dropout = config.attention_dropout

    def _split(self, states: Tensor, packing: Packing | None) -> Tensor:
        if packing is not None and states.dim() == 2:
            states = packing.unpack(states)
        return states.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # (B, heads, T, d/heads)

    def forward(
        self,
        states: Tensor,
        memory: Tensor,
        bias: Tensor | None = None,
        packing: Packing | None = None,
    ) -> Tensor:
        """``states`` (B, T, d) attend to ``memory`` (B, S, d); ``bias`` is (B, 1, 1, S) or None.

        Either may be packed, (N, d); the result has the shape of ``states``.
        """
        query, key, value = (
            self._split(projection(source), packing)
            for projection, source in (
                (self.query, states),
                (self.key, memory),
                (self.value, memory),
            )
        )
        if bias is not None:
            bias = bias.to(query.dtype)
        attended = F.scaled_dot_product_attention(
            query, key, value, attn_mask=bias, dropout_p=self.dropout if self.training else 0.0
        )
        attended = attended.transpose(1, 2).flatten(2)
        return packing.pack(attended) if packing is not None and states.dim() == 2 else attended


class ResidualOutput(nn.Module):
    """Project back to d, drop out, add the residual, normalize."""

    def __init__(self, config: ModelConfig, input_size: int) -> None:
        super().__init__()
        self.dense = nn.Linear(input_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, states: Tensor, residual: Tensor) -> Tensor:
        return self.LayerNorm(self.dropout(self.dense(states)) + residual)


class SelfAttention(nn.Module):
    """Attention of a sequence over itself, with its residual."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.self = Attention(config)
        self.output = ResidualOutput(config, config.hidden_size)

    def forward(
        self, states: Tensor, bias: Tensor | None = None, packing: Packing | None = None
    ) -> Tensor:
        return self.output(self.self(states, states, bias, packing), states)


class CrossAttention(nn.Module):
    """Attention of one stream over the other, with its residual."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.att = Attention(config)
        self.output = ResidualOutput(config, config.hidden_size)

    def forward(
        self,
        states: Tensor,
        memory: Tensor,
        bias: Tensor | None = None,
        packing: Packing | None = None,
    ) -> Tensor:
        return self.output(self.att(states, memory, bias, packing), states)


class Intermediate(nn.Module):
    """First half of a feed-forward layer: widen, exact GELU."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.intermediate_size)

    def forward(self, states: Tensor) -> Tensor:
        return F.gelu(self.dense(states))


class LanguageLayer(nn.Module):
    """A BERT layer."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.attention = SelfAttention(config)
        self.intermediate = Intermediate(config)
        self.output = ResidualOutput(config, config.intermediate_size)

    def forward(
        self, text: Tensor, bias: Tensor | None = None, packing: Packing | None = None
    ) -> Tensor:
        """(B, T, d) or packed (N, d) to the same shape; ``bias`` from `attention_bias`."""
        text = self.attention(text, bias, packing)
        return self.output(self.intermediate(text), text)


class CrossLayer(nn.Module):
    """Cross attention both ways with shared weights, then a layer of its own for each stream."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.visual_attention = CrossAttention(config)
        self.lang_self_att = SelfAttention(config)
        self.visn_self_att = SelfAttention(config)
        self.lang_inter = Intermediate(config)
        self.lang_output = ResidualOutput(config, config.intermediate_size)
        self.visn_inter = Intermediate(config)
        self.visn_output = ResidualOutput(config, config.intermediate_size)

    def fuse_text(
        self,
        text: Tensor,
        images: Tensor,
        bias: Tensor | None = None,
        packing: Packing | None = None,
    ) -> Tensor:
        """Text stream (B, T, d), or (N, d), after looking at ``images`` (B, 36, d)."""
        text = self.visual_attention(text, images, None, packing)
        text = self.lang_self_att(text, bias, packing)
        return self.lang_output(self.lang_inter(text), text)

    def fuse_images(
        self,
        images: Tensor,
        text: Tensor,
        bias: Tensor | None = None,
        packing: Packing | None = None,
    ) -> Tensor:
        """Image stream (B, 36, d) after looking at ``text``; ``bias`` masks the padding."""
        images = self.visn_self_att(self.visual_attention(images, text, bias, packing))
        return self.visn_output(self.visn_inter(images), images)

    def forward(
        self,
        text: Tensor,
        images: Tensor,
        bias: Tensor | None = None,
        packing: Packing | None = None,
        *,
        need_images: bool = True,
    ) -> tuple[Tensor, Tensor | None]:
        """Both streams, each from the layer's inputs; returns (text, images or None)."""
        fused = self.fuse_text(text, images, bias, packing)
        return fused, self.fuse_images(images, text, bias, packing) if need_images else None


class VisionEncoder(nn.Module):
    """Linear projection of each view; there is no position and no mask."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.visn_fc = nn.Linear(config.image_dim, config.hidden_size)
        self.visn_layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 36, D) -> (B, 36, d)."""
        return self.dropout(self.visn_layer_norm(self.visn_fc(images)))
