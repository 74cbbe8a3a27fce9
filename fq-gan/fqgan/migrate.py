"""``fqgan migrate``: a command line of the authors' code into ours."""

from __future__ import annotations

import argparse
import dataclasses
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, NoReturn

from .biggan.config import DiscriminatorConfig, GeneratorConfig
from .biggan.flags import config_from_flags, step_config_from_flags
from .biggan.options import BigganTrain
from .biggan.presets import PRESETS
from .data.datasets import LEGACY_DATASETS, DataConfig
from .scoring import ScoringOptions
from .stylegan2 import flags as stylegan2_flags
from .stylegan2.presets import PRESETS as STYLEGAN2_PRESETS
from .ugatit import flags as ugatit_flags
from .ugatit.presets import PRESETS as UGATIT_PRESETS

# Flags of the authors' train and sample scripts, with their defaults. A flag whose default is
# False or True takes no value.
FLAGS: dict[str, str | int | float | bool] = {
    "dataset": "I128_hdf5", "augment": False, "num_workers": 8, "pin_memory": True,
    "shuffle": False, "load_in_mem": False, "use_multiepoch_sampler": False,
    "dict_decay": 0.8, "commitment": 0.5, "discrete_layer": "2", "dict_size": 10,
    "model": "BigGAN", "G_param": "SN", "D_param": "SN", "G_ch": 64, "D_ch": 64,
    "G_depth": 1, "D_depth": 1, "D_wide": True, "G_shared": False, "shared_dim": 0,
    "dim_z": 128, "z_var": 1.0, "hier": False, "cross_replica": False, "mybn": False,
    "G_nl": "relu", "D_nl": "relu", "G_attn": "64", "D_attn": "64", "norm_style": "bn",
    "seed": 0, "G_init": "ortho", "D_init": "ortho", "skip_init": False,
    "G_lr": 5e-5, "D_lr": 2e-4, "G_B1": 0.0, "D_B1": 0.0, "G_B2": 0.999, "D_B2": 0.999,
    "batch_size": 64, "G_batch_size": 0, "num_G_accumulations": 1, "num_D_steps": 2,
    "num_D_accumulations": 1, "split_D": False, "num_epochs": 100, "parallel": False,
    "G_fp16": False, "D_fp16": False, "D_mixed_precision": False, "G_mixed_precision": False,
    "accumulate_stats": False, "num_standing_accumulations": 16, "G_eval_mode": False,
    "save_every": 2000, "num_save_copies": 2, "num_best_copies": 2, "which_best": "FID",
    "no_fid": False, "test_every": 5000, "num_inception_images": 50000, "hashname": False,
    "base_root": "", "data_root": "data", "weights_root": "weights", "logs_root": "logs",
    "samples_root": "samples", "pbar": "mine", "name_suffix": "", "experiment_name": "",
    "config_from_name": False, "ema": False, "ema_decay": 0.9999, "use_ema": False,
    "ema_start": 0, "adam_eps": 1e-8, "BN_eps": 1e-5, "SN_eps": 1e-8, "num_G_SVs": 1,
    "num_D_SVs": 1, "num_G_SV_itrs": 1, "num_D_SV_itrs": 1, "G_ortho": 0.0, "D_ortho": 0.0,
    "toggle_grads": True, "which_train_fn": "GAN", "load_weights": "", "resume": False,
    "logstyle": "%3.3e", "log_G_spectra": False, "log_D_spectra": False, "sv_log_interval": 10,
    "sample_npz": False, "sample_num_npz": 50000, "sample_sheets": False,
    "sample_interps": False, "sample_sheet_folder_num": -1, "sample_random": False,
    "sample_trunc_curves": "", "sample_inception_metrics": False,
}  # fmt: skip
SWITCHED_OFF_BY = {"pin_memory": "no_pin_memory", "D_wide": "D_thin"}

BEST: dict[str, Literal["fid", "inception_score"]] = {"FID": "fid", "IS": "inception_score"}
NUM_IMAGES = {"C10": 50_000, "C100": 50_000, "I": 1_281_167}


