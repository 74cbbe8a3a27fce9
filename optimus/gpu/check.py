"""What `make gpu` checks of Optimus: its commands, its numbers, its speed on a device.

    python gpu/check.py [--device cpu]

On a CPU the same code runs at the smallest sizes.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import BertConfig, GPT2Config

FOLDER = Path(__file__).resolve().parent
sys.path[:0] = [str(FOLDER), str(FOLDER.parent), str(FOLDER.parent / "benchmarks")]

from counts import LOOPS, opened, write_texts
from plain import importance_weighted
from verdict import (
    Verdict,
    apart,
    command,
    main as judge,
    milliseconds,
    peak_gib,
    synchronisations,
    tests_for_devices,
)

from optimus.__main__ import main
from optimus.decoding import Sampling, generate
from optimus.models.vae import OptimusConfig, OptimusModel, importance_scores
from optimus.objectives import Objective
from optimus.runtime import compilation
from optimus.runtime.precision import (
    MixedPrecision,
    build_adamw,
    clear_gradients,
    ieee_fp32,
    set_numerics,
)
from optimus.tasks.training import parameter_groups

VERBS = ("train", "train-dialog", "train-label-control", "train-classifier")


def build(device: torch.device, *, base: bool) -> OptimusModel:
    """BERT-base and GPT-2 small, or 2 layers of width 64; Z = 32, no dropout."""
    torch.manual_seed(0)
    off = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    silent = {"embd_pdrop": 0.0, "attn_pdrop": 0.0, "resid_pdrop": 0.0}
    bert = {"vocab_size": 28996, **off}
    gpt2 = {"vocab_size": 50260, "bos_token_id": 50258, "eos_token_id": 50259, **silent}
    if not base:
        bert |= {"vocab_size": 90, "hidden_size": 64, "num_hidden_layers": 2}
        bert |= {"num_attention_heads": 2, "intermediate_size": 128}
        gpt2 |= {"vocab_size": 90, "n_embd": 64, "n_layer": 2, "n_head": 2}
        gpt2 |= {"bos_token_id": 88, "eos_token_id": 89}
    config = OptimusConfig(
        bert=BertConfig(**bert), gpt2=GPT2Config(**gpt2), latent_dim=32,
        bos_token_id=gpt2["bos_token_id"], eos_token_id=gpt2["eos_token_id"],
        pad_token_id=gpt2["bos_token_id"] - 1,
    )  # fmt: skip
    return OptimusModel(config).to(device)


def ids(model: OptimusModel, rows: int, length: int) -> tuple[Tensor, Tensor]:
    """Random sentences (rows, length) for both sides, without padding."""
    noise = torch.Generator().manual_seed(0)
    config = model.config
    encoder = torch.randint(5, config.bert.vocab_size, (rows, length), generator=noise)
    decoder = torch.randint(5, config.gpt2.vocab_size - 5, (rows, length), generator=noise)
    decoder[:, 0], decoder[:, -1] = config.bos_token_id, config.eos_token_id
    return encoder.to(model.device), decoder.to(model.device)


DATA = {
    "train-classifier": " --data.task labeled --data.folder data/toy-labels/train.txt"
    " --data.test data/toy-labels/test.txt"
}


def smoke(verdict: Verdict, verb: str, precision: str, added: str = "") -> str:
    """Train the smoke preset of ``verb``, continue it, evaluate it where one command can."""
    folder = verdict.work / f"{verb}_{precision}{added.strip()}"
    device = f"--device {verdict.device.type}"
    given = f"{verb} smoke --precision {precision} {device} --run-dir {folder}"
    given += DATA.get(verb, "") + added
    command(main, given)
    if verb == "train-classifier":  # it trains several and evaluates them itself
        return "runs"
    command(main, f"{given} --max-steps 8")
    if verb != "train":
        return "runs, continues"
    given = f"evaluate --run-dir {folder} --samples 2 --max-sentences 4 {device}"
    command(main, given if precision == "fp32" else f"{given} --precision bf16")
    return "runs, continues, is evaluated"


def compiled(verdict: Verdict) -> str:
    """`smoke` with --compile; on a CPU without Inductor, which would take minutes."""
    compilation.BACKEND = "inductor" if verdict.on_cuda else "eager"
    return smoke(verdict, "train", "bf16" if verdict.on_cuda else "fp32", " --compile")


def repeated(verdict: Verdict, verb: str) -> float:
    """Largest difference of the weights of two runs with --deterministic."""
    ends = []
    for number in range(2):
        folder = verdict.work / f"deterministic_{verb}_{number}"
        device = f"--device {verdict.device.type} --run-dir {folder}"
        command(main, f"{verb} smoke --deterministic {device}{DATA.get(verb, '')}")
        last = sorted(folder.rglob("checkpoints/[0-9]*/model.pt"))[-1]
        state = torch.load(last, weights_only=True, map_location="cpu")
        ends.append(list(state.values()))
    torch.use_deterministic_algorithms(False)
    set_numerics()
    return apart(*ends)


@ieee_fp32()
def as_on_the_cpu(device: torch.device) -> dict[str, float]:
    """Differences of a small model on the device from the CPU: losses, gradients, log p(x)."""
    found = []
    model = build(torch.device("cpu"), base=False)
    eps = torch.randn(4, 8, 32, generator=torch.Generator().manual_seed(1))
    for place in (torch.device("cpu"), device):
        one = copy.deepcopy(model).to(place)
        encoder, decoder = ids(one, 4, 12)
        objective = Objective(free_bits=0.1)
        noise = eps[:, :1].to(place)
        losses = one(encoder, decoder, objective=objective, beta=0.5, eps=noise)
        losses.total.mean().backward()
        gradients = [p.grad for p in one.parameters() if p.grad is not None]
        scores = importance_scores(one.eval(), encoder, decoder, eps=eps.to(place))
        written = generate(one, eps[:, 0].to(place), Sampling("greedy", max_new_tokens=12))
        found.append((losses.total.detach(), gradients, scores.log_marginal(), written))
    cpu, ours = found
    return {
        "loss": apart(ours[0], cpu[0]), "gradients": apart(ours[1], cpu[1]),
        "log p(x)": apart(ours[2], cpu[2]), "ids": float(ours[3] != cpu[3]),
    }  # fmt: skip


@ieee_fp32()
def cached(device: torch.device) -> int:
    """Greedy tokens with the cache that are not those of reading the prefix again."""
    model = build(device, base=False).eval()
    latent = torch.randn(4, 32, generator=torch.Generator().manual_seed(2)).to(device)
    written = generate(model, latent, Sampling("greedy", max_new_tokens=12))
    wrong = 0
    with torch.no_grad():
        for row, sentence in zip(latent, written, strict=True):
            tokens = torch.tensor([sentence], device=device)
            best = model.decoder.logits(tokens[:, :-1], row[None]).argmax(dim=-1)
            wrong += int((best != tokens[:, 1:]).sum())
    return wrong


def waits(verdict: Verdict, loop: str) -> str:
    with opened(loop, verdict.device) as run:
        return synchronisations(run.step, verdict.device)


def training_step(device: torch.device, rows: int, length: int, *, base: bool) -> Callable[[], Any]:
    """A step with dropout off, fused AdamW and the device's precision."""
    model = build(device, base=base).train()
    optimizer = build_adamw(parameter_groups(model, 0.0), kind="fused", lr=5e-5)
    amp, objective = MixedPrecision("auto", device), Objective(free_bits=0.5)
    encoder, decoder = ids(model, rows, length)
    places = torch.arange(rows * (length - 1), device=device)

    def step() -> None:
        clear_gradients(optimizer)
        with amp.autocast():
            losses = model(encoder, decoder, objective=objective, beta=0.5, targets=places)
        amp.backward(losses.total.mean(), optimizer)
        amp.step(optimizer, model.parameters(), 1.0)

    return step


