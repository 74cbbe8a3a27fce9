"""``optimus migrate``: the command line of an authors' script, turned into ours."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..runtime.options import HELP

USAGE = """usage: optimus migrate [python] [SCRIPT.py] --OPTION VALUE ...

Prints the commands of this program that do what a command line of the authors' does, and a remark
for each option that has no counterpart. Nothing is run.

  optimus migrate run_lm_vae_training.py --dataset Penn --beta 0.5 --dim_target_kl 0.25

Scripts: run_lm_vae_training, run_lm_vae_pretraining, run_latent_generation,
run_encoding_generation, run_generation_from_prior, run_gpt2_generation, run_lm_gpt2,
run_lm_finetuning; without a script the first. docs/migrating.md lists the options."""

# option -> our option; the value is carried over
TRAIN_VALUES = {
    "output_dir": "--run-dir",
    "latent_size": "--model.latent-dim",
    "beta": "--objective.beta",
    "dim_target_kl": "--objective.free-bits",
    "ratio_zero": "--objective.ratio-zero",
    "ratio_increase": "--objective.ratio-increase",
    "learning_rate": "--optimizer.lr",
    "weight_decay": "--optimizer.weight-decay",
    "warmup_steps": "--optimizer.warmup-steps",
    "gradient_accumulation_steps": "--optimizer.accumulate",
    "num_train_epochs": "--epochs",
    "max_steps": "--max-steps",
    "logging_steps": "--log-every",
    "save_steps": "--save-every",
    "seed": "--seed",
}
TRAIN_FLAGS = {
    "length_weighted_loss": "--objective.length-weighted",
    "use_deterministic_connect": "--objective.kind deterministic-connect",
    "no_cuda": "--device cpu",
}
GENERATE_VALUES = {
    "temperature": "--decoding.temperature",
    "top_k": "--decoding.top-k",
    "num_interpolation_steps": "--steps",
    "degree_to_target": "--degree",
    "num_sents": "--count",
    "per_gpu_eval_batch_size": "--batch-size",
    "seed": "--seed",
}
PYTHON = ("python", "python3")
MODES = {"reconstrction": "reconstruct", "interpolation": "interpolate", "analogy": "analogy"}
MODE_OPTIONS = {
    "num_interpolation_steps": "interpolate",
    "degree_to_target": "analogy",
    "num_sents": "sample",
}
PRESETS = {"penn": "lm-penn-0.50", "yelp": "lm-yelp-0.50", "yahoo": "lm-yahoo-0.50"}
WITHOUT_EFFECT = {"num_train_epochs": "max_steps", "dim_target_kl": "use_deterministic_connect"}
"""What does not count beside another option."""
INJECT = {("1", "1"): "both", ("1", "0"): "memory", ("0", "1"): "embedding"}
# understood and without effect here, because it is the default, fixed, or found by itself
SILENT = {
    "do_train",
    "encoder_model_type",
    "decoder_model_type",
    "encoder_tokenizer_name",
    "decoder_tokenizer_name",
    "encoder_config_name",
    "decoder_config_name",
    "fb_mode",
    "max_seq_length",
    "local_rank",
    "overwrite_output_dir",
    "overwrite_cache",
    "use_philly",
    "use_pretrained_model",
    "use_beta_schedule",
    "ExpName",
    "eval_data_file",
    "evaluate_during_training",
    "interact_with_user_input",
    "eval_all_checkpoints",
    "fp16_opt_level",
    "gloabl_step_eval",
    "global_step_eval",
    "dataset",
    "play_mode",
    "nz",
    "do_eval",
}


@dataclass
class Migration:
    """Our command lines and what was left out of them, with the reason."""

    commands: list[list[str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def text(self) -> str:
        """Comment lines and commands, fit for a shell."""
        notes = [f"# {note}" for note in self.notes]
        return "\n".join([*notes, *(shlex.join(words) for words in self.commands)])


def main(argv: Sequence[str]) -> None:
    """Run ``optimus migrate run_lm_vae_training.py --dataset Penn ...`` and print our command."""
    if not argv or set(argv) & set(HELP):
        print(USAGE)
        return
    try:
        words = [word for argument in argv for word in _words_of(argument)]
    except ValueError:
        line = " ".join(argv)
        raise ValueError(f"the command line has a quotation mark without its end: {line}") from None
    print(migrate(words).text())


def _words_of(argument: str) -> list[str]:
    """The words of a whole command line that was given in quotes; a value stays as it is."""
    first, *more = argument.split() or [""]
    script = more[0] if more and first in PYTHON else first
    whole = more and (first.startswith("--") or script.endswith(".py"))
    return shlex.split(argument) if whole else [argument]


def migrate(words: Sequence[str]) -> Migration:
    """Translate the words of an authors' command line, ``python SCRIPT`` in front or not.

    Raises:
        ValueError: the script has no counterpart, or a word is not an option.
    """
    words = [*words[1:]] if words and words[0] in PYTHON else [*words]
    if not any(map(str.strip, words)):
        raise ValueError("the command line is empty: give one such as 'run_lm_vae_training.py ...'")
    script = Path(words[0]).stem if words and words[0].endswith(".py") else ""
    options = _read_options(words[1:] if script else words)
    if script.startswith(("run_latent_generation", "run_encoding_generation")):
        mode = MODES.get(options.get("play_mode", ""), "interpolate")
        return _migrate_generation(mode, options)
    if script.startswith(("run_generation_from_prior", "run_gpt2_generation")):
        return _migrate_generation("sample", options)
    if script.startswith("run_lm_vae_pretraining"):
        return _migrate_training("pretrain-wikipedia-32", options)
    if script.startswith(("run_lm_gpt2", "run_lm_finetuning")):
        return _migrate_training("gpt2-penn", options)
    if script.startswith("run_lm_vae_training") or not script:
        dataset = options.get("dataset", "").lower()
        return _migrate_training(PRESETS.get(dataset, "lm-snli-0.50"), options)
    raise ValueError(
        f"{script}.py has no counterpart here; docs/migrating.md lists those that have"
    )


def _migrate_training(preset: str, options: dict[str, str]) -> Migration:
    result = Migration()
    words = ["optimus", "train", preset]
    name = "gradient_accumulation_steps"
    accumulate = _whole(options.get(name, "1"), name)
    if options.get("max_steps", "-1").startswith("-"):
        options.pop("max_steps", None)
    for name, used in WITHOUT_EFFECT.items():
        if used in options and options.pop(name, None) is not None:
            result.notes.append(f"--{name} does not count beside --{used}")
    for name, ours in TRAIN_VALUES.items():
        if name in options:
            words += [ours, _value(options.pop(name), name)]
    for name, ours in TRAIN_FLAGS.items():
        if options.pop(name, None) is not None:
            words += ours.split()
    words += _data_words(options, result, accumulate) + _weight_words(options, result)
    memory = options.pop("latent_as_gpt_memory", "1")
    embedding = options.pop("latent_as_gpt_emb", "1")
    if (memory, embedding) in INJECT and not preset.startswith("gpt2"):
        words += ["--model.inject", INJECT[memory, embedding]]
    if options.pop("mlm", None) is not None:
        words += ["--objective.mask-probability", options.pop("mlm_probability", "0.15")]
    if options.pop("fp16", None) is not None:
        words += ["--precision", "fp16"]
        result.notes.append("--fp16: native mixed precision; apex is --precision apex-O1")
    if options.pop("use_random_weight", None) is not None:
        words += ["--model.init"]
    if "do_eval_rec" in options or "do_eval" in options:
        study = ["--reconstruction-study"] if options.pop("do_eval_rec", None) is not None else []
        run_dir = words[words.index("--run-dir") + 1] if "--run-dir" in words else "runs/train"
        result.commands.append(["optimus", "evaluate", "--run-dir", run_dir, *study])
    result.commands.insert(0, words)
    _note_rest(options, result)
    return result


def _data_words(options: dict[str, str], result: Migration, accumulate: int) -> list[str]:
    words = []
    if "train_data_file" in options:
        path = Path(options.pop("train_data_file"))
        folder = path.parent if path.suffix else path
        words += ["--data.folder", str(folder)]
        if path.suffix and path.name != "train.txt":
            result.notes.append(f"{folder} must hold train.txt, valid.txt and test.txt")
    block_size = _whole(options.pop("block_size", "-1"), "block_size")
    words += ["--data.block-size", str(min(block_size, 510) if block_size > 0 else 510)]
    if options.get("dataset", "").lower() == "yelp":
        words += ["--data.format", "label-text"]
    if "per_gpu_train_batch_size" in options:
        batch = _whole(options.pop("per_gpu_train_batch_size"), "per_gpu_train_batch_size")
        words += ["--data.batch-size", str(batch * accumulate)]
        result.notes.append(
            "--data.batch-size is for all GPUs together: multiply it by their number"
        )
    return words


def _weight_words(options: dict[str, str], result: Migration) -> list[str]:
    encoder = options.pop("encoder_model_name_or_path", None)
    decoder = options.pop("decoder_model_name_or_path", None)
    checkpoint = options.pop("checkpoint_dir", None)
    if checkpoint:
        return ["--model.init", checkpoint]
    if encoder and decoder:
        result.notes.append("--model.init takes local folders, nothing is fetched by name")
        return ["--model.init", encoder, decoder]
    return []


def _migrate_generation(mode: str, options: dict[str, str]) -> Migration:
    result = Migration()
    words = ["optimus", "generate", mode]
    checkpoint = options.pop("checkpoint_dir", None) or options.pop("output_dir", None)
    if checkpoint:
        words += ["--model", checkpoint]
        result.notes.append(f"first: optimus convert {checkpoint} into a folder of ours")
    for name, ours in GENERATE_VALUES.items():
        value = options.pop(name, None)
        if value is not None and MODE_OPTIONS.get(name, mode) == mode:
            words += [ours, value]
    if (top_p := options.pop("top_p", None)) is not None:  # there 0 is off, as 1 is
        off = re.fullmatch(r"0*\.?0*", top_p) is not None
        words += ["--decoding.top-p", "1.0" if off else top_p]
    words += ["--decoding.strategy", "sample"]
    if options.pop("no_cuda", None) is not None:
        words += ["--device", "cpu"]
    source, target = options.pop("sent_source", None), options.pop("sent_target", None)
    given = options.pop("sent_input", None)
    if mode == "interpolate" and source and target:
        words += ["--points", "interactive", "--texts", source, target]
    elif mode == "analogy" and source and target and given:
        words += ["--source", source, "--target", target, "--texts", given]
    elif "train_data_file" in options and mode == "reconstruct":
        words += ["--file", options.pop("train_data_file")]
        words += ["--limit", options.pop("total_sents", "10")]
    result.commands.append(words)
    _note_rest(options, result)
    return result


def _note_rest(options: dict[str, str], result: Migration) -> None:
    for name in options:
        if name not in SILENT:
            result.notes.append(f"--{name} has no counterpart; see docs/migrating.md")


def _value(value: str, name: str) -> str:
    if not value:
        raise ValueError(f"--{name} lacks its value")
    return value


def _whole(value: str, name: str) -> int:
    if not re.fullmatch(r"-?\d+", value):
        raise ValueError(f"--{name} takes a whole number, got {value!r}")
    return int(value)


def _read_options(words: Sequence[str]) -> dict[str, str]:
    """``--name value``, ``--name=value`` and ``--flag`` as a dictionary; flags are empty."""
    options: dict[str, str] = {}
    name = ""
    for word in words:
        if word.startswith("--"):
            name, _, value = word[2:].partition("=")
            options[name] = value
        elif name and not options[name]:
            options[name] = word
        else:
            raise ValueError(f"{word!r} follows no option; quote values that hold spaces")
    return options
