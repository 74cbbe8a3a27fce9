"""The network of a graph-based agent: a map of the house and what is seen here, at two scales.

After Chen et al., "Think Global, Act Local" (CVPR 2022), built on the pre-trained encoder: its text
layers read the instruction, its view projection embeds views, and its cross-modal layers fuse words
with the views at hand (fine scale) and, as a copy, with the nodes of the map (coarse scale).
"""

from __future__ import annotations

from copy import deepcopy
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..simulator.geometry import NUM_VIEWS
from .prevalent import (
    MASKED_SCORE,
    CrossLayer,
    LanguageLayer,
    PrevalentModel,
    WordTransform,
    attention_bias,
    initialize,
)

PLACE_SIZE = 6
"""Numbers that say where a node is: sine and cosine of heading and elevation, and two lengths."""


class SeenObjects(NamedTuple):
    """Objects that an agent sees where it stands (REVERIE)."""

    features: Tensor  # (B, O, D) as those of views
    box: Tensor  # (B, O, 3) width, height and area as shares of a view
    mask: Tensor  # (B, O) True for objects


class LocalView(NamedTuple):
    """What an agent sees where it stands."""

    candidates: Tensor  # (B, K, D) features of K - 1 candidates and STOP, zeros at STOP
    panorama: Tensor  # (B, 36, D) features of all views
    stop: Tensor  # (B,) index of STOP among the candidates
    candidate_mask: Tensor  # (B, K) True for candidates and STOP
    view_mask: Tensor  # (B, 36) True for views that show no candidate
    place: Tensor  # (B, 6) where the agent began, as seen from here
    objects: SeenObjects | None = None


class MapNodes(NamedTuple):
    """What an agent knows of the house; slot 0 of every result is STOP, slot m + 1 is node m."""

    visual: Tensor  # (B, M, d) mean of what was seen of a node
    place: Tensor  # (B, M, 6) where it is, as seen from here
    visited: Tensor  # (B, M) step of the last visit from 1 on, 0 for nodes seen from afar
    distance: Tensor  # (B, M, M) meters along known edges, inf where none lead
    mask: Tensor  # (B, M) True for known nodes
    slot: Tensor  # (B, K) slot of each local candidate, 0 for STOP, -1 for padding


class Scores(NamedTuple):
    """Logits (B, M + 1) of stopping and of going to each node; -inf where one cannot go."""

    fused: Tensor
    coarse: Tensor
    fine: Tensor
    text: Tensor  # (B, T, d) words after both scales
    objects: Tensor | None = None  # (B, O) of choosing each object here; -inf where none is


