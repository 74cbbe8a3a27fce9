"""HANNA's networks: where to go and whether to ask, from text, views, time (EMNLP 2019, Sec. 5)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..config import check_angle_size, check_dropouts
from ..runtime.options import at_least
from .prevalent import PrevalentModel, cast_once

Reset = Literal["batch", "own", "never"]


@dataclass(frozen=True)
class HannaConfig:
    """The two networks of the agent that can ask (Nguyen & Daumé III, EMNLP 2019, Sec. 5)."""

    encoder: Literal["words", "dic"] = "words"
    """``words``: embeddings (the base agent); ``dic``: the pre-trained text layers (PREVALENT's
    agent)."""
    update_language: bool = False
    """``dic``: train the text layers; the authors keep them frozen."""
    hidden_size: int = 256
    """d, width of words, states and attention."""
    num_heads: int = 8
    """Heads of every attention."""
    num_layers: int = 1
    """Layers of the text encoder and of both decoders."""
    dropout: float = 0.3
    """Dropout of attention weights, residual branches and inputs."""
    ask_size: int = 128
    """Width of the embedded last decision to ask."""
    angle_size: int = 128
    """A, width of the angles of an action."""
    reasons: bool = True
    """Decide whether to ask from three predicted reasons; False decides from the state."""
    similar_situations: bool = True
    """Remember what was done in situations like the present one and depart from it."""
    reset: Reset = "batch"
    """Who forgets the present subtask when an instruction is new: ``batch``: everyone in the batch
    (the authors' code), ``own``: the agent that it is for (the paper), ``never``."""

    def __post_init__(self) -> None:
        at_least(self, "model", hidden_size=1, num_heads=1, num_layers=1, ask_size=1)
        if self.hidden_size % self.num_heads or self.hidden_size % 2:
            raise ValueError(
                f"--model.hidden-size {self.hidden_size} must be even and a multiple of "
                f"--model.num-heads {self.num_heads}"
            )
        check_dropouts(dropout=self.dropout)
        check_angle_size(self.angle_size)


SLOTS = 37  # 36 relative views and the agent's own place
REPEATS = 4  # of every similarity and every probability that is fed to a network
NUM_REASONS = 3  # lost, uncertain and wrong, asked here already
NUM_DECISIONS = 2  # go on, request help
START_DECISION = 2  # what stands for the decision before the first


class Sight(NamedTuple):
    """What B agents see. K actions, action 0 is to stop."""

    views: Tensor  # (B, 37, D) the scene and a blank view
    goal: Tensor  # (B, 37, D) the place to be reached, zeros while it is unknown
    actions: Tensor  # (B, K, D + A), zeros for stop and padding
    mask: Tensor  # (B, K) True for actions
    slot: Tensor  # (B, K) relative view of an action, 36 for stop; anything at padding


class AskStep(NamedTuple):
    logits: Tensor  # (B, 2) go on, request help
    reasons: Tensor  # (B, 3) logits of the reasons


class WordEncoder(nn.Module):
    """Word embeddings below attention layers."""

    sees_padding = False

    def __init__(self, config: HannaConfig, vocab_size: int, max_length: int) -> None:
        super().__init__()
        width = config.hidden_size
        self.embedding = nn.Embedding(vocab_size, width, padding_idx=0)
        self.positional_encoding = Positions(max_length, width)
        self.drop = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(
            WordLayer(width, config.num_heads, config.dropout) for _ in range(config.num_layers)
        )

    def forward(self, ids: Tensor) -> Text:
        """(B, T) word numbers, 0 for padding."""
        padding = ids == 0
        words = self.embedding(ids) * self.embedding.embedding_dim**0.5
        words = self.drop(self.positional_encoding(words))
        for layer in self.layers:
            words = layer(words, padding)
        return Text(words, padding)


class DicEncoder(nn.Module):
    """The pre-trained text layers below attention layers that do not mask padding.

    As in the authors' code no panorama is given to the pre-trained model, and its dropout is on
    while the agent is trained. A text therefore depends on the longest one it is encoded with.
    """

    sees_padding = True

    def __init__(self, config: HannaConfig, bert: PrevalentModel, max_length: int) -> None:
        super().__init__()
        width = config.hidden_size
        self.bert, self.trained = bert, config.update_language
        self.zero_layer = nn.Linear(bert.config.hidden_size, width)
        self.positional_encoding = Positions(max_length, width)
        self.drop = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(
            WordLayer(width, config.num_heads, config.dropout) for _ in range(config.num_layers)
        )

    def forward(self, ids: Tensor) -> Text:
        """(B, T) word pieces, 0 for padding."""
        padding = ids == 0
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.trained):
            words = self.bert.encode_text(ids, ~padding)
        words = self.zero_layer(words)
        words = self.drop(self.positional_encoding(words * words.shape[-1] ** 0.5))
        for layer in self.layers:
            words = layer(words, None)
        return Text(words, padding)


