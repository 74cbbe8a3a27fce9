"""The flags of the authors' StyleGAN2 scripts in our options."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from ..data.datasets import DataConfig
from ..scoring import ScoringOptions
from .config import QuantizerConfig
from .options import Stylegan2Train
from .presets import PLAIN, recipe

# Words after `fqgan`, and what has no counterpart or is done differently now.
Command = tuple[list[str], list[str]]
RESOLUTIONS = {"ffhq": 1024, "car": 512, "cat": 256, "church": 256, "horse": 256}
SCRIPTS = ("run_training.py", "run_metrics.py", "run_generator.py", "run_projector.py")


def read_switch(word: str) -> bool:
    """``true`` and ``false`` in the spellings of the authors' parser."""
    if word.lower() in {"yes", "true", "t", "y", "1"}:
        return True
    if word.lower() in {"no", "false", "f", "n", "0"}:
        return False
    raise argparse.ArgumentTypeError(f"true or false expected, got {word}")


def parser_of(script: str) -> argparse.ArgumentParser:
    """The authors' parser of ``run_training.py`` and so on, with their defaults.

    Raises:
        ValueError: at parsing, what their parser would refuse.
    """

    class Parser(argparse.ArgumentParser):
        def error(self, message: str) -> NoReturn:
            raise ValueError(f"the authors' scripts would not accept this: {message}")

    parser = Parser(add_help=False)
    switch: Any = {"type": read_switch, "nargs": "?", "const": True}
    if script == "run_training.py":
        for name in ("--data-dir", "--dataset", "--config"):
            parser.add_argument(name, required=True)
        parser.add_argument("--num-gpus", type=int, default=1)
        parser.add_argument("--total-kimg", type=int, default=25_000)
        parser.add_argument("--gamma", type=float)
        parser.add_argument("--mirror-augment", default=False, **switch)
        parser.add_argument("--metrics", default="fid50k")
        parser.add_argument("--discrete_layer", default="45")
        parser.add_argument("--commitment_cost", type=float, default=0.25)
        parser.add_argument("--decay", type=float, default=0.8)
        parser.add_argument("--D_type", type=int, default=1)
    elif script == "run_metrics.py":
        parser.add_argument("--network", required=True)
        for name in ("--metrics", "--dataset"):
            parser.add_argument(name, required=name == "--metrics", default="")
        parser.add_argument("--data-dir", default="")
        parser.add_argument("--mirror-augment", default=False, **switch)
        parser.add_argument("--num-gpus", type=int, default=1)
    else:
        verbs = parser.add_subparsers(dest="verb", required=True, parser_class=Parser)
        add_verbs(script, lambda name: verbs.add_parser(name, add_help=False))
    if script in {"run_training.py", "run_metrics.py"}:
        parser.add_argument("--result-dir", default="results")
    return parser


def add_verbs(script: str, add: Callable[[str], argparse.ArgumentParser]) -> None:
    """The verbs of ``run_generator.py`` and ``run_projector.py``."""
    generator = script == "run_generator.py"
    names = (
        ("generate-images", "style-mixing-example")
        if generator
        else ("project-generated-images", "project-real-images")
    )
    for name in names:
        verb = add(name)
        verb.add_argument("--network", required=True)
        verb.add_argument("--result-dir", default="results")
        if name in {"generate-images", "project-generated-images"}:
            verb.add_argument("--seeds", required=generator, default="66,230,389,1518")
        if name == "style-mixing-example":
            verb.add_argument("--row-seeds", required=True)
            verb.add_argument("--col-seeds", required=True)
            verb.add_argument("--col-styles", default="0-6")
        if name != "project-real-images":
            psi = 0.5 if generator else 1.0
            verb.add_argument("--truncation-psi", type=float, default=psi)
        if not generator:
            verb.add_argument("--num-snapshots", type=int, default=5)
        if name == "project-real-images":
            verb.add_argument("--data-dir", required=True)
            verb.add_argument("--dataset", required=True)
            verb.add_argument("--num-images", type=int, default=3)


def train_config(words: Sequence[str], notes: list[str]) -> Stylegan2Train:
    """Our options for the flags of ``run_training.py``; ``notes`` receives what differs."""
    flags = parser_of("run_training.py").parse_args(list(words))
    data = data_of(flags, notes)
    quantizer = quantizer_of(flags, notes)
    config = recipe(flags.config, data.resolution, quantizer)
    if flags.gamma is not None:
        config = replace(config, step=replace(config.step, r1_weight=flags.gamma))
    metrics = [name for name in flags.metrics.split(",") if name and name != "none"]
    if set(metrics) - {"fid50k"}:
        notes.append(
            f"--metrics {flags.metrics}: a run scores FID, KID, precision and recall; for the rest "
            "use fqgan evaluate --metrics"
        )
    if flags.num_gpus > 1:
        notes.append(f"start it with torchrun --nproc-per-node {flags.num_gpus} -m fqgan train ...")
    return replace(
        config,
        run_dir=flags.result_dir if flags.result_dir != "results" else "",
        evaluate_kimg=config.evaluate_kimg if metrics else 0.0,
        data=data,
        schedule=replace(config.schedule, total_kimg=float(flags.total_kimg)),
    )