def speed(verdict: Verdict) -> None:
    """Milliseconds and memory; at the smallest sizes on a CPU, where no floor holds."""
    cuda, device = verdict.on_cuda, verdict.device
    counts = {"steps": 10, "warm": 5} if cuda else {"steps": 1, "warm": 0}
    for rows, length, floor in ((64, 32, 5.1), (256, 32, 14.8)) if cuda else ((2, 8, 0.0),):
        steps: list[Callable[[], Any]] = []

        def measured(rows: int = rows, length: int = length, steps: list[Any] = steps) -> float:
            steps.append(training_step(device, rows, length, base=cuda))
            return milliseconds(steps[0], device, **counts)

        name, limit = f"step, {rows} x {length} tokens", floor / 0.4 if cuda else None
        verdict.check(name, measured, limit=limit, unit=" ms")
        verdict.check(f"{name}, memory", lambda s=steps: peak_gib(s[0], device), unit=" GiB")
    model = build(device, base=cuda).eval()
    rows, tokens = (256, 30) if cuda else (2, 4)
    latent = torch.randn(rows, 32, device=device)

    def decode(recorded: bool) -> float:
        greedy = Sampling("greedy", max_new_tokens=tokens, recorded=recorded)
        with MixedPrecision("auto", device).autocast():
            whole = milliseconds(
                lambda: generate(model, latent, greedy, batch_size=rows), device, **counts
            )
        return 1000 * whole / tokens

    name = f"decoding, B = {rows}, a token"
    verdict.check(name, lambda: decode(False), unit=" us")
    if cuda:
        verdict.check(f"{name}, recorded", lambda: decode(True), limit=93 / 0.5, unit=" us")
    rows, length, samples = (32, 20, 100) if cuda else (2, 6, 5)
    encoder, decoder = ids(model, rows, length)
    eps = torch.randn(rows, samples, 32, device=device)
    apart_by: list[float] = []

    @ieee_fp32()
    def importance() -> float:
        def plain() -> Tensor:
            parts = [
                importance_weighted(model, encoder[i : i + 1], decoder[i : i + 1], eps[i : i + 1])
                for i in range(rows)
            ]
            return torch.cat([one for one, _ in parts])

        def ours() -> Tensor:
            return importance_scores(model, encoder, decoder, eps=eps).log_marginal()

        apart_by.append(apart(ours(), plain()))
        times = {"steps": 3, "warm": 1} if cuda else {"steps": 1, "warm": 0}
        return milliseconds(plain, device, **times) / milliseconds(ours, device, **times)

    name = f"importance-weighted, {rows} x {length} x {samples}, times as fast as the plain way"
    verdict.check(name, importance, limit=5 if cuda else None, more=True)
    verdict.check("its log p(x), apart from the plain way's", lambda: apart_by[0], limit=1e-4)


