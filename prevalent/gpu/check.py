"""What `make gpu` checks of PREVALENT: its commands, its numbers, its speed on a device.

    python gpu/check.py [--device cpu]

On a CPU the same code runs at the smallest sizes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

sys.path[:0] = [str(Path(__file__).resolve().parent.parent), str(Path(__file__).resolve().parent)]

from verdict import (
    Verdict,
    apart,
    busy,
    command,
    main as judge,
    milliseconds,
    peak_gib,
    synchronisations,
    tests_for_devices,
)

from prevalent.__main__ import main
from prevalent.config import ModelConfig
from prevalent.loop import Task
from prevalent.models.decoders import Critic
from prevalent.models.encoders import WordEncoder, Words, run_lstm
from prevalent.models.kernels import full_lstm
from prevalent.models.prevalent import PrevalentForPretraining
from prevalent.runtime import compilation
from prevalent.runtime.distributed import World
from prevalent.runtime.precision import (
    MixedPrecision,
    build_adamw,
    clear_gradients,
    ieee_fp32,
    no_grad_beside_grad,
    set_numerics,
)
from prevalent.runtime.run_folder import RunFolder
from prevalent.tasks.graph import PRESETS as GRAPH_PRESETS, TASK as GRAPH
from prevalent.tasks.hanna import HANNA_PRESETS, TASK as HANNA
from prevalent.tasks.ndh import NDH_PRESETS, TASK as NDH
from prevalent.tasks.pretraining import PRETRAIN_PRESETS, TASK as PRETRAINING, TINY_MODEL
from prevalent.tasks.r2r import R2R_PRESETS, TASK as R2R
from prevalent.tasks.speaker import SPEAKER_PRESETS, TASK as SPEAKER

VERBS = (
    "pretrain smoke",
    "train-r2r smoke",
    "train-speaker smoke",
    "train-ndh ndh-smoke",
    "train-hanna hanna-smoke",
    "train-graph smoke",
)
FEEDBACKS = (
    "train-r2r smoke --feedback teacher",
    "train-r2r smoke --feedback student",
    "train-hanna hanna-smoke --rollout.ask every",
)
"""Agents that leave a module without gradients."""
STEPS = {
    "pre-training": (PRETRAINING, PRETRAIN_PRESETS["smoke"][1]),
    "R2R": (R2R, R2R_PRESETS["smoke"][1]),
    "speaker": (SPEAKER, SPEAKER_PRESETS["smoke"][1]),
    "NDH": (NDH, NDH_PRESETS["ndh-smoke"][1]),
    "HANNA": (HANNA, HANNA_PRESETS["hanna-smoke"][1]),
    "map": (GRAPH, GRAPH_PRESETS["smoke"][1]),
}


def smoke(verdict: Verdict, words: str, precision: str) -> str:
    """Train a smoke preset, continue it, evaluate it."""
    folder = verdict.work / f"{words.replace(' ', '_')}_{precision}"
    given = f"{words} --precision {precision} --device {verdict.device.type} --run-dir {folder}"
    command(main, given)
    command(main, f"{given} --max-steps 8")
    if words.startswith(("pretrain", "train-speaker")):
        return "runs, continues"
    command(main, f"evaluate --run-dir {folder} --device {verdict.device.type}")
    return "runs, continues, is evaluated"


def compiled(verdict: Verdict) -> str:
    """`smoke` of pre-training with --compile; on a CPU without Inductor, which takes minutes."""
    compilation.BACKEND = "inductor" if verdict.on_cuda else "eager"
    return smoke(verdict, "pretrain smoke --compile", "bf16" if verdict.on_cuda else "fp32")


def repeated(verdict: Verdict, words: str) -> float:
    """Largest difference of the weights of two runs with --deterministic."""
    ends = []
    for number in range(2):
        folder = verdict.work / f"deterministic_{words.replace(' ', '_')}_{number}"
        command(main, f"{words} --deterministic --device {verdict.device.type} --run-dir {folder}")
        ends.append(list(weights_of(folder)))
    torch.use_deterministic_algorithms(False)
    set_numerics()
    return apart(*ends)


def weights_of(folder: Path) -> Iterator[Tensor]:
    """All weights in the newest checkpoint of a run."""
    for path in sorted(max((folder / "checkpoints").glob("[0-9]*")).glob("*.pt")):
        state = torch.load(path, weights_only=True, map_location="cpu")
        yield from (value for value in state.values() if isinstance(value, Tensor))


def lstm_types(device: torch.device) -> str:
    """Types of what the text encoder's and the speaker's LSTM give under bf16."""
    words = Words.of(np.array([[3, 4, 5], [6, 7, 0]]), device)
    encoder, layer = WordEncoder(9, 8, 8).to(device), torch.nn.LSTM(8, 8, batch_first=True)
    with torch.autocast(device.type, torch.bfloat16):
        text = run_lstm(encoder.lstm, encoder.embedding(words.ids), words)[0].dtype
        speaker = full_lstm(layer.to(device), torch.randn(2, 3, 8, device=device))[0].dtype
    if {text, speaker} & {torch.float16}:
        raise ValueError(f"{text}, {speaker}: fp16 without loss scaling")
    return f"{text}, {speaker}".replace("torch.", "")


def critic_without_gradient(device: torch.device) -> int:
    """Weights of a critic without gradient that was judged without and then with gradients."""
    critic, states = Critic(16, 0.0).to(device), torch.randn(4, 16, device=device)
    with torch.autocast(device.type, torch.bfloat16):
        with no_grad_beside_grad(device):
            critic(states)
        loss = critic(states).float().sum()
    loss.backward()
    return sum(weight.grad is None for weight in critic.parameters())


def pretraining_model(config: ModelConfig, device: torch.device) -> PrevalentForPretraining:
    torch.manual_seed(0)
    return PrevalentForPretraining(config).to(device)


def pretraining_batch(
    config: ModelConfig, device: torch.device, rows: int, words: int
) -> dict[str, Any]:
    """Random words, a seventh of them masked, 36 views and an action of each row."""
    noise = torch.Generator().manual_seed(0)
    ids = torch.randint(1, config.vocab_size, (rows, words), generator=noise)
    labels = torch.full_like(ids, -1)
    labels[:, ::7] = ids[:, ::7]
    places = (labels.flatten() >= 0).nonzero().squeeze(1)
    images = torch.randn(rows, 36, config.image_dim, generator=noise)
    batch = {
        "input_ids": ids, "attention_mask": torch.ones_like(ids), "images": images,
        "labels": labels, "actions": torch.randint(config.num_actions, (rows,), generator=noise),
        "positions": places, "word_positions": torch.arange(ids.numel()),
    }  # fmt: skip
    batch = {name: value.to(device) for name, value in batch.items()}
    return {**batch, "word_count": float(len(places))}


def as_on_the_cpu(device: torch.device) -> tuple[list[Tensor], list[Tensor]]:
    """Loss, then gradients, of a small model on the CPU and on the device, in IEEE fp32."""
    config = replace(TINY_MODEL, vocab_size=500, image_dim=24, dropout=0.0, attention_dropout=0.0)
    found = []
    for place in (torch.device("cpu"), device):
        model = pretraining_model(config, place).eval()
        with ieee_fp32():
            loss = model(**pretraining_batch(config, place, 4, 16)).loss
            loss.backward()
        found.append([loss.detach(), *(p.grad for p in model.parameters() if p.grad is not None)])
    return found[0], found[1]


@contextmanager
def opened(verdict: Verdict, task: Task, config: Any) -> Iterator[Any]:
    """A run that is ready for its first step."""
    name = f"opened_{task.kind}_{len(verdict.checks)}"
    config = replace(config, run_dir=verdict.work / name, held_out=(), device=verdict.device.type)
    with RunFolder(config.run_dir, task.kind, config) as folder:
        yield task.open(config, World(0, 1, verdict.device), folder)


def waits(verdict: Verdict, task: Task, config: Any) -> str:
    with opened(verdict, task, config) as run:
        return synchronisations(run.step, verdict.device)


def speed(verdict: Verdict) -> None:
    """Milliseconds and memory; at the smallest sizes on a CPU, where no floor holds."""
    cuda, device = verdict.on_cuda, verdict.device
    config = ModelConfig() if cuda else replace(TINY_MODEL, image_dim=24)
    rows, words = (96, 80) if cuda else (2, 8)
    counts = {"steps": 10, "warm": 5} if cuda else {"steps": 1, "warm": 0}
    ready: list[Callable[[], Any]] = []

    def pretraining() -> float:
        model = pretraining_model(config, device).train()
        optimizer = build_adamw(model.parameters(), lr=1e-5)
        batch, amp = pretraining_batch(config, device, rows, words), MixedPrecision("auto", device)

        def step() -> None:
            clear_gradients(optimizer)
            with amp.autocast():
                loss = model(**batch).loss
            amp.backward(loss, optimizer)
            amp.step(optimizer)

        ready.append(step)
        return milliseconds(step, device, **counts)

    name = f"pre-training, batch {rows}, {words} + 36 tokens"
    verdict.check(name, pretraining, limit=6.9 / 0.3 if cuda else None, unit=" ms")
    verdict.check(f"{name}, memory", lambda: peak_gib(ready[0], device), unit=" GiB")
    ready.clear()
    for agent, rows in (("envdrop", 64), ("prevalent-without-pretraining", 20)):
        preset = R2R_PRESETS[agent if cuda else "smoke"][1]
        name = f"R2R {agent}, B = {rows if cuda else preset.batch_size}"

        def rate(step: Callable[[], Any]) -> float:
            return 1000 / milliseconds(step, device, **counts)

        verdict.check(
            name, lambda p=preset, b=rows, rate=rate: of_an_agent(verdict, p, b, rate),
            limit=10 if cuda else None, unit=" it/s", more=True,
        )  # fmt: skip
        verdict.check(
            f"{name}, busy",
            lambda p=preset, b=rows: of_an_agent(verdict, p, b, lambda step: busy(step, device)),
            limit=80, unit=" %", more=True,
        )  # fmt: skip


def of_an_agent(
    verdict: Verdict, preset: Any, rows: int, measure: Callable[[Callable[[], Any]], float]
) -> float:
    """``measure`` of iterations of an agent of the preset's size in toy houses."""
    changes: dict[str, Any] = {}
    if verdict.on_cuda:
        changes = {"world": "toy", "features": None, "standin_dim": 2048, "batch_size": rows}
        changes |= {"start_from": None, "toy_houses": 4, "train": ("train",)}
    with opened(verdict, R2R, replace(preset, **changes)) as run:
        return measure(run.step)