def quantizer_of(flags: argparse.Namespace, notes: list[str]) -> QuantizerConfig:
    """Feature quantization; digits may stand alone (45) or between commas (4,5,10)."""
    if flags.D_type != 1:
        return PLAIN
    if flags.config[:8] in {"config-a", "config-b", "config-c", "config-d"}:
        notes.append(f"{flags.config} has no feature quantization; the authors leave it out, too")
        return PLAIN
    separated = flags.discrete_layer.split(",") if "," in flags.discrete_layer else None
    layers = tuple(int(digit) for digit in separated or flags.discrete_layer)
    return QuantizerConfig(
        layers=layers, commitment_weight=flags.commitment_cost, decay=flags.decay
    )


def data_of(flags: argparse.Namespace, notes: list[str]) -> DataConfig:
    """The data set: a folder of TFRecords, whose name may end with the resolution."""
    number = re.search(r"\d+$", flags.dataset)
    found = int(number.group()) if number else 0
    resolution = found if found >= 8 and math.log2(found).is_integer() else 0
    if not resolution:
        resolution = RESOLUTIONS.get(flags.dataset, 1024)
        notes.append(
            f"{flags.dataset} is taken to have {resolution} pixels; else give --data.resolution"
        )
    path = str(Path(flags.data_dir) / flags.dataset)
    mirror = getattr(flags, "mirror_augment", False)
    return DataConfig("tfrecords", path, resolution=resolution, augment=mirror)


def tool_commands(script: str, words: Sequence[str]) -> list[Command]:
    """Ours for ``run_generator.py``, ``run_projector.py`` and ``run_metrics.py``."""
    flags = parser_of(script).parse_args(list(words))
    convert, source = network_of(flags.network)
    out = ["--out", flags.result_dir] if flags.result_dir != "results" else []
    notes: list[str] = []
    if script == "run_metrics.py":
        return [*convert, (["evaluate", *source, *metrics_of(flags, notes)], notes)]
    psi = [] if flags.verb == "project-real-images" else ["--truncation", str(flags.truncation_psi)]
    if flags.verb == "generate-images":
        return [*convert, (["sample", *source, "--seeds", flags.seeds, *psi, *out], notes)]
    if flags.verb == "style-mixing-example":
        options = ["--rows", flags.row_seeds, "--columns", flags.col_seeds]
        options += ["--mixing-layers", flags.col_styles]
        return [*convert, (["sample", *source, *options, *psi, *out], notes)]
    notes.append(
        "LPIPS needs --feature-weights and --lpips-heads (docs/data.md), or take --features random"
    )
    if flags.verb == "project-generated-images":
        options = ["--seeds", flags.seeds, *psi]
    else:
        options = ["--num-images", str(flags.num_images), *options_of(data_of(flags, notes))]
    options += ["--num-snapshots", str(flags.num_snapshots), *out]
    return [*convert, (["project", *source, *options], notes)]


def metrics_of(flags: argparse.Namespace, notes: list[str]) -> list[str]:
    """The options of ``run_metrics.py``."""
    metrics = flags.metrics.split(",")
    options = ["--metrics", *metrics]
    if any(name.startswith("ppl") or name == "pr50k3" for name in metrics):
        notes.append("path lengths and pr50k3 need --vgg-weights and --lpips-heads (docs/data.md)")
    if "ls" in metrics:
        notes.append("ls needs --classifiers, the folder with the attribute classifiers")
    if flags.num_gpus > 1:
        notes.append(f"start it with torchrun --nproc-per-node {flags.num_gpus} -m fqgan evaluate")
    if flags.mirror_augment:
        notes.append("--mirror-augment: real images are scored as they are")
    if flags.dataset:
        options += options_of(data_of(flags, notes))
        options += ["--scoring.real-images", str(ScoringOptions.num_images)]
    return options


def options_of(data: DataConfig) -> list[str]:
    """The data set as words."""
    return [
        *("--data.source", data.source, "--data.path", data.path),
        *("--data.resolution", str(data.resolution)),
    ]


def network_of(network: str) -> tuple[list[Command], list[str]]:
    """The command that converts a pickle, and the words that name what it writes."""
    if not network.endswith(".pkl"):
        return [], ["--weights", network]
    folder = str(Path("converted") / Path(network).stem)
    return [(["convert", "stylegan2", network, folder], [])], ["--weights", folder]