class SearchNetwork(nn.Module):
    """What the two networks share.

    Args:
        config: sizes and switches.
        encoder: of instructions.
        image_width: D, of a view.
        action_size: width of the last action or decision.
        extra: numbers beside the text decoder's and those beside the state decoder's inputs.
    """

    def __init__(
        self,
        config: HannaConfig,
        encoder: nn.Module,
        image_width: int,
        action_size: int,
        extra: tuple[int, int],
    ) -> None:
        super().__init__()
        width, heads, dropout = config.hidden_size, config.num_heads, config.dropout
        count = range(config.num_layers)
        self.encoder = encoder
        self.text_decoder = Decoder(
            action_size + image_width + extra[0],
            width,
            [TextLayer(width, heads, dropout) for _ in count],
        )
        self.curr_visual_attention = VisualAttention(width, image_width, width)
        self.next_visual_attention = VisualAttention(width, image_width, width)
        self.goal_visual_attention = VisualAttention(width, image_width, width)
        self.state_decoder = Decoder(
            width + 2 * image_width + extra[1],
            width,
            [StateLayer(width, heads, dropout, config.similar_situations) for _ in count],
        )
        self.local_time_embedding = LearnedTime(width, width)
        self.global_time_embedding = LearnedTime(width, 2 * width)
        self.drop = nn.Dropout(dropout)
        self.reset = config.reset

    def start(self, batch: int) -> Recall:
        """Memory of B agents before their first step."""
        unknown = torch.zeros(batch, dtype=torch.bool, device=self.text_decoder.init_h.device)
        return Recall(
            output=self.text_decoder.init_h.expand(batch, -1),
            subtask=self.text_decoder.start(batch),
            episode=self.state_decoder.start(batch),
            local_time=self.local_time_embedding.start(batch),
            global_time=self.global_time_embedding.start(batch),
            forgotten=[unknown],
            unlike=[unknown],
        )

    def read(self, recall: Recall, ids: Tensor, rows: Tensor, new: Tensor) -> None:
        """Take instructions and begin subtasks.

        Args:
            recall: changed in place.
            ids: (N, T) words.
            rows: (N,) agents that they are for.
            new: (M,) agents whose instruction is another one than before.
        """
        text = self.encoder(ids)
        text.words = cast_once(text.words)  # every step attends to them
        recall.text = text if recall.text is None else _replace_rows(recall.text, text, rows)
        if self.reset == "never":
            return
        batch = len(recall.output)
        if self.reset == "batch" or len(new) == batch:
            recall.restart_subtasks(self.start(batch))
            return
        fresh = torch.zeros(batch, dtype=torch.bool, device=ids.device).index_fill(0, new, True)
        first, *later = recall.forgotten  # what stands before the first step is never forgotten
        recall.forgotten = [first, *(entry | fresh for entry in later)]
        blank, fresh = self.start(batch), fresh.unsqueeze(1)
        recall.output = torch.where(fresh, blank.output, recall.output)
        recall.local_time = torch.where(fresh, blank.local_time, recall.local_time)

    def advance(
        self, recall: Recall, sight: Sight, action: Tensor, extra: tuple[Tensor, Tensor]
    ) -> Tensor:
        """The next state (B, d); memory and times move on.

        Args:
            recall: changed in place.
            sight: what is seen.
            action: (B, action_size) the last action or decision.
            extra: (B, .) more inputs of the text decoder and of the state decoder.
        """
        assert recall.text is not None
        scene = self.curr_visual_attention(recall.output, sight.views)
        inputs = self.text_decoder.embedding(_joined(action, scene, extra[0]))
        state = self.drop(inputs + recall.local_time)
        forgotten = torch.stack(recall.forgotten, dim=1)
        for layer, memory in zip(self.text_decoder.layers, recall.subtask, strict=True):
            state = layer(state, recall.text, memory, forgotten)
        recall.forgotten.append(torch.zeros_like(recall.forgotten[0]))
        recall.output = recall.subtask[-1].values[-1]

        ahead = self.next_visual_attention(state, sight.views)
        goal = self.goal_visual_attention(state, sight.goal)
        inputs = _joined(state, ahead, goal, extra[1])
        state = self.drop(self.state_decoder.embedding(inputs) + recall.global_time)
        unlike = torch.stack(recall.unlike, dim=1)
        for layer, memory in zip(self.state_decoder.layers, recall.episode, strict=True):
            state = layer(state, memory, unlike)
        recall.unlike.append(torch.zeros_like(recall.unlike[0]))

        recall.local_time = self.local_time_embedding(recall.local_time)
        recall.global_time = self.global_time_embedding(recall.global_time, recall.local_time)
        return state


