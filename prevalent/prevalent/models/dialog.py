"""Decoder of the NDH and multi-instruction agents, under the authors' parameter names.

It attends to the views with its last state, remembers the action that it took last, and scores the
actions by an elementwise product (Fried et al., NeurIPS 2018; Hao et al., CVPR 2020).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from .attention import SoftDotAttention


class DialogSight(NamedTuple):
    """What B agents see at one step; F = D + A."""

    views: Tensor  # (B, V, F)
    candidates: Tensor  # (B, K, F), zeros for stop, which is the first, and for padding
    mask: Tensor  # (B, K) True for actions


class RecurrentState(NamedTuple):
    hidden: Tensor  # (B, H)
    cell: Tensor  # (B, H)


class DialogStep(NamedTuple):
    state: RecurrentState
    logits: Tensor  # (B, K), minus infinity outside the mask
    words: Tensor  # (B, T) attention over the text


class VisualAttention(nn.Module):
    """Attention of a state (B, H) over views (B, V, F), both projected to ``size`` numbers."""

    def __init__(self, hidden_size: int, feature_size: int, size: int) -> None:
        super().__init__()
        self.linear_in_h = nn.Linear(hidden_size, size)
        self.linear_in_v = nn.Linear(feature_size, size)

    def forward(self, hidden: Tensor, views: Tensor) -> Tensor:
        """The attended view (B, F)."""
        scores = product_scores(self.linear_in_h(hidden), self.linear_in_v, views)
        weights = scores.softmax(dim=1).to(views.dtype)
        return (weights.unsqueeze(1) @ views).squeeze(1)


class ActionScorer(nn.Module):
    """Scores (B, K) of actions (B, K, F): a linear map of the product of both projections."""

    def __init__(self, hidden_size: int, feature_size: int, size: int) -> None:
        super().__init__()
        self.linear_in_h = nn.Linear(hidden_size, size)
        self.linear_in_a = nn.Linear(feature_size, size)
        self.linear_out = nn.Linear(size, 1)

    def forward(self, hidden: Tensor, candidates: Tensor) -> Tensor:
        query = self.linear_in_h(hidden) * self.linear_out.weight
        return product_scores(query, self.linear_in_a, candidates) + self.linear_out.bias


def product_scores(query: Tensor, projection: nn.Linear, memory: Tensor) -> Tensor:
    """``query`` (B, size) times the ``projection`` of ``memory`` (B, N, F), summed: (B, N).

    The projection is applied to the query, which spares N projections of F numbers for each agent.
    """
    target = query @ projection.weight  # (B, F)
    offset = (query * projection.bias).sum(dim=1, keepdim=True)
    return (target.unsqueeze(1) @ memory.transpose(1, 2)).squeeze(1) + offset


class DialogDecoder(nn.Module):
    """One step of the agent: look around, recall the text, score the actions.

    Args:
        hidden_size: H.
        feature_size: F, image and angle of a view.
        context_size: width of the text context.
        attention_size: width of the visual and the action projections.
        dropout: of the inputs and the state.
        recur_on_text: the text-attended state is the recurrent one (the authors' ``vc``); False
            keeps the LSTM's own.
    """

    def __init__(
        self,
        hidden_size: int,
        feature_size: int,
        context_size: int,
        *,
        attention_size: int = 256,
        dropout: float = 0.4,
        recur_on_text: bool = True,
    ) -> None:
        super().__init__()
        self.drop = nn.Dropout(dropout)
        self.lstm = nn.LSTMCell(2 * feature_size, hidden_size)
        self.attention_layer = SoftDotAttention(hidden_size, context_size)
        self.visual_attention_layer = VisualAttention(hidden_size, feature_size, attention_size)
        self.decoder2action = ActionScorer(hidden_size, feature_size, attention_size)
        self.recur_on_text = recur_on_text

    def forward(
        self,
        sight: DialogSight,
        previous: Tensor,
        state: RecurrentState,
        context: Tensor,
        padding: Tensor,
    ) -> DialogStep:
        """Score the actions.

        Args:
            sight: features of the step.
            previous: (B, F) of the action taken last, zeros at the start.
            state: of the last step, or the encoder's.
            context: (B, T, C) encoded text.
            padding: (B, T) True for padding.
        """
        attended = self.visual_attention_layer(state.hidden, sight.views)
        inputs = self.drop(torch.cat([previous, attended], dim=1))
        hidden, cell = self.lstm(inputs, tuple(state))
        recalled, words = self.attention_layer(self.drop(hidden), context, padding)
        logits = self.decoder2action(recalled, sight.candidates)
        logits = logits.float().masked_fill(~sight.mask, -torch.inf)
        after = RecurrentState(recalled if self.recur_on_text else hidden, cell)
        return DialogStep(after, logits, words)
