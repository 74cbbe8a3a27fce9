"""The flags of the authors' ``main.py`` in our settings."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn, get_args

from ..data.unpaired import UnpairedConfig
from .config import (
    DiscriminatorConfig,
    GanLoss,
    GeneratorConfig,
    QuantizerConfig,
    ScheduleConfig,
    StepConfig,
)
from .options import UgatitTrain
from .presets import DATASETS

# All flags, with their defaults.
FLAGS: dict[str, str | int | float | bool] = {
    "phase": "test", "light": False, "dataset": "selfie2anime", "epoch": 101,
    "iteration": 10000, "batch_size": 1, "print_freq": 1000, "save_freq": 10,
    "decay_flag": True, "decay_epoch": 50, "lr": 0.0001, "GP_ld": 10, "adv_weight": 1,
    "cycle_weight": 10, "identity_weight": 10, "cam_weight": 1000, "gan_type": "lsgan",
    "smoothing": True, "ch": 64, "n_res": 4, "n_dis": 6, "n_critic": 1, "sn": True,
    "img_size": 256, "img_ch": 3, "augment_flag": True, "checkpoint_dir": "checkpoint",
    "result_dir": "results", "log_dir": "logs", "sample_dir": "samples", "quant": True,
    "commitment_cost": 2.0, "quantization_layer": "123", "decay": 0.85, "test_train": True,
}  # fmt: skip


def read_flags(words: Sequence[str]) -> dict[str, Any]:
    """Values of all flags, given or default; only the word "true" switches one on.

    Raises:
        ValueError: a flag or value that their parser refuses.
    """

    class Parser(argparse.ArgumentParser):
        def error(self, message: str) -> NoReturn:
            raise ValueError(f"the authors' main.py would not accept this: {message}")

    parser = Parser(add_help=False)
    for name, default in FLAGS.items():
        switch = isinstance(default, bool)
        kind = (lambda word: word.lower() == "true") if switch else type(default)
        parser.add_argument(f"--{name}", type=kind, default=default)
    return vars(parser.parse_args(list(words)))


def train_config(flags: Mapping[str, Any], notes: list[str]) -> UgatitTrain:
    """Our options for the authors' ``flags``; ``notes`` receives what differs.

    Raises:
        ValueError: a value that has no counterpart here.
    """
    if flags["gan_type"] not in get_args(GanLoss):
        known = ", ".join(get_args(GanLoss))
        raise ValueError(f"--gan_type {flags['gan_type']} is none of the authors' ({known})")
    if flags["img_ch"] != 3:
        raise ValueError(f"--img_ch {flags['img_ch']}: images are read with 3 channels")
    dataset = flags["dataset"]
    names = DATASETS.get(dataset)
    if names is None:
        first, _, second = dataset.partition("2")
        names = (first or "A", second or "B")
    notes += _notes(flags)
    return UgatitTrain(
        domain_names=names,
        sample_every=flags["print_freq"],
        data=UnpairedConfig(
            path=f"dataset/{dataset}",
            resolution=flags["img_size"],
            augment=flags["augment_flag"],
        ),
        generator=GeneratorConfig(
            channels=flags["ch"],
            num_blocks=flags["n_res"],
            light=flags["light"],
            smoothing=flags["smoothing"],
        ),
        discriminator=DiscriminatorConfig(
            channels=flags["ch"], depth=flags["n_dis"], spectral_norm=flags["sn"]
        ),
        quantizer=QuantizerConfig(
            layers=_layers(flags, notes),
            commitment_weight=flags["commitment_cost"],
            decay=flags["decay"],
        ),
        step=step_config(flags),
        schedule=ScheduleConfig(
            epochs=flags["epoch"],
            epoch_steps=flags["iteration"],
            decay=flags["decay_flag"],
            decay_epoch=flags["decay_epoch"],
        ),
    )


def step_config(flags: Mapping[str, Any]) -> StepConfig:
    """Settings of an iteration."""
    return StepConfig(
        batch_size=flags["batch_size"],
        lr=flags["lr"],
        loss=flags["gan_type"],
        adversarial_weight=float(flags["adv_weight"]),
        cycle_weight=float(flags["cycle_weight"]),
        identity_weight=float(flags["identity_weight"]),
        cam_weight=float(flags["cam_weight"]),
        penalty_weight=float(flags["GP_ld"]),
        generator_every=flags["n_critic"],
    )


def _layers(flags: Mapping[str, Any], notes: list[str]) -> tuple[int, ...]:
    """``quantization_layer`` without the digits that their networks pass over."""
    if not flags["quant"]:
        notes.append("--quant false: theirs keeps the dictionaries with weight 0, ours has none")
        return ()
    digits = dict.fromkeys(int(digit) for digit in str(flags["quantization_layer"]))
    used = tuple(digit for digit in digits if 1 <= digit <= flags["n_dis"] - 2)
    if len(used) < len(digits):
        notes.append(
            f"--quantization_layer {flags['quantization_layer']}: layers are 1 to "
            f"{flags['n_dis'] - 2}, theirs passes over the others"
        )
    return used


def _notes(flags: Mapping[str, Any]) -> list[str]:
    notes = [
        "theirs moves the generators on images of their own: --step.separate-batches does so too"
    ]
    if flags["save_freq"] != FLAGS["save_freq"]:
        notes.append("--save_freq is not used by theirs; --save-every counts iterations")
    if any(
        flags[name] != FLAGS[name]
        for name in ("checkpoint_dir", "result_dir", "log_dir", "sample_dir")
    ):
        notes.append("their four folders are one here: --run-dir")
    return notes
