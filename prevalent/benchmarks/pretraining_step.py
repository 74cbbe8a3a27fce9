"""Time of one pre-training step: the plain way against ours, alternating in one process.

The plain way computes what the authors' script computes: attention written out, the word head at
all positions, both streams of every cross layer, an optimizer that loops over the parameters.

    python benchmarks/pretraining_step.py [--hidden 256 --batch 16 --rounds 5]
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from dataclasses import asdict
from pathlib import Path

import torch
from records import floor_seconds, headline, memory_of, write_record
from torch import Tensor, nn
from torch.nn import functional as F

from prevalent.config import ModelConfig
from prevalent.models.prevalent import Attention, PrevalentForPretraining
from prevalent.optimizer import AuthorsAdamW, parameter_groups
from prevalent.runtime.measuring import peak_memory, unit_of

TARGET = 1.6  # the ratio this benchmark is held against


class PlainAttention(Attention):
    """Attention as a chain of separate operations with the (B, heads, T, S) scores in memory."""

    def forward(self, states, memory, bias=None, packing=None) -> Tensor:
        query, key, value = (
            self._split(layer(source), packing)
            for layer, source in ((self.query, states), (self.key, memory), (self.value, memory))
        )
        scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
        if bias is not None:
            scores = scores + bias
        weights = F.dropout(scores.softmax(-1), self.dropout, self.training)
        return (weights @ value).permute(0, 2, 1, 3).contiguous().flatten(2)


def plain_loss(model: PrevalentForPretraining, batch: dict[str, Tensor]) -> Tensor:
    """Both losses with the word head at all T positions and all cross layers in full."""
    bert, mask = model.bert, batch["mask"]
    bias = ((1.0 - mask.float()) * -10000.0)[:, None, None, :]
    text, images = bert.embeddings(batch["ids"]), bert.vision_encoder(batch["images"])
    for layer in bert.lalayer:
        text = layer(text, bias)
    for layer in bert.addlayer:
        text, images = layer(text, images, bias)
    logits = model.mlmhead(text)  # (B, T, V)
    action = model.next_action(bert.pooler(text))
    words = F.cross_entropy(logits.flatten(0, 1), batch["labels"].flatten(), ignore_index=-1)
    return words + F.cross_entropy(action, batch["actions"], ignore_index=-1)


class PlainAdamW(torch.optim.Optimizer):
    """The authors' AdamW, one parameter after the other."""

    def __init__(self, params, lr: float) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure=None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state.update(t=0, m=torch.zeros_like(p), v=torch.zeros_like(p))
                state["t"] += 1
                state["m"].mul_(0.9).add_(p.grad, alpha=0.1)
                state["v"].mul_(0.999).addcmul_(p.grad, p.grad, value=0.001)
                rate = group["lr"] * math.sqrt(1 - 0.999 ** state["t"]) / (1 - 0.9 ** state["t"])
                p.addcdiv_(state["m"], state["v"].sqrt().add_(1e-8), value=-rate)


