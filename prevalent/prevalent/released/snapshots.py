"""Agents on disk: the authors' snapshot files (EnvDrop, PREVALENT) and our model folders.

A snapshot is one ``torch.save`` file: for each module (encoder, decoder, critic; a speaker has no
critic) the iteration, the weights and the optimizer's state. It is read without executing code.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ..data.records import read_json
from ..runtime.checkpoint import read_part
from ..runtime.files import json_text, write_atomically
from ..runtime.weight_files import compare_tensors
from .checkpoints import read_weights

logger = logging.getLogger(__name__)
Options = TypeVar("Options")
SIZES = {  # tensor -> (axis, what it tells)
    "encoder/embedding.weight": (0, "a vocabulary of {} words"),
    "encoder/bert.embeddings.word_embeddings.weight": (0, "a vocabulary of {} word pieces"),
    "decoder/lstm.weight_hh": (1, "a hidden size of {}"),
    "decoder/projection.weight": (0, "a vocabulary of {} words"),
    "decoder/lstm.weight_hh_l0": (1, "a hidden size of {}"),
    "decoder/feat_att_layer.linear_in.weight": (0, "views of {} numbers"),
    "encoder/encoder2decoder.weight": (0, "a hidden size of {}"),
    "encoder/encoder_lstm2decoder_ht.weight": (0, "a hidden size of {}"),
    "encoder/bert.pooler.dense.weight": (0, "a transformer of width {}"),
    "encoder/post_lstm.weight_hh_l0": (1, "a hidden size of {} in each direction"),
    "encoder/lstm.weight_hh_l0": (1, "an encoder LSTM of width {}"),
}
CURES = {
    "vocabulary": "give the vocabulary that it was trained with",
    "hidden": "give the same --model.hidden-size (a speaker: --speaker.hidden-size)",
    "views": "give features and --model.angle-size of the same widths",
    "transformer": "give the pre-trained model that it was trained with",
    "encoder LSTM": "give the same --model.encoder-size",
}


class SnapshotPart(NamedTuple):
    epoch: int  # iterations done + 1
    state: dict[str, Tensor]
    optimizer: dict[str, Any]


def read_snapshot(path: str | Path) -> dict[str, SnapshotPart]:
    """Parts of a snapshot by module name.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds code, is damaged, or is something else than a snapshot.
    """
    parts = {}
    for name, part in read_weights(path).items():
        if not isinstance(part, Mapping) or not {"epoch", "state_dict"} <= part.keys():
            raise ValueError(
                f"{path} is no agent snapshot: {name!r} lacks an epoch and a state_dict; give a "
                "file that EnvDrop or PREVALENT saved (snap/NAME/state_dict/...)"
            )
        if not isinstance(part["state_dict"], Mapping) or not isinstance(part["epoch"], int):
            raise ValueError(f"{path} is damaged: the state_dict of {name!r} is no list of tensors")
        state = {str(k).removeprefix("module."): v for k, v in part["state_dict"].items()}
        parts[name] = SnapshotPart(int(part["epoch"]), state, dict(part.get("optimizer", {})))
    return parts


def load_snapshot(
    path: str | Path,
    modules: Mapping[str, nn.Module],
    optimizers: Mapping[str, torch.optim.Optimizer] | None = None,
) -> int:
    """Load a snapshot into ``modules`` and, where given, its optimizer states.

    Args:
        path: the file.
        modules: by name; each must be in the file and fit in every tensor.
        optimizers: by module name, as constructed over ``module.parameters()``.

    Returns:
        Iterations that the agent has been trained for.

    Raises:
        ValueError: a module is missing or does not fit; one sentence names what differs.
    """
    parts = read_snapshot(path)
    for name, module in modules.items():
        if name not in parts:
            raise ValueError(
                f"{path} has no {name}, it holds {', '.join(parts)}; a speaker's snapshot cannot "
                "start a follower and the other way round"
            )
        check_fit(name, module, parts[name].state, path)
    for name, module in modules.items():
        module.load_state_dict(parts[name].state)
        if optimizers is not None:
            _load_optimizer(optimizers[name], module, parts[name], path)
    return max(part.epoch for part in parts.values()) - 1


def check_fit(
    name: str, module: nn.Module, state: Mapping[str, Tensor], origin: str | Path
) -> None:
    """Raise ``ValueError``, in words, unless ``state`` fits ``module`` in every tensor."""
    report = compare_tensors(module, state)
    if report.complete:
        count = len(report.matched)
        logger.info(
            "%s: all %d tensors of its %s fit, 0 missing, 0 unexpected", origin, count, name
        )
        return
    if report.missing or report.unexpected:
        extra = [f"lacks {one}" for one in report.missing[:1]]
        extra += [f"has {one}" for one in report.unexpected[:1]]
        raise ValueError(
            f"{origin} does not fit: its {name} {' and '.join(extra)}, which belongs to another "
            "kind of agent; give the --model.encoder and pre-trained model it was trained with"
        )
    ours = module.state_dict()
    for key, (axis, words) in SIZES.items():
        tensor = key.partition("/")[2]
        if key.startswith(f"{name}/") and tensor in ours and tensor in state:
            wanted, found = ours[tensor].shape[axis], state[tensor].shape[axis]
            if wanted != found:
                cure = next(cure for word, cure in CURES.items() if word in words)
                raise ValueError(
                    f"{origin} does not fit: its {name} has {words.format(found)}, this agent's "
                    f"has {wanted}; {cure}"
                )
    raise ValueError(
        f"{origin} does not fit: its {name} has {report.wrong_shape[0]}; give the "
        "--model.* options that it was trained with"
    )


def _load_optimizer(
    optimizer: torch.optim.Optimizer, module: nn.Module, part: SnapshotPart, origin: str | Path
) -> None:
    """Optimizer state by tensor name: the authors' modules may list parameters in another order."""
    groups = part.optimizer.get("param_groups", [])
    names = list(part.state)
    if len(groups) != 1 or len(groups[0]["params"]) != len(names):
        raise ValueError(
            f"{origin} holds an optimizer state that belongs to other tensors; load the weights "
            "alone"
        )
    by_name = {
        names[place]: part.optimizer["state"][number]
        for place, number in enumerate(groups[0]["params"])
        if number in part.optimizer["state"]
    }
    ours = [name for name, _ in module.named_parameters()]
    merged = optimizer.state_dict()
    merged["state"] = {i: by_name[name] for i, name in enumerate(ours) if name in by_name}
    options = {key: value for key, value in groups[0].items() if key in merged["param_groups"][0]}
    merged["param_groups"][0].update(options, params=list(range(len(ours))))
    optimizer.load_state_dict(merged)


