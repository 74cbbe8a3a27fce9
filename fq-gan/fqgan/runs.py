"""Runs and folders of weights: of what kind they are, and how a command opens them."""

from __future__ import annotations

import dataclasses
import importlib
import json
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, TypeVar, cast

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from . import loop
from .loop import RunProgress, Task, Training
from .old_runs import upgrade, upgrade_progress
from .runtime.checkpoint import read_part
from .runtime.files import json_text, replace_folder, write_atomically, write_json
from .runtime.logs import ReportTo
from .runtime.options import ADDED, at_least, option, shown
from .runtime.precision import Precision
from .runtime.run_folder import (
    CONFIG,
    HEADER,
    Run,
    config_text,
    describe_unfinished,
    from_plain,
    read_header,
    read_run,
)
from .runtime.weight_files import compare_tensors, read_weight_file

logger = logging.getLogger(__name__)

KINDS = {
    "biggan": "fqgan.biggan.train:TASK",
    "ugatit": "fqgan.ugatit.train:TASK",
    "stylegan2": "fqgan.stylegan2.train:TASK",
}
"""The kinds of runs, and where the task of each is; it is imported when it is used."""
WEIGHTS = "-weights"  # behind a kind: a folder of weights for use
BESIDE = ("class_names", "domain_names", "step", "lod")
"""What stands beside the settings of the networks in the ``config.json`` of weights."""
BestMetric = Literal["fid", "inception_score"]


class NetworkSettings(Protocol):
    """A dataclass that describes networks."""

    kind: ClassVar[str]


Settings = TypeVar("Settings", bound=NetworkSettings)
Network = TypeVar("Network", bound=nn.Module)


def task_of(kind: str) -> Task:
    """How runs of ``kind`` are trained."""
    module, _, name = KINDS[kind].partition(":")
    return cast(Task, getattr(importlib.import_module(module), name))


def train(config: Any) -> Training:
    """Train a preset of any family, or continue its run; see `loop.train`."""
    return loop.train(task_of(config.kind), replace(config, run_dir=str(config.folder)))


def open_run(run_dir: str | Path, *wanted: str) -> Run:
    """The run in ``run_dir``, of one of the kinds ``wanted``, all where none is named.

    Raises:
        FileNotFoundError: there is no run.
        ValueError: it is of another kind, or a folder of weights, or cannot be read.
    """
    kind = read_header(run_dir, upgrade)["kind"]
    if kind.endswith(WEIGHTS):
        raise ValueError(
            f"--run-dir {run_dir} is a folder of weights and no run; give it as --weights, or the "
            "folder of the run, which has a folder checkpoints"
        )
    configs = {kind: task_of(kind).config} if kind in KINDS else {}
    return read_run(run_dir, configs, upgrade, wanted=wanted or tuple(KINDS))


def run_of(argv: Sequence[str], *wanted: str) -> Run | None:
    """The run that ``--run-dir`` names, whose options can then be the defaults; None without."""
    words = [part for word in argv for part in word.split("=", 1)]
    if "--run-dir" not in words[:-1]:
        return None
    return open_run(words[words.index("--run-dir") + 1], *wanted)


def kind_of(folder: str | Path) -> str:
    """The kind of a run, or of a folder of weights."""
    return str(read_header(folder, upgrade)["kind"]).removesuffix(WEIGHTS)


def is_weights(folder: str | Path) -> bool:
    """Whether ``folder`` is one of weights and no run."""
    return str(read_header(folder, upgrade)["kind"]).endswith(WEIGHTS)


class Samples(NamedTuple):
    """What a run is scored by."""

    draw: Callable[[int], Tensor]  # B -> this process's next images (B, 3, R, R) in [-1, 1]
    batch_size: int  # images to ask for at once
    number: int  # images that the run itself scores
    settings: dict[str, Any]  # what they depend on


