"""Folders of weights for use: ``config.json`` and safetensors, no code inside."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from .runtime.files import replace_folder, write_atomically


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
            f"--run-dir {run_dir}: there is no model folder; train it until its first save"
        )
    folders = [path.parent for path in run_dir.glob("best*/config.json")]
    if not folders:
        raise FileNotFoundError(
            f"--best: {run_dir} has no best weights yet; train it until its first score "
            "(--evaluate-every)"
        )
    return max(folders, key=lambda folder: json.loads((folder / "config.json").read_text())["step"])
