"""Layers of HANNA's hierarchical agent, under the authors' parameter names (EMNLP 2019, Sec. 5)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

HIDDEN = -1e18  # score of a key that may not be seen
LAYER_NORM_EPS = 1e-6
SIMILAR = 0.9  # cosine from which on a past input counts as the same situation


class MultiHeadAttention(nn.Module):
    """Scaled dot-product attention.

    Args:
        width: d, of queries, keys and values.
        heads: that share it.
        dropout: of the weights.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.linear_key = nn.Linear(width, width)
        self.linear_value = nn.Linear(width, width)
        self.linear_query = nn.Linear(width, width)
        self.final_linear = nn.Linear(width, width)

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, hidden: Tensor | None = None
    ) -> Tensor:
        """(B, Q, d) of queries (B, Q, d) over keys and values (B, N, d).

        ``hidden`` is (B, N), True where a key may not be seen.
        """
        q = self._split(self.linear_query(query))
        k, v = self._split(self.linear_key(key)), self._split(self.linear_value(value))
        scores = (q @ k.transpose(2, 3)).float() / math.sqrt(q.shape[-1])  # fp16 has no -1e18
        if hidden is not None:
            scores = scores.masked_fill(hidden[:, None, None], HIDDEN)
        weights = F.dropout(scores.softmax(dim=-1), self.dropout, self.training)
        return self.final_linear((weights.to(v.dtype) @ v).transpose(1, 2).flatten(2))

    def _split(self, states: Tensor) -> Tensor:
        return states.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, heads, N, d / heads)


class Residual(nn.Module):
    """LayerNorm(shortcut(x) + dropout(module(x, ...))).

    Args:
        module: what is added.
        width: d, of its result.
        dropout: of its result.
        input_size: width of x; where it differs from d the shortcut is a linear map.
    """

    def __init__(
        self, module: nn.Module, width: int, dropout: float, input_size: int | None = None
    ) -> None:
        super().__init__()
        self.module = module
        self.layer_norm = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.drop = nn.Dropout(dropout)
        maps = input_size is not None and input_size != width
        self.shortcut_layer = nn.Linear(input_size or width, width) if maps else None

    def forward(self, inputs: Tensor, *more: Any) -> Tensor:
        shortcut = inputs if self.shortcut_layer is None else self.shortcut_layer(inputs)
        return self.layer_norm(shortcut + self.drop(self.module(inputs, *more)))


def attention(width: int, heads: int, dropout: float) -> Residual:
    """Attention with its residual branch."""
    return Residual(MultiHeadAttention(width, heads, dropout), width, dropout)


def feed_forward(width: int, dropout: float) -> Residual:
    """Two linear maps with four times the width between them."""
    inner = nn.Sequential(nn.Linear(width, 4 * width), nn.ReLU(), nn.Linear(4 * width, width))
    return Residual(inner, width, dropout)


class WordLayer(nn.Module):
    """Self-attention over the words of a text."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.self_attention = attention(width, heads, dropout)
        self.feed_forward = feed_forward(width, dropout)

    def forward(self, words: Tensor, padding: Tensor | None) -> Tensor:
        """``words`` (B, T, d), ``padding`` (B, T) or None for an attention that sees it."""
        return self.feed_forward(self.self_attention(words, words, words, padding))


class Positions(nn.Module):
    """Sines and cosines of the places in a text (Vaswani et al., 2017)."""

    pe: Tensor

    def __init__(self, length: int, width: int) -> None:
        super().__init__()
        place = torch.arange(length, dtype=torch.float32).unsqueeze(1)
        rate = torch.exp(torch.arange(0, width, 2) * (-math.log(10000.0) / width))
        table = torch.zeros(1, length, width)
        table[0, :, 0::2], table[0, :, 1::2] = torch.sin(place * rate), torch.cos(place * rate)
        self.register_buffer("pe", table)

    def forward(self, words: Tensor) -> Tensor:
        return words + self.pe[:, : words.shape[1]]


@dataclass
class Memory:
    """What a layer has seen: a key and a value (B, d) for every step, zeros before the first."""

    keys: list[Tensor]
    values: list[Tensor]

    @classmethod
    def start(cls, batch: int, initial: Tensor) -> Memory:
        """``initial`` (d,) stands for what was before."""
        first = initial.expand(batch, -1)
        return cls([first], [first])

    def stacked(self) -> tuple[Tensor, Tensor]:
        """Keys and values (B, N, d)."""
        return torch.stack(self.keys, dim=1), torch.stack(self.values, dim=1)


class TextLayer(nn.Module):
    """Attention over the present subtask, then over the words of its instruction."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.self_attention = attention(width, heads, dropout)
        self.enc_attention = attention(width, heads, dropout)
        self.feed_forward = feed_forward(width, dropout)

    def forward(self, inputs: Tensor, text: Text, memory: Memory, hidden: Tensor) -> Tensor:
        """Inputs and result are (B, d); ``hidden`` (B, N) marks what has been forgotten.

        Keys are the inputs of a layer, values the results of its first attention, of which the
        last one is ``memory.values[-1]``.
        """
        recalled = self.self_attention(inputs.unsqueeze(1), *memory.stacked(), hidden)
        memory.keys.append(inputs)
        memory.values.append(recalled.squeeze(1))
        read = self.enc_attention(recalled, text.words, text.words, text.padding)
        return self.feed_forward(read).squeeze(1)


