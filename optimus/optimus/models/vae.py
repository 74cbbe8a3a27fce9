"""The sentence VAE: an encoder, a Gaussian latent and a causal decoder (Li et al., EMNLP 2020).

The paper's are BERT and GPT-2; any others are transformers' own modules (`pretrained`).

The paper's bound is the ``forward`` below; its parts stand in ``objectives.py`` by equation. The
importance-weighted bound of the evaluation is ``importance_scores`` (Sec. 4.1).
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    BertConfig,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.utils import logging

from ..metrics.latent import importance_log_weights, log_marginal
from ..objectives import (
    Objective,
    batch_loss,
    kl_divergence,
    kl_loss,
    sentence_lengths,
    total_loss,
)
from ..runtime.files import json_text, require_target, why
from ..runtime.weight_files import read_weight_file
from .decoder import Gpt2Decoder, Injection, LatentDecoder
from .encoder import BertEncoder, LatentEncoder, Pooling, Posterior
from .kernels import gather_rows
from .pretrained import (
    PretrainedDecoder,
    PretrainedEncoder,
    build_decoder,
    build_encoder,
    read_config,
)

TOKEN_FIELDS = ("pad_token_id", "bos_token_id", "eos_token_id")
NUM_ADDED_TOKENS = len(TOKEN_FIELDS)
"""``<PAD>``, ``<BOS>`` and ``<EOS>`` stand, in this order, behind the decoder's own vocabulary."""


class OptimusConfig(PreTrainedConfig):
    """Both networks, the size of the latent between them, and how it enters the decoder.

    Either ``bert`` and ``gpt2`` are set, the paper's networks, or ``decoder`` and ``encoder``.

    Args:
        bert: configuration of the encoder, as an object or a dictionary; None is BERT-base cased.
        gpt2: configuration of the decoder, whose ``vocab_size`` already counts the three added
            tokens; None is GPT-2 small with them.
        latent_dim: Z.
        inject: ``memory``, ``embedding``, ``both``, or ``none`` for a plain GPT-2 language model,
            which then has no encoder at all.
        encoder_pad_token_id: the id that the encoder does not attend to.
        pad_token_id, bos_token_id, eos_token_id: decoder side; by default the last three ids.
        decoder: configuration of any other causal model, instead of ``gpt2``; the ids above are
            needed then.
        encoder: likewise of any other encoder; None for a plain language model.
        pooling: how ``encoder`` makes one vector of a sentence.
    """

    model_type = "optimus"
    bert: Any
    gpt2: Any
    encoder: PreTrainedConfig | None = None
    decoder: PreTrainedConfig | None = None
    pooling: Pooling = "pooler"
    pad_token_id: int
    bos_token_id: int
    eos_token_id: int

    def __init__(
        self,
        bert: BertConfig | dict[str, Any] | None = None,
        gpt2: GPT2Config | dict[str, Any] | None = None,
        latent_dim: int = 32,
        inject: Injection = "both",
        *,
        encoder_pad_token_id: int = 0,
        pad_token_id: int | None = None,
        bos_token_id: int | None = None,
        eos_token_id: int | None = None,
        decoder: PreTrainedConfig | dict[str, Any] | None = None,
        encoder: PreTrainedConfig | dict[str, Any] | None = None,
        pooling: Pooling = "pooler",
        **kwargs: Any,
    ) -> None:
        if latent_dim < 1:
            raise ValueError(f"latent_dim must be at least 1, got {latent_dim}")
        if inject not in ("memory", "embedding", "both", "none"):
            raise ValueError(f"inject must be memory, embedding, both or none, got {inject!r}")
        super().__init__(**kwargs)
        self.latent_dim, self.inject = latent_dim, inject
        self.encoder_pad_token_id = encoder_pad_token_id
        self.initializer_range = 0.02
        tokens = dict(zip(TOKEN_FIELDS, (pad_token_id, bos_token_id, eos_token_id), strict=True))
        if decoder is None:
            self._set_paper(bert, gpt2, tokens)
            return
        if None in tokens.values():
            raise ValueError("a decoder of your own needs pad_token_id, bos_token_id, eos_token_id")
        for key, number in tokens.items():
            setattr(self, key, number)
        self.bert = self.gpt2 = None
        self.decoder = read_config(copy.deepcopy(decoder))
        if inject != "none":
            if encoder is None:
                raise ValueError(f"inject={inject!r} needs an encoder, and none was given")
            self.encoder, self.pooling = read_config(copy.deepcopy(encoder)), pooling
        self.tie_word_embeddings = self.decoder.tie_word_embeddings

    def _set_paper(
        self,
        bert: BertConfig | dict[str, Any] | None,
        gpt2: GPT2Config | dict[str, Any] | None,
        given: Mapping[str, int | None],
    ) -> None:
        """BERT and GPT-2, whose last three ids are the special tokens unless others are given."""
        encoder = bert if bert is not None else {"vocab_size": 28996}
        decoder = gpt2 if gpt2 is not None else {"vocab_size": 50260}
        vocab_size = decoder["vocab_size"] if isinstance(decoder, dict) else decoder.vocab_size
        first = vocab_size - NUM_ADDED_TOKENS
        for number, key in enumerate(TOKEN_FIELDS):
            setattr(self, key, first + number if given[key] is None else given[key])
        # GPT-2's own defaults point outside of a small vocabulary.
        tokens = {key: getattr(self, key) for key in TOKEN_FIELDS}
        self.bert = BertConfig(**encoder) if isinstance(encoder, dict) else copy.deepcopy(encoder)
        if isinstance(decoder, dict):
            decoder = GPT2Config(**{**decoder, **tokens})
        self.gpt2 = copy.deepcopy(decoder)
        self.gpt2.update(tokens)
        # The same function in one kernel instead of eight.
        if self.gpt2.activation_function == "gelu_new":
            self.gpt2.activation_function = "gelu_pytorch_tanh"
        self.tie_word_embeddings = True

    @property
    def encoder_vocab_size(self) -> int:
        """Rows of the encoder's embedding; 0 without an encoder."""
        network = self.bert or self.encoder
        return network.vocab_size if network is not None else 0

    @property
    def decoder_vocab_size(self) -> int:
        """Rows of the decoder's embedding, those of special tokens included."""
        network = self.gpt2 or self.decoder
        assert network is not None
        return network.vocab_size


