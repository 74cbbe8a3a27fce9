"""A training round of FQ-StyleGAN2, ours and the plain way, with the share of each part.

``python benchmarks/stylegan2_round.py`` writes benchmarks/results/stylegan2_round.json; 2 to 4
minutes on a CPU, one thread. A round is 16 iterations: 16 updates of G and of D, 4 path length and
one R1 regularization. With ``--device cuda --resolutions 32 64 128 256 512 1024`` seconds per
thousand images are printed beside the floor: the time the convolutions' arithmetic alone would
take at the speed of a large product.
"""

from __future__ import annotations

import argparse
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent))
from measure import (
    RESULTS,
    flops_of,
    headline,
    in_fresh_process,
    peak_mb,
    speed_of,
    summarize,
    timed,
    write_report,
)
from plain_stylegan2 import plain_way

from fqgan.runtime.files import json_text
from fqgan.runtime.precision import MixedPrecision
from fqgan.stylegan2.config import DiscriminatorConfig, GeneratorConfig, StepConfig, Stylegan2Config
from fqgan.stylegan2.legacy import build_discriminator, build_generator
from fqgan.stylegan2.step import GanStep

WAYS = ("plain", "plain depthwise", "ours", "ours channels_last")
PARTS = ("g", "g_reg", "d", "d_reg")
PER_ROUND = {"g": 16, "g_reg": 4, "d": 16, "d_reg": 1}
ITERATIONS = 16


def build_step(args: argparse.Namespace, resolution: int, layout: torch.memory_format) -> GanStep:
    torch.manual_seed(0)
    widths = {"channel_base": args.channel_base, "channel_max": args.channel_max}
    config = Stylegan2Config(
        resolution=resolution,
        generator=GeneratorConfig(**widths),
        discriminator=DiscriminatorConfig(**widths),
    )
    networks = [
        build(config).to(args.device).to(memory_format=layout)
        for build in (build_generator, build_discriminator)
    ]
    options = StepConfig(batch_size=args.batch, r1_weight=100.0)
    return GanStep(*networks, options, precision=MixedPrecision(args.precision, args.device))


def parts_of(step: GanStep, images: torch.Tensor) -> dict[str, Any]:
    """Each part of an iteration as a function of nothing, with the update that belongs to it."""
    g = (step.generator, step.generator_optimizer)
    d = (step.discriminator, step.discriminator_optimizer)

    def run(learner: tuple[Any, Any], loss: Any) -> None:
        for network in (step.generator, step.discriminator):
            network.requires_grad_(network is learner[0])
        step._update(*learner, iter([loss()]))
        if images.device.type == "cuda":
            torch.cuda.synchronize()

    return {
        "g": lambda: run(g, lambda: step._generator_loss(0.0)),
        "g_reg": lambda: run(g, lambda: step._path_length_loss(0.0, 4)),
        "d": lambda: run(d, lambda: step._discriminator_loss(images, None, 0.0)),
        "d_reg": lambda: run(d, lambda: step._gradient_penalties(images, None, 0.0, 16)),
    }


def worker(args: argparse.Namespace) -> dict[str, Any]:
    way, resolution = args.worker[0], int(args.worker[1])
    layout = torch.channels_last if "last" in way else torch.contiguous_format
    step = build_step(args, resolution, layout)
    images = torch.rand(args.batch, 3, resolution, resolution, device=args.device) * 2 - 1
    images = images.contiguous(memory_format=layout)
    result: dict[str, Any] = {}
    plain = "plain" in way
    with plain_way(depthwise="depthwise" in way) if plain else nullcontext():
        for name, function in parts_of(step, images).items():
            function()
            result[name] = timed(function, args.repeats)
            result[name]["flops"] = 0 if plain else flops_of(function)
    memory = torch.cuda.max_memory_allocated() / 2**20 if args.device == "cuda" else peak_mb()
    return {**result, "memory": memory}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=RESULTS / "stylegan2_round.json")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16", "fp16"))
    parser.add_argument("--resolutions", nargs="+", type=int, default=[64])
    parser.add_argument("--channel-base", type=int, default=2048)
    parser.add_argument("--channel-max", type=int, default=128)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--ways", nargs="+", default=WAYS, choices=WAYS)
    parser.add_argument("--worker", nargs=2)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.worker:
        print(json_text(worker(args)))
        return
    clock = "wall" if args.device == "cuda" else "cpu"
    names = ("device", "precision", "channel_base", "channel_max", "batch", "repeats")
    passed = [f"--{name.replace('_', '-')}={getattr(args, name)}" for name in names]
    print(
        f"{args.device}, {args.precision}, batch {args.batch}, widths {args.channel_base} / "
        f"{args.channel_max}; {clock} seconds of one update of each part, median\n"
        f"{'way':<19} {'size':>5} {'G':>7} {'G reg':>7} {'D':>7} {'D reg':>7} {'s/kimg':>8} "
        f"{'plain/this':>10} {'floor':>7} {'peak MB':>8}"
    )
    speed = speed_of(args.device, args.precision)
    rows: list[dict[str, Any]] = []
    for resolution in args.resolutions:
        runs: dict[str, list[dict[str, Any]]] = {way: [] for way in args.ways}
        for _ in range(args.rounds):
            for way, results in runs.items():
                results.append(in_fresh_process(__file__, way, str(resolution), *passed))
        for way, results in runs.items():
            row = row_of(way, resolution, results, clock, args.batch)
            flops = sum(PER_ROUND[p] * results[0][p].get("flops", 0) for p in PARTS)
            images = ITERATIONS * args.batch
            row["floor"] = flops / speed / images * 1000
            rows.append(row)
            base = next((r for r in rows if r["way"] == "plain" and r["size"] == resolution), row)
            row["ratio"] = base["round"] / row["round"]
            medians = " ".join(f"{row[p]['median']:>7.3f}" for p in PARTS)
            print(
                f"{way:<19} {resolution:>5} {medians} {row['s_per_kimg']:>8.1f} "
                f"{row['ratio']:>10.2f} {row['floor']:>7.1f} {row['memory_mb']:>8.0f}"
            )
    settings = {**vars(args), "out": str(args.out)}
    write_report(args.out, {"settings": settings, "rows": rows, "headline": headlines(rows, clock)})


def headlines(rows: list[dict[str, Any]], clock: str) -> list[dict[str, Any]]:
    """Ours in the presets' memory order beside both forms of the plain way, s / 1000 images."""
    lines = []
    for ours in (row for row in rows if row["way"] == "ours channels_last"):
        for plain in (row for row in rows if row["way"].startswith("plain")):
            if plain["size"] == ours["size"]:
                line = headline(
                    f"StyleGAN2 round, {ours['size']} pixels, against {plain['way']}",
                    plain["s_per_kimg"],
                    ours["s_per_kimg"],
                    target=1.5,
                    memory=(plain["memory_mb"], ours["memory_mb"]),
                    unit=f"{clock} s / 1000 images",
                )
                lines.append({**line, "floor": ours["floor"]})
    return lines


def row_of(
    way: str, resolution: int, results: list[dict[str, Any]], clock: str, batch: int
) -> dict[str, Any]:
    row: dict[str, Any] = {"way": way, "size": resolution}
    for part in PARTS:
        row[part] = summarize([t for run in results for t in run[part][clock]])
    row["round"] = sum(PER_ROUND[part] * row[part]["median"] for part in PARTS)
    row["s_per_kimg"] = row["round"] / (ITERATIONS * batch) * 1000
    row["memory_mb"] = min(run["memory"] for run in results)
    return row


if __name__ == "__main__":
    main()