def make_batch(
    config: ModelConfig, batch: int, length: int, seed: int, device: str = "cpu"
) -> dict[str, Tensor]:
    """Texts of 20 to ``length`` words, 15 % of the words masked, one panorama each."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(20, length + 1, (batch,), generator=generator)
    mask = (torch.arange(length) < lengths[:, None]).long()
    ids = torch.randint(config.vocab_size, (batch, length), generator=generator) * mask
    chosen = (torch.rand(batch, length, generator=generator) < 0.15) & mask.bool()
    made = {
        "ids": ids.masked_fill(chosen, 103),
        "mask": mask,
        "labels": torch.where(chosen, ids, -1),
        "images": torch.randn(batch, 36, config.image_dim, generator=generator),
        "actions": torch.randint(14, (batch,), generator=generator),
    }
    return {name: value.to(device) for name, value in made.items()}


def our_loss(model: PrevalentForPretraining, batch: dict[str, Tensor]) -> Tensor:
    """As the loader and the loop do it: text cut at the longest of the batch, no padding."""
    length = min(-(-int(batch["mask"].sum(1).max()) // 8) * 8, batch["mask"].shape[1])
    ids, mask, labels = (batch[name][:, :length] for name in ("ids", "mask", "labels"))
    words = mask.flatten().nonzero().squeeze(1)
    images, actions = batch["images"], batch["actions"]
    return model(ids, mask, images, labels, actions, word_positions=words).loss


def build(
    config: ModelConfig, plain: bool, device: str = "cpu"
) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = PrevalentForPretraining(config).to(device).train()
    if plain:
        for part in model.modules():
            if isinstance(part, Attention):
                part.__class__ = PlainAttention
        return model, PlainAdamW(model.parameters(), lr=5e-5)
    return model, AuthorsAdamW(parameter_groups(model, 0.0), lr=5e-5)


def step(model, optimizer, batch: dict[str, Tensor], plain: bool) -> tuple[float, float]:
    """One step; returns (CPU seconds, or on a CUDA device those on the wall, and the loss)."""
    on_cuda = batch["ids"].is_cuda
    clock = time.perf_counter if on_cuda else time.process_time
    if on_cuda:
        torch.cuda.synchronize()
    begin = clock()
    loss = (plain_loss if plain else our_loss)(model, batch)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    if on_cuda:
        torch.cuda.synchronize()
    return clock() - begin, loss.item()


def check_equal_losses(config: ModelConfig, batch: dict[str, Tensor], device: str) -> float:
    """Largest difference of the two losses without dropout, before and after one step."""
    differences = []
    pair = [build(config, plain, device) for plain in (True, False)]
    for model, _ in pair:
        model.eval()
    for _ in range(2):
        losses = [
            step(model, optimizer, batch, plain)[1]
            for (model, optimizer), plain in zip(pair, (True, False), strict=True)
        ]
        differences.append(abs(losses[0] - losses[1]))
    return max(differences)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--length", type=int, default=80)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--only", choices=["plain", "ours"], help="one step, for its memory")
    return parser.parse_args()


def main() -> None:
    options = parse()
    device = options.device
    torch.set_num_threads(1)
    config = ModelConfig(
        hidden_size=options.hidden,
        num_heads=options.heads,
        intermediate_size=4 * options.hidden,
    )
    if options.only:
        plain = options.only == "plain"
        batch = make_batch(config, options.batch, options.length, 0, device)
        step(*build(config, plain, device), batch, plain)
        print(peak_memory(device))
        return
    batch = make_batch(config, 2, options.length, 99, device)
    difference = check_equal_losses(config, batch, device)
    pair = {plain: build(config, plain, device) for plain in (True, False)}
    times: dict[bool, list[float]] = {True: [], False: []}
    for round_ in range(options.rounds + 1):
        batch = make_batch(config, options.batch, options.length, round_, device)
        for plain, (model, optimizer) in pair.items():
            seconds, _ = step(model, optimizer, batch, plain)
            if round_:  # the first round warms up
                times[plain].append(seconds)
    medians = {plain: statistics.median(values) for plain, values in times.items()}
    ratio = medians[True] / medians[False]
    print("| way | median s | min | max | samples/s |\n|---|---|---|---|---|")
    for plain, name in ((True, "plain"), (False, "ours")):
        low, high = min(times[plain]), max(times[plain])
        rate = options.batch / medians[plain]
        print(f"| {name} | {medians[plain]:.3f} | {low:.3f} | {high:.3f} | {rate:.1f} |")
    print(f"ratio {ratio:.2f} (target {TARGET}); largest difference of the losses {difference:.1e}")
    floor = floor_seconds(lambda: step(*pair[False], batch, False), device)
    memory = {way: memory_of(way) for way in ("plain", "ours")}
    row = headline(
        f"pre-training step, hidden {options.hidden}, batch {options.batch}",
        medians[True],
        medians[False],
        unit_of(device),
        ratio,
        target=TARGET,
        floor=floor,
        memory_ratio=memory["ours"] / memory["plain"],
    )
    write_record(
        options.json,
        "pretraining_step",
        [row],
        config=asdict(config),
        batch=options.batch,
        length=options.length,
        seconds={"plain": times[True], "ours": times[False]},
        loss_difference=difference,
        peak_memory_mb=memory,
    )


if __name__ == "__main__":
    main()