class Source(NamedTuple):
    """The weights that a command is asked to use."""

    home: Path  # the run or the weights: where results go
    folder: Path  # of the weights
    step: int | None = None  # of a checkpoint of the run, in place of what is in ``folder``


@dataclass(frozen=True)
class TrainOptions:
    """What every family is told about a run; with the unit of progress come the intervals."""

    run_dir: str = ""
    """Folder of the run; empty: runs/ and a name made of the options."""
    seed: int = 0
    """Of weights, order, augmentation, noise and labels."""
    device: str = "auto"
    """auto, cpu or cuda."""
    precision: Precision = "auto"
    """Arithmetic of the networks. auto: bf16 on a GPU that has it, else fp32; a continued run keeps
    what it began with. The quantizer's dictionary is fp32 in all of them, and so are StyleGAN2's R1
    and path length."""
    channels_last: bool = False
    """Keep the channels of a pixel together, as tensor cores prefer; for BigGAN 8 to 20 % faster on
    a CPU too."""
    deterministic: bool = False
    """Only kernels that give the same bits every time (CUDA); slower."""
    compile: bool = dataclasses.field(default=False, metadata=ADDED)
    """Compile the blocks of BigGAN and of U-GAT-IT's generators at first use, which takes minutes:
    faster on a GPU, with other last bits."""
    initial_weights: str = ""
    """Folder of weights to fine-tune; of a run or of `fqgan convert`."""
    keep: int = 2
    """Newest checkpoints that stay."""
    patience: int = 0
    """End after so many scores in a row that were not the best; 0: never."""
    report_to: ReportTo = dataclasses.field(default="none", metadata=ADDED)
    """Send the rows of metrics.jsonl to Weights & Biases too (an extra); wandb-offline keeps them
    in RUN/wandb for `wandb sync`."""

    def __post_init__(self) -> None:
        at_least(self, keep=1, patience=0)


@dataclass(frozen=True)
class WeightOptions:
    """Whose weights a command uses; a run brings its own settings."""

    run_dir: str = ""
    """Folder of a run."""
    weights: str = ""
    """Folder of weights, from a run or from `fqgan convert`."""
    best: bool = False
    """Of a run: the weights with the best score instead of the newest."""
    step: int | None = None
    """Of a run: the checkpoint of this step (of StyleGAN2: image) instead of the newest weights."""

    def __post_init__(self) -> None:
        if self.run_dir and self.weights:
            raise ValueError("give only one of --run-dir and --weights")
        if self.best and self.step is not None:
            raise ValueError("give only one of --best and --step")
        if self.weights and (self.best or self.step is not None):
            raise ValueError("--best and --step choose among the saves of a run: give --run-dir")

    def source(self, kind: str) -> Source:
        """The weights that the options mean; a run that is unfinished is used, and said to be.

        Raises:
            FileNotFoundError: there are no such weights.
            ValueError: no run and no weights are given, or a run of another kind.
        """
        if self.weights:
            _require_folder("--weights", self.weights)
            return Source(Path(self.weights), weights_folder(self.weights))
        if not self.run_dir:
            raise ValueError("no weights are given: name a run with --run-dir, or --weights")
        if (Path(self.run_dir) / CONFIG).exists():
            open_run(self.run_dir, kind)
        folder = weights_of_run(self.run_dir, best=self.best)
        if unfinished := describe_unfinished(self.run_dir):
            logger.warning("%s", unfinished)
        return Source(Path(self.run_dir), folder, self.step)


def weights_folder(folder: str | Path) -> Path:
    """``folder``, or where it is a run the weights inside it."""
    folder = Path(folder)
    is_run = not any(folder.glob("*.safetensors")) and (folder / "model").is_dir()
    return folder / "model" if is_run else folder


