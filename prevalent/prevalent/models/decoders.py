"""Decoders: attention, the follower's with its critic, the speaker's and those of NDH."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from .kernels import DeferredLinear, DeferredLSTMCell, full_lstm
from .prevalent import cast_once


class Attended(NamedTuple):
    context: Tensor  # (B, k) or (B, Q, k) weighted sum of the memory
    weights: Tensor  # (B, N) or (B, Q, N)


def dot_products(queries: Tensor, memory: Tensor) -> Tensor:
    """(B, Q, N) of ``queries`` (B, Q, k) with ``memory`` (B, N, k).

    On a CPU a single query is read fastest as a column, but the backward pass of that order takes
    many times as long.
    """
    if queries.shape[1] == 1 and not torch.is_grad_enabled():
        return (memory @ queries.transpose(1, 2)).transpose(1, 2)
    return queries @ memory.transpose(1, 2)


class SoftDotAttention(nn.Module):
    """Queries of width q attend to a memory of width k.

    ``linear_out`` exists in every instance, as in the authors' files, though `scores` and `attend`
    do not use it.

    Args:
        query_size: q.
        context_size: k.
    """

    def __init__(self, query_size: int, context_size: int) -> None:
        super().__init__()
        self.linear_in = DeferredLinear(query_size, context_size, bias=False)
        self.linear_out = DeferredLinear(query_size + context_size, query_size, bias=False)

    def scores(self, query: Tensor, memory: Tensor, padding: Tensor | None = None) -> Tensor:
        """Dot products (B, N) of queries (B, q), or (B, Q, N) of (B, Q, q), with ``memory``.

        Args:
            query: one or Q queries for each item.
            memory: (B, N, k).
            padding: (B, N), True where the score shall be minus infinity.
        """
        target = self.linear_in(query)
        single = target.dim() == 2
        scores = dot_products(target.unsqueeze(1) if single else target, memory)
        if padding is not None:
            scores = scores.masked_fill(padding.unsqueeze(1), -torch.inf)
        return scores.squeeze(1) if single else scores

    def attend(self, query: Tensor, memory: Tensor, padding: Tensor | None = None) -> Attended:
        """The weighted memory alone; arguments as in `scores`."""
        memory = cast_once(memory)
        weights = self.scores(query, memory, padding).softmax(dim=-1).to(memory.dtype)
        single = weights.dim() == 2
        context = (weights.unsqueeze(1) if single else weights) @ memory
        return Attended(context.squeeze(1) if single else context, weights)

    def forward(
        self, query: Tensor, memory: Tensor, padding: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """tanh(W [context; query]) of the shape of ``query``, and the weights."""
        context, weights = self.attend(query, memory, padding)
        return torch.tanh(self.linear_out(torch.cat([context, query], dim=-1))), weights


class MergedAttention(SoftDotAttention):
    """Queries attend to M memories each, and what they find is merged before ``linear_out``.

    Args:
        query_size: q.
        context_size: k.
        num_memories: M; the rows of a memory are those of its M items, one after the other.
        merge: ``cat`` makes ``linear_out`` M times as wide.
    """

    def __init__(
        self,
        query_size: int,
        context_size: int,
        num_memories: int,
        merge: Literal["mean", "max", "sum", "cat"] = "mean",
    ) -> None:
        super().__init__(query_size, context_size)
        self.num_memories, self.merge = num_memories, merge
        if merge == "cat":
            width = query_size + num_memories * context_size
            self.linear_out = DeferredLinear(width, query_size, bias=False)

    def forward(
        self, query: Tensor, memory: Tensor, padding: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """tanh(W [merged; query]) (B, q) of ``query`` (B, q) and ``memory`` (B M, N, k).

        The weights (B, M N) are those of all memories, one after the other.
        """
        repeated = query.repeat_interleave(self.num_memories, dim=0)
        found = self.attend(repeated, memory, padding)
        contexts = found.context.unflatten(0, (len(query), self.num_memories))  # (B, M, k)
        merged = {
            "mean": lambda: contexts.mean(dim=1),
            "max": lambda: contexts.amax(dim=1),
            "sum": lambda: contexts.sum(dim=1),
            "cat": lambda: contexts.flatten(1),
        }[self.merge]()
        recalled = torch.tanh(self.linear_out(torch.cat([merged, query], dim=-1)))
        return recalled, found.weights.reshape(len(query), -1)


LEVELS = 2**16


class FeatureDropout(nn.Module):
    """Element dropout whose masks are cheap on the CPU.

    PyTorch draws one double for each element there; 16 random bits are enough, so that four
    elements share one draw (about 20 times as fast). The probability is rounded to 1/65536.

    Args:
        p: probability of a zero.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, features: Tensor) -> Tensor:
        """``features`` as they are in eval mode, else a copy with zeros, scaled by 1 / (1 - p)."""
        if not self.training or not self.p:
            return features
        if features.device.type != "cpu":
            return nn.functional.dropout(features, self.p)
        dropped = round(self.p * LEVELS)
        count = features.numel()
        words = torch.empty((count + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
        bits = words.view(torch.int16)[:count].view(features.shape)
        # Comparing floats is many times as fast as comparing 16-bit integers.
        kept = bits.float().ge_(dropped - LEVELS // 2).mul_(LEVELS / (LEVELS - dropped))
        return features * kept.to(features.dtype)

    def extra_repr(self) -> str:
        return f"p={self.p}"


def drop_images(dropout: FeatureDropout, features: Tensor, angle_size: int) -> Tensor:
    """Drop the image part of ``features`` (..., D + A); the last ``angle_size`` columns stay."""
    if not dropout.training or not dropout.p:
        return features
    images, angles = features.tensor_split([-angle_size], dim=-1)
    return torch.cat([dropout(images), angles], dim=-1)


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
        images, angles = cast_once(images), cast_once(angles)
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
        states = self.drop(full_lstm(self.lstm, candidates)[0])
        looked, _ = self.attention_layer(states.flatten(0, 1), panoramas.flatten(0, 1))
        post, _ = full_lstm(self.post_lstm, self.drop(looked.view_as(states)))
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
        states, (hidden, cell) = full_lstm(self.lstm, embedded, (state.hidden, state.cell))
        recalled, _ = self.attention_layer(self.drop(states), context, padding)
        return self.projection(self.drop(recalled)).float(), WordState(hidden, cell)


class NDHSight(NamedTuple):
    """What B agents see at one step; F = D + A."""

    views: Tensor  # (B, V, F)
    candidates: Tensor  # (B, K, F), zeros for stop, which is the first, and for padding
    mask: Tensor  # (B, K) True for actions


class RecurrentState(NamedTuple):
    hidden: Tensor  # (B, H)
    cell: Tensor  # (B, H)


class NDHStep(NamedTuple):
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
        views = cast_once(views)
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


class NDHDecoder(nn.Module):
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
        sight: NDHSight,
        previous: Tensor,
        state: RecurrentState,
        context: Tensor,
        padding: Tensor,
    ) -> NDHStep:
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
        return NDHStep(after, logits, words)


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
    ) -> NDHStep:
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
        return NDHStep(RecurrentState(hidden, cell), self.decoder2action(recalled).float(), words)
