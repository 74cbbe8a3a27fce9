"""A language model with a sentence vector in its memory, its embeddings, or both (Sec. 3.1).

`LatentDecoder` says how z enters and how a sentence is scored; `Gpt2Decoder` is the paper's GPT-2.
Any other causal model is read by `pretrained.PretrainedDecoder`.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import DynamicCache, GPT2LMHeadModel
from transformers.cache_utils import DynamicLayer

from .kernels import linear_nll

Injection = Literal["memory", "embedding", "both", "none"]


class Slot(NamedTuple):
    """What a layer attends to before the first token, (B, heads, 1, head_dim) each."""

    key: Tensor
    value: Tensor


class DecoderState:
    """What a decoder remembers of the tokens so far: its cache, whose first slot is the latent.

    Attributes:
        cache: keys and values of every layer, (B, heads, slots, head_dim).
        slots: the first of them, the latent's, of every layer; [] without memory.
        shift: (B, 1, H) what the latent adds to each token's embedding, or None.
        position: the position the next token gets.
        mask: what a token attends to of the cache, where that is not all of it.
    """

    mask: Tensor | None = None

    def __init__(self, slots: list[Slot], shift: Tensor | None) -> None:
        self.cache = DynamicCache(slots) if slots else DynamicCache()
        self.slots, self.shift, self.position = slots, shift, int(bool(slots))

    def select(self, rows: Tensor) -> None:
        """Keep the sequences ``rows`` (integers, repeats allowed), in that order."""
        self.cache.batch_select_indices(rows)
        if self.shift is not None:
            self.shift = self.shift[rows]


class StaticState(DecoderState):
    """A memory for ``room`` tokens, the latent's slot counted, made once and written in place.

    Shapes and addresses never change and the position is a tensor, so that a step can be recorded
    as a CUDA graph and replayed. The mask is what attention adds to its scores: a mask of truth
    values would be made into that by every layer.

    Args:
        slots, shift: as of a `DecoderState`.
        layers: of the decoder.
        room: tokens.
        like: a tensor on the decoder's device, of the type that attention computes in.
    """

    mask: Tensor

    def __init__(
        self,
        slots: list[Slot],
        shift: Tensor | None,
        layers: int,
        room: int,
        like: Tensor,
    ) -> None:
        super().__init__(slots, shift)
        room += -room % 8  # attention on a GPU would pad other masks, layer by layer
        self.place = torch.full((1,), self.position, device=like.device)  # of the next token
        self.mask = like.new_full((1, 1, 1, room), -torch.inf)
        self.mask[..., : self.position] = 0
        given: Sequence[Slot | None] = slots or [None] * layers
        self.cache.layers = [_StaticLayer(room, self.place, slot) for slot in given]


class _StaticLayer(DynamicLayer):
    """Keys and values (B, heads, room, head_dim); those of a token are put at ``place`` (1,)."""

    def __init__(self, room: int, place: Tensor, slot: Slot | None) -> None:
        super().__init__()
        self.room, self.place, self.slot = room, place, slot

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        batch, heads, _, head_dim = key_states.shape
        self.keys, self.values = (
            one.new_zeros(batch, heads, self.room, head_dim) for one in (key_states, value_states)
        )
        if self.slot is not None:
            self.keys[:, :, :1], self.values[:, :, :1] = self.slot
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        assert self.keys is not None
        assert self.values is not None
        self.keys.index_copy_(2, self.place, key_states)
        self.values.index_copy_(2, self.place, value_states)
        return self.keys, self.values


class LatentDecoder(nn.Module, ABC):
    """z -> sentence: what the two decoders share.

    Args:
        inject: where z enters. ``memory`` is one key and value per layer before the sequence
            (then tokens take positions 1..T), ``embedding`` a vector added to every token's.
        pad_token_id: a label that is not a target.

    Attributes:
        network: the language model itself, of transformers.
        memory, embedding: W_M and W_D, or None.
    """

    network: Any
    memory: nn.Linear | None
    embedding: nn.Linear | None

    def __init__(self, inject: Injection, pad_token_id: int) -> None:
        super().__init__()
        self.inject, self.pad_token_id, self.checkpointing = inject, pad_token_id, False

    @property
    @abstractmethod
    def num_positions(self) -> int:
        """Positions that the network has."""

    @abstractmethod
    def slots(self, latent: Tensor | None) -> list[Slot]:
        """The memory slot of each layer for ``latent`` (B, Z); [] without memory."""

    @abstractmethod
    def embed(self, ids: Tensor) -> Tensor:
        """Embeddings (B, T, H) of the tokens ``ids`` (B, T)."""

    @abstractmethod
    def read(self, embeds: Tensor, positions: Tensor, state: DecoderState) -> Tensor:
        """Final states (B, T, H) of ``embeds`` (B, T, H) at ``positions`` (1, T), after ``state``.

        The state's cache takes them in, except in training with ``checkpointing``.
        """

    @abstractmethod
    def head(self, hidden: Tensor) -> Tensor:
        """Logits (..., V) of final states (..., H)."""

    @property
    @abstractmethod
    def head_weight(self) -> Tensor:
        """(V, H) the output embedding."""

    @property
    def max_tokens(self) -> int:
        """Longest sequence, BOS included: all positions but the one the memory slot uses up."""
        return self.num_positions - (self.memory is not None)

    def shift(self, latent: Tensor | None) -> Tensor | None:
        """W_D z, (B, 1, H), which is added to the embedding of every position (Eq. 7)."""
        if latent is None or self.embedding is None:
            return None
        return self.embedding(latent.to(self.embedding.weight.dtype))[:, None]

    def start(self, latent: Tensor | None) -> DecoderState:
        """State before the first token of sentences with vectors ``latent`` (B, Z)."""
        return DecoderState(self.slots(latent), self.shift(latent))

    def advance(self, state: DecoderState, ids: Tensor) -> Tensor:
        """Read ``ids`` (B, T) on top of ``state``, which moves on. Returns states (B, T, H)."""
        return self.advance_embedded(state, self.embed(ids))

    def advance_embedded(self, state: DecoderState, embeds: Tensor) -> Tensor:
        """``advance`` on embeddings (B, T, H), which need not be those of tokens."""
        width = embeds.shape[1]
        if state.position + width > self.num_positions:
            raise ValueError(
                f"a sentence of more than {self.max_tokens} decoder tokens exceeds the decoder's "
                f"{self.num_positions} positions; shorten it"
            )
        if state.shift is not None:
            embeds = embeds + state.shift
        positions = torch.arange(state.position, state.position + width, device=embeds.device)[None]
        state.position += width
        return self.read(embeds, positions, state)

    def can_be_static(self, room: int) -> bool:
        """Whether ``start_static`` takes a memory for ``room`` tokens."""
        return self.network.config._attn_implementation == "sdpa"

    def start_static(self, latent: Tensor | None, room: int) -> StaticState:
        """``start`` with a memory of fixed size, for at most ``room`` tokens and the latent."""
        slots, weight = self.slots(latent), self.head_weight
        layers, kind = self.network.config.num_hidden_layers, weight.device.type
        cast = torch.is_autocast_enabled(kind)
        like = weight.new_empty(0, dtype=torch.get_autocast_dtype(kind) if cast else weight.dtype)
        return StaticState(slots, self.shift(latent), layers, room + len(slots[:1]), like)

    def advance_static(self, state: StaticState, ids: Tensor) -> Tensor:
        """``advance`` by one token, ``ids`` (B, 1), in the same memory as every other token."""
        embeds = self.embed(ids)
        if state.shift is not None:
            embeds = embeds + state.shift
        state.mask.index_fill_(3, state.place, 0.0)
        states = self.read(embeds, state.place[None], state)
        state.place.add_(1)
        return states

    def hidden(self, ids: Tensor, latent: Tensor | None) -> Tensor:
        """Final states (B, T, H) of ``ids`` (B, T) given ``latent`` (B, Z), or without any.

        No padding mask is needed: padding stands on the right of what a causal row can see.
        """
        return self.advance(self.start(latent), ids)

    def logits(self, ids: Tensor, latent: Tensor | None) -> Tensor:
        """Next-token logits (B, T, V) at every position; to score a sentence, ``nll`` is faster."""
        return self.head(self.hidden(ids, latent))

    def nll(self, ids: Tensor, latent: Tensor | None, places: Tensor | None = None) -> Tensor:
        """-log p(ids | latent) in nats, summed over each sentence's targets. Returns (B,) fp32.

        Targets are ``ids[:, 1:]`` except padding; the head runs on no other position. ``places``
        (N,) are theirs in B (T - 1); where they are not given, the host waits to learn their
        number.
        """
        targets = ids[:, 1:]
        if places is None:
            places = (targets.flatten() != self.pad_token_id).nonzero().squeeze(1)
        states = self.hidden(ids[:, :-1], latent).flatten(0, 1).index_select(0, places)
        losses = self.token_nll(states, targets.flatten().index_select(0, places))
        spread = losses.new_zeros(targets.numel()).index_copy(0, places, losses)
        return spread.view(targets.shape).sum(dim=1)

    def token_nll(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """-log p(targets) in nats, (N,) fp32, of ``targets`` (N,) after final states (N, H)."""
        return linear_nll(hidden, self.head_weight, targets)


class Gpt2Decoder(LatentDecoder):
    """The paper's decoder.

    Args:
        gpt2: the language model; L layers of width H, V tokens.
        latent_dim: Z.
        inject, pad_token_id: see `LatentDecoder`.
    """

    def __init__(
        self, gpt2: GPT2LMHeadModel, latent_dim: int, inject: Injection, pad_token_id: int
    ) -> None:
        super().__init__(inject, pad_token_id)
        self.gpt2 = gpt2
        width, layers = gpt2.config.n_embd, gpt2.config.n_layer
        memory, embedding = inject in ("memory", "both"), inject in ("embedding", "both")
        self.memory = nn.Linear(latent_dim, layers * width, bias=False) if memory else None
        self.embedding = nn.Linear(latent_dim, width, bias=False) if embedding else None

    @property
    def network(self) -> GPT2LMHeadModel:  # type: ignore[override]
        return self.gpt2

    @property
    def num_positions(self) -> int:
        return self.gpt2.config.n_positions

    def slots(self, latent: Tensor | None) -> list[Slot]:
        """The memory slot of each layer, (B, heads, 1, head_dim): key and value are the same.

        Layer l reads the l-th chunk of W_M z (Eq. 6), head by head, with no norm and no bias.
        """
        if latent is None or self.memory is None:
            return []
        config = self.gpt2.config
        chunks = self.memory(latent.to(self.memory.weight.dtype)).view(
            len(latent), config.n_layer, config.n_head, 1, config.n_embd // config.n_head
        )
        return [Slot(chunk, chunk) for chunk in chunks.unbind(dim=1)]

    def embed(self, ids: Tensor) -> Tensor:
        return self.gpt2.transformer.wte(ids)

    def read(self, embeds: Tensor, positions: Tensor, state: DecoderState) -> Tensor:
        if self.checkpointing and self.training and torch.is_grad_enabled():
            return self._checkpointed(embeds, positions, state.slots)
        return self.gpt2.transformer(
            inputs_embeds=embeds,
            position_ids=positions,
            attention_mask=state.mask,
            past_key_values=state.cache,
            use_cache=True,
        ).last_hidden_state

    def head(self, hidden: Tensor) -> Tensor:
        return self.gpt2.lm_head(hidden)

    @property
    def head_weight(self) -> Tensor:
        return self.gpt2.lm_head.weight

    def _checkpointed(self, embeds: Tensor, positions: Tensor, slots: list[Slot]) -> Tensor:
        """The blocks, each recomputed in the backward pass, with the latent as their argument.

        transformers' own checkpointing drops the cache, and the latent with it.
        """
        transformer = self.gpt2.transformer
        hidden = transformer.drop(embeds + transformer.wpe(positions))
        past, width = int(bool(slots)), embeds.shape[1]
        lowest = torch.finfo(hidden.dtype).min
        mask = torch.full((width, past + width), lowest, dtype=hidden.dtype, device=hidden.device)
        mask = mask.triu(diagonal=past + 1)[None, None]
        given = [slot.key for slot in slots] if slots else [None] * len(transformer.h)
        for block, key in zip(transformer.h, given, strict=True):
            hidden = checkpoint(_run_block, block, hidden, mask, key, use_reentrant=False)
        return transformer.ln_f(hidden)


class _Prefix:
    """A cache for one call of one block: a prefix of keys and values, and nothing is stored."""

    def __init__(self, slot: Tensor | None) -> None:
        self.slot = slot

    def update(
        self, keys: Tensor, values: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        if self.slot is None:
            return keys, values
        slot = self.slot.to(keys)
        return torch.cat([slot, keys], dim=-2), torch.cat([slot, values], dim=-2)


def _run_block(block: nn.Module, hidden: Tensor, mask: Tensor, slot: Tensor | None) -> Tensor:
    out = block(hidden, past_key_values=_Prefix(slot), attention_mask=mask, use_cache=True)
    return out[0] if isinstance(out, tuple) else out