def initial_folder(folder: str | Path, kind: str) -> Path:
    """The weights to fine-tune, which ``--initial-weights`` names; of a run those inside it.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: the weights are of another kind than ``kind``.
    """
    _require_folder("--initial-weights", folder)
    inside = weights_folder(folder)
    if (inside / CONFIG).exists() and (theirs := kind_of(inside)) != kind:
        raise ValueError(
            f"--initial-weights {folder} is of kind {theirs!r}, and this preset trains {kind!r}; "
            f"give weights of that kind, or a preset of {theirs}"
        )
    return inside


def _require_folder(option: str, folder: str | Path) -> None:
    if not Path(folder).is_dir():
        what = "is a file" if Path(folder).exists() else "does not exist"
        raise FileNotFoundError(
            f"{option} {shown(folder)} {what}; give a run, or a folder of weights such as "
            "RUN/model or one of `fqgan convert`"
        )


def weights_of_run(run_dir: str | Path, *, best: bool = False) -> Path:
    """The folder of weights inside a run: the newest, or the newest of the ``best``.

    Raises:
        FileNotFoundError: the run has none yet.
    """
    run_dir = Path(run_dir)
    if not best:
        if (run_dir / "model").exists():
            return run_dir / "model"
        raise FileNotFoundError(
            f"no weights were found: --run-dir {run_dir} has no model folder; train it until its "
            "first save"
        )
    folders = [path.parent for path in run_dir.glob(f"best*/{CONFIG}")]
    if not folders:
        raise FileNotFoundError(
            f"--best: {run_dir} has no best weights yet; train it until its first score "
            "(--evaluate-every)"
        )
    return max(folders, key=lambda folder: read_header(folder, upgrade)["step"])


