"""Posterior means of 256 sentences of 4 to 60 words with ``SentenceVAE.encode``."""

from __future__ import annotations

import functools
import random
from typing import Any

import torch
from harness import BERT, GPT2, LLAMA, WITH_LLAMA, main
from transformers import BertConfig, GPT2Config, LlamaConfig

from optimus.api import SentenceVAE
from optimus.data.tokenizers import train_tokenizers
from optimus.data.toy import toy_sentences
from optimus.models.vae import OptimusConfig, OptimusModel

SENTENCES, BATCH = 256, 32


@functools.cache
def texts() -> list[str]:
    """Sentences of a skewed length, as those of a corpus: most are short, a few are long."""
    choose = random.Random(0)
    words = " ".join(toy_sentences(2000)).split()
    lengths = [min(60, 4 + int(choose.expovariate(1 / 10))) for _ in range(SENTENCES)]
    starts = [choose.randrange(len(words) - 60) for _ in lengths]
    return [" ".join(words[i : i + n]) for i, n in zip(starts, lengths, strict=True)]


@functools.cache
def vae() -> SentenceVAE:
    """4 + 4 layers of width 256, as in the other benchmarks; vocabularies of the toy corpus."""
    tokenizers = train_tokenizers(toy_sentences(500), 400, 400)
    sizes = tokenizers.encoder_vocab_size, tokenizers.decoder_vocab_size
    bert = BertConfig(**{**BERT.to_dict(), "vocab_size": sizes[0]})
    ends = {"bos_token_id": tokenizers.bos_id, "eos_token_id": tokenizers.eos_id}
    gpt2 = GPT2Config(**{**GPT2.to_dict(), **ends, "vocab_size": sizes[1]})
    torch.manual_seed(0)
    config = OptimusConfig(bert=bert, gpt2=gpt2)
    if WITH_LLAMA:  # then the encoder is one of AutoModel's too
        ends |= {"pad_token_id": tokenizers.pad_id}
        llama = LlamaConfig(**{**LLAMA.to_dict(), "vocab_size": sizes[1]})
        config = OptimusConfig(encoder=bert, decoder=llama, pooling="mean", **ends)
    return SentenceVAE(OptimusModel(config), tokenizers)


def encode_padded(texts: list[str], width: int | None = None) -> torch.Tensor:
    """One batch, padded to ``width`` tokens, by default to its longest sentence."""
    rows = vae().tokenizers.encode_encoder(texts)
    width = width or max(map(len, rows))
    pad = vae().tokenizers.encoder_pad_id
    ids = torch.tensor([row + [pad] * (width - len(row)) for row in rows])
    with torch.no_grad():
        return vae().model.encode(ids).mean


def one_by_one() -> torch.Tensor:
    """A loop over the sentences."""
    return torch.cat([encode_padded([text]) for text in texts()])


def longest() -> torch.Tensor:
    """Batches in the order of the input, each padded to the longest sentence of all."""
    rows = vae().tokenizers.encode_encoder(texts())
    width = max(map(len, rows))
    parts = [texts()[i : i + BATCH] for i in range(0, SENTENCES, BATCH)]
    return torch.cat([encode_padded(part, width) for part in parts])


def unsorted() -> torch.Tensor:
    """Batches in the order of the input, each padded to its own longest sentence."""
    parts = [texts()[i : i + BATCH] for i in range(0, SENTENCES, BATCH)]
    return torch.cat([encode_padded(part) for part in parts])


def ours() -> torch.Tensor:
    """Sentences of like length together, the results in the order of the input."""
    return vae().encode(texts(), BATCH)


def check() -> dict[str, Any]:
    """Largest difference of a mean from that of the loop."""
    expected = one_by_one()
    return {"largest difference": f"{float((ours() - expected).abs().max()):.1e}"}


if __name__ == "__main__":
    main(
        "encode",
        lambda: {
            "plain, padded to the longest": longest,
            "ours": ours,
            "plain, a loop": one_by_one,
            "plain, unsorted batches": unsorted,
        },
        repeats=5,
        target=1.5,
        check=check,
    )
