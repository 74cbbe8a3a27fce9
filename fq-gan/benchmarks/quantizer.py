"""The quantizer alone: ours against the plain way, time and peak memory.

``python benchmarks/quantizer.py`` writes benchmarks/results/quantizer.json; about three minutes.
Forward with the update of the dictionary, and the same with backward; every variant in a fresh
process, plain and ours in turn. Memory is what a process needs above its state with the input.
With ``--device cuda`` the device is waited for, and wall time and its memory count.
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
from plain import PlainQuantizer

from fqgan.quantizer import FeatureQuantizer
from fqgan.runtime.files import json_text

SHAPE = (64, 256, 16, 16)
SIZES = (256, 1024, 4096)


def worker(way: str, device: str, codes: int, layout: str, repeats: int) -> dict[str, Any]:
    torch.manual_seed(0)
    features = torch.randn(SHAPE).to(device)
    if layout == "channels_last":
        features = features.contiguous(memory_format=torch.channels_last)
    features.requires_grad_()
    channels = SHAPE[1]
    if way == "plain":
        layer: Any = PlainQuantizer(channels, codes, 0.5, 0.8)
    else:
        mode = "straight_through" if way == "ours straight_through" else "commit_only"
        layer = FeatureQuantizer(channels, codes, forward_mode=mode)
    layer.to(device)
    torch.mm(*torch.randn(2, 64, 64, device=device))  # the library's own buffers
    before = peak_mb()

    def both() -> None:
        features.grad = None
        layer(features)[1].sum().backward()

    both()
    peak = peak_mb() - before
    both()  # only now does the allocator keep the memory of a first gradient
    return {
        "memory": peak,
        "flops": flops_of(both),
        "forward": timed(lambda: layer(features), repeats)["cpu"],
        "both": timed(both, repeats)["cpu"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=RESULTS / "quantizer.json")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--layout", default="contiguous", choices=["contiguous", "channels_last"])
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--worker", nargs=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.worker:
        way, device, codes, layout, repeats = args.worker
        print(json_text(worker(way, device, int(codes), layout, int(repeats))))
        return
    headlines: list[dict[str, Any]] = []
    settings = {"shape": SHAPE, "layout": args.layout, "device": args.device, "threads": 1}
    report: dict[str, Any] = {**settings, "rows": []}
    clock = "CPU" if args.device == "cpu" else "wall"
    report["headline"] = headlines
    print(f"{SHAPE}, {args.layout}, {args.device}, one thread, fp32; {clock} ms, median (min)")
    print(f"{'K':>5} {'way':<22} {'forward':>14} {'with backward':>16} {'ratio':>6} {'MB':>6}")
    ways = ("plain", "ours", "ours straight_through")
    for codes in args.sizes:
        runs: dict[str, list[dict[str, Any]]] = {way: [] for way in ways}
        for _ in range(args.rounds):
            for way in ways:
                words = (way, args.device, str(codes), args.layout, str(args.repeats))
                runs[way].append(in_fresh_process(__file__, *words))
        base = None
        for way in ways:
            row = {"codes": codes, "way": way, "memory_mb": min(r["memory"] for r in runs[way])}
            for name in ("forward", "both"):
                row[name] = summarize([t for run in runs[way] for t in run[name]])
            base = base or row
            row["ratio"] = base["both"]["min"] / row["both"]["min"]
            if way == "ours":
                headlines.append(
                    headline(
                        f"quantizer alone, {codes} codes, forward and backward",
                        base["both"]["median"],
                        row["both"]["median"],
                        target=3.0,
                        flops=runs[way][0]["flops"],
                        memory=(base["memory_mb"], row["memory_mb"]),
                        unit=f"{clock} s",
                        device=args.device,
                    )
                )
            report["rows"].append(row)
            forward, both = row["forward"], row["both"]
            print(
                f"{codes:>5} {way:<22} {forward['median'] * 1e3:>6.0f} "
                f"({forward['min'] * 1e3:>4.0f}) {both['median'] * 1e3:>8.0f} "
                f"({both['min'] * 1e3:>4.0f}) {row['ratio']:>6.1f} {row['memory_mb']:>6.0f}",
                flush=True,
            )
        write_report(args.out, report)


if __name__ == "__main__":
    main()
