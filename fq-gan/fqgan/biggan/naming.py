"""Names of experiments: the authors' scheme, and a digest that tells apart what it leaves out."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math

from ..data.datasets import DataConfig, data_name
from .options import BigganTrain

# What does not change the result, or only how far the run goes, is no part of the digest.
OUTSIDE_DIGEST = {
    "run_dir", "naming", "name_suffix", "max_steps", "device", "log_every", "save_every",
    "evaluate_every", "sample_every", "spectra_every", "keep", "keep_best", "scoring",
}  # fmt: skip


def experiment_name(config: BigganTrain) -> str:
    """The name that ``config.naming`` asks for."""
    if config.naming == "authors":
        return authors_name(config)
    if config.naming == "hashed":
        return digest_of(config)
    return f"{authors_name(config)}_{digest_of(config)}"


def digest_of(config: BigganTrain) -> str:
    """Eight hexadecimal digits of the options that matter, the same in every process."""
    plain = dataclasses.asdict(config)
    plain["data"].pop("workers")
    kept = {name: value for name, value in plain.items() if name not in OUTSIDE_DIGEST}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:8]


def authors_name(config: BigganTrain) -> str:
    """The authors' name. Options that it leaves out, such as learning rates, can collide."""
    step, quantizer = config.step, config.quantizer
    generator, discriminator = config.generator, config.discriminator
    exponent = round(math.log2(quantizer.codebook_size))
    parts = [
        "BigGAN",
        authors_dataset(config.data),
        "BigGANdeep" if config.architecture == "biggan-deep" else "",
        f"seed{config.seed}",
        f"Gch{generator.channels}",
        f"Dch{discriminator.channels}",
        f"bs{step.batch_size}",
        f"nDa{step.num_d_accumulations}" if step.num_d_accumulations > 1 else "",
        f"nGa{step.num_g_accumulations}" if step.num_g_accumulations > 1 else "",
        "Gattn" + "_".join(map(str, generator.attention)) if generator.attention else "",
        "Dattn" + "_".join(map(str, discriminator.attention)) if discriminator.attention else "",
    ]
    if quantizer.layers:
        parts += [
            f"Commit{quantizer.commitment_weight:3.2f}" if quantizer.commitment_weight else "",
            "Layer" + "".join(map(str, quantizer.layers)),
            f"Dicsz{exponent}",
            f"Dicdecay{quantizer.decay:3.2f}" if quantizer.decay else "",
        ]
    return "_".join(part for part in [*parts, config.name_suffix] if part)


def authors_dataset(data: DataConfig) -> str:
    """The authors' name of a data set, such as C10 or I64_hdf5."""
    if data.source in {"cifar10", "cifar100"}:
        return {"cifar10": "C10", "cifar100": "C100"}[data.source]
    stem = data_name(data)
    if stem.startswith("ILSVRC"):
        return f"I{data.resolution}_hdf5"
    if stem.endswith("Ext"):
        return f"I{data.resolution}ext" + ("_hdf5" if data.source == "hdf5" else "")
    return f"I{data.resolution}" if stem == "ImageNet" else f"{stem}{data.resolution}"