class VaeLosses(NamedTuple):
    """Per sentence, in nats; a plain language model has ``mean`` and ``logvar`` of size (B, 0)."""

    total: Tensor  # (B,) reconstruction [/ length] + beta * kl
    reconstruction: Tensor  # (B,) -log p(x|z), summed over the tokens, averaged over the samples
    kl: Tensor  # (B,) as the objective counts it
    full_kl: Tensor  # (B,) KL(q(z|x) || N(0, I)) without free bits
    mean: Tensor  # (B, Z)
    logvar: Tensor  # (B, Z)


class OptimusModel(PreTrainedModel):
    """The sentence VAE. ``OptimusModel(config)`` is a from-scratch initialisation.

    Linear maps and embeddings start from N(0, 0.02), biases from 0, norms from 1 and 0; GPT-2
    scales its residual projections down by sqrt(2 L), as its authors do.
    """

    config_class = OptimusConfig
    config: OptimusConfig
    base_model_prefix = "optimus"
    main_input_name = "encoder_ids"
    supports_gradient_checkpointing = True
    # transformers looks for tied weights in direct children only, and GPT-2 is one level deeper.
    _tied_weights_keys = {  # noqa: RUF012
        "decoder.gpt2.lm_head.weight": "decoder.gpt2.transformer.wte.weight"
    }
    _supports_sdpa = True

    def __init__(self, config: OptimusConfig) -> None:
        super().__init__(config)
        self.encoder: LatentEncoder | None = None
        self.decoder: LatentDecoder
        size, pad = config.latent_dim, config.pad_token_id
        if config.gpt2 is not None:
            if config.inject != "none":
                self.encoder = BertEncoder(BertModel(config.bert), size)
            self.decoder = Gpt2Decoder(GPT2LMHeadModel(config.gpt2), size, config.inject, pad)
        else:
            if config.encoder is not None:
                body = build_encoder(config.encoder, config.pooling)
                self.encoder = PretrainedEncoder(body, size, config.pooling)
            assert config.decoder is not None
            network = build_decoder(config.decoder)
            self.decoder = PretrainedDecoder(network, size, config.inject, pad)
            tied = network.get_expanded_tied_weights_keys()
            self._tied_weights_keys = {
                f"decoder.network.{one}": f"decoder.network.{other}" for one, other in tied.items()
            }
        self.post_init()

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> OptimusModel:
        """Read what ``save_pretrained`` wrote, in evaluation mode and without progress bars.

        Weights come from ``model.safetensors`` alone: a torch file beside it is not looked at.

        Raises:
            ValueError: the file cannot be read, or lacks a tensor of the model, or one has another
                shape.
        """
        told = kwargs.pop("output_loading_info", False)
        options = {"use_safetensors": True, **kwargs, "output_loading_info": True}
        try:
            with without_bars(), without_tables():
                found: Any = super().from_pretrained(*args, **options, ignore_mismatched_sizes=True)
        except SafetensorError as error:
            raise ValueError(
                f"{args[0]} has no readable model.safetensors: {why(error)}"
            ) from error
        model, report = found
        wrong = [*report["missing_keys"], *(one for one, *_ in report["mismatched_keys"])]
        if wrong:
            raise ValueError(
                f"{args[0]}: model.safetensors lacks {len(wrong)} tensors of the model in "
                f"config.json, such as {min(wrong)}, or they have other shapes; the two files "
                "belong to different models"
            )
        return found if told else model  # type: ignore[no-any-return]

    def save_pretrained(self, save_directory: Any, *args: Any, **kwargs: Any) -> None:
        """Write ``config.json`` and ``model.safetensors``, without progress bars.

        Raises ``ValueError`` where ``save_directory`` is a file or a run.
        """
        with without_bars():
            super().save_pretrained(require_target(save_directory), *args, **kwargs)

    @classmethod
    def from_parts(
        cls,
        bert: BertModel | None,
        gpt2: GPT2LMHeadModel,
        *,
        latent_dim: int = 32,
        inject: Injection = "both",
    ) -> OptimusModel:
        """Pre-trained ``bert`` and ``gpt2`` with fresh connectors between them.

        The decoder is given three new rows for ``<PAD>``, ``<BOS>`` and ``<EOS>``, drawn from
        N(0, 0.02) like the connectors.
        """
        vocab_size = gpt2.config.vocab_size + NUM_ADDED_TOKENS
        config = OptimusConfig(
            bert=bert.config.to_dict() if bert is not None else None,
            gpt2={**gpt2.config.to_dict(), "vocab_size": vocab_size},
            latent_dim=latent_dim,
            inject=inject,
        )
        model = cls(config)
        if model.encoder is not None:
            if bert is None:
                raise ValueError(f"inject={inject!r} needs a BERT encoder, and none was given")
            model.encoder.network.load_state_dict(bert.state_dict())
        rows = model.decoder.network.transformer.wte.weight.data
        old = gpt2.state_dict()
        rows[: gpt2.config.vocab_size] = old["transformer.wte.weight"]
        old["transformer.wte.weight"] = old["lm_head.weight"] = rows.clone()
        model.decoder.network.load_state_dict(old)
        return model

    @classmethod
    def from_networks(
        cls,
        encoder: PreTrainedModel | None,
        decoder: PreTrainedModel,
        *,
        tokens: Mapping[str, Any],
        latent_dim: int = 32,
        inject: Injection = "both",
        pooling: Pooling = "pooler",
        encoder_pad_token_id: int = 0,
    ) -> OptimusModel:
        """Any pre-trained ``encoder`` and causal ``decoder`` with fresh connectors between them.

        Args:
            encoder: None for a plain language model.
            decoder: its embedding has a row for every special token already.
            tokens: ``pad_token_id``, ``bos_token_id`` and ``eos_token_id`` of the decoder's side.
            latent_dim, inject, pooling, encoder_pad_token_id: as in `OptimusConfig`.
        """
        model = cls(
            OptimusConfig(
                decoder=decoder.config,
                encoder=None if encoder is None else encoder.config,
                pooling=pooling,
                latent_dim=latent_dim,
                inject=inject,
                encoder_pad_token_id=encoder_pad_token_id,
                **tokens,
            )
        )
        model.decoder.network.load_state_dict(decoder.state_dict())
        if model.encoder is not None:
            assert encoder is not None
            model.encoder.network.load_state_dict(encoder.state_dict())
        return model

    def gradient_checkpointing_enable(self, *args: Any, **kwargs: Any) -> None:
        """Recompute the blocks of both networks in the backward pass, keeping the latent."""
        self._set_checkpointing(True)

    def activation_checkpointing_enable(self, *args: Any, **kwargs: Any) -> None:
        """The name transformers 5.2x gives to ``gradient_checkpointing_enable``."""
        self._set_checkpointing(True)

    def gradient_checkpointing_disable(self) -> None:
        """Keep all activations again."""
        self._set_checkpointing(False)

    def activation_checkpointing_disable(self) -> None:
        """Keep all activations again."""
        self._set_checkpointing(False)

    def _set_checkpointing(self, enabled: bool) -> None:
        self.decoder.checkpointing = enabled
        if self.encoder is None:
            return
        verb = "enable" if enabled else "disable"
        network = self.encoder.network
        # The first name is that of newer versions of transformers, where the second one warns.
        names = (f"activation_checkpointing_{verb}", f"gradient_checkpointing_{verb}")
        switch = next(getattr(network, name) for name in names if hasattr(network, name))
        switch(*([{"use_reentrant": False}] if enabled else []))

    @property
    def regions(self) -> list[nn.Module]:
        """What to compile: the layers of both networks, between words and logits."""
        bodies = [self.decoder.network.base_model]
        if self.encoder is not None:
            bodies.append(self.encoder.network)
        return bodies

    def encode(
        self, encoder_ids: Tensor, mask_padding: bool = True, *, padded: bool | None = None
    ) -> Posterior:
        """q(z|x) of ``encoder_ids`` (B, S), right-padded.

        ``mask_padding=False`` attends to padding, as the authors' evaluation does in batches.
        ``padded`` says whether there is any, where the host knows it.
        """
        if self.encoder is None:
            raise ValueError('a plain language model (inject="none") has no encoder')
        mask = encoder_ids != self.config.encoder_pad_token_id if mask_padding else None
        return self.encoder(encoder_ids, mask, padded=padded)

    def forward(
        self,
        encoder_ids: Tensor | None,
        decoder_ids: Tensor,
        *,
        objective: Objective | None = None,
        beta: float = 1.0,
        eps: Tensor | None = None,
        num_samples: int = 1,
        targets: Tensor | None = None,
        padded: bool | None = None,
    ) -> VaeLosses:
        """Losses of a batch (Eq. 2), one per sentence, so that DDP sees every parameter's use.

        Args:
            encoder_ids: (B, S), [CLS] ... [SEP], right-padded; None for a plain language model.
            decoder_ids: (B, T), BOS ... EOS, right-padded; input and label in one.
            objective: how z is drawn and what the KL term is.
            beta: its weight.
            eps: (B, K, Z) the noise of the K samples; drawn where None.
            num_samples: K where ``eps`` is None.
            targets: (N,) places of the decoder's targets, see ``LatentDecoder.nll``; with K = 1.
            padded: whether ``encoder_ids`` has padding, where the host knows it.
        """
        objective = objective or Objective()
        lengths = None
        if objective.length_weighted:
            lengths = sentence_lengths(decoder_ids, self.config.pad_token_id)
        if self.encoder is None:
            nll = self.decoder.nll(decoder_ids, None, targets)
            empty = nll.new_zeros(len(nll), 0)
            zero = torch.zeros_like(nll)
            total = total_loss(nll, zero, beta, lengths)
            return VaeLosses(total, nll, zero, zero, empty, empty)
        if encoder_ids is None:
            raise ValueError("this model has an encoder: give it encoder_ids")
        posterior = self.encode(encoder_ids, padded=padded)
        latent = draw(objective, posterior, eps, num_samples)  # (B, K, Z)
        batch, samples = latent.shape[:2]
        nll = self.decoder.nll(
            decoder_ids.repeat_interleave(samples, dim=0), latent.flatten(0, 1),
            targets if samples == 1 else None,
        ).view(batch, samples)  # fmt: skip
        reconstruction = nll.mean(dim=1)
        if objective.of_batch:  # of all processes: two of 8 sentences see what one of 16 sees
            rows = (latent[:, 0], posterior.mean, posterior.logvar)
            kl = batch_loss(objective, *map(gather_rows, rows)).mean().expand(batch)
        else:
            kl = kl_loss(objective, posterior.mean, posterior.logvar, beta)
        total = (
            total_loss(reconstruction, torch.zeros_like(kl), beta, lengths)
            if objective.kind == "autoencoder"
            else total_loss(reconstruction, kl, beta, lengths)
        )
        full_kl = kl_divergence(posterior.mean.detach(), posterior.logvar.detach())
        return VaeLosses(total, reconstruction, kl, full_kl, posterior.mean, posterior.logvar)


