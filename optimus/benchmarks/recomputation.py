"""Memory and time of a step with and without ``--model.checkpointing``, on networks of full size.

Forward and backward of BERT base and GPT-2 small (with ``--llama``: SmolLM2's sizes) with random
weights, of 4 x 256 tokens, each in a process of its own.

    python benchmarks/recomputation.py [--llama] [--device cuda]
"""

from __future__ import annotations

import statistics
import subprocess
import sys

import torch
from harness import DEVICE, WITH_LLAMA, random_ids
from transformers import BertConfig, GPT2Config, LlamaConfig

from optimus.models.vae import OptimusConfig, OptimusModel
from optimus.runtime.measuring import peak_memory, seconds_of, unit_of
from optimus.runtime.published import markdown_table

BATCH, TOKENS = 4, 256
REPEATS = 3
WAYS = {"kept": "every layer's states are kept", "recomputed": "layers are run again"}


def build() -> OptimusModel:
    """The paper's two networks, or a decoder like SmolLM2 behind BERT."""
    torch.manual_seed(0)
    ends = {"bos_token_id": 50258, "eos_token_id": 50259, "pad_token_id": 50257}
    if not WITH_LLAMA:
        gpt2 = GPT2Config(vocab_size=50260)
        return OptimusModel(OptimusConfig(bert=BertConfig(vocab_size=28996), gpt2=gpt2))
    decoder = LlamaConfig(
        vocab_size=50260,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        tie_word_embeddings=True,
    )
    encoder = BertConfig(vocab_size=28996)
    return OptimusModel(OptimusConfig(decoder=decoder, encoder=encoder, pooling="cls", **ends))


def measure(way: str) -> None:
    """Print the median seconds of a step, the peak memory in MB, and that of the weights alone."""
    model = build().train()
    if way == "recomputed":
        model.gradient_checkpointing_enable()
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)  # there before the first step, as later
    before, ids = peak_memory(DEVICE), random_ids(BATCH, TOKENS)

    def step() -> None:
        model(*ids).total.mean().backward()

    seconds = [seconds_of(step, DEVICE) for _ in range(REPEATS)]
    print(statistics.median(seconds), peak_memory(DEVICE), before)


def main() -> None:
    """Measure both ways and print a table."""
    torch.set_num_threads(1)
    if "--only" in sys.argv:
        measure(sys.argv[sys.argv.index("--only") + 1])
        return
    rows = []
    for way, text in WAYS.items():
        words = [sys.executable, __file__, *sys.argv[1:], "--only", way]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        seconds, peak, weights = map(float, done.stdout.split()[-3:])
        rows.append([text, f"{seconds:.3g}", f"{peak:.0f}", f"{peak - weights:.0f}"])
    header = ["a step", unit_of(DEVICE), "peak MB", "of it beyond weights and gradients"]
    print(markdown_table(header, rows))


if __name__ == "__main__":
    main()
