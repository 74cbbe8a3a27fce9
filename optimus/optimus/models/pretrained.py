"""Any pre-trained encoder and causal decoder of transformers, with a Gaussian latent between them.

The networks are transformers' own modules, unchanged: z reaches the decoder through its key-value
cache and through what is added to its embeddings (Li et al., EMNLP 2020, Sec. 3.1). What follows
from the architecture alone is here; folders and tokenizers are the task's.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from transformers import (
    MODEL_MAPPING,
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    DynamicCache,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.cache_utils import DynamicLayer
from transformers.pytorch_utils import Conv1D

from .decoder import DecoderState, Injection, LatentDecoder, Slot
from .encoder import LatentEncoder, Pooling, pool

DROPOUT = re.compile(r"(dropout|dropout_prob|pdrop)$")
NOT_DROPOUT = re.compile(r"^(classifier|seq_classif|qa|summary)|layerdrop")
LORA_SCALING = 2
"""alpha / rank of LoRA: what the product of its two matrices is multiplied with."""


class PretrainedEncoder(LatentEncoder):
    """An encoder of `AutoModel`, one vector a sentence, and W_E with a bias.

    Args:
        network: H is its width.
        latent_dim: Z.
        pooling: the network's own ``pooler``, the state of the first token, or the mean of the
            states of all tokens, [CLS] and [SEP] among them.
    """

    def __init__(self, network: PreTrainedModel, latent_dim: int, pooling: Pooling) -> None:
        super().__init__()
        self.network, self.pooling = network, pooling
        self.head = nn.Linear(network.config.hidden_size, 2 * latent_dim)
        self.num_positions = encoder_positions(network)

    def pooled(
        self,
        ids: Tensor,
        mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        *,
        padded: bool | None = None,
    ) -> Tensor:
        """One vector (B, H) a sentence; arguments as in `LatentEncoder`."""
        self.check_length(ids)
        mask = torch.ones_like(ids) if mask is None else mask.long()
        segments = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        out = self.network(input_ids=ids, attention_mask=mask, **segments)
        return pool(out, mask, self.pooling)


class PretrainedDecoder(LatentDecoder):
    """A causal model of `AutoModelForCausalLM` whose cache has a slot for z before the first token.

    The slot stands at position 0, where a rotary position embedding turns nothing, and the tokens
    follow at 1..T. Deviation: its key and its value are two linear maps with a bias, where the
    paper has one map for both and none; in a trained network the two differ much in size.

    Args:
        network: L layers of ``num_key_value_heads`` heads; tokens are embedded in width H.
        latent_dim: Z.
        inject, pad_token_id: see `LatentDecoder`.
    """

    def __init__(
        self, network: PreTrainedModel, latent_dim: int, inject: Injection, pad_token_id: int
    ) -> None:
        super().__init__(inject, pad_token_id)
        self.network = network
        self.form = cache_form(network.config)
        words: Any = network.get_input_embeddings()
        width: int = words.embedding_dim
        memory, embedding = inject in ("memory", "both"), inject in ("embedding", "both")
        layers, heads, head_dim = self.form
        size = layers * 2 * heads * head_dim
        self.memory = nn.Linear(latent_dim, size) if memory else None
        self.embedding = nn.Linear(latent_dim, width, bias=False) if embedding else None
        self.softcap = getattr(network.config, "final_logit_softcapping", None)
        accepted = inspect.signature(network.base_model.forward).parameters
        self._takes_positions = "position_ids" in accepted

    @property
    def num_positions(self) -> int:
        names = ("max_position_embeddings", "max_seq_len")  # the second is MPT's
        found = (getattr(self.network.config, name, None) for name in names)
        return next(filter(None, found), 1 << 20)

    def slots(self, latent: Tensor | None) -> list[Slot]:
        """Key and value (B, heads, 1, head_dim) of every layer, from W_M z + b (Eq. 6)."""
        if latent is None or self.memory is None:
            return []
        layers, heads, head_dim = self.form
        chunks = self.memory(latent.to(self.memory.weight.dtype))
        chunks = chunks.view(len(latent), layers, 2, heads, 1, head_dim)
        return [Slot(*layer.unbind(dim=1)) for layer in chunks.unbind(dim=1)]

    def embed(self, ids: Tensor) -> Tensor:
        return self.network.get_input_embeddings()(ids)

    def read(self, embeds: Tensor, positions: Tensor, state: DecoderState) -> Tensor:
        given = {"position_ids": positions} if self._takes_positions else {}
        body: Callable[..., Any] = self.network.base_model
        if self.checkpointing and self.training and torch.is_grad_enabled():
            cache = _fixed_cache(state.slots)
            with _recomputed(decoder_layers(self.network)):
                return body(
                    inputs_embeds=embeds,
                    past_key_values=cache,
                    use_cache=cache is not None,
                    **given,
                ).last_hidden_state
        return body(
            inputs_embeds=embeds,
            attention_mask=state.mask,
            past_key_values=state.cache,
            use_cache=True,
            **given,
        ).last_hidden_state

    def can_be_static(self, room: int) -> bool:
        """Of networks that are told positions, up to the width of a window of attention."""
        window = getattr(self.network.config, "sliding_window", None)
        fits = window is None or room < window
        return super().can_be_static(room) and self._takes_positions and fits

    def head(self, hidden: Tensor) -> Tensor:
        logits = self.network.get_output_embeddings()(hidden)
        return logits if self.softcap is None else self.softcap * (logits / self.softcap).tanh()

    @property
    def head_weight(self) -> Tensor:
        return self.network.get_output_embeddings().weight

    def token_nll(self, hidden: Tensor, targets: Tensor) -> Tensor:
        if self.softcap is None and self.network.get_output_embeddings().bias is None:
            return super().token_nll(hidden, targets)
        return F.cross_entropy(self.head(hidden).float(), targets, reduction="none")


class CacheForm(NamedTuple):
    """Sizes of a decoder's key-value cache."""

    layers: int
    heads: int
    head_dim: int


