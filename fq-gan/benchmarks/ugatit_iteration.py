"""A training iteration of FQ-U-GAT-IT, ours and the plain way: time and peak memory.

``python benchmarks/ugatit_iteration.py`` writes benchmarks/results/ugatit_iteration.json; 2 to 4
minutes on a CPU: 128 pixels and a quarter of the width, one thread, fp32. ``--device cuda --size
256 --width 64`` has the released sizes and prints the floor of an H200 beside them. Every variant
runs in a fresh process, whose first iterations are not counted; variants in turn. Memory is what
the process needs above its state after the imports, on a GPU what is allocated there.
"""

from __future__ import annotations

import argparse
import sys
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
    summarize,
    timed,
    write_report,
)
from plain_ugatit import PlainStep, build_plain_networks

from fqgan.runtime.files import json_text
from fqgan.runtime.precision import MixedPrecision
from fqgan.ugatit.config import (
    DiscriminatorConfig,
    GeneratorConfig,
    ScheduleConfig,
    StepConfig,
    UgatitConfig,
)
from fqgan.ugatit.networks import build_networks
from fqgan.ugatit.step import UgatitStep

WAYS = ("plain", "plain, graph kept", "ours", "ours channels_last")
WARM = 2
# At 256 pixels, width 64, batch 1: 15.6 GB for Adam and 21 GB of weights, read at 4.3 TB/s.
FLOOR_MS = 9.0


def build(args: argparse.Namespace) -> UgatitConfig:
    depth = 6 if args.size >= 96 else 5
    return UgatitConfig(
        image_size=args.size,
        generator=GeneratorConfig(channels=args.width, light=args.light),
        discriminator=DiscriminatorConfig(channels=args.width, depth=depth),
    )


def worker(args: argparse.Namespace) -> dict[str, Any]:
    torch.manual_seed(0)
    cuda = args.device == "cuda"
    torch.mm(torch.randn(64, 64), torch.randn(64, 64))  # the library's own buffers
    before = peak_mb()
    config, options = build(args), StepConfig(batch_size=args.batch)
    shape = (args.batch, 3, args.size, args.size)
    a, b = (torch.rand(shape, device=args.device) * 2 - 1 for _ in range(2))
    if args.worker.startswith("plain"):
        networks = build_plain_networks(config).to(args.device)
        plain = PlainStep(networks, options, keep_graph="graph" in args.worker)

        def iteration() -> None:
            plain(a, b)
    else:
        networks = build_networks(config).to(args.device)
        if "channels_last" in args.worker:
            networks.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        precision = MixedPrecision(args.precision, args.device)
        step = UgatitStep(networks, options, ScheduleConfig(), precision=precision)

        def iteration() -> None:
            step(a, b, 1)
            if cuda:
                torch.cuda.synchronize()

    for _ in range(WARM):
        iteration()
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    times = timed(iteration, args.repeats)
    memory = torch.cuda.max_memory_allocated() / 2**20 if cuda else peak_mb() - before
    flops = 0 if cuda or args.worker != "ours" else flops_of(iteration)
    return {**times, "memory": memory, "flops": flops}


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=RESULTS / "ugatit_iteration.json")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--light", action="store_true")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16"])
    parser.add_argument("--ways", nargs="+", default=WAYS, choices=WAYS)
    parser.add_argument("--worker")
    args = parser.parse_args()
    if args.size < 48 or args.size % 4:
        parser.error(f"--size {args.size}: the discriminators need 48 pixels or more, in fours")
    return args


def main() -> None:
    args = read_options()
    torch.set_num_threads(1)
    if args.worker:
        print(json_text(worker(args)))
        return
    names = ("size", "width", "batch", "device", "precision", "repeats")
    words = [word for name in names for word in (f"--{name}", str(getattr(args, name)))]
    words += ["--light"] if args.light else []
    runs: dict[str, list[dict[str, Any]]] = {way: [] for way in args.ways}
    for _ in range(args.rounds):
        for way in args.ways:
            runs[way].append(in_fresh_process(__file__, way, *words))
    clock = "wall" if args.device == "cuda" else "cpu"
    print(
        f"{args.size} pixels, width {args.width}, batch {args.batch}, {args.device}; {clock} time"
    )
    print(f"{'way':<20} {'median s':>9} {'min s':>8} {'speed':>6} {'MB':>7} {'share':>6}")
    rows: list[dict[str, Any]] = []
    for way, results in runs.items():
        row = {
            "way": way,
            "seconds": summarize([t for run in results for t in run[clock]]),
            "memory_mb": min(run["memory"] for run in results),
        }
        rows.append(row)
        base = next((other for other in rows if other["way"] == "plain"), row)
        row["speed"] = base["seconds"]["min"] / row["seconds"]["min"]
        row["memory_share"] = row["memory_mb"] / base["memory_mb"]
        seconds = row["seconds"]
        print(
            f"{way:<20} {seconds['median']:>9.4f} {seconds['min']:>8.4f} {row['speed']:>6.2f} "
            f"{row['memory_mb']:>7.0f} {row['memory_share']:>6.0%}"
        )
    if args.device == "cuda" and (args.size, args.width, args.batch) == (256, 64, 1):
        print(f"floor: {FLOOR_MS} ms, the bytes of weights and moments at an H200's bandwidth")
    settings = {name: getattr(args, name) for name in names}
    found = {row["way"]: row for row in rows}
    lines = []
    if {"plain", "ours"} <= found.keys():
        plain, ours = found["plain"], found["ours"]
        lines.append(
            headline(
                f"U-GAT-IT iteration, {args.size} pixels, width {args.width}",
                plain["seconds"]["median"],
                ours["seconds"]["median"],
                target=1.3,
                flops=runs["ours"][0]["flops"],
                memory=(plain["memory_mb"], ours["memory_mb"]),
                unit=f"{clock} s",
            )
        )
    write_report(args.out, {**settings, "light": args.light, "rows": rows, "headline": lines})


if __name__ == "__main__":
    main()