class Translation(NamedTuple):
    command: list[str]  # words after `fqgan`
    notes: list[str]  # what has no counterpart or is now done differently


def main(argv: Sequence[str]) -> None:
    """Run ``fqgan migrate 'python train.py --dataset C10 ...'``; prints our command line."""
    if not argv or argv[0] in {"-h", "--help"}:
        print("usage: fqgan migrate 'python train.py --dataset C10 ...'")
        print("       (or sample.py, main.py, run_training.py and the other run_*.py)")
        return
    words = [word for argument in argv for word in shlex.split(argument)]
    for command, notes in translate(words):
        print("\n".join(f"# {note}" for note in notes))
        print(shlex.join(["fqgan", *command]))


def translate(words: Sequence[str]) -> list[Translation]:
    """Our commands for the ``words`` of one command of the authors.

    Args:
        words: flags, after an optional ``python train.py`` or ``python sample.py`` (FQ-BigGAN), or
            after ``python main.py`` (FQ-U-GAT-IT) or ``python run_training.py`` (FQ-StyleGAN).

    Raises:
        ValueError: a flag or value that the authors' scripts do not have, or that we do not.
    """
    words = [word for word in words if word == "" or word.strip()]  # continued lines
    for number, word in enumerate(words):
        if Path(word).name in stylegan2_flags.SCRIPTS:
            return translate_stylegan2(Path(word).name, words[number + 1 :])
    start = next((i for i, word in enumerate(words) if word.startswith("--")), len(words))
    before = words[:start]
    if any(word.endswith("main.py") for word in before):
        return translate_ugatit(words[start:])
    flags = read_flags(words[start:])
    notes: list[str] = []
    config = train_config(flags, notes)
    if any(word.endswith("sample.py") for word in before):
        return sample_commands(flags, config)
    return [Translation(nearest_preset(PRESETS, "biggan-", config), notes)]


def nearest_preset(presets: Mapping[str, tuple[str, Any]], start: str, config: Any) -> list[str]:
    """``train``, the preset named ``start...`` that is nearest to ``config``, and what differs."""
    near = {
        name: differences(preset, config)
        for name, (_, preset) in presets.items()
        if name.startswith(start)
    }
    name = min(near, key=lambda name: len(near[name]))
    return ["train", name, *near[name]]


def translate_stylegan2(script: str, words: Sequence[str]) -> list[Translation]:
    """Our commands for one of the scripts of the authors' StyleGAN2 code."""
    if script != "run_training.py":
        return [Translation(*command) for command in stylegan2_flags.tool_commands(script, words)]
    notes: list[str] = []
    config = stylegan2_flags.train_config(words, notes)
    presets = {
        name: (text, replace(preset, name=config.name))
        for name, (text, preset) in STYLEGAN2_PRESETS.items()
        if preset.data.source == "tfrecords"
    }
    return [Translation(nearest_preset(presets, "stylegan2-", config), notes)]


def translate_ugatit(words: Sequence[str]) -> list[Translation]:
    """Our command for the flags of FQ-U-GAT-IT's ``main.py``."""
    notes: list[str] = []
    flags = ugatit_flags.read_flags(words)
    config = ugatit_flags.train_config(flags, notes)
    if flags["phase"] == "train":
        return [Translation(nearest_preset(UGATIT_PRESETS, "ugatit-", config), notes)]
    place = f"{flags['checkpoint_dir']}{'_quant' if flags['quant'] else ''}/{config.folder.name}"
    note = f"theirs first: fqgan convert ugatit {place} runs/released"
    inputs = [f"dataset/{flags['dataset']}/test{domain}" for domain in "AB"]
    return [
        Translation(
            ["translate", "--weights", "runs/released", "--input", path, "--direction", direction],
            [note],
        )
        for path, direction in zip(inputs, ("a2b", "b2a"), strict=True)
    ]