def write_snapshot(
    path: str | Path,
    modules: Mapping[str, nn.Module],
    optimizers: Mapping[str, torch.optim.Optimizer],
    iteration: int,
) -> None:
    """Write a snapshot in the authors' layout and (legacy) container; they can load it."""
    content = {
        name: {
            "epoch": iteration + 1,
            "state_dict": module.state_dict(),
            "optimizer": optimizers[name].state_dict(),
        }
        for name, module in modules.items()
    }
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".tmp")
    torch.save(content, partial, _use_new_zipfile_serialization=False)
    partial.replace(path)


def save_agent(
    folder: str | Path,
    modules: Mapping[str, nn.Module],
    config: Mapping[str, Any],
    vocabulary: bytes | None = None,
) -> None:
    """Write ``model.safetensors`` (tensors named ``MODULE.TENSOR``), ``config.json``, the words."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    state = {
        f"{name}.{key}": value.detach().cpu().contiguous()
        for name, module in modules.items()
        for key, value in module.state_dict().items()
    }
    partial = folder / "model.safetensors.tmp"
    save_file(state, partial)
    partial.replace(folder / "model.safetensors")
    write_atomically(folder / "config.json", json_text(dict(config), indent=2, default=str) + "\n")
    if vocabulary is not None:
        write_atomically(folder / "vocab.txt", vocabulary)


class Snapshot(NamedTuple):
    """An agent of ours on disk, or its description with the weights of a checkpoint."""

    folder: Path  # model.safetensors, vocab.txt
    content: dict[str, Any]  # of its config.json
    run_dir: Path
    checkpoint: int | None  # its step, if it is to be taken in place of the folder's weights

    @property
    def step(self) -> int | None:
        return self.checkpoint or self.content.get("step")

    @property
    def vocabulary(self) -> Path:
        return self.folder / "vocab.txt"

    def load(self, modules: Mapping[str, nn.Module]) -> None:
        """Load the weights; raises as `load_snapshot` does."""
        if self.checkpoint is None:
            load_agent(self.folder, modules)
            return
        for name, module in modules.items():
            state, _ = read_part(self.run_dir, name, self.checkpoint)
            check_fit(name, module, state, self.run_dir)
            module.load_state_dict(state)


def open_snapshot(
    path: Path, kind: str, snapshot: str | None = None, step: int | None = None
) -> Snapshot:
    """The agent of ``kind`` that ``path`` means (see `find_agent`).

    Raises ``FileNotFoundError`` or ``ValueError`` where there is none, or another kind of agent.
    """
    folder = find_agent(path, snapshot if step is None else "last")
    if step is not None:
        read_part(path, "progress", step)  # says which steps there are
    return Snapshot(folder, read_agent_config(folder, kind), path, step)


def load_agent(folder: str | Path, modules: Mapping[str, nn.Module]) -> None:
    """Load the weights of a folder that `save_agent` wrote; raises as `load_snapshot` does."""
    path = Path(folder) / "model.safetensors"
    state = read_weights(path)
    for name, module in modules.items():
        part = {
            key.removeprefix(f"{name}."): value
            for key, value in state.items()
            if key.startswith(f"{name}.")
        }
        check_fit(name, module, part, path)
        module.load_state_dict(part)


def load_weights(
    path: Path,
    kind: str,
    modules: Mapping[str, nn.Module],
    optimizers: Mapping[str, torch.optim.Optimizer] | None = None,
) -> None:
    """Load a run, a snapshot or the authors' snapshot file into ``modules``.

    Only the authors' file holds states for ``optimizers``. Raises as `load_snapshot` does.
    """
    path = find_agent(path)
    if path.is_file():
        load_snapshot(path, modules, optimizers)
    else:
        if optimizers:
            raise ValueError(
                f"--load-optimizer: {path} holds no optimizer's state, which files of the authors' "
                "code alone have; drop the option"
            )
        read_agent_config(path, kind)
        load_agent(path, modules)


BEST = "best_val_unseen"
OLD_KINDS = {"follower": "r2r", "dialog agent": "ndh", "assistance agent": "hanna"}
"""Kinds of agents as version 0.1 called them."""


def find_agent(path: Path, snapshot: str | None = None) -> Path:
    """The agent that ``path`` means: a file of the authors' code, a snapshot, or a run's snapshot.

    Without ``snapshot`` it is the one that was best in unseen houses, and where there was no
    evaluation yet the last one.

    Raises ``FileNotFoundError`` naming the snapshots that there are.
    """
    if path.is_file() or (path / "model.safetensors").is_file():
        return path
    folder = path / "snapshots"
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{path} holds no agent: it is no file, has no model.safetensors and no snapshots/; "
            "give the --run-dir of `prevalent train-r2r`, `train-speaker`, `train-ndh` or "
            "`train-hanna` that has saved a step"
        )
    known = sorted(one.name for one in folder.iterdir() if (one / "model.safetensors").is_file())
    if snapshot is None:
        snapshot = BEST if BEST in known else "last"
        if snapshot != BEST:
            logger.warning("%s has no snapshot %s yet: taking %s", path, BEST, snapshot)
    if snapshot not in known:
        raise FileNotFoundError(
            f"{path} has no snapshot {snapshot!r}; it has {', '.join(known) or 'none'}"
        )
    return folder / snapshot


def kind_of_agent(folder: Path) -> str:
    """The kind that stands in the ``config.json`` of a snapshot folder."""
    path = folder / "config.json"
    if not path.is_file():
        raise FileNotFoundError(f"{folder} has no config.json beside its weights")
    kind = str(read_json(path, "train or convert it again").get("kind"))
    return OLD_KINDS.get(kind, kind)


def read_agent_config(folder: Path, kind: str) -> dict[str, Any]:
    """``config.json`` of a snapshot folder; ``ValueError`` where it is another kind of agent."""
    found = kind_of_agent(folder)
    if found != kind:
        raise ValueError(f"{folder} holds an agent of kind {found!r}; one of {kind!r} is needed")
    return read_json(folder / "config.json", "train or convert it again")


def as_options(kind: type[Options], plain: Mapping[str, Any]) -> Options:
    """The dataclass ``kind`` from a JSON record; keys it does not know are left out."""
    names = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: value for name, value in plain.items() if name in names})