class ScoreHead(nn.Module):
    """One score for each node from its state and the text's first state.

    Deviation: the original scores a node's state alone. Our encoder was taught to put the next
    action into the first word's state, so that takes part.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(3 * size, size)
        self.norm = nn.LayerNorm(size, eps=1e-12)
        self.score = nn.Linear(size, 1)

    def forward(self, nodes: Tensor, pooled: Tensor) -> Tensor:
        """(B, M, d) and (B, d) -> (B, M)."""
        pooled = pooled.unsqueeze(1).expand_as(nodes)
        joined = torch.cat([nodes, pooled, nodes * pooled], dim=-1)
        return self.score(self.norm(F.relu(self.hidden(joined)))).squeeze(-1)


class ObjectLayers(nn.Module):
    """What objects need beside the layers of the views: their kind, their size, their score."""

    def __init__(self, size: int, std: float) -> None:
        super().__init__()
        self.kind = nn.Parameter(torch.zeros(size))
        self.box = nn.Linear(3, size)
        self.score = ScoreHead(size)
        initialize(self.box, std)
        initialize(self.score, std)
        nn.init.normal_(self.kind, std=std)


class GraphModel(nn.Module):
    """Scores STOP and every node of the map that was not visited (Sec. 3.2 and 3.3).

    Args:
        bert: the pre-trained encoder, which becomes part of this network.
        num_panorama_layers: self-attention among the views of a place before they are used.
        max_steps: most steps of an episode that are told apart.
        sees_objects: objects are tokens beside the views, and one of them is chosen.
    """

    def __init__(
        self,
        bert: PrevalentModel,
        *,
        num_panorama_layers: int = 2,
        max_steps: int = 32,
        sees_objects: bool = False,
    ) -> None:
        super().__init__()
        config, size = bert.config, bert.config.hidden_size
        self.bert = bert
        self.coarse_layers: nn.ModuleList = deepcopy(bert.addlayer)
        self.panorama_layers = nn.ModuleList(
            LanguageLayer(config) for _ in range(num_panorama_layers)
        )
        self.stops = nn.Parameter(torch.zeros(2, size))  # the STOP tokens: fine, coarse
        self.token_types = nn.Embedding(2, size)  # candidate, view
        self.steps = nn.Embedding(max_steps + 1, size)  # 0: seen from afar
        self.fine_place, self.coarse_place = (nn.Linear(PLACE_SIZE, size) for _ in range(2))
        self.nearness = nn.Linear(1, config.num_heads)  # graph-aware attention
        self.fine_score, self.coarse_score = ScoreHead(size), ScoreHead(size)
        self.balance = nn.Linear(2 * size, 1)
        self.word_transform = WordTransform(config)
        self.word_bias = nn.Parameter(torch.zeros(config.vocab_size))
        parts = [self.panorama_layers, self.token_types, self.steps, self.fine_place]
        parts += [self.coarse_place, self.fine_score, self.coarse_score, self.balance]
        for part in (*parts, self.word_transform):
            initialize(part, config.initializer_range)
        nn.init.normal_(self.stops, std=config.initializer_range)
        nn.init.zeros_(self.nearness.weight)
        nn.init.zeros_(self.nearness.bias)
        self.objects = ObjectLayers(size, config.initializer_range) if sees_objects else None

    def look(self, seen: LocalView) -> tuple[Tensor, Tensor]:
        """Embed what is seen.

        Returns:
            Tokens (B, S, d) of the K candidates (and STOP), of the 36 views and of the objects, and
            their bias (B, 1, 1, S).
        """
        count = seen.candidates.shape[1]
        tokens = self.bert.vision_encoder(torch.cat([seen.candidates, seen.panorama], dim=1))
        types = torch.arange(tokens.shape[1], device=tokens.device) >= count
        tokens = tokens + self.token_types(types.long()) + self.fine_place(seen.place)[:, None]
        slots = torch.arange(tokens.shape[1], device=tokens.device)
        is_stop = slots == seen.stop[:, None]
        tokens = torch.where(is_stop.unsqueeze(-1), self.stops[0].to(tokens.dtype), tokens)
        mask = torch.cat([seen.candidate_mask, seen.view_mask], dim=1)
        if self.objects is not None and seen.objects is not None:
            things = self.bert.vision_encoder(seen.objects.features) + self.objects.kind
            things = (
                things + self.objects.box(seen.objects.box) + self.fine_place(seen.place)[:, None]
            )
            tokens = torch.cat([tokens, things], dim=1)
            mask = torch.cat([mask, seen.objects.mask], dim=1)
        bias = hide(mask, tokens.dtype)
        for layer in self.panorama_layers:
            tokens = layer(tokens, bias)
        return tokens, bias

    def forward(
        self,
        text: Tensor,
        padding: Tensor,
        tokens: Tensor,
        token_bias: Tensor,
        stop: Tensor,
        nodes: MapNodes,
    ) -> Scores:
        """Score the possible ends of the next walk.

        Args:
            text: (B, T, d) from `PrevalentModel.encode_text`.
            padding: (B, T) True for padding.
            tokens: (B, S, d) from `look`.
            token_bias: (B, 1, 1, S) from `look`.
            stop: (B,) index of STOP among the candidates.
            nodes: the map.
        """
        bias, count = attention_bias(~padding, text.dtype), nodes.slot.shape[1]
        words, near = fuse(self.bert.addlayer, text, tokens, bias, token_bias, token_bias)
        pooled, first = self.bert.pooler(words), torch.arange(len(text), device=text.device)
        local = self.fine_score(near[:, :count], pooled)
        map_tokens, map_bias, graph_bias = self._map(nodes)
        read, far = fuse(self.coarse_layers, text, map_tokens, bias, map_bias, graph_bias)
        coarse = self.coarse_score(far, self.bert.pooler(read))
        share = torch.sigmoid(self.balance(torch.cat([far[:, 0], near[first, stop]], dim=-1)))
        fine = spread_local(local, nodes)
        allowed = F.pad(nodes.mask & (nodes.visited == 0), (1, 0), value=True)
        fused = share * coarse + (1 - share) * fine
        fused, coarse, fine = (
            one.float().masked_fill(~allowed, -torch.inf) for one in (fused, coarse, fine)
        )
        chosen = None
        if self.objects is not None:
            first_object = count + NUM_VIEWS
            chosen = self.objects.score(near[:, first_object:], pooled).float()
            there = token_bias[:, 0, 0, first_object:] == 0
            chosen = chosen.masked_fill(~there, -torch.inf)
        return Scores(fused, coarse, fine, words + read, chosen)

    def guess_words(self, states: Tensor) -> Tensor:
        """Logits (N, V) of masked words from their states (N, d), for pre-training (Sec. 3.4)."""
        known = self.bert.embeddings.word_embeddings.weight
        return F.linear(self.word_transform(states), known, self.word_bias)

    def _map(self, nodes: MapNodes) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens (B, M + 1, d), their bias (B, 1, 1, M + 1), that among them (B, heads, ...)."""
        steps = nodes.visited.clamp(max=self.steps.num_embeddings - 1)
        tokens = nodes.visual + self.coarse_place(nodes.place) + self.steps(steps)
        stop = self.stops[1].to(tokens.dtype).expand(len(tokens), 1, -1)
        tokens = torch.cat([stop, tokens], dim=1)
        bias = hide(F.pad(nodes.mask, (1, 0), value=True), tokens.dtype)
        meters = nodes.distance.nan_to_num(posinf=0.0) / 10  # inf: only at what is hidden anyway
        graph = self.nearness(F.pad(meters, (1, 0, 1, 0)).unsqueeze(-1)).movedim(-1, 1)
        return tokens, bias, bias + graph