def cache_form(config: PreTrainedConfig) -> CacheForm:
    """What one token adds to the cache, by the configuration of a causal model."""
    heads = config.num_attention_heads
    return CacheForm(
        config.num_hidden_layers,
        getattr(config, "num_key_value_heads", None) or heads,
        getattr(config, "head_dim", None) or config.hidden_size // heads,
    )


@torch.no_grad()
def find_misfit(network: PreTrainedModel) -> str | None:
    """Why z cannot enter the causal model ``network`` or its head cannot be read, or None.

    Two tokens are read: the cache has to hold them as `cache_form` says, and the logits have to be
    what the output embedding makes of the last states.
    """
    network.eval()
    try:
        form = cache_form(network.config)
        ids = torch.tensor([[5, 7]])  # ids of padding are often embedded as 0
        out = network.base_model(input_ids=ids, use_cache=True)
        shapes = [tuple(layer.keys.shape) for layer in out.past_key_values.layers]
        values = [tuple(layer.values.shape) for layer in out.past_key_values.layers]
        logits = network(input_ids=ids).logits
        decoder = PretrainedDecoder(network, 1, "both", 0)
        ours = decoder.head(out.last_hidden_state)
        decoder_layers(network)
    except (AttributeError, TypeError, ValueError, RuntimeError) as error:
        return f"it keeps no keys and values of each token ({str(error).splitlines()[0][:80]})"
    wanted = [(1, form.heads, 2, form.head_dim)] * form.layers
    if shapes != wanted or values != wanted:
        return f"its cache is not one key and value of {form.heads} x {form.head_dim} in each layer"
    if (logits - ours).abs().max() > 1e-3 * logits.abs().max():
        return "its logits are more than the output embedding of its last states"
    return None


@torch.no_grad()
def find_encoder_misfit(network: PreTrainedModel, pooling: Pooling, pad: int) -> str | None:
    """Why ``network`` gives no vector of a sentence, or None.

    A sentence is read alone and beside a longer one: the padding (id ``pad``) may not change it.
    """
    network.eval()

    def vector(ids: Tensor) -> Tensor:
        mask = (ids != pad).long()
        return pool(network(input_ids=ids, attention_mask=mask), mask, pooling)

    try:
        ids = torch.tensor([[one for one in (5, 7, 9, 11) if one != pad]])
        alone, beside = vector(ids), vector(F.pad(ids, (0, 4), value=pad))
    except (AttributeError, TypeError, ValueError, RuntimeError) as error:
        return f"its states cannot be read ({str(error).splitlines()[0][:80]})"
    if (alone - beside).abs().max() > 1e-3 * alone.abs().max():
        return "its vector of a sentence changes with the padding beside it"
    return None