class StateLayer(nn.Module):
    """Attention over the whole episode, less what was done in situations like this one."""

    def __init__(self, width: int, heads: int, dropout: float, similar: bool) -> None:
        super().__init__()
        self.self_attention = attention(width, heads, dropout)
        self.feed_forward = feed_forward(width, dropout)
        self.gate = nn.Sequential(nn.Linear(2 * width, width), nn.Sigmoid()) if similar else None

    def forward(self, inputs: Tensor, memory: Memory, hidden: Tensor | None) -> Tensor:
        """Inputs and result are (B, d); ``hidden`` (B, N): steps that are no like situations.

        Keys are the inputs of a layer, values its results.
        """
        keys, values = memory.stacked()
        query = inputs.unsqueeze(1)
        state = self.feed_forward(self.self_attention(query, keys, values)).squeeze(1)
        if self.gate is not None:
            weights = F.cosine_similarity(query, keys, dim=-1)  # (B, N)
            weights = weights.masked_fill(weights < SIMILAR, 0.0)
            if hidden is not None:
                weights = weights.masked_fill(hidden, 0.0)
            weights = weights / (weights.sum(dim=1, keepdim=True) + 1e-8)
            like = (weights.unsqueeze(1) @ values).squeeze(1)
            state = state - self.gate(torch.cat([state, like], dim=1)) * like
        memory.keys.append(inputs)
        memory.values.append(state)
        return state


class Decoder(nn.Module):
    """Layers behind one linear map of the inputs."""

    init_h: Tensor

    def __init__(self, input_size: int, width: int, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.register_buffer("init_h", torch.zeros(width))
        self.embedding = nn.Linear(input_size, width)
        self.layers = nn.ModuleList(layers)

    def start(self, batch: int) -> list[Memory]:
        """Empty memories, one a layer."""
        return [Memory.start(batch, self.init_h) for _ in self.layers]


class LearnedTime(nn.Module):
    """A vector (B, d) that stands for the time passed and is moved on at every step."""

    init_time: Tensor

    def __init__(self, width: int, input_size: int) -> None:
        super().__init__()
        self.register_buffer("init_time", torch.zeros(width))
        inner = nn.Sequential(nn.Linear(input_size, width), nn.ReLU())
        self.increment_op = Residual(inner, width, 0.0, input_size)

    def start(self, batch: int) -> Tensor:
        return self.init_time.expand(batch, -1)

    def forward(self, time: Tensor, other: Tensor | None = None) -> Tensor:
        """The next time; ``other`` (B, d) is a time that this one takes account of."""
        return self.increment_op(time if other is None else torch.cat([time, other], dim=1))


class VisualAttention(nn.Module):
    """Dot-product attention of a state over views."""

    def __init__(self, width: int, image_width: int, dot_size: int) -> None:
        super().__init__()
        self.linear_in_h = nn.Linear(width, dot_size)
        self.linear_in_v = nn.Linear(image_width, dot_size)

    def forward(self, state: Tensor, views: Tensor) -> Tensor:
        """(B, D) of states (B, d) and views (B, N, D)."""
        scores = self.linear_in_v(views) @ self.linear_in_h(state).unsqueeze(2)  # (B, N, 1)
        return (scores.softmax(dim=1).transpose(1, 2) @ views).squeeze(1)


@dataclass
class Text:
    """Encoded words of B instructions."""

    words: Tensor  # (B, T, d)
    padding: Tensor  # (B, T) True where there is none


@dataclass
class Recall:
    """All that a network remembers of B episodes."""

    output: Tensor  # (B, d) what the text decoder's last layer has recalled
    subtask: list[Memory]
    episode: list[Memory]
    local_time: Tensor  # (B, d)
    global_time: Tensor  # (B, d)
    text: Text | None = None
    forgotten: list[Tensor] = field(default_factory=list)  # (B,) for every step, True if over
    unlike: list[Tensor] = field(default_factory=list)  # (B,) steps that are no like situations

    def restart_subtasks(self, blank: Recall) -> None:
        """Forget the present subtasks of all agents; ``blank`` is a memory before a first step."""
        self.output, self.subtask, self.local_time = blank.output, blank.subtask, blank.local_time
        self.forgotten = blank.forgotten