class GanProgress(RunProgress):
    """Where a run stands, and how often its weights were the best so far."""

    step: int
    best_saved: int

    def __init__(self, best_metric: BestMetric = "fid", **numbers: float) -> None:
        super().__init__(best_saved=0, **numbers)
        self._best_metric = best_metric

    def state_dict(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_best_metric"}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(upgrade_progress(state, self._best_metric))

    def folder_of(self, name: str, keep_best: int = 1) -> str:
        """The folder of an export: ``model``, or ``best0``, ``best1``, ... in turn."""
        if name == "last":
            return "model"
        self.best_saved += 1
        return f"best{(self.best_saved - 1) % keep_best}"


def best_goal(scores: Mapping[str, float], metric: BestMetric) -> dict[str, float]:
    """The score that decides which weights are the best, as a goal: higher is better."""
    if metric not in scores:
        return {}
    return {"best": scores[metric] if metric == "inception_score" else -scores[metric]}


def write_parameter_counts(run_dir: Path, **networks: nn.Module) -> None:
    """``parameters.json``: how many numbers each network learns."""
    counts = {
        name: sum(parameter.numel() for parameter in network.parameters())
        for name, network in networks.items()
    }
    write_atomically(run_dir / "parameters.json", json_text(counts) + "\n")


def save_folder(
    folder: str | Path,
    networks: Mapping[str, nn.Module | None],
    config: NetworkSettings,
    **beside: Any,
) -> Path:
    """Write ``NAME.safetensors`` and ``config.json`` in place of an older folder, in one move.

    Args:
        folder: to be written.
        networks: by the names of their files; None is left out.
        config: a dataclass that says of what kind it is.
        beside: further plain values of ``config.json``, some of `BESIDE`.
    """
    target = Path(folder)
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for name, network in networks.items():
        if network is not None:
            state = {key: value.contiguous() for key, value in network.state_dict().items()}
            save_file(state, partial / f"{name}.safetensors")
    plain = {**json.loads(config_text(config.kind + WEIGHTS, config)), **beside}
    write_json(partial / CONFIG, plain)
    replace_folder(partial, target)
    return target


def save_weights(
    folder: str | Path,
    config: NetworkSettings,
    generator: nn.Module,
    *,
    raw: nn.Module | None = None,
    discriminator: nn.Module | None = None,
    class_names: Sequence[str] = (),
    step: int = 0,
    **beside: float,
) -> Path:
    """Write a folder of one generator, in place of an older one and in one move.

    Args:
        folder: to be written.
        config: of both networks.
        generator: to be used; where there is a moving average, that one.
        raw: the generator without the average.
        discriminator: for fine-tuning.
        class_names: in the order of the labels.
        step: iterations, or images, behind these weights.
        beside: further values of ``config.json``.
    """
    networks = {"model": generator, "raw": raw, "discriminator": discriminator}
    return save_folder(folder, networks, config, class_names=list(class_names), step=step, **beside)


def read_folder(
    folder: str | Path, settings: type[Settings], *needed: str
) -> tuple[Settings, dict[str, Any]]:
    """The settings of the networks in ``folder``, and what stands beside them.

    Args:
        folder: of the weights.
        settings: their dataclass.
        needed: names of the networks that have to be there.

    Raises:
        FileNotFoundError: one of them is missing.
        ValueError: the weights are of another kind, or an option is unknown or missing.
    """
    folder = Path(folder)
    for name in needed:
        if not (folder / f"{name}.safetensors").exists():
            others = [file.stem for file in folder.glob("*.safetensors")]
            if others and (folder / CONFIG).exists():
                _require_kind(folder, settings)
            raise FileNotFoundError(
                f"no weights were found in {folder} ({name}.safetensors is missing); give the "
                "folder of a finished save, such as RUN/model, or of `fqgan convert`"
            )
    plain = _require_kind(folder, settings)
    options = {key: value for key, value in plain.items() if key not in (*HEADER, *BESIDE)}
    beside = {key: plain[key] for key in BESIDE if key in plain}
    return from_plain(settings, options, str(folder / CONFIG)), beside


def _require_kind(folder: Path, settings: type[NetworkSettings]) -> dict[str, Any]:
    plain = read_header(folder, upgrade)
    if plain["kind"] != settings.kind + WEIGHTS:
        raise ValueError(
            f"{folder} is of kind {plain['kind']!r}; this command takes {settings.kind + WEIGHTS}"
        )
    return plain


def load_generator(
    network: Network,
    folder: Path,
    *,
    use_average: bool,
    step: int | None = None,
    device: torch.device | str = "cpu",
) -> Network:
    """``network`` with the generator's weights of ``folder``, on ``device`` and in eval mode.

    Args:
        network: freshly built.
        folder: of the weights.
        use_average: False takes G without its moving average, if it was saved.
        step: of the checkpoint of the run around ``folder`` that is taken instead.
        device: where the network goes.
    """
    raw = folder / "raw.safetensors"
    if step is None:
        use_raw = not use_average and raw.exists()
        return load_ready(network, raw if use_raw else folder / "model.safetensors", device)
    part = "average" if use_average and raw.exists() else "generator"
    network.load_state_dict(read_part(folder.parent, part, step)[0])
    return network.to(device).eval()


def load_ready(network: Network, path: Path, device: torch.device | str) -> Network:
    """``network`` with the weights of ``path``, on ``device`` and in eval mode."""
    load_into(network, path)
    return network.to(device).eval()


def load_network(
    folder: str | Path,
    settings: type[Settings],
    build: Callable[[Settings], Network],
    *,
    name: str = "discriminator",
    device: torch.device | str = "cpu",
) -> Network:
    """A discriminator with its dictionaries, in eval mode.

    Raises:
        FileNotFoundError: ``folder`` has weights for use only.
        ValueError: the weights do not fit the configuration beside them.
    """
    path = Path(folder) / f"{name}.safetensors"
    if not path.exists():
        raise FileNotFoundError(
            f"{folder} holds no discriminator, and so no dictionary; give the folder of a run"
        )
    return load_ready(build(read_folder(folder, settings)[0]), path, device)


def first_weights(folder: str | Path, *names: str) -> Path:
    """For fine-tuning: the first of the files ``names`` that ``folder`` has.

    Raises:
        FileNotFoundError: it has none of them.
    """
    for name in names:
        if (path := Path(folder) / f"{name}.safetensors").exists():
            return path
    raise FileNotFoundError(
        f"--initial-weights {folder}: there is no {names[-1]}.safetensors; give a run, or a folder "
        "of weights such as RUN/model or one of `fqgan convert`"
    )


def load_into(network: nn.Module, path: Path) -> None:
    """Load a file of weights that has to fit ``network`` in every name and shape."""
    origin = f"{path} does not fit the network its config.json describes"
    load_fitting(network, read_weight_file(path), origin, "give the folder of one whole save")


def load_first(
    network: nn.Module,
    path: Path,
    state: Mapping[str, Tensor] | None = None,
    settings: NetworkSettings | None = None,
) -> None:
    """Fine-tuning: load the file ``path``, or what became of it, ``state``, into ``network``.

    ``settings`` are those of ``network``: what differs in those of the file is named if it does not
    fit.
    """
    state = read_weight_file(path) if state is None else state
    cure = "choose the options of its config.json"
    if settings is not None:
        there, _ = read_folder(path.parent, type(settings))
        cure = f"there it was {' '.join(differences(settings, there)) or 'the same'}"
    load_fitting(network, state, f"--initial-weights {path} belongs to another network", cure)


def load_fitting(network: nn.Module, state: Mapping[str, Tensor], origin: str, cure: str) -> None:
    """Load ``state``; raise ``ValueError`` naming the first tensor that does not fit."""
    report = compare_tensors(network, state)
    wrong = [
        *report.wrong_shape,
        *(f"{name} is missing" for name in report.missing),
        *(f"{name} is there only" for name in report.unexpected),
    ]
    if wrong:
        raise ValueError(f"{origin} ({wrong[0]}); {cure}")
    network.load_state_dict(state)


def differences(preset: Any, config: Any, prefix: str = "--") -> list[str]:
    """The options that turn ``preset`` into ``config``, both of one dataclass."""
    words: list[str] = []
    for field in dataclasses.fields(preset):
        before, after = getattr(preset, field.name), getattr(config, field.name)
        name = field.name.replace("_", "-")
        if dataclasses.is_dataclass(before):
            words += differences(before, after, f"{prefix}{name}.")
        elif before != after:
            if isinstance(after, bool):
                words.append(f"{prefix}{name}" if after else f"{prefix}no-{name}")
            elif isinstance(after, tuple):
                words += [f"{prefix}{name}", *map(str, after)]
            else:
                words += [f"{prefix}{name}", str(after)]
    return words


def unused_options(config: Any) -> dict[str, str]:
    """Options that a run of ``config`` would record and not use, with the reason and the cure.

    For `parse_preset`: a preset may hold such options, and on its command line they are refused.
    """
    unused = {**config.data.unused(), **config.scoring.unused()}
    if not config.quantizer.layers:
        reason = "no layer is quantized; give --quantizer.layers, or drop it"
        others = {field.name for field in fields(config.quantizer)} - {"layers"}
        unused |= dict.fromkeys((option(name, "quantizer") for name in others), reason)
    elif config.quantizer.forward != "straight_through":
        reason = "--quantizer.forward commit_only has no warm-up; give straight_through, or drop it"
        unused["--quantizer.warmup-calls"] = reason
    every = option("evaluate_kimg" if config.kind == "stylegan2" else "evaluate_every")
    if not getattr(config, every[2:].replace("-", "_")):
        reason = f"nothing is scored; give {every}, or drop it"
        unused |= dict.fromkeys(("--patience", "--best-metric", "--keep-best"), reason)
        reason = f"{reason}, or give it to `fqgan evaluate`"
        unused |= {option(field.name, "scoring"): reason for field in fields(config.scoring)}
    if config.run_dir:
        reason = f"the folder is --run-dir {config.run_dir}; drop one of them"
        unused |= dict.fromkeys(("--naming", "--name-suffix", "--name"), reason)
    return unused | config.unused()
