"""Tiny models and batches, and the recorded models of the golden folder."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import BertConfig, GPT2Config

from optimus.api import SentenceVAE
from optimus.data.text import Sentences
from optimus.data.tokenizers import train_tokenizers
from optimus.models.vae import OptimusConfig, OptimusModel
from optimus.released.checkpoints import AuthorsCheckpoint, assemble, import_checkpoint

ABSOLUTE = RELATIVE = 1e-4
"""Tolerance of recorded arrays: |a - b| <= 1e-4 (1 + |b|)."""
GRADIENT = 1e-3
"""Tolerance of recorded gradients and training runs."""


def close(actual: Any, expected: Any, tolerance: float = ABSOLUTE) -> None:
    """Assert agreement with a recorded array."""
    torch.testing.assert_close(
        torch.as_tensor(actual, dtype=torch.float64),
        torch.as_tensor(expected, dtype=torch.float64),
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