def decoder_layers(network: PreTrainedModel) -> nn.ModuleList:
    """The blocks of a causal model."""
    number = network.config.num_hidden_layers
    for module in network.base_model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == number:
            return module
    raise ValueError(f"{type(network).__name__} has no list of {number} layers")


class _FixedLayer(DynamicLayer):
    """A layer's cache that is read and never grows, so that a layer may be run twice."""

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        keys, values = self.keys.to(key_states), self.values.to(value_states)  # type: ignore[union-attr]
        return torch.cat([keys, key_states], dim=-2), torch.cat([values, value_states], dim=-2)


def _fixed_cache(slots: list[Slot]) -> DynamicCache | None:
    if not slots:
        return None
    cache = DynamicCache(slots)
    for number, slot in enumerate(slots):
        layer = _FixedLayer()
        layer.lazy_initialization(*slot)
        layer.keys, layer.values = slot
        cache.layers[number] = layer
    return cache


@contextmanager
def _recomputed(layers: nn.ModuleList) -> Iterator[None]:
    """Layers that are called inside keep nothing and are run again in the backward pass.

    transformers' own checkpointing drops the cache, and the latent with it.
    """
    for layer in layers:
        layer.forward = functools.partial(checkpoint, layer.forward, use_reentrant=False)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def read_config(given: PreTrainedConfig | dict[str, Any]) -> PreTrainedConfig:
    """A network's configuration in fp32, from its dictionary, which names the ``model_type``."""
    config = AutoConfig.for_model(**given) if isinstance(given, dict) else given
    config.dtype = torch.float32
    return config


def build_encoder(config: PreTrainedConfig, pooling: Pooling) -> Any:
    """The network of an encoder with random weights, without a pooler that nothing would read."""
    return AutoModel.from_config(config, **pooler_options(config, pooling))


def build_decoder(config: PreTrainedConfig) -> Any:
    """The network of a causal model with random weights."""
    return AutoModelForCausalLM.from_config(config)


def pooler_options(config: PreTrainedConfig, pooling: Pooling) -> dict[str, Any]:
    """What leaves out the pooler of a network that has one and does not use it."""
    network: Any = MODEL_MAPPING[type(config)]
    has_one = "add_pooling_layer" in inspect.signature(network).parameters
    return {"add_pooling_layer": pooling == "pooler"} if has_one else {}


def encoder_positions(network: PreTrainedModel) -> int:
    """Tokens of the longest sentence; RoBERTa and its like begin to count behind the padding."""
    limit = getattr(network.config, "max_position_embeddings", None) or 1 << 20
    for name, module in network.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            first = 0 if module.padding_idx is None else module.padding_idx + 1
            limit = min(limit, module.num_embeddings - first)
    return limit


def set_dropout(config: PreTrainedConfig, probability: float) -> None:
    """Dropout of embeddings, attention and residual branches, by the names they go under."""
    for name, value in config.to_dict().items():
        numeric = isinstance(value, int | float) and not isinstance(value, bool)
        if DROPOUT.search(name) and not NOT_DROPOUT.search(name) and numeric:
            setattr(config, name, probability)


@torch.no_grad()
def grow_vocabulary(network: Any, tokens: int) -> None:
    """Give a causal model rows for ``tokens`` ids; new rows are the mean of the old ones."""
    old = network.get_input_embeddings().num_embeddings
    if tokens <= old:
        return
    network.resize_token_embeddings(tokens, mean_resizing=False)
    for module in (network.get_input_embeddings(), network.get_output_embeddings()):
        module.weight[old:] = module.weight[:old].mean(dim=0)
        if getattr(module, "bias", None) is not None:
            module.bias[old:] = module.bias[:old].mean()


def without_lora(state: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """The tensors of ``model`` with LoRA as those of one without: W + scaling B A.

    ``model`` may have LoRA or not; its layers tell which keep their matrix the other way round.
    """
    turned = {
        name.removesuffix(".base_layer")
        for name, module in model.named_modules()
        if isinstance(module, Conv1D)  # of GPT-2
    }
    plain = {}
    for name, value in state.items():
        if "lora_" in name:
            continue
        if ".base_layer." in name:
            stem = name.replace(".base_layer.weight", "")
            low = state.get(f"{stem}.lora_A.default.weight")
            name = name.replace(".base_layer.", ".")
            if low is not None:
                added = LORA_SCALING * state[f"{stem}.lora_B.default.weight"] @ low
                value = value + (added.T if stem in turned else added).to(value)
        plain[name] = value
    return plain