def draw(
    objective: Objective, posterior: Posterior, eps: Tensor | None, num_samples: int
) -> Tensor:
    """The latents (B, K, Z) that ``objective`` trains on: sampled, mean + noise, or the mean."""
    if objective.kind == "autoencoder":
        return posterior.mean[:, None]
    if objective.kind == "deterministic-connect":
        posterior = Posterior(posterior.mean, torch.zeros_like(posterior.logvar))
    return posterior.sample(eps, num_samples)


_CHUNK_TOKENS = {"cpu": 8192, "cuda": 65536}
"""Decoder tokens worked on at once: enough to fill the device, few enough to stay small."""


class ImportanceScores(NamedTuple):
    """Everything the evaluation says about a sentence, in nats."""

    log_weight: Tensor  # (B, K) log p(x|z_k) + log p(z_k) - log q(z_k|x), float64
    log_likelihood: Tensor  # (B, K) log p(x|z_k)
    kl: Tensor  # (B,) KL(q(z|x) || N(0, I))
    mean: Tensor  # (B, Z)
    logvar: Tensor  # (B, Z)
    latent: Tensor  # (B, K, Z) the samples z_k

    def log_marginal(self) -> Tensor:
        """The importance-weighted bound of log p(x), (B,): tighter with every sample."""
        return log_marginal(self.log_weight)


