"""Networks that describe a path in words (Fried et al., NeurIPS 2018), under the authors' names."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from .attention import SoftDotAttention
from .dropout import FeatureDropout, drop_images


class PathFeatures(NamedTuple):
    """What was seen on B walks; T counts viewpoints, the stop at the last one included."""

    candidates: Tensor  # (B, T, F) the candidate taken; zeros for the stop and padding
    panoramas: Tensor  # (B, T, 36, F)
    lengths: Tensor  # (B,)

    @property
    def padding(self) -> Tensor:
        """(B, T) True behind the end of a walk."""
        steps = torch.arange(self.candidates.shape[1], device=self.lengths.device)
        return steps >= self.lengths.unsqueeze(1)


class WordState(NamedTuple):
    hidden: Tensor  # (1, B, H)
    cell: Tensor  # (1, B, H)


class SpeakerEncoder(nn.Module):
    """LSTM over the actions taken, attention to the panoramas, LSTM over the result.

    Padded steps pass through both LSTMs, as in the authors' code: where walks are gathered they
    show the last place, where a search's paths are scored they are zeros.

    Args:
        feature_size: F.
        angle_size: A, the last columns of every feature, which are never dropped.
        hidden_size: H, both directions together.
        dropout: of states.
        feature_dropout: of image features.
    """

    def __init__(
        self,
        feature_size: int,
        angle_size: int,
        hidden_size: int,
        *,
        dropout: float = 0.6,
        feature_dropout: float = 0.3,
    ) -> None:
        super().__init__()
        options = {"batch_first": True, "bidirectional": True}
        self.lstm = nn.LSTM(feature_size, hidden_size // 2, **options)
        self.drop = nn.Dropout(dropout)
        self.drop_env = FeatureDropout(feature_dropout)
        self.attention_layer = SoftDotAttention(hidden_size, feature_size)
        self.post_lstm = nn.LSTM(hidden_size, hidden_size // 2, **options)
        self.angle_size = angle_size

    def forward(self, path: PathFeatures, *, dropped: bool = False) -> Tensor:
        """Context (B, T, H); ``dropped`` says that the features carry noise already."""
        candidates, panoramas = path.candidates, path.panoramas
        if not dropped:
            candidates = drop_images(self.drop_env, candidates, self.angle_size)
            panoramas = drop_images(self.drop_env, panoramas, self.angle_size)
        states = self.drop(self.lstm(candidates)[0])
        looked, _ = self.attention_layer(states.flatten(0, 1), panoramas.flatten(0, 1))
        post, _ = self.post_lstm(self.drop(looked.view_as(states)))
        return self.drop(post)


class SpeakerDecoder(nn.Module):
    """Words from the context of a path.

    Args:
        vocab_size: V.
        word_size: width of the embeddings.
        hidden_size: H.
        dropout: of words and states.
    """

    def __init__(
        self, vocab_size: int, word_size: int, hidden_size: int, *, dropout: float = 0.6
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, word_size, padding_idx=0)
        self.lstm = nn.LSTM(word_size, hidden_size, batch_first=True)
        self.drop = nn.Dropout(dropout)
        self.attention_layer = SoftDotAttention(hidden_size, hidden_size)
        self.projection = nn.Linear(hidden_size, vocab_size)
        # Not used; the authors' files hold it.
        self.baseline_projection = nn.Sequential(
            nn.Linear(hidden_size, 128), nn.ReLU(), nn.Dropout(dropout), nn.Linear(128, 1)
        )
        self.hidden_size = hidden_size

    def start(self, batch_size: int) -> WordState:
        """Zeros, before the first word."""
        zeros = self.projection.weight.new_zeros(1, batch_size, self.hidden_size)
        return WordState(zeros, zeros)

    def forward(
        self, words: Tensor, context: Tensor, padding: Tensor, state: WordState
    ) -> tuple[Tensor, WordState]:
        """Logits (B, L, V) of the words that follow ``words`` (B, L), and the state behind them.

        Args:
            words: input words.
            context: (B, T, H) from the encoder.
            padding: (B, T) True behind the end of a walk.
            state: before the first of ``words``.
        """
        embedded = self.drop(self.embedding(words))
        states, (hidden, cell) = self.lstm(embedded, tuple(state))
        recalled, _ = self.attention_layer(self.drop(states), context, padding)
        return self.projection(self.drop(recalled)).float(), WordState(hidden, cell)