def hide(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """The bias (B, 1, 1, S) on attention scores that hides what ``mask`` (B, S) does not have."""
    return ((~mask).to(dtype) * MASKED_SCORE)[:, None, None]


def fuse(
    layers: nn.ModuleList,
    text: Tensor,
    nodes: Tensor,
    text_bias: Tensor | None,
    node_bias: Tensor,
    graph_bias: Tensor,
) -> tuple[Tensor, Tensor]:
    """Words (B, T, d) and nodes (B, S, d) after looking at each other in every layer.

    ``node_bias`` (B, 1, 1, S) hides nodes from words, ``graph_bias`` (B, 1 or heads, 1 or S, S) is
    on the scores among nodes.
    """
    for layer in layers:
        assert isinstance(layer, CrossLayer)
        text, nodes = (
            layer.fuse_text(text, nodes, text_bias, image_bias=node_bias),
            layer.fuse_images(nodes, text, text_bias, image_bias=graph_bias),
        )
    return text, nodes


def spread_local(local: Tensor, nodes: MapNodes) -> Tensor:
    """Scores of STOP and the candidates (B, K) as scores of the map's slots (B, M + 1) (Eq. 8).

    A node that is no candidate here is reached by going back: it gets the sum of the scores of the
    candidates that were visited.
    """
    known = F.pad(nodes.visited, (1, 0))  # (B, M + 1); STOP counts as not visited
    there = nodes.slot >= 0
    been = there & (known.gather(1, nodes.slot.clamp(min=0)) > 0)
    back = (local * been).sum(dim=1, keepdim=True)
    spread = F.pad(back.expand(-1, known.shape[1]), (0, 1))
    unused = known.shape[1]  # one slot more for candidates that are no goal
    index = torch.where(there & ~been, nodes.slot, unused)
    return spread.scatter(1, index, local)[:, :-1]
