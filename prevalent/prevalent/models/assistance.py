"""HANNA's agent: one network that navigates and one that decides when to ask (EMNLP 2019, Sec. 5).

Both read the current instruction, remember the present subtask in a text decoder and the whole
episode in a state decoder, and look at the scene, at the scene again in the light of the words, and
at the view of the place to be reached.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..assistance_config import AssistanceConfig
from .assistance_layers import (
    Decoder,
    LearnedTime,
    Positions,
    Recall,
    StateLayer,
    Text,
    TextLayer,
    VisualAttention,
    WordLayer,
)
from .prevalent import PrevalentModel

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

    def __init__(self, config: AssistanceConfig, vocab_size: int, max_length: int) -> None:
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

    def __init__(self, config: AssistanceConfig, bert: PrevalentModel, max_length: int) -> None:
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
        config: AssistanceConfig,
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
        inputs = self.text_decoder.embedding(torch.cat([action, scene, extra[0]], dim=1))
        state = self.drop(inputs + recall.local_time)
        forgotten = torch.stack(recall.forgotten, dim=1)
        for layer, memory in zip(self.text_decoder.layers, recall.subtask, strict=True):
            state = layer(state, recall.text, memory, forgotten)
        recall.forgotten.append(torch.zeros_like(recall.forgotten[0]))
        recall.output = recall.subtask[-1].values[-1]

        ahead = self.next_visual_attention(state, sight.views)
        goal = self.goal_visual_attention(state, sight.goal)
        inputs = torch.cat([state, ahead, goal, extra[1]], dim=1)
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

    def __init__(self, config: AssistanceConfig, encoder: nn.Module, image_width: int) -> None:
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

    def __init__(self, config: AssistanceConfig, encoder: nn.Module, image_width: int) -> None:
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


def _replace_rows(old: Text, new: Text, rows: Tensor) -> Text:
    """``old`` with the texts of ``rows`` exchanged; both are padded to the longer."""
    length = max(old.words.shape[1], new.words.shape[1])
    words = [F.pad(text.words, (0, 0, 0, length - text.words.shape[1])) for text in (old, new)]
    padding = [
        F.pad(text.padding, (0, length - text.padding.shape[1]), value=True) for text in (old, new)
    ]
    return Text(words[0].index_copy(0, rows, words[1]), padding[0].index_copy(0, rows, padding[1]))
