"""FQ in U-GAT-IT on 100 + 100 selfies and anime faces: with, without, with codes in use, augmented.

python evidence/translation_claim.py --images data/selfie2anime --weights weights/squeezenet

All cells of a seed begin with the same generators and see the same images in the same order. The
discriminators with FQ begin alike too, those without it do not: codes are drawn between their
layers. The learning rate falls over the second half of a run, as the preset's does. Runs that were
finished are not trained again, one that was cut short is continued. A table of what is there is
printed at the end, also with --table alone: KID x 100 of both directions on the test images, its
interval, and the difference from the cell without FQ seed by seed. That cell has no augmentation:
the difference of the augmented cell is that of both.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

from quantization_claim import USED, half_width, spread

from fqgan.biggan.config import ALL_POLICIES
from fqgan.runs import train
from fqgan.runtime.files import json_text
from fqgan.ugatit import commands
from fqgan.ugatit.config import PRESETS, TranslationScoring, UgatitTrain


def _cells() -> dict[str, UgatitTrain]:
    small = PRESETS["ugatit-selfie2anime-small"][1]
    return {
        "baseline": PRESETS["ugatit-selfie2anime-small-baseline"][1],
        "authors' FQ": small,
        "FQ, codes in use": replace(small, quantizer=replace(small.quantizer, **USED)),
        "authors' FQ, DiffAugment": replace(small, step=replace(small.step, augment=ALL_POLICIES)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", default="data/selfie2anime", help="folder of the data set")
    parser.add_argument("--features", choices=("squeezenet", "random"), default="squeezenet")
    parser.add_argument("--weights", default="weights/squeezenet", help="folder of SqueezeNet's")
    parser.add_argument("--out", type=Path, default=Path("runs/translation-claim"))
    parser.add_argument("--steps", type=int, default=4000, help="iterations of one image a domain")
    parser.add_argument("--seeds", type=int, nargs="+", default=(0, 1, 2))
    parser.add_argument("--table", action="store_true", help="only print what is there")
    options = parser.parse_args()
    for path in () if options.table else sorted(options.out.glob("*.json")):
        row = json.loads(path.read_text())
        for name in ("steps", "features"):
            if row.get(name, getattr(options, name)) != getattr(options, name):
                parser.error(f"{path} has --{name} {row[name]}; give another --out")
    for seed in () if options.table else options.seeds:
        for number, (cell, config) in enumerate(_cells().items()):
            scores = options.out / f"{number}-{seed}.json"
            if not scores.exists():
                found = run(config, seed, options.out / f"{number}-{seed}", options)
                scores.write_text(json_text({"cell": cell, "seed": seed, **found}) + "\n")
    print_table([json.loads(path.read_text()) for path in sorted(options.out.glob("*.json"))])


def run(
    config: UgatitTrain, seed: int, folder: Path, options: argparse.Namespace
) -> dict[str, Any]:
    """Train one cell, or continue it, and score both of its directions."""
    begin = time.process_time()
    data = replace(config.data, path=options.images)
    schedule = replace(config.schedule, epoch_steps=options.steps // config.schedule.epochs)
    train(
        replace(
            config, run_dir=str(folder), seed=seed, device="cpu", max_steps=options.steps,
            evaluate_every=0, data=data, schedule=schedule,
        )
    )  # fmt: skip
    scoring = TranslationScoring(options.features, weights=options.weights)
    rows = commands.evaluate(
        commands.EvaluateConfig(run_dir=str(folder), device="cpu", scoring=scoring, data=data)
    )
    kids = {
        row["data"]: {name: row[name] for name in row if name.startswith("kid_x100")}
        for row in rows
    }
    spent = round(time.process_time() - begin, 1)
    used = {"steps": options.steps, "features": options.features}
    return {**used, "cpu_seconds": spent, "kid": kids}


def print_table(rows: list[dict[str, Any]]) -> None:
    """KID x 100 of every cell and direction, over the seeds that are there."""
    base = {row["seed"]: row["kid"] for row in rows if row["cell"] == "baseline"}
    for cell in _cells():
        own = [row for row in rows if row["cell"] == cell]
        print(f"{cell}: seeds {[row['seed'] for row in own] or 'not run'}")
        for direction in own[0]["kid"] if own else ():
            kids = [row["kid"][direction] for row in own]
            line = f"  {direction}: {spread([kid['kid_x100'] for kid in kids], digits=4)}"
            width = fmean((kid["kid_x100_high"] - kid["kid_x100_low"]) / 2 for kid in kids)
            line += f", 95 % over test images +- {width:.3g}"
            line += f", untranslated {kids[0]['kid_x100_untranslated']:.4g}"
            pairs = [
                row["kid"][direction]["kid_x100"] - base[row["seed"]][direction]["kid_x100"]
                for row in own
                if row["seed"] in base
            ]
            if cell != "baseline" and len(pairs) > 1:
                half = half_width(pairs)
                line += f"; minus baseline {fmean(pairs):+.3g} +- {half:.3g} (95 % over seeds)"
            print(line)


if __name__ == "__main__":
    main()