def fill(verdict: Verdict) -> None:
    """All checks, the ones that say most first."""
    device, check = verdict.device, verdict.check
    set_numerics()
    found: dict[str, float] = {}
    limits = {"loss": 1e-4, "gradients": 1e-3, "log p(x)": 1e-4, "ids": 0.0}
    for name, limit in limits.items():
        check(
            f"{name}, apart from the CPU's",
            lambda n=name: (found or found.update(as_on_the_cpu(device)) or found)[n],
            limit=limit,
        )
    check("tokens that the cache changes", lambda: cached(device), limit=0)
    check("recorded cases, and other tests marked gpu", lambda: tests_for_devices(device))
    check("small corpora", write_texts)
    for verb in VERBS:
        for precision in ("fp32", "bf16", "fp16") if verdict.on_cuda else ("fp16",):
            check(f"{verb} smoke, {precision}", lambda v=verb, p=precision: smoke(verdict, v, p))
    for loop in LOOPS:
        check(f"waits in a step, {loop}", lambda name=loop: waits(verdict, name))
    speed(verdict)
    check("train smoke --compile", lambda: compiled(verdict))
    for verb in VERBS if verdict.on_cuda else VERBS[:1]:
        name = f"weights of two runs of {verb} with --deterministic"
        check(name, lambda v=verb: repeated(verdict, v), limit=0)


if __name__ == "__main__":
    judge("optimus", fill)
