"""``prevalent convert SOURCE DESTINATION``: released checkpoints and agents to ours and back.

Formats of pre-trained models: ``ours`` is ``model.safetensors`` and ``config.json``; ``authors`` is
the released layout,
``pytorch_model.bin`` and ``config.json`` of pytorch-transformers 1.2. ``training_args.bin`` of a
released folder is a pickle of code objects and is never opened.

Formats of agents: ``authors`` is one snapshot file of their code (NDH: two, ``NAME_enc_iter_N`` and
``NAME_dec_iter_N``), ``ours`` the folder of a run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from .agents.build import find_agent
from .agents.dialog_exchange import (
    export_dialog_agent,
    import_dialog_agent,
    is_dialog_agent,
    is_dialog_file,
)
from .agents.exchange import Untold, export_snapshot, import_snapshot
from .data.json_records import read_json
from .data.weights import (
    compare,
    find_weights,
    list_tensors,
    normalize_names,
    read_weights,
    restore,
    save_authors_folder,
    save_model,
    to_model_config,
)
from .models.prevalent import PrevalentForPretraining
from .runtime.command import parse
from .runtime.files import write_atomically


@dataclass(frozen=True)
class ConvertConfig:
    """Convert a checkpoint folder or an agent and check every tensor."""

    source: Annotated[Path, tyro.conf.Positional]
    """Folder with ``config.json`` and ``pytorch_model.bin`` or ``model.safetensors``; or an agent:
    a snapshot file of the authors' code, a run, or a snapshot folder of a run."""
    destination: Annotated[Path, tyro.conf.Positional]
    """Folder to write, which must not hold weights yet; an agent for the authors is a file."""
    to: Literal["ours", "authors"] = "ours"
    """Format to write."""
    quiet: bool = False
    """Print the totals alone, not every tensor."""
    vocabulary: Path | None = None
    """Agents from the authors: the vocabulary they were trained with, to keep beside them."""
    agent: Untold = field(default_factory=Untold)


def main(argv: Sequence[str]) -> None:
    """Run ``prevalent convert checkpoint-12864 prevalent-base``."""
    config = parse(ConvertConfig, argv, "prevalent convert")
    if is_agent(config.source):
        convert_agent(config)
    else:
        convert(config)


def is_agent(source: Path) -> bool:
    """Whether ``source`` is a snapshot file, a run with snapshots or one of its snapshots."""
    if source.is_file() or (source / "snapshots").is_dir():
        return True
    description = source / "config.json"
    return description.is_file() and "kind" in read_json(description, "convert it again")


def convert_agent(config: ConvertConfig) -> None:
    """Turn the authors' snapshot file into a run, or an agent of ours into such a file.

    Raises ``ValueError`` where the destination exists, a tensor does not fit, or ``--to`` names the
    format that the source has already.
    """
    if config.destination.exists():
        raise ValueError(f"{config.destination} exists already; give a new name")
    if config.vocabulary is not None and not config.vocabulary.is_file():
        raise FileNotFoundError(f"--vocabulary {config.vocabulary} does not exist")
    wanted = "ours" if config.source.is_file() else "authors"
    if config.to != wanted:
        raise ValueError(f"{config.source} has the format {config.to!r} already; add --to {wanted}")
    if is_dialog_file(config.source):
        done = import_dialog_agent(
            config.source, config.destination, config.vocabulary, config.agent
        )
    elif wanted == "authors" and is_dialog_agent(config.source):
        done = export_dialog_agent(config.source, config.destination)
    elif wanted == "ours":
        done = import_snapshot(config.source, config.destination, config.vocabulary, config.agent)
    else:
        done = export_snapshot(config.source, config.destination)
    if not config.quiet:
        ours = find_agent(config.destination if wanted == "ours" else config.source)
        print(list_tensors(read_weights(ours / "model.safetensors")))
    print(f"{done}\nwritten: {config.destination}")


def convert(config: ConvertConfig) -> PrevalentForPretraining:
    """Read ``source`` without executing code in it, check every tensor, write ``destination``.

    Raises:
        FileNotFoundError: the folder lacks a file.
        ValueError: a tensor is missing, unexpected or of another shape than ``config.json`` says.
    """
    for name in ("model.safetensors", "pytorch_model.bin"):
        if (config.destination / name).exists():
            raise ValueError(
                f"{config.destination} already holds {name}; give an empty or new folder"
            )
    weights, config_path = find_weights(config.source), config.source / "config.json"
    if not config_path.is_file():
        raise FileNotFoundError(f"{config.source} has no config.json beside {weights.name}")
    state = normalize_names(read_weights(weights))
    model = PrevalentForPretraining(
        to_model_config(read_json(config_path, "fetch or convert it again"), config_path)
    )
    report = compare(model, state)
    if not config.quiet:
        print(list_tensors({name: state[name] for name in report.matched}))
    for title in ("missing", "unexpected", "wrong_shape"):
        for line in getattr(report, title):
            print(f"  {title}: {line}")
    print(
        f"{len(report.matched)} tensors fit, {len(report.missing)} missing, "
        f"{len(report.unexpected)} unexpected, {len(report.wrong_shape)} of another shape"
    )
    restore(model, state, weights)
    (save_model if config.to == "ours" else save_authors_folder)(config.destination, model)
    vocabulary = config.source / "vocab.txt"
    if vocabulary.is_file():
        write_atomically(config.destination / "vocab.txt", vocabulary.read_bytes())
    print(f"written: {config.destination}")
    return model
