"""Counts of the data sets and parameters of the networks that the papers print.

python evidence/counts.py --data-dir data
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from prevalent.agents.follower import Follower
from prevalent.agents.hanna import HannaAgent
from prevalent.agents.ndh import NDHAgent
from prevalent.agents.speaker import Speaker
from prevalent.config import ModelConfig
from prevalent.data.tokenizers import split_words
from prevalent.models.prevalent import PrevalentForPretraining, PrevalentModel
from prevalent.tasks.hanna import HANNA_PRESETS
from prevalent.tasks.ndh import NDH_PRESETS, NUM_TAGS
from prevalent.tasks.r2r import R2R_PRESETS
from prevalent.tasks.speaker import SPEAKER_PRESETS

SPLITS = ("train", "val_seen", "val_unseen", "test")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, default=Path("data"))
    folder = parser.parse_args().data_dir
    for name, value in (
        room_to_room(folder) | graphs(folder) | dialogs(folder) | networks() | agents()
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


def agents(word_vocabulary: int = 991, word_pieces: int = 30_522) -> dict[str, float]:
    """Parameters of the agents, all of their modules together.

    Args:
        word_vocabulary: words that R2R's training instructions use five times or more.
        word_pieces: of BERT's uncased vocabulary; NDH's agent has three tags more.
    """

    def seen(angle_size: int) -> Any:
        sizes = {"image_width": 2048, "angle_size": angle_size, "width": 2048 + angle_size}
        return SimpleNamespace(**sizes, device=torch.device("meta"))

    def encoder(config: Any, pieces: int, **sizes: int) -> PrevalentModel:
        return PrevalentModel(replace(config.bert, vocab_size=pieces, **sizes))

    built: dict[str, Any] = {}
    with torch.device("meta"):
        config: Any = R2R_PRESETS["envdrop"][1]
        views = seen(config.model.angle_size)
        built["EnvDrop"] = Follower(config.model, None, views, vocab_size=word_vocabulary)
        config = R2R_PRESETS["prevalent-stage2"][1]
        bert = encoder(config, word_pieces, image_dim=views.width)
        built["PREVALENT, R2R"] = Follower(config.model, None, views, bert=bert)
        words = SimpleNamespace(vocab_size=word_vocabulary)
        built["speaker"] = Speaker(SPEAKER_PRESETS["envdrop"][1].speaker, None, views, words)
        config, pieces = NDH_PRESETS["prevalent-oracle"][1], word_pieces + NUM_TAGS
        bert = encoder(config, pieces, image_dim=views.width)
        built["PREVALENT, NDH"] = NDHAgent(config.model, None, views, max_actions=20, bert=bert)
        config = HANNA_PRESETS["prevalent"][1]
        built["PREVALENT, HANNA"] = HannaAgent(
            config.model,
            None,
            seen(config.model.angle_size),
            None,
            vocab_size=word_pieces,
            max_length=config.max_length,
            bert=encoder(config, word_pieces),
        )
    return {
        name: sum(one.numel() for part in agent.modules.values() for one in part.parameters())
        for name, agent in built.items()
    }


if __name__ == "__main__":
    main()
