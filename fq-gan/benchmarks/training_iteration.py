"""A whole training iteration: without quantization, with 64 and with 1024 codes; ours and plain.

``python benchmarks/training_iteration.py`` writes benchmarks/results/training_iteration.json;
about three minutes on a CPU. The CIFAR-10 recipe at width 32 (4 updates of D), one thread, uniform
images, batch 8; the speed of the authors' code was recorded at ``--batch 32 --rounds 4 --repeats
2``, which takes 10 to 20 minutes. Every variant in a fresh process, whose first iteration is not
counted; variants in turn.
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
from plain import PlainStep, build_plain

from fqgan.biggan.config import (
    BigganConfig,
    DiscriminatorConfig,
    GeneratorConfig,
    QuantizerConfig,
    StepConfig,
)
from fqgan.biggan.networks import build_discriminator, build_generator
from fqgan.biggan.step import GanStep
from fqgan.runtime.files import json_text
from fqgan.runtime.precision import MixedPrecision

CODES = (0, 64, 1024)  # 0: no quantization
WAYS = ("plain", "ours", "ours contiguous")


def worker(
    way: str, device: str, codes: int, repeats: int, width: int, batch: int
) -> dict[str, Any]:
    torch.manual_seed(0)
    config = BigganConfig(
        init="N02",
        generator=GeneratorConfig(channels=width),
        discriminator=DiscriminatorConfig(channels=width),
        quantizer=QuantizerConfig(
            layers=(0, 1, 2, 3) if codes else (), codebook_size=codes or 1, commitment_weight=1.0
        ),
    )
    options = StepConfig(batch_size=batch, num_d_steps=4, generator_lr=2e-4)
    images = (torch.rand(options.images_per_step, 3, 32, 32) * 2 - 1).to(device)
    labels = torch.randint(config.num_classes, (options.images_per_step,)).to(device)
    if way == "plain":
        step: Any = PlainStep(*(network.to(device) for network in build_plain(config)), options)
    else:
        networks = [build_generator(config).to(device), build_discriminator(config).to(device)]
        if way == "ours":  # the default layout of the presets
            networks = [network.to(memory_format=torch.channels_last) for network in networks]
            images = images.contiguous(memory_format=torch.channels_last)
        step = GanStep(*networks, options, precision=MixedPrecision("fp32", device))
    step(images, labels, 1)
    times, memory = timed(lambda: step(images, labels, 2), repeats), peak_mb()
    flops = flops_of(lambda: step(images, labels, 3)) if way == "ours" else 0
    return {**times, "memory": memory, "flops": flops}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=RESULTS / "training_iteration.json")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--ways", nargs="+", default=WAYS[:2], choices=WAYS)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--worker", nargs=6)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.worker:
        way, device, *numbers = args.worker
        print(json_text(worker(way, device, *map(int, numbers))))
        return
    sizes = (str(args.repeats), str(args.width), str(args.batch))
    runs: dict[tuple[str, int], list[dict[str, Any]]] = {
        (w, k): [] for w in args.ways for k in CODES
    }
    for _ in range(args.rounds):
        for way, codes in runs:
            words = (way, args.device, str(codes), *sizes)
            runs[way, codes].append(in_fresh_process(__file__, *words))
            seconds = min(runs[way, codes][-1]["cpu"])
            print(f"{way}, {codes} codes: {seconds:.2f} seconds", flush=True)
    lines = [
        f"width {args.width}, batch {args.batch}, {args.device}; seconds per iteration",
        f"{'way':<20} {'K':>5} {'CPU median':>11} {'CPU min':>8} {'wall min':>9} "
        f"{'over no FQ':>11} {'peak MB':>8}",
    ]
    rows: list[dict[str, Any]] = []
    for (way, codes), results in runs.items():
        row = {
            "way": way,
            "codes": codes,
            "cpu": summarize([t for run in results for t in run["cpu"]]),
            "wall": summarize([t for run in results for t in run["wall"]]),
            "memory_mb": min(run["memory"] for run in results),
        }
        rows.append(row)
        base = next(r for r in rows if r["way"] == way and r["codes"] == 0)
        row["overhead_min"] = row["cpu"]["min"] / base["cpu"]["min"] - 1
        row["overhead_median"] = row["cpu"]["median"] / base["cpu"]["median"] - 1
        lines.append(
            f"{way:<20} {codes or 'none':>5} {row['cpu']['median']:>11.2f} "
            f"{row['cpu']['min']:>8.2f} {row['wall']['min']:>9.2f} "
            f"{row['overhead_min']:>+11.1%} {row['memory_mb']:>8.0f}"
        )
    print("\n".join(lines))
    settings = {"width": args.width, "batch": args.batch, "device": args.device}
    lines_of_all = headlines(rows, runs, args.batch, args.device)
    write_report(args.out, {**settings, "rows": rows, "headline": lines_of_all})


def headlines(
    rows: list[dict[str, Any]],
    runs: dict[tuple[str, int], list[dict[str, Any]]],
    batch: int,
    device: str,
) -> list[dict[str, Any]]:
    """Ours beside the plain way at every size of the dictionary, and what quantization adds."""
    found = {(row["way"], row["codes"]): row for row in rows}
    clock: dict[str, Any] = {"unit": "CPU s" if device == "cpu" else "s", "device": device}
    lines = []
    for codes in CODES:
        plain, ours = found.get(("plain", codes)), found.get(("ours", codes))
        if plain and ours:
            lines.append(
                headline(
                    f"BigGAN iteration, batch {batch}, {codes or 'no'} codes",
                    plain["cpu"]["median"],
                    ours["cpu"]["median"],
                    flops=runs["ours", codes][0]["flops"],
                    memory=(plain["memory_mb"], ours["memory_mb"]),
                    **clock,
                )
            )
            if codes:
                added = [row["cpu"]["median"] - found[row["way"], 0]["cpu"]["median"]
                         for row in (plain, ours)]  # fmt: skip
                what = f"what {codes} codes add to a BigGAN iteration, batch {batch}"
                target = 4.0 if codes == max(CODES) else None
                lines.append(headline(what, *added, target=target, **clock))
    return lines


if __name__ == "__main__":
    main()