def fill(verdict: Verdict) -> None:
    """All checks, the ones that say most first."""
    device, check = verdict.device, verdict.check
    set_numerics()
    check("LSTMs under bf16 run in", lambda: lstm_types(device))
    name = "weights of a critic left without gradient"
    check(name, lambda: critic_without_gradient(device), limit=0)
    both: list[Any] = []
    check(
        "pre-training loss, apart from the CPU's",
        lambda: both.extend(as_on_the_cpu(device)) or apart(both[1][0], both[0][0]), limit=1e-4,
    )  # fmt: skip
    check("its gradients, likewise", lambda: apart(both[1][1:], both[0][1:]), limit=1e-3)
    check("recorded cases, and other tests marked gpu", lambda: tests_for_devices(device))
    for words in VERBS:
        for precision in ("fp32", "bf16", "fp16") if verdict.on_cuda else ("fp16",):
            check(f"{words}, {precision}", lambda w=words, p=precision: smoke(verdict, w, p))
    for words in FEEDBACKS:
        check(f"{words}, fp16", lambda w=words: smoke(verdict, w, "fp16"))
    for name, (task, preset) in STEPS.items():
        check(f"waits in a step, {name}", lambda t=task, p=preset: waits(verdict, t, p))
    speed(verdict)
    check("pretrain smoke --compile", lambda: compiled(verdict))
    for words in VERBS if verdict.on_cuda else ("train-speaker smoke",):
        name = f"weights of two runs of {words} with --deterministic"
        check(name, lambda w=words: repeated(verdict, w), limit=0)


if __name__ == "__main__":
    judge("prevalent", fill)
