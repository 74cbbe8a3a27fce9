"""Decoder of the first R2R and NDH agents: six actions, one view (Anderson et al., CVPR 2018)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .attention import SoftDotAttention
from .dialog import DialogStep, RecurrentState

NUM_ACTIONS = 6
"""Left, right, up, down, forward, end: what can be chosen."""
START_INPUT, IGNORE_INPUT = 6, 7
"""Inputs in place of a last action: at the start, and after the end."""


class LowLevelDecoder(nn.Module):
    """One step: the last action and the view, the text, a score for each action.

    Args:
        hidden_size: H.
        image_size: D of one view.
        context_size: width of the text context.
        action_size: width of embedded actions.
        dropout: of the inputs and the state.
    """

    def __init__(
        self,
        hidden_size: int,
        image_size: int,
        context_size: int,
        *,
        action_size: int = 32,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(IGNORE_INPUT + 1, action_size)
        self.drop = nn.Dropout(dropout)
        self.lstm = nn.LSTMCell(action_size + image_size, hidden_size)
        self.attention_layer = SoftDotAttention(hidden_size, context_size)
        self.decoder2action = nn.Linear(hidden_size, NUM_ACTIONS)

    def forward(
        self,
        view: Tensor,
        previous: Tensor,
        state: RecurrentState,
        context: Tensor,
        padding: Tensor,
    ) -> DialogStep:
        """Logits (B, 6) for what is seen in ``view`` (B, D).

        Args:
            view: image features of the view ahead.
            previous: (B,) last actions, or one of the two other inputs.
            state: of the last step, or the encoder's.
            context: (B, T, C) encoded text.
            padding: (B, T) True for padding.
        """
        inputs = self.drop(torch.cat([self.embedding(previous), view], dim=1))
        hidden, cell = self.lstm(inputs, tuple(state))
        recalled, words = self.attention_layer(self.drop(hidden), context, padding)
        return DialogStep(
            RecurrentState(hidden, cell), self.decoder2action(recalled).float(), words
        )
