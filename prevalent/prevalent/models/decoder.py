"""Decoder that chooses among candidates, and the critic (EnvDrop: Tan et al., NAACL 2019)."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from .attention import MergedAttention, SoftDotAttention, dot_products
from .deferred import DeferredLSTMCell
from .dropout import FeatureDropout, drop_images


class Sight(NamedTuple):
    """What B agents see at one step; F = D + A."""

    pose: Tensor  # (B, A) encoded heading and elevation of the agent
    images: Tensor  # (B, 36, D)
    angles: Tensor  # (B, 36, A)
    candidates: Tensor  # (B, K, F), zeros for STOP and padding
    mask: Tensor  # (B, K) True for candidates and STOP

    @property
    def panorama(self) -> Tensor:
        """Images and angles, (B, 36, F)."""
        return torch.cat([self.images, self.angles], dim=-1)


class DecoderState(NamedTuple):
    attended: Tensor  # (B, H) text-attended state, which also is the recurrent one
    cell: Tensor  # (B, H)


class DecoderStep(NamedTuple):
    state: DecoderState
    hidden: Tensor  # (B, H) output of the LSTM cell; the critic's input
    logits: Tensor  # (B, K), minus infinity outside ``Sight.mask``; STOP scores exactly 0
    words: Tensor  # (B, T) attention over the text, (B, M T) over M texts


class AttentionDecoder(nn.Module):
    """One step of the agent: look around, recall the text, score the candidates.

    The recurrence runs on the text-attended state, and a stop is a zero vector whose score is 0; as
    in the authors' code.

    Args:
        hidden_size: H.
        image_size: D.
        angle_size: A.
        context_size: K, width of the text context (H below LSTM encoders, more below ``dic``).
        action_size: width of the embedded pose.
        dropout: of states and pose.
        feature_dropout: of image features, never of angles.
        num_texts: M, texts of an episode.
        merge_texts: how what is recalled of them is merged.
    """

    def __init__(
        self,
        hidden_size: int,
        image_size: int,
        angle_size: int,
        context_size: int,
        *,
        action_size: int = 64,
        dropout: float = 0.5,
        feature_dropout: float = 0.3,
        num_texts: int = 1,
        merge_texts: Literal["mean", "max", "sum", "cat"] = "mean",
    ) -> None:
        super().__init__()
        feature_size = image_size + angle_size
        self.embedding = nn.Sequential(nn.Linear(angle_size, action_size), nn.Tanh())
        self.drop = nn.Dropout(dropout)
        self.drop_env = FeatureDropout(feature_dropout)
        self.lstm = DeferredLSTMCell(action_size + feature_size, hidden_size)
        self.feat_att_layer = SoftDotAttention(hidden_size, feature_size)
        self.attention_layer = (
            SoftDotAttention(hidden_size, context_size)
            if num_texts == 1
            else MergedAttention(hidden_size, context_size, num_texts, merge_texts)
        )
        self.candidate_att_layer = SoftDotAttention(hidden_size, feature_size)
        self.angle_size = angle_size

    def forward(
        self,
        sight: Sight,
        state: DecoderState,
        context: Tensor,
        padding: Tensor,
        *,
        dropped: bool = False,
    ) -> DecoderStep:
        """Score the candidates.

        Args:
            sight: features of the step; they are not changed.
            state: of the last step, or the encoder's.
            context: (B, T, K) encoded text; (B M, T, K) of M texts.
            padding: (B, T) or (B M, T), True for padding.
            dropped: the image features carry the noise of back-translation already.
        """
        pose = self.drop(self.embedding(sight.pose))
        images, candidates = sight.images, sight.candidates
        if not dropped:
            images = self.drop_env(images)
        attended = self._look(self.drop(state.attended), images, sight.angles)
        hidden, cell = self.lstm(torch.cat([pose, attended], dim=1), tuple(state))
        recalled, words = self.attention_layer(self.drop(hidden), context, padding)
        if not dropped:
            candidates = drop_images(self.drop_env, candidates, self.angle_size)
        logits = self.candidate_att_layer.scores(self.drop(recalled), candidates, ~sight.mask)
        return DecoderStep(DecoderState(recalled, cell), hidden, logits.float(), words)

    def _look(self, query: Tensor, images: Tensor, angles: Tensor) -> Tensor:
        """Attended view (B, F); images and angles stay apart, which spares a copy of both."""
        on_images, on_angles = self.feat_att_layer.linear_in(query).split(
            [images.shape[-1], angles.shape[-1]], dim=-1
        )
        scores = dot_products(on_images.unsqueeze(1), images)
        scores = scores + dot_products(on_angles.unsqueeze(1), angles)
        weights = scores.softmax(dim=-1).to(images.dtype)  # (B, 1, 36)
        return torch.cat([weights @ images, weights @ angles], dim=-1).squeeze(1)


class Critic(nn.Module):
    """Value of a decoder output: (..., H) -> (...)."""

    def __init__(self, hidden_size: int, dropout: float = 0.5) -> None:
        super().__init__()
        self.state2value = nn.Sequential(
            nn.Linear(hidden_size, hidden_size),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden_size, 1),
        )

    def forward(self, hidden: Tensor) -> Tensor:
        return self.state2value(hidden).squeeze(-1).float()
