"""Folders of weights for use: ``config.json`` and safetensors, no code inside."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from .runtime.files import replace_folder, write_atomically
from .runtime.rundir import read_config, read_plain

Config = TypeVar("Config")
Network = TypeVar("Network", bound=nn.Module)


def save_folder(
    folder: str | Path, networks: Mapping[str, nn.Module | None], config: Any, **extra: Any
) -> Path:
    """Write ``NAME.safetensors`` and ``config.json`` in place of an older folder, in one move.

    Args:
        folder: to be written.
        networks: by the names of their files; None is left out.
        config: a dataclass.
        extra: further plain values of ``config.json``.
    """
    target = Path(folder)
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for name, network in networks.items():
        if network is not None:
            state = {key: value.contiguous() for key, value in network.state_dict().items()}
            save_file(state, partial / f"{name}.safetensors")
    plain = {**dataclasses.asdict(config), **extra}
    write_atomically(partial / "config.json", json.dumps(plain, indent=2) + "\n")
    replace_folder(partial, target)
    return target


def save_weights(
    folder: str | Path,
    config: Any,
    generator: nn.Module,
    *,
    raw: nn.Module | None = None,
    discriminator: nn.Module | None = None,
    class_names: Sequence[str] = (),
    step: int = 0,
    **extra: float,
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
        extra: further values of ``config.json``.
    """
    networks = {"model": generator, "raw": raw, "discriminator": discriminator}
    return save_folder(folder, networks, config, class_names=list(class_names), step=step, **extra)


def read_folder(
    folder: str | Path, kind: type[Config], *needed: str
) -> tuple[Config, dict[str, Any]]:
    """The settings of the networks in ``folder``, and everything that stands beside them.

    Args:
        folder: of the weights.
        kind: of the settings.
        needed: names of the networks that have to be there.

    Raises:
        FileNotFoundError: one of them is missing.
    """
    folder = Path(folder)
    for name in needed:
        if not (folder / f"{name}.safetensors").exists():
            raise FileNotFoundError(
                f"no weights were found in {folder} ({name}.safetensors is missing); give the "
                "folder of a finished save, such as RUN/model, or of `fqgan convert`"
            )
    return read_config(kind, folder), read_plain(folder / "config.json")


def generator_file(folder: str | Path, *, use_average: bool) -> Path:
    """The generator's file; without ``use_average`` that of G itself, if it was saved."""
    raw = Path(folder) / "raw.safetensors"
    return raw if not use_average and raw.exists() else Path(folder) / "model.safetensors"


def load_ready(network: Network, path: Path, device: torch.device | str) -> Network:
    """``network`` with the weights of ``path``, on ``device`` and in eval mode."""
    load_into(network, path)
    return network.to(device).eval()


def load_judge(
    folder: str | Path,
    kind: type[Config],
    build: Callable[[Config], Network],
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
    return load_ready(build(read_config(kind, folder)), path, device)


def first_weights(folder: str | Path, *names: str) -> Path:
    """For fine-tuning: the first of the files ``names`` that ``folder`` has.

    Raises:
        FileNotFoundError: it has none of them.
    """
    for name in names:
        if (path := Path(folder) / f"{name}.safetensors").exists():
            return path
    raise FileNotFoundError(
        f"--initial-weights {folder}: there is no {names[-1]}.safetensors; give a folder that a "
        "run or `fqgan convert` wrote"
    )


def load_into(network: nn.Module, path: Path) -> None:
    """Load a safetensors file that has to fit ``network`` in every name and shape."""
    try:
        network.load_state_dict(read_tensors(path))
    except RuntimeError as error:
        raise ValueError(
            f"{path} does not fit the network its config.json describes: {error}"
        ) from error


def read_tensors(path: Path) -> dict[str, Tensor]:
    """A safetensors file; raises ``ValueError`` where it is damaged."""
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged ({error}); make it again") from error


def run_of(kind: type[Config], argv: Sequence[str]) -> Config | None:
    """The options of the run that ``--run-dir`` names, so that they can be the defaults."""
    words = [part for word in argv for part in word.split("=", 1)]
    if "--run-dir" not in words[:-1]:
        return None
    return read_config(kind, words[words.index("--run-dir") + 1])


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
    folders = [path.parent for path in run_dir.glob("best*/config.json")]
    if not folders:
        raise FileNotFoundError(
            f"--best: {run_dir} has no best weights yet; train it until its first score "
            "(--evaluate-every)"
        )
    return max(folders, key=lambda folder: read_plain(folder / "config.json")["step"])