class ActionScores(nn.Module):
    """Scores of actions: an elementwise product with the state, then one linear map."""

    def __init__(self, action_size: int, width: int) -> None:
        super().__init__()
        self.linear_in_a = nn.Linear(action_size, width)
        self.linear_out = nn.Linear(width, 1)

    def forward(self, state: Tensor, actions: Tensor) -> Tensor:
        """(B, K) of states (B, d) and actions (B, K, action_size)."""
        return self.linear_out(state.unsqueeze(1) * self.linear_in_a(actions)).squeeze(2)


class NavigationNetwork(SearchNetwork):
    """Chooses among the neighbors of a place or stops."""

    def __init__(self, config: HannaConfig, encoder: nn.Module, image_width: int) -> None:
        action_size = image_width + config.angle_size
        super().__init__(
            config, encoder, image_width, action_size, (SLOTS * REPEATS, SLOTS * REPEATS)
        )
        self.predictor = ActionScores(action_size, config.hidden_size)

    def forward(self, recall: Recall, sight: Sight, action: Tensor, likeness: Tensor) -> Tensor:
        """Logits (B, K), minus infinity at padding.

        Args:
            recall: changed in place.
            sight: what is seen.
            action: (B, D + A) the last action.
            likeness: (B, 37) from `goal_likeness`.
        """
        like = likeness.repeat_interleave(REPEATS, dim=1)
        state = self.advance(recall, sight, action, (like, like))
        return self.predictor(state, sight.actions).masked_fill(~sight.mask, -torch.inf)


class AskNetwork(SearchNetwork):
    """Decides whether to request help."""

    def __init__(self, config: HannaConfig, encoder: nn.Module, image_width: int) -> None:
        extra = (SLOTS * REPEATS, 2 * SLOTS * REPEATS)
        super().__init__(config, encoder, image_width, config.ask_size, extra)
        # As in the authors' code, what stands for no decision is not learned.
        self.action_embedding = nn.Embedding(
            NUM_DECISIONS + 1, config.ask_size, padding_idx=START_DECISION
        )
        width = config.hidden_size
        self.reason_predictor = nn.Linear(width, NUM_REASONS)
        self.uses_reasons = config.reasons
        self.predictor = nn.Linear(NUM_REASONS if config.reasons else width, NUM_DECISIONS)

    def forward(
        self,
        recall: Recall,
        sight: Sight,
        decision: Tensor,
        likeness: Tensor,
        chances: Tensor,
    ) -> AskStep:
        """Logits of the decision and of its reasons.

        Args:
            recall: changed in place.
            sight: what is seen.
            decision: (B,) the last one, 2 before the first step.
            likeness: (B, 37) from `goal_likeness`.
            chances: (B, 37) from `scatter_chances`.
        """
        like, chances = (
            likeness.repeat_interleave(REPEATS, dim=1),
            chances.repeat_interleave(REPEATS, dim=1),
        )
        action = self.action_embedding(decision)
        state = self.advance(recall, sight, action, (like, torch.cat([like, chances], dim=1)))
        reasons = self.reason_predictor(state)
        return AskStep(self.predictor(reasons if self.uses_reasons else state), reasons)


def goal_likeness(views: Tensor, goal: Tensor) -> Tensor:
    """(B, 37) greatest cosine of each view (B, 37, D) with any view of the goal (B, 37, D)."""
    a = views / views.norm(dim=2, keepdim=True).clamp(min=1e-8)
    b = goal / goal.norm(dim=2, keepdim=True).clamp(min=1e-8)
    return (a @ b.transpose(1, 2)).amax(dim=2)


def scatter_chances(logits: Tensor, slot: Tensor) -> Tensor:
    """(B, 37) probabilities of relative views; actions that share a view add up.

    ``logits`` (B, K) are minus infinity at padding, ``slot`` (B, K) as in `Sight`.
    """
    chances = logits.softmax(dim=1)
    blank = chances.new_zeros(len(chances), SLOTS)
    return blank.scatter_add(1, slot.clamp(min=0), chances)


def _joined(*parts: Tensor) -> Tensor:
    """(B, sum of the widths), what a linear map reads next."""
    return torch.cat([cast_once(part) for part in parts], dim=1)


def _replace_rows(old: Text, new: Text, rows: Tensor) -> Text:
    """``old`` with the texts of ``rows`` exchanged; both are padded to the longer."""
    length = max(old.words.shape[1], new.words.shape[1])
    words = [F.pad(text.words, (0, 0, 0, length - text.words.shape[1])) for text in (old, new)]
    padding = [
        F.pad(text.padding, (0, length - text.padding.shape[1]), value=True) for text in (old, new)
    ]
    return Text(words[0].index_copy(0, rows, words[1]), padding[0].index_copy(0, rows, padding[1]))


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
        shared = cast_once(key)
        q = self._split(self.linear_query(shared if query is key else query))
        k = self._split(self.linear_key(shared))
        v = self._split(self.linear_value(shared if value is key else value))
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
        shortcut = inputs
        if self.shortcut_layer is not None:
            inputs = cast_once(inputs)
            shortcut = self.shortcut_layer(inputs)
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
