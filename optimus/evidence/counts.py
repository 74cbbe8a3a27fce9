"""Counts of the data sets and parameters of the networks that the paper prints.

python evidence/counts.py --data-dir data
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from transformers import BertConfig, GPT2Config

from optimus.models.vae import OptimusConfig, OptimusModel

GLUE_WITHOUT_HEADER = ("CoLA",)
ADDED_TOKENS = 3  # <PAD>, <BOS> and <EOS> behind GPT-2's vocabulary


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, default=Path("data"))
    folder = parser.parse_args().data_dir
    for name, value in (data(folder) | vocabularies(folder) | networks()).items():
        print(f"{name}: {value:,}")


def data(folder: Path) -> dict[str, int]:
    """Examples, sentences and conversations, as far as the files are there."""
    counts = {}
    for path in sorted((folder / "glue").glob("*/train.tsv")):
        task = path.parent.name
        counts[f"GLUE {task}, training"] = lines(path) - (task not in GLUE_WITHOUT_HEADER)
    for path in sorted((folder / "dailydialog").glob("*.utts.txt")):
        text = path.read_text(encoding="utf-8")
        counts[f"DailyDialog {path.name.partition('.')[0]}, conversations"] = lines(path)
        counts[f"DailyDialog {path.name.partition('.')[0]}, utterances"] = text.count("__eou__")
    for path in sorted((folder / "yelp_sentiment").glob("sentiment.*")):
        counts[f"Yelp {path.name}, sentences"] = lines(path)
    for path in sorted((folder / "ptb").glob("ptb.*.txt")):
        counts[f"{path.name}, sentences"] = lines(path)
        counts[f"{path.name}, words"] = len(path.read_text().split())
    return counts


def lines(path: Path) -> int:
    """Lines of a file; only a newline ends one."""
    return path.read_bytes().count(b"\n")


def vocabularies(folder: Path) -> dict[str, int]:
    """Word pieces of both sides."""
    pieces = json.loads((folder / "vocab" / "gpt2" / "vocab.json").read_text())
    return {
        "BERT, cased": lines(folder / "vocab" / "bert" / "bert-base-cased-vocab.txt"),
        "GPT-2 and three tokens": len(pieces) + ADDED_TOKENS,
    }


def networks() -> dict[str, int]:
    """Parameters of the model with both ways of injection, and of its decoder alone."""
    counts = {}
    for size, inject in ((32, "both"), (768, "both"), (32, "none")):
        sides = {"bert": BertConfig(vocab_size=28996), "gpt2": GPT2Config(vocab_size=50260)}
        with torch.device("meta"):
            model = OptimusModel(OptimusConfig(**sides, latent_dim=size, inject=inject))
        name = f"latent of {size}" if inject == "both" else "GPT-2 without a latent"
        for part, network in model.named_children():
            counts[f"parameters, {name}, {part}"] = sum(p.numel() for p in network.parameters())
    return counts


if __name__ == "__main__":
    main()
