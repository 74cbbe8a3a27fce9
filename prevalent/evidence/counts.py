"""Counts of the data sets and parameters of the networks that the papers print.

python evidence/counts.py --data-dir data
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import torch

from prevalent.config import ModelConfig
from prevalent.data.tokenizers import split_words
from prevalent.models.prevalent import PrevalentForPretraining

SPLITS = ("train", "val_seen", "val_unseen", "test")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, default=Path("data"))
    folder = parser.parse_args().data_dir
    for name, value in (
        room_to_room(folder) | graphs(folder) | dialogs(folder) | networks()
    ).items():
        print(f"{name}: {value:,}" if isinstance(value, int) else f"{name}: {value:.4g}")


def room_to_room(folder: Path) -> dict[str, float]:
    """Paths, instructions, words and triplets (a viewpoint of a path under an instruction)."""
    counts: dict[str, float] = {}
    words: Counter[str] = Counter()
    paths = instructions = triplets = 0
    for split in SPLITS:
        items = json.loads((folder / "r2r" / f"R2R_{split}.json").read_text())
        texts = [text for item in items for text in item["instructions"]]
        steps = sum(len(item["path"]) * len(item["instructions"]) for item in items)
        counts[f"R2R {split}, paths"] = len(items)
        counts[f"R2R {split}, instructions"] = len(texts)
        if split != "test":  # whose paths are hidden
            counts[f"R2R {split}, triplets"] = steps
            triplets += steps
        paths, instructions = paths + len(items), instructions + len(texts)
        for text in texts:
            words.update(split_words(text))
    return counts | {
        "R2R paths": paths,
        "R2R instructions": instructions,
        "R2R instructions of a path": instructions / paths,
        "R2R triplets of all splits with paths": triplets,
        "R2R words and punctuation of an instruction": words.total() / instructions,
        "R2R vocabulary": len(words),
        "R2R words used five times or more": sum(number >= 5 for number in words.values()),
    }


def graphs(folder: Path) -> dict[str, float]:
    """Panoramas, and viewpoints and neighbors of the navigation graphs."""
    scans = [
        json.loads(path.read_text())
        for path in sorted((folder / "connectivity").glob("*_connectivity.json"))
    ]
    degrees = [
        sum(
            open_way and other["included"]
            for open_way, other in zip(one["unobstructed"], scan, strict=True)
        )
        for scan in scans
        for one in scan
        if one["included"]
    ]
    return {
        "scans": len(scans),
        "panoramas": sum(map(len, scans)),
        "viewpoints": len(degrees),
        "viewpoints a scan": len(degrees) / len(scans),
        "neighbors of a viewpoint": sum(degrees) / len(degrees),
    }


def dialogs(folder: Path) -> dict[str, float]:
    """Items of NDH and their houses, as far as the files are there."""
    counts: dict[str, float] = {}
    for path in sorted((folder / "ndh").glob("*.json")):
        items = json.loads(path.read_text())
        counts[f"NDH {path.stem}, items"] = len(items)
        counts[f"NDH {path.stem}, houses"] = len({item["scan"] for item in items})
    return counts


def networks() -> dict[str, float]:
    """Parameters with the cross-modal layers of the paper (3) and of the released checkpoint."""
    counts: dict[str, float] = {}
    for layers in (3, 4):
        with torch.device("meta"):
            model = PrevalentForPretraining(replace(ModelConfig(), num_cross_layers=layers))
        size = sum(parameter.numel() for parameter in model.parameters())
        counts[f"parameters with {layers} cross-modal layers"] = size
    return counts


if __name__ == "__main__":
    main()