def read_flags(words: Sequence[str]) -> dict[str, Any]:
    """Values of all flags of the authors' parser, given or default."""

    class Parser(argparse.ArgumentParser):
        def error(self, message: str) -> NoReturn:
            raise ValueError(f"the authors' scripts would not accept this: {message}")

    parser = Parser(add_help=False)
    for name, default in FLAGS.items():
        if isinstance(default, bool):
            flag = SWITCHED_OFF_BY.get(name, name)
            on = "store_false" if name in SWITCHED_OFF_BY else "store_true"
            parser.add_argument(f"--{flag}", dest=name, action=on, default=default)
        else:
            parser.add_argument(f"--{name}", type=type(default), default=default)
    return vars(parser.parse_args(list(words)))


def train_config(flags: dict[str, Any], notes: list[str]) -> BigganTrain:
    """Our options for the authors' ``flags``; ``notes`` receives what differs."""
    if flags["dataset"] not in LEGACY_DATASETS:
        known = ", ".join(LEGACY_DATASETS)
        raise ValueError(f"--dataset {flags['dataset']} is none of the authors' ({known})")
    if flags["D_param"] != "SN" or flags["which_train_fn"] != "GAN":
        raise ValueError(
            "--D_param has to be SN and --which_train_fn GAN: the authors have no others"
        )
    if flags["which_best"] not in BEST:
        raise ValueError(f"--which_best {flags['which_best']} must be FID or IS")
    if flags["G_init"] != flags["D_init"]:
        raise ValueError("--G_init and --D_init differ; here both networks have one --init")
    if flags["hier"] and not flags["G_shared"]:
        flags = {**flags, "G_shared": True, "shared_dim": flags["shared_dim"] or 128}
        notes.append("--hier needs --G_shared, which was added with 128 dimensions")
    notes += notes_on(flags)
    networks = config_from_flags(flags)
    if networks.architecture == "biggan":  # where the depth means nothing
        networks = replace(
            networks,
            generator=replace(networks.generator, depth=GeneratorConfig.depth),
            discriminator=replace(networks.discriminator, depth=DiscriminatorConfig.depth),
        )
    half = any(flags[f"{net}_{kind}"] for net in "GD" for kind in ("fp16", "mixed_precision"))
    return BigganTrain(
        run_dir=str(Path(flags["base_root"] or "runs") / flags["experiment_name"])
        if flags["experiment_name"]
        else "",
        naming="hashed" if flags["hashname"] else "described",
        name_suffix=flags["name_suffix"],
        max_steps=iterations(flags, notes),
        seed=flags["seed"],
        precision="fp16" if half else "fp32",
        architecture=networks.architecture,
        init="none" if flags["skip_init"] else networks.init,
        bn_eps=networks.bn_eps,
        sn_eps=networks.sn_eps,
        use_average=flags["ema"] and flags["use_ema"],
        sample_statistics=statistics_of(flags),
        standing_batches=flags["num_standing_accumulations"],
        save_every=flags["save_every"],
        sample_every=flags["save_every"],
        evaluate_every=flags["test_every"],
        # Their default costs a hundred lines in ten iterations; whoever set it wants it.
        spectra_every=0 if flags["sv_log_interval"] == 10 else max(0, flags["sv_log_interval"]),
        keep=flags["num_save_copies"] or 1,
        keep_best=flags["num_best_copies"] or 1,
        best_metric=BEST[flags["which_best"]],
        data=data_config(flags),
        generator=networks.generator,
        discriminator=networks.discriminator,
        quantizer=networks.quantizer,
        step=step_config_from_flags(flags),
        scoring=ScoringOptions(num_images=flags["num_inception_images"]),
    )


def data_config(flags: Mapping[str, Any]) -> DataConfig:
    """The data set, below the authors' ``data_root``."""
    data = LEGACY_DATASETS[flags["dataset"]]
    root = Path(flags["base_root"]) / flags["data_root"]
    return replace(
        data,
        path=str(root / data.path),
        augment=flags["augment"],
        in_memory=flags["load_in_mem"],
        workers=data.workers if flags["num_workers"] == 8 else max(1, flags["num_workers"]),
    )


