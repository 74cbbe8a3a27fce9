"""Tiny models and batches, and the recorded models of the golden folder."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.pre_tokenizers import ByteLevel
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    BertConfig,
    GPT2Config,
    PreTrainedTokenizerFast,
)

from optimus.api import SentenceVAE
from optimus.data.text import Sentences
from optimus.data.tokenizers import train_tokenizers
from optimus.models.pretrained import pooler_options
from optimus.models.vae import OptimusConfig, OptimusModel, without_bars
from optimus.released.checkpoints import AuthorsCheckpoint, assemble, import_checkpoint

ABSOLUTE = RELATIVE = 1e-4
"""Tolerance of recorded arrays: |a - b| <= 1e-4 (1 + |b|)."""
GRADIENT = 1e-3
"""Tolerance of recorded gradients and training runs."""


def close(actual: Any, expected: Any, tolerance: float = ABSOLUTE) -> None:
    """Assert agreement with a recorded array."""
    torch.testing.assert_close(
        torch.as_tensor(actual, dtype=torch.float64).cpu(),
        torch.as_tensor(expected, dtype=torch.float64).cpu(),
        rtol=tolerance,
        atol=tolerance,
    )


def tiny_config(*, dropout: float = 0.0, layers: int = 2, **overrides: Any) -> OptimusConfig:
    """Two layers of width 32, 60 encoder and 50 decoder tokens, Z = 6."""
    bert = BertConfig(
        vocab_size=60,
        hidden_size=32,
        num_hidden_layers=layers,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=40,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )
    gpt2 = GPT2Config(
        vocab_size=50,
        n_embd=32,
        n_layer=layers,
        n_head=4,
        n_positions=40,
        embd_pdrop=dropout,
        attn_pdrop=dropout,
        resid_pdrop=dropout,
        bos_token_id=48,
        eos_token_id=49,
    )
    return OptimusConfig(bert=bert, gpt2=gpt2, **{"latent_dim": 6, **overrides})


def tiny_model(seed: int = 0, *, spread: float = 5.0, **overrides: Any) -> OptimusModel:
    """A model in evaluation mode, its weights ``spread`` times the usual so that all matters."""
    torch.manual_seed(seed)
    model = OptimusModel(tiny_config(**overrides)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(spread) if parameter.ndim > 1 else parameter.add_(
                0.1 * torch.randn_like(parameter)
            )
    return model


def tiny_batch(
    model: OptimusModel, batch: int = 3, length: int = 9, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Random encoder and decoder ids (B, length), the later sentences shorter and padded."""
    config = model.config
    noise = torch.Generator().manual_seed(seed)
    encoder = torch.randint(5, config.bert.vocab_size, (batch, length), generator=noise)
    decoder = torch.randint(0, config.pad_token_id, (batch, length), generator=noise)
    decoder[:, 0] = config.bos_token_id
    for row in range(batch):
        end = max(3, length - row)
        encoder[row, end:] = config.encoder_pad_token_id
        decoder[row, end:] = config.pad_token_id
        decoder[row, end - 1] = config.eos_token_id
    return encoder, decoder


def recorded_checkpoint(folder: Path, name: str = "weights") -> AuthorsCheckpoint:
    """The authors' tensors ``NAME_{encoder,decoder}.safetensors`` and configurations there."""
    tensors: dict[str, Tensor] = {}
    for part in ("encoder", "decoder"):
        for key, value in load_file(folder / f"{name}_{part}.safetensors").items():
            tensors[f"{part}.{key}"] = value
    configs = [
        json.loads((folder / f"config_{part}.json").read_text()) for part in ("encoder", "decoder")
    ]
    return assemble(tensors, *configs)


def recorded_model(folder: Path, name: str = "weights", **options: Any) -> OptimusModel:
    """Our model with recorded weights, in evaluation mode."""
    return import_checkpoint(recorded_checkpoint(folder, name), **options)[0]


def tiny_vae(lines: Sequence[str], latent_dim: int = 6) -> SentenceVAE:
    """An untrained model with vocabularies of ``lines``; it answers, if with nonsense."""
    tokenizers = train_tokenizers(lines, 120, 320)
    config = tiny_config(latent_dim=latent_dim)
    config.bert.vocab_size = tokenizers.encoder_vocab_size
    config.gpt2.vocab_size = tokenizers.decoder_vocab_size
    config.pad_token_id, config.bos_token_id = tokenizers.pad_id, tokenizers.bos_id
    config.eos_token_id = tokenizers.eos_id
    torch.manual_seed(0)
    return SentenceVAE(OptimusModel(config), tokenizers)


def is_recorded(ours: str, theirs: str, *, cut: bool) -> bool:
    """Whether ``ours`` is the sentence that the authors printed as ``theirs``.

    They drop the first and the last word, [BOS] and [EOS]; of a sentence that was ``cut`` at the
    length limit, which has no end mark, the last word is one of the text.
    """
    return ours.startswith(f"{theirs} ".lstrip()) if cut else ours == theirs


def write_authors_json(path: str | Path, sentences: Sentences) -> None:
    """Write ``sentences`` in the authors' cache format."""
    entries = []
    for i in range(len(sentences)):
        left, right = sentences.encoder(i).tolist(), sentences.decoder(i).tolist()
        entry = {"bert_token": left, "bert_token_length": len(left)}
        entries.append({**entry, "gpt2_token": right, "gpt2_token_length": len(right)})
    Path(path).write_text(json.dumps(entries), encoding="utf-8")


