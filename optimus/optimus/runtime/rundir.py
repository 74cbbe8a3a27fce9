"""The folder of a run: its lock and its configuration."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import logging
import types
import typing
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from .distributed import barrier, is_main
from .files import write_atomically

logger = logging.getLogger(__name__)
Config = TypeVar("Config")


@contextmanager
def open_run(run_dir: str | Path, config: Any) -> Iterator[Path]:
    """Make and lock ``run_dir`` for this run and write ``config.json`` into it.

    Raises ``ValueError`` where another run holds the folder. Options that differ from those of an
    earlier start are named in the log.
    """
    folder = Path(run_dir)
    folder.mkdir(parents=True, exist_ok=True)
    lock = (folder / ".lock").open("w") if is_main() else None
    try:
        if lock is not None:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ValueError(
                    f"another run is writing to {folder}; wait for it or choose another --run-dir"
                ) from None
            _write_config(folder / "config.json", config)
        barrier()
        yield folder
    finally:
        if lock is not None:
            lock.close()


def _write_config(path: Path, config: Any) -> None:
    plain = json.loads(json.dumps(dataclasses.asdict(config), default=str))
    if path.exists():
        before = _flatten(read_plain(path))
        for name, value in _flatten(plain).items():
            if name in before and before[name] != value:
                logger.warning("%s: --%s is now %s, was %s", path, name, value, before[name])
    write_atomically(path, json.dumps(plain, indent=2) + "\n")


def _flatten(plain: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in plain.items():
        name = f"{prefix}{key}".replace("_", "-")
        flat |= _flatten(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return flat


def read_config(kind: type[Config], run_dir: str | Path) -> Config:
    """The configuration that ``open_run`` wrote, as the dataclass ``kind``.

    Raises ``FileNotFoundError`` without ``config.json``, ``ValueError`` where it cannot be read.
    """
    path = Path(run_dir) / "config.json"
    if not path.exists():
        raise FileNotFoundError(f"{run_dir} is not the folder of a run: it has no config.json")
    return _from_plain(kind, read_plain(path))


def read_plain(path: Path) -> dict[str, Any]:
    """A ``config.json`` as it stands; ``ValueError`` where it is none."""
    try:
        plain = json.loads(path.read_text())
    except ValueError as error:  # no JSON, or no text at all
        raise _damaged(path, str(error)) from None
    if not isinstance(plain, dict):
        raise _damaged(path, f"a {type(plain).__name__} and no object")
    return plain


def _damaged(path: Path, reason: str) -> ValueError:
    return ValueError(
        f"{path} is no configuration that a run wrote ({reason}); put the original back, or delete "
        "it and give the training command again, which writes it anew"
    )


def _from_plain(kind: Any, value: Any) -> Any:
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        names = {field.name for field in dataclasses.fields(kind)}
        known = {key: _from_plain(hints[key], item) for key, item in value.items() if key in names}
        return kind(**known)  # type: ignore[operator]
    arguments = typing.get_args(kind)
    if typing.get_origin(kind) in {typing.Union, types.UnionType} and value is not None:
        return _from_plain(next(kind for kind in arguments if kind is not type(None)), value)
    if typing.get_origin(kind) is tuple:
        inner = [arguments[0]] * len(value) if arguments[-1] is ... else arguments
        return tuple(_from_plain(item, part) for item, part in zip(inner, value, strict=True))
    return Path(value) if kind is Path and value is not None else value