def statistics_of(flags: Mapping[str, Any]) -> Any:
    """Which norm statistics the authors' samples have."""
    if flags["accumulate_stats"]:
        return "standing"
    return "running" if flags["G_eval_mode"] else "batch"


def iterations(flags: Mapping[str, Any], notes: list[str]) -> int:
    """``num_epochs`` in iterations; only the multi-epoch sampler uses the rests of epochs."""
    name = flags["dataset"].removesuffix("_hdf5")
    count = NUM_IMAGES.get(name if name.startswith("C") else "I")
    if count is None or name.endswith("ext"):
        notes.append("the size of this data set is not known here: set --max-steps yourself")
        return BigganTrain.max_steps
    batch = flags["batch_size"] * flags["num_D_steps"] * flags["num_D_accumulations"]
    if flags["use_multiepoch_sampler"]:
        return math.ceil(count * flags["num_epochs"] / batch)
    return max(1, count // batch * flags["num_epochs"])


def notes_on(flags: Mapping[str, Any]) -> list[str]:
    """A line for each flag that was given and is not carried over."""
    lines = {
        "resume": "--resume: running the same command again continues the run",
        "load_weights": "--load_weights: convert the files, then use --initial-weights",
        "no_fid": "--no_fid: all scores are computed; --evaluate-every 0 computes none",
        "config_from_name": "--config_from_name: a run's config.json is always read",
        "log_G_spectra": "--log_G_spectra does nothing in the authors' code either",
        "log_D_spectra": "--log_D_spectra does nothing in the authors' code either",
        "parallel": "--parallel: start with torchrun --nproc-per-node N -m fqgan train ...",
    }
    return [text for name, text in lines.items() if flags[name]]


def sample_commands(flags: Mapping[str, Any], config: BigganTrain) -> list[Translation]:
    """``fqgan sample``, and ``fqgan evaluate`` where the authors' script also scores."""
    common = ["--run-dir", str(config.folder)]
    if flags["load_weights"].startswith("best"):
        common.append("--best")
    if not config.use_average:
        common.append("--no-use-average")
    common += ["--sample-statistics", config.sample_statistics, "--seed", str(flags["seed"])]
    if flags["z_var"] != 1.0:
        common += ["--z-std", str(flags["z_var"])]
    words = ["sample", *common]
    words += ["--batch-size", str(max(flags["batch_size"], flags["G_batch_size"]))]
    words += ["--npz", str(flags["sample_num_npz"])] if flags["sample_npz"] else []
    words += ["--sheets"] if flags["sample_sheets"] else []
    words += ["--interpolations", "1"] if flags["sample_interps"] else []
    words += ["--random-sheet"] if flags["sample_random"] else []
    if flags["sample_trunc_curves"]:
        words += ["--truncation-curve", *flags["sample_trunc_curves"].split("_")]
    note = "give --run-dir the folder that the training run had"
    commands = [Translation(words, [note])]
    if flags["sample_inception_metrics"]:
        commands.append(Translation(["evaluate", *common], []))
    return commands


def differences(preset: Any, config: Any, prefix: str = "--") -> list[str]:
    """The options that turn ``preset`` into ``config``, both of one dataclass."""
    words: list[str] = []
    for field in dataclasses.fields(preset):
        before, after = getattr(preset, field.name), getattr(config, field.name)
        option = field.name.replace("_", "-")
        if dataclasses.is_dataclass(before):
            words += differences(before, after, f"{prefix}{option}.")
        elif before != after:
            if isinstance(after, bool):
                words.append(f"{prefix}{option}" if after else f"{prefix}no-{option}")
            elif isinstance(after, tuple):
                words += [f"{prefix}{option}", *map(str, after)]
            else:
                words += [f"{prefix}{option}", str(after)]
    return words
