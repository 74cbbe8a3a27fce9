"""Saving a sentence VAE whole, together with the layers that a task adds to it.

A folder holds the VAE as ``save_pretrained`` writes it, and beside it ``NAME.safetensors`` with the
added tensors and ``NAME.json`` with the settings that are needed to build the module again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import nn
from transformers.utils import logging

from ..unpickle import load_untrusted

PREFIX = "vae."


@contextmanager
def without_bars() -> Iterator[None]:
    """Load and save models without the progress bars of transformers."""
    enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if enabled:
            logging.enable_progress_bar()


def save_with_vae(module: nn.Module, folder: str | Path, name: str, **settings: Any) -> None:
    """Write ``module``, whose attribute ``vae`` is an ``OptimusModel``, into ``folder``."""
    folder = Path(folder)
    module.vae.save_pretrained(folder)  # type: ignore[union-attr, operator]
    added = {
        key: value.detach().cpu().contiguous()
        for key, value in module.state_dict().items()
        if not key.startswith(PREFIX)
    }
    save_file(added, folder / f"{name}.safetensors")
    (folder / f"{name}.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def read_settings(folder: str | Path, name: str) -> dict[str, Any]:
    """The settings that ``save_with_vae`` wrote.

    Raises:
        FileNotFoundError: the folder was not written by the task's training command.
    """
    path = Path(folder) / f"{name}.json"
    if not path.is_file():
        raise FileNotFoundError(f"{folder} holds no {name} model: it has no {path.name}")
    return json.loads(path.read_text(encoding="utf-8"))


def load_added(module: nn.Module, folder: str | Path, name: str) -> None:
    """Fill all of ``module`` but its VAE from ``folder``; every tensor must be there."""
    added = load_untrusted(Path(folder) / f"{name}.safetensors")
    own = {key for key in module.state_dict() if not key.startswith(PREFIX)}
    if own != added.keys():
        raise ValueError(
            f"{Path(folder) / name}.safetensors does not fit the model: missing "
            f"{sorted(own - added.keys())[:3]}, unexpected {sorted(added.keys() - own)[:3]}"
        )
    module.load_state_dict(added, strict=False)
