"""``fqgan migrate``: a command line of the authors' code into ours."""

from __future__ import annotations

import argparse
import math
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, NoReturn, get_args

from ..biggan.config import PRESETS, BigganTrain, DiscriminatorConfig, GeneratorConfig
from ..data.datasets import LEGACY_DATASETS, DataConfig
from ..data.unpaired import UnpairedConfig
from ..runs import differences, unused_options
from ..runtime.options import why_unused
from ..scoring import ScoringOptions
from ..stylegan2 import config as stylegan2
from ..stylegan2.config import PLAIN, PRESETS as STYLEGAN2_PRESETS, Stylegan2Train, recipe
from ..ugatit import config as ugatit
from ..ugatit.config import DATASETS, PRESETS as UGATIT_PRESETS, UgatitTrain
from .biggan import config_from_flags, step_config_from_flags

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
    try:
        words = [word for argument in argv for word in shlex.split(argument)]
    except ValueError:
        line = " ".join(argv)
        raise ValueError(f"the command line has a quotation mark without its end: {line}") from None
    if not words:
        raise ValueError(
            "the command line is empty: give one such as 'python train.py --dataset C10'"
        )
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
        if Path(word).name in SCRIPTS:
            return translate_stylegan2(Path(word).name, words[number + 1 :])
    start = next((i for i, word in enumerate(words) if word.startswith("--")), len(words))
    before = words[:start]
    if any(word.endswith("main.py") for word in before):
        return translate_ugatit(words[start:])
    if before and not any(word.endswith(("train.py", "sample.py")) for word in before):
        raise ValueError(
            f"{' '.join(before)} is no script of the authors; give train.py, sample.py, main.py, "
            "run_training.py or one of the other run_*.py, with its flags"
        )
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
    return ["train", name, *_used(near[name], unused_options(config))]


def _used(words: Sequence[str], unused: Mapping[str, str]) -> Iterator[str]:
    """``words`` without the options, and their values, that a run would not use."""
    kept = True
    for word in words:
        kept = not why_unused(word, unused) if word.startswith("--") else kept
        if kept:
            yield word


def translate_stylegan2(script: str, words: Sequence[str]) -> list[Translation]:
    """Our commands for one of the scripts of the authors' StyleGAN2 code."""
    if script != "run_training.py":
        return [Translation(*command) for command in tool_commands(script, words)]
    notes: list[str] = []
    config = stylegan2_train_config(words, notes)
    presets = {
        name: (text, replace(preset, name=config.name))
        for name, (text, preset) in STYLEGAN2_PRESETS.items()
        if preset.data.source == "tfrecords"
    }
    return [Translation(nearest_preset(presets, "stylegan2-", config), notes)]


def translate_ugatit(words: Sequence[str]) -> list[Translation]:
    """Our command for the flags of FQ-U-GAT-IT's ``main.py``."""
    notes: list[str] = []
    flags = read_ugatit_flags(words)
    config = ugatit_train_config(flags, notes)
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
    for name in ("batch_size", "num_D_steps", "num_D_accumulations", "num_epochs"):
        if flags[name] < 1:
            raise ValueError(f"--{name} must be at least 1, got {flags[name]}")
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
        precision="fp16" if half else "auto",
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


# All flags, with their defaults.
UGATIT_FLAGS: dict[str, str | int | float | bool] = {
    "phase": "test", "light": False, "dataset": "selfie2anime", "epoch": 101,
    "iteration": 10000, "batch_size": 1, "print_freq": 1000, "save_freq": 10,
    "decay_flag": True, "decay_epoch": 50, "lr": 0.0001, "GP_ld": 10, "adv_weight": 1,
    "cycle_weight": 10, "identity_weight": 10, "cam_weight": 1000, "gan_type": "lsgan",
    "smoothing": True, "ch": 64, "n_res": 4, "n_dis": 6, "n_critic": 1, "sn": True,
    "img_size": 256, "img_ch": 3, "augment_flag": True, "checkpoint_dir": "checkpoint",
    "result_dir": "results", "log_dir": "logs", "sample_dir": "samples", "quant": True,
    "commitment_cost": 2.0, "quantization_layer": "123", "decay": 0.85, "test_train": True,
}  # fmt: skip


def read_ugatit_flags(words: Sequence[str]) -> dict[str, Any]:
    """Values of all flags, given or default; only the word "true" switches one on.

    Raises:
        ValueError: a flag or value that their parser refuses.
    """

    class Parser(argparse.ArgumentParser):
        def error(self, message: str) -> NoReturn:
            raise ValueError(f"the authors' main.py would not accept this: {message}")

    parser = Parser(add_help=False)
    for name, default in UGATIT_FLAGS.items():
        switch = isinstance(default, bool)
        kind = (lambda word: word.lower() == "true") if switch else type(default)
        parser.add_argument(f"--{name}", type=kind, default=default)
    return vars(parser.parse_args(list(words)))


def ugatit_train_config(flags: Mapping[str, Any], notes: list[str]) -> UgatitTrain:
    """Our options for the authors' ``flags``; ``notes`` receives what differs.

    Raises:
        ValueError: a value that has no counterpart here.
    """
    if flags["gan_type"] not in get_args(ugatit.GanLoss):
        known = ", ".join(get_args(ugatit.GanLoss))
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
        channels_last=True,  # an order of memory, which no flag of theirs sets
        domain_names=names,
        sample_every=flags["print_freq"],
        data=UnpairedConfig(
            path=f"dataset/{dataset}",
            resolution=flags["img_size"],
            augment=flags["augment_flag"],
        ),
        generator=ugatit.GeneratorConfig(
            channels=flags["ch"],
            num_blocks=flags["n_res"],
            light=flags["light"],
            smoothing=flags["smoothing"],
        ),
        discriminator=ugatit.DiscriminatorConfig(
            channels=flags["ch"], depth=flags["n_dis"], spectral_norm=flags["sn"]
        ),
        quantizer=ugatit.QuantizerConfig(
            layers=_layers(flags, notes),
            commitment_weight=flags["commitment_cost"],
            decay=flags["decay"],
        ),
        step=step_config(flags),
        schedule=ugatit.ScheduleConfig(
            epochs=flags["epoch"],
            epoch_steps=flags["iteration"],
            decay=flags["decay_flag"],
            decay_epoch=flags["decay_epoch"],
        ),
    )


def step_config(flags: Mapping[str, Any]) -> ugatit.StepConfig:
    """Settings of an iteration."""
    return ugatit.StepConfig(
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
    if flags["save_freq"] != UGATIT_FLAGS["save_freq"]:
        notes.append("--save_freq is not used by theirs; --save-every counts iterations")
    if any(
        flags[name] != UGATIT_FLAGS[name]
        for name in ("checkpoint_dir", "result_dir", "log_dir", "sample_dir")
    ):
        notes.append("their four folders are one here: --run-dir")
    return notes


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


def stylegan2_train_config(words: Sequence[str], notes: list[str]) -> Stylegan2Train:
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


def quantizer_of(flags: argparse.Namespace, notes: list[str]) -> stylegan2.QuantizerConfig:
    """Feature quantization; digits may stand alone (45) or between commas (4,5,10)."""
    if flags.D_type != 1:
        return PLAIN
    if flags.config[:8] in {"config-a", "config-b", "config-c", "config-d"}:
        notes.append(f"{flags.config} has no feature quantization; the authors leave it out, too")
        return PLAIN
    separated = flags.discrete_layer.split(",") if "," in flags.discrete_layer else None
    layers = tuple(int(digit) for digit in separated or flags.discrete_layer)
    return stylegan2.QuantizerConfig(
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