@torch.no_grad()
def importance_scores(
    model: OptimusModel,
    encoder_ids: Tensor,
    decoder_ids: Tensor,
    *,
    num_samples: int = 100,
    eps: Tensor | None = None,
    mask_padding: bool = True,
    chunk_tokens: int | None = None,
) -> ImportanceScores:
    """Score a batch with K samples of z per sentence, encoding each sentence once.

    Args:
        model: in evaluation mode.
        encoder_ids: (B, S), right-padded.
        decoder_ids: (B, T), right-padded; sentences of like length waste least.
        num_samples: K; the paper has 100.
        eps: (B, K, Z) the noise; drawn where None.
        mask_padding: False attends to the encoder's padding as the authors' evaluation does.
        chunk_tokens: decoder tokens per pass; by default what suits the device.
    """
    posterior = model.encode(encoder_ids, mask_padding)
    latent = posterior.sample(eps, num_samples)
    log_likelihood = -_nll(model, decoder_ids, latent, chunk_tokens)
    return ImportanceScores(
        importance_log_weights(log_likelihood, latent, posterior.mean, posterior.logvar),
        log_likelihood,
        kl_divergence(posterior.mean, posterior.logvar),
        posterior.mean,
        posterior.logvar,
        latent,
    )


def _nll(
    model: OptimusModel, decoder_ids: Tensor, latent: Tensor, chunk_tokens: int | None
) -> Tensor:
    """-log p(x_i|z_ik), (B, K), the B * K sequences in chunks of equal size."""
    batch, samples = latent.shape[:2]
    tokens = chunk_tokens or _CHUNK_TOKENS.get(decoder_ids.device.type, 8192)
    size = max(1, tokens // decoder_ids.shape[1])
    rows = torch.arange(batch, device=decoder_ids.device).repeat_interleave(samples)
    parts = [
        model.decoder.nll(decoder_ids[index], z)
        for index, z in zip(rows.split(size), latent.flatten(0, 1).split(size), strict=True)
    ]
    return torch.cat(parts).view(batch, samples)


@contextmanager
def without_bars() -> Iterator[None]:
    """Load and save models without the progress bars of transformers."""
    enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if enabled:
            logging.enable_progress_bar()


@contextmanager
def without_tables() -> Iterator[None]:
    """Load a model without transformers' table of tensors, where the caller refuses wrong ones."""
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


class ExtendedVae(nn.Module):
    """A sentence VAE, ``vae``, with the layers that a task adds to it, saved in one folder.

    The folder holds the VAE as its own ``save_pretrained`` writes it, ``NAME.safetensors`` with the
    added tensors, and ``NAME.json`` with the arguments that build the module again, which are the
    attributes that ``SETTINGS`` names.
    """

    NAME: ClassVar[str]
    SETTINGS: ClassVar[tuple[str, ...]]

    def __init__(self, vae: OptimusModel) -> None:
        super().__init__()
        self.vae = vae

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the VAE, the added tensors and the settings into ``folder``."""
        folder = Path(folder)
        self.vae.save_pretrained(folder)
        added = {key: value.detach().cpu().contiguous() for key, value in self._added().items()}
        save_file(added, folder / f"{self.NAME}.safetensors")
        settings = json_text({name: getattr(self, name) for name in self.SETTINGS}, indent=2)
        (folder / f"{self.NAME}.json").write_text(f"{settings}\n", encoding="utf-8")

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Self:
        """Read what ``save_pretrained`` wrote, in evaluation mode.

        Raises:
            FileNotFoundError: the folder was not written by the task's training command.
            ValueError: a tensor is missing or left over.
        """
        path = Path(folder) / f"{cls.NAME}.json"
        if not path.is_file():
            raise FileNotFoundError(f"{folder} holds no {cls.NAME} model: it has no {path.name}")
        settings = json.loads(path.read_text(encoding="utf-8"))
        module = cls(OptimusModel.from_pretrained(folder, local_files_only=True), **settings)
        added, own = read_weight_file(path.with_suffix(".safetensors")), module._added()
        if own.keys() != added.keys():
            raise ValueError(
                f"{path.with_suffix('.safetensors')} does not fit the model: missing "
                f"{sorted(own.keys() - added.keys())[:3]}, unexpected "
                f"{sorted(added.keys() - own.keys())[:3]}"
            )
        module.load_state_dict(added, strict=False)
        return module.eval()

    def _added(self) -> dict[str, Tensor]:
        return {k: value for k, value in self.state_dict().items() if not k.startswith("vae.")}


AutoConfig.register(OptimusConfig.model_type, OptimusConfig)
AutoModel.register(OptimusConfig, OptimusModel)