_WIDTHS = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
_WIDTHS |= {"intermediate_size": 48, "max_position_embeddings": 40}
_TOKENS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
_GROUPED = {**_WIDTHS, **_TOKENS, "num_key_value_heads": 2, "head_dim": 8}
TINY_ENCODERS: dict[str, dict[str, Any]] = {
    "bert": {**_WIDTHS, "pad_token_id": 0},
    "roberta": {**_WIDTHS, "pad_token_id": 1, "type_vocab_size": 1},
    "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48}
    | {"max_position_embeddings": 40, "pad_token_id": 0},
    "mpnet": {**_WIDTHS, "pad_token_id": 1},
    "modernbert": {**_WIDTHS, "pad_token_id": 0, "local_attention": 8}
    | {"global_attn_every_n_layers": 2, "cls_token_id": 1, "sep_token_id": 2, **_TOKENS},
    "deberta": {**_WIDTHS, "pad_token_id": 0, "relative_attention": True}
    | {"pos_att_type": ["c2p", "p2c"], "max_relative_positions": 20},
    "deberta-v2": {**_WIDTHS, "pad_token_id": 0, "relative_attention": True}
    | {"pos_att_type": ["c2p", "p2c"], "position_buckets": 8},
    "convbert": {**_WIDTHS, "pad_token_id": 0, "embedding_size": 32, "head_ratio": 2},
    "fnet": {**_WIDTHS, "pad_token_id": 0},
    "albert": {**_WIDTHS, "pad_token_id": 0, "embedding_size": 32},
}
TINY_DECODERS: dict[str, dict[str, Any]] = {
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 40, **_TOKENS},
    "llama": {**_GROUPED, "tie_word_embeddings": True},
    "llama-untied": {**_GROUPED, "tie_word_embeddings": False},
    "qwen2": {**_GROUPED, "tie_word_embeddings": True, "sliding_window": None},
    "opt": {**_WIDTHS, **_TOKENS, "ffn_dim": 48, "word_embed_proj_dim": 32},
    "opt-projected": {**_WIDTHS, **_TOKENS, "ffn_dim": 48, "word_embed_proj_dim": 16},
    "gpt_neox": {**_WIDTHS, **_TOKENS, "rotary_pct": 0.5},
    "gemma": {**_GROUPED, "num_key_value_heads": 1},
    "gemma2": {**_GROUPED, "sliding_window": 4, "query_pre_attn_scalar": 8},
    "mpt": {**_TOKENS, "d_model": 32, "n_layers": 2, "n_heads": 4, "max_seq_len": 40},
    "cohere": {**_GROUPED, "logit_scale": 0.5},
    "mamba": {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 4, **_TOKENS},
}


def tiny_networks(encoder: str, decoder: str, seed: int = 0) -> tuple[Any, Any]:
    """A random encoder and causal model of two layers with 60 tokens each, in evaluation mode."""
    torch.manual_seed(seed)
    left = AutoConfig.for_model(encoder, vocab_size=60, **TINY_ENCODERS[encoder])
    kind = decoder.split("-")[0]
    right = AutoConfig.for_model(kind, vocab_size=60, **TINY_DECODERS[decoder])
    return AutoModel.from_config(left).eval(), AutoModelForCausalLM.from_config(right).eval()


def tiny_pretrained(encoder: str, decoder: str, seed: int = 0, **options: Any) -> OptimusModel:
    """A model of other networks than the paper's, in evaluation mode, with Z = 6.

    Its weights are larger than the usual start, so that everything matters.
    """
    left, right = tiny_networks(encoder, decoder, seed)
    options.setdefault("pooling", "mean")
    left = AutoModel.from_config(left.config, **pooler_options(left.config, options["pooling"]))
    model = OptimusModel.from_networks(
        None if options.get("inject") == "none" else left,
        right,
        tokens={key: getattr(right.config, key) for key in _TOKENS},
        encoder_pad_token_id=left.config.pad_token_id,
        **{"latent_dim": 6, **options},
    ).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(4.0)
    model.name = decoder
    return model


def write_tokenizer(folder: Path, lines: Sequence[str], decoder: bool) -> int:
    """A tokenizer learned from ``lines``, saved as transformers does; returns its size.

    The decoder's ends are <s> and </s>, its padding is </s> too, as in many causal models.
    """
    pair = train_tokenizers(lines, 120, 320)
    if decoder:
        inner = Tokenizer(pair.bpe.model)
        inner.pre_tokenizer, inner.decoder = ByteLevel(add_prefix_space=False), ByteLevelDecoder()
        special = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>"}
    else:
        inner = pair.wordpiece
        special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]"}
        special |= {"sep_token": "[SEP]", "mask_token": "[MASK]"}
    fast = PreTrainedTokenizerFast(tokenizer_object=inner, **special)
    fast.save_pretrained(folder)
    return len(fast)


def write_network(folder: Path, kind: str, lines: Sequence[str], decoder: bool) -> Path:
    """A random network and a tokenizer of ``lines``, in a folder as one downloads them."""
    sizes = (TINY_DECODERS if decoder else TINY_ENCODERS)[kind]
    config = AutoConfig.for_model(kind, **sizes)
    config.vocab_size = write_tokenizer(folder, lines, decoder)
    torch.manual_seed(1)
    network = (AutoModelForCausalLM if decoder else AutoModel).from_config(config)
    with without_bars():
        network.save_pretrained(folder)
    return folder
