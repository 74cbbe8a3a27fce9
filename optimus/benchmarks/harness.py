"""Measure the plain way and ours in turn (A B A B), so that a busy machine is unfair to neither.

Each script takes ``--llama``, a decoder like Llama in place of GPT-2, and ``--device cuda``, where
all is computed there, and seconds on the wall and the device's memory count.
"""

from __future__ import annotations

import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import BertConfig, GPT2Config, LlamaConfig, PreTrainedModel

from optimus.models.vae import OptimusConfig, OptimusModel
from optimus.runtime.files import json_text
from optimus.runtime.measuring import peak_memory, product_speed, unit_of
from optimus.runtime.published import markdown_table

BERT = BertConfig(
    vocab_size=28996,
    hidden_size=256,
    num_hidden_layers=4,
    num_attention_heads=4,
    intermediate_size=1024,
    max_position_embeddings=512,
)
GPT2 = GPT2Config(vocab_size=50260, n_embd=256, n_layer=4, n_head=4, n_positions=1024)
LLAMA = LlamaConfig(
    vocab_size=50260,
    hidden_size=256,
    intermediate_size=1024,
    num_hidden_layers=4,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=1024,
    tie_word_embeddings=True,
)
WITH_LLAMA = "--llama" in sys.argv
DEVICE = sys.argv[sys.argv.index("--device") + 1] if "--device" in sys.argv else "cpu"
if DEVICE != "cpu":
    torch.set_default_device(DEVICE)


def build_model(attention: str = "sdpa") -> OptimusModel:
    """27 M random weights, the same for every ``attention``: 4 layers of width 256, Z = 32."""
    torch.manual_seed(0)
    ends = {"bos_token_id": 50258, "eos_token_id": 50259, "pad_token_id": 50257}
    if WITH_LLAMA:
        config = OptimusConfig(decoder=LLAMA, encoder=BERT, pooling="mean", latent_dim=32, **ends)
    else:
        config = OptimusConfig(
            bert=BertConfig(**BERT.to_dict()), gpt2=GPT2Config(**GPT2.to_dict()), latent_dim=32
        )
    model = OptimusModel(config)
    for module in model.modules():
        if isinstance(module, PreTrainedModel):
            module.config._attn_implementation = attention
    return model


def random_ids(batch: int, length: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids (batch, length) of both sides without padding."""
    noise = torch.Generator(DEVICE).manual_seed(seed)
    encoder = torch.randint(999, 28996, (batch, length), generator=noise)
    decoder = torch.randint(0, 50257, (batch, length), generator=noise)
    decoder[:, 0], decoder[:, -1] = 50258, 50259
    return encoder, decoder


def clock() -> float:
    """CPU seconds of this process, or, where a device computes, those on the wall."""
    return time.process_time() if DEVICE == "cpu" else time.perf_counter()


def wait() -> None:
    """Until the device has done all that was asked of it."""
    if DEVICE != "cpu":
        torch.cuda.synchronize()


def compare(
    contestants: Mapping[str, Callable[[], Any]], repeats: int, warm_up: int = 1
) -> dict[str, dict[str, float]]:
    """Seconds by `clock` and on the wall of each contestant, run in turn ``repeats`` times."""
    for run in contestants.values():
        for _ in range(warm_up):
            run()
    cpu: dict[str, list[float]] = {name: [] for name in contestants}
    wall: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(repeats):
        for name, run in contestants.items():
            wait()
            started, spent = time.perf_counter(), clock()
            run()
            wait()
            wall[name].append(time.perf_counter() - started)
            cpu[name].append(clock() - spent)
    return {
        name: {
            "cpu_median_s": statistics.median(cpu[name]),
            "cpu_spread_s": max(cpu[name]) - min(cpu[name]),
            "wall_best_s": min(wall[name]),
        }
        for name in contestants
    }


def memory_of(name: str) -> float:
    """Peak resident memory in MB of this script run anew with ``--only NAME``."""
    words = [sys.executable, str(Path(sys.argv[0]).resolve()), "--only", name]
    words += ["--llama"] if WITH_LLAMA else []
    words += ["--device", DEVICE]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def floor_seconds(run: Callable[[], Any]) -> float:
    """Seconds of ``run`` if it did nothing but its matrix products, at the best speed."""
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops() / product_speed(DEVICE)


def headline(title: str, name: str, results: Mapping[str, Any], target: float) -> dict[str, Any]:
    """The line of ``docs/benchmarks.md`` of the whole tree."""
    plain, ours = next(iter(results.values())), results[name]
    return {
        "what": f"{title.replace('_', ' ')}: {name}",
        "plain": plain["cpu_median_s"],
        "ours": ours["cpu_median_s"],
        "unit": unit_of(DEVICE),
        "ratio": ours["ratio"],
        "target": target,
        "floor": ours.get("floor_s"),
        "memory_ratio": ours["memory_mb"] / plain["memory_mb"],
    }


def main(
    title: str,
    build: Callable[[], Mapping[str, Callable[[], Any]]],
    *,
    repeats: int,
    target: float,
    unit: float = 1.0,
    check: Callable[[], dict[str, Any]] | None = None,
) -> None:
    """Compare, print a table and write ``benchmarks/results/TITLE.json``.

    Args:
        title: name of the benchmark.
        build: makes the contestants; the first is the plain way.
        repeats: measured rounds.
        target: least ratio of the plain way's CPU seconds to ours.
        unit: divides the seconds of the plain way, where it does more work per call than ours.
        check: facts about the agreement of the results.
    """
    title += "_llama" if WITH_LLAMA else ""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    contestants = build()
    if "--only" in sys.argv:
        contestants[sys.argv[sys.argv.index("--only") + 1]]()
        print(peak_memory(DEVICE))
        return
    results = compare(contestants, repeats)
    plain, first, *_ = results
    results[plain] |= {key: value / unit for key, value in results[plain].items()}
    for name, row in results.items():
        row["memory_mb"] = memory_of(name)
        row["ratio"] = results[plain]["cpu_median_s"] / row["cpu_median_s"]
    agreement = check() if check is not None else {}
    results[first]["floor_s"] = floor_seconds(contestants[first])
    columns = ["cpu_median_s", "cpu_spread_s", "wall_best_s", "memory_mb", "ratio", "floor_s"]
    rows = [
        [name, *(f"{row.get(column, math.nan):.3g}" for column in columns)]
        for name, row in results.items()
    ]
    print(f"{title}: target ratio {target:g}")
    print(markdown_table(["way", *columns], rows), end="")
    print("  ".join(f"{key}: {value}" for key, value in agreement.items()))
    file = Path(__file__).parent / "results" / f"{title}.json"
    file.parent.mkdir(exist_ok=True)
    content = {"title": title, "target": target, "repeats": repeats, "results": results}
    content["headline"] = [
        headline(title, name, results, target) for name in results if not name.startswith("plain")
    ]
    content |= {"agreement": agreement, "torch": torch.__version__}
    content["threads"] = torch.get_num_threads()
    file.write_text(json_text(content, indent=2) + "\n")
