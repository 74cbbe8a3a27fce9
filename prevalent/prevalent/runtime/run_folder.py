"""The folder of a run: what kind of run it holds, its options, and the opening of it.

``config.json`` begins with ``kind``, ``format_version`` and ``version`` (of the program that wrote
it); the options follow. Nothing is written into the folder before `RunFolder.commit`.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import logging
import os
import shutil
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, TextIO, TypeVar

import torch

from .checkpoint import finished_steps
from .distributed import barrier, gather_objects, is_main
from .files import json_text, replace_folder, spell_infinite, take_lock, why, write_atomically
from .options import shown, why_unused
from .precision import choose_precision

logger = logging.getLogger(__name__)
Config = TypeVar("Config")
Upgrade = Callable[[dict[str, Any]], dict[str, Any]]
"""Turns the ``config.json`` of an older version into today's form, its ``kind`` included."""

FORMAT_VERSION = 2
HEADER = ("kind", "format_version", "version")
CONFIG = "config.json"
LOCK = ".lock"
REACHED = "reached.json"
INFINITE = ("inf", "-inf", "nan")
TYPES: dict[Any, Any] = {bool: bool, int: int, float: (int, float), str: str, Path: str}
"""Types of options, and those of JSON that stand for them."""


class RunFolder:
    """A run's folder while a training command opens it: refused, it stays as it was.

    Used as a context manager around all of a training run. Files that belong to the run and are
    made at its start (vocabularies, toy worlds) are written to `place` and move into the folder
    with `commit`, together with ``config.json``. Where an exception leaves the block before
    `commit`, every trace of the attempt is removed.

    Args:
        run_dir: the folder; it need not exist.
        kind: of the run.
        config: its options, a dataclass.
        fixed: options, such as ``model`` or ``data.folder``, that cannot change between two starts
            of a run that has a checkpoint; a name stands for all options below it.
        upgrade: for the ``config.json`` of older versions.
        steps: the steps that the run has come to, where its checkpoints lie elsewhere.

    Raises:
        ValueError: another run writes there, the folder holds a run of another kind, or one of
            the ``fixed`` options differs.
    """

    def __init__(
        self,
        run_dir: str | Path,
        kind: str,
        config: Any,
        *,
        fixed: Sequence[str] = (),
        upgrade: Upgrade | None = None,
        steps: Sequence[int] | None = None,
    ) -> None:
        self.path, self.kind = Path(run_dir), kind
        self._steps = finished_steps(self.path) if steps is None else list(steps)
        self.started = bool(self._steps)
        self._config, self._fixed, self._upgrade = config, tuple(fixed), upgrade
        self._lock: TextIO | None = None
        self._staged = self.path
        self._fresh_lock: Path | None = None
        self._made: list[Path] = []  # folders above ours that this attempt made, innermost first
        self._committed = False

    def __enter__(self) -> RunFolder:
        try:
            _require_folder(self.path)
            self._compare(self._config)
            if is_main():
                self._stage()
            self._staged = gather_objects(self._staged)[0]
        except BaseException:
            self._undo()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if not self._committed:
            self._undo()
        if self._lock is not None:
            self._lock.close()

    def place(self, name: str) -> Path:
        """Where the run keeps ``name``: the earlier start's, or an empty place to write it to.

        Only rank 0 may write there.
        """
        return self.path / name if self.has(name) else self._staged / name

    def has(self, name: str) -> bool:
        """Whether an earlier start of this run left ``name``.

        What a start left that never came to a checkpoint does not count: its options may have been
        others.
        """
        return (self._committed or self.started) and (self.path / name).exists()

    def commit(self, config: Any = None) -> None:
        """Write ``config.json`` and move what was placed into the folder; from now on it is a run.

        ``config`` replaces the options that were given at first, where the opening settled some.
        """
        config = self._config if config is None else config
        self._compare(config)
        if is_main():
            self._log_changes(config)
            if self.path.exists():
                for item in sorted(self._staged.iterdir()):
                    place = replace_folder if item.is_dir() else os.replace
                    place(item, self.path / item.name)
                self._staged.rmdir()
            else:
                os.replace(self._staged, self.path)
            write_atomically(self.path / CONFIG, config_text(self.kind, config))
        self._committed = True
        barrier()

    def _compare(self, config: Any) -> None:
        """Refuse another kind, and other values of the fixed options of a started run."""
        if not (self.path / CONFIG).exists():
            if self.started:
                raise ValueError(
                    f"{self.path} holds checkpoints and no {CONFIG}, so nothing says what run they "
                    "belong to; put the file back or choose another --run-dir"
                )
            return
        before = _upgraded(self.path / CONFIG, self._upgrade)
        if before.get("kind") != self.kind:
            raise ValueError(
                f"{self.path} holds a run of kind {before.get('kind', 'unknown')!r}, this command "
                f"makes one of kind {self.kind!r}; choose another --run-dir"
            )
        if self.started:
            options = {key: value for key, value in before.items() if key not in HEADER}
            from_plain(type(config), options, str(self.path / CONFIG))  # whole, or refused by name
            self._compare_fixed(_flatten(before), _flatten(as_plain(config)))

    def _compare_fixed(self, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
        differing = [
            name
            for name, value in now.items()
            if name in before and before[name] != value and _is_below(name, self._fixed)
        ]
        if differing:
            name = differing[0]
            more = "".join(f", {_given(other, before[other])}" for other in differing[1:3])
            raise ValueError(
                f"--{name} is {_shown(now[name])} here and {_shown(before[name])} in the run in "
                f"{self.path}, which has come to step {self._steps[-1]}; give "
                f"{_given(name, before[name])}{more} to continue it, or another --run-dir"
            )

    def _log_changes(self, config: Any) -> None:
        path = self.path / CONFIG
        if path.exists():
            before = _flatten(read_plain(path))
            for name, value in _flatten(as_plain(config)).items():
                if name in before and before[name] != value:
                    both = _shown(value), _shown(before[name])
                    logger.warning("%s: --%s is now %s, was %s", path, name, *both)

    def _stage(self) -> None:
        """Lock the folder, and make an empty place for what is not committed yet."""
        if self.path.exists():
            self._take_lock(self.path / LOCK)
            self._staged = self.path / ".opening"
        else:
            self._staged = _sibling(self.path)
            self._made = [one for one in self._staged.parents if not one.exists()]
            self._staged.mkdir(parents=True, exist_ok=True)
            self._take_lock(self._staged / LOCK)
        for leftover in self._staged.glob("*"):  # of a start that was killed
            if leftover.name != LOCK:
                shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
        self._staged.mkdir(exist_ok=True)

    def _take_lock(self, path: Path) -> None:
        fresh = not path.exists()
        self._lock = take_lock(
            path, f"another run is writing to {self.path}; wait for it or choose another --run-dir"
        )
        self._fresh_lock = path if fresh else None

    def _undo(self) -> None:
        """Remove what this attempt made; without the lock it has made nothing."""
        if self._lock is None:
            return
        shutil.rmtree(self._staged, ignore_errors=True)
        if self._fresh_lock is not None:
            self._fresh_lock.unlink(missing_ok=True)
        for folder in self._made:
            with suppress(OSError):  # somebody else may have put something there meanwhile
                folder.rmdir()


def settle_precision(
    config: Config,
    run_dir: str | Path,
    device: torch.device,
    upgrade: Upgrade | None = None,
    *,
    started: bool | None = None,
) -> Config:
    """``config`` with a ``precision`` that is not ``auto``.

    A run that has a checkpoint goes on in the precision that it has, on any device: what ``auto``
    means is decided once, at its first start, and stands in its ``config.json``. ``started`` says
    whether it has one where its checkpoints lie elsewhere.
    """
    if config.precision != "auto":  # type: ignore[attr-defined]
        return config
    precision = choose_precision("auto", device)
    path = Path(run_dir) / CONFIG
    started = bool(finished_steps(run_dir)) if started is None else started
    if started and path.exists():
        precision = _upgraded(path, upgrade).get("precision", precision)
    return dataclasses.replace(config, precision=precision)  # type: ignore[type-var]


def settle_unused(
    config: Config,
    run_dir: str | Path,
    unused: Mapping[str, str],
    upgrade: Upgrade | None = None,
    *,
    started: bool | None = None,
) -> Config:
    """``config`` with the values of its run, where that has a checkpoint, for what is not used.

    A run keeps some options from its first checkpoint on, and those it does not use are refused on
    the command line: a run that was begun with such a one could not be continued otherwise.

    Args:
        config: options as they were given.
        run_dir: folder of the run.
        unused: option -> why it is not used, see `refuse_unused`.
        upgrade: for the ``config.json`` of older versions.
        started: whether there is a checkpoint, where the checkpoints lie elsewhere.
    """
    path = Path(run_dir) / CONFIG
    started = bool(finished_steps(run_dir)) if started is None else started
    if not (started and path.exists()):
        return config
    try:
        plain = {key: one for key, one in _upgraded(path, upgrade).items() if key not in HEADER}
        return _replace(config, from_plain(type(config), plain, str(path)), unused)
    except ValueError:
        return config  # another kind, or a damaged one: `RunFolder` says so


def _replace(config: Any, other: Any, names: Mapping[str, str], prefix: str = "--") -> Any:
    """``config`` with the values of ``other`` for the options ``names``."""
    values = {}
    for field in dataclasses.fields(config):
        name, value = prefix + field.name.replace("_", "-"), getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            values[field.name] = _replace(value, getattr(other, field.name), names, f"{name}.")
        elif why_unused(name, names):
            values[field.name] = getattr(other, field.name)
    return dataclasses.replace(config, **values)


class Run(NamedTuple):
    """A run as the commands that use one find it."""

    folder: Path
    kind: str
    config: Any
    """Its options, of the dataclass that belongs to the kind."""
    version: str
    """Of the program that wrote it."""


def read_run(
    run_dir: str | Path,
    configs: Mapping[str, type],
    upgrade: Upgrade | None = None,
    *,
    wanted: Sequence[str] = (),
) -> Run:
    """The run in ``run_dir``.

    Args:
        run_dir: its folder.
        configs: the dataclass of options of every kind.
        upgrade: for the ``config.json`` of older versions.
        wanted: kinds that the command takes, all if empty.

    Raises:
        FileNotFoundError: there is no run.
        ValueError: its kind is none of ``wanted``; an option is unknown or missing.
    """
    plain = read_header(run_dir, upgrade)
    kind, path = plain["kind"], Path(run_dir) / CONFIG
    if kind not in (wanted or configs):
        kinds = ", ".join(wanted or configs)
        raise ValueError(f"{run_dir} is a run of kind {kind!r}; this command takes {kinds}")
    options = {key: value for key, value in plain.items() if key not in HEADER}
    return Run(Path(run_dir), kind, from_plain(configs[kind], options, str(path)), plain["version"])


def read_header(run_dir: str | Path, upgrade: Upgrade | None = None) -> dict[str, Any]:
    """The whole ``config.json`` of a run in today's form, with a ``kind`` that is known.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it says nothing of its kind, or was written by a later version.
    """
    path, above = Path(run_dir) / CONFIG, Path(run_dir).parent
    inner = above != Path(run_dir) and (above / CONFIG).is_file()  # ``above`` is what was meant
    if not path.exists():
        problem = f"it has no {CONFIG}" if path.parent.is_dir() else "it does not exist"
        problem = "it is a file" if path.parent.is_file() else problem
        if inner:
            problem += f"; give {above}"
        raise FileNotFoundError(f"{shown(run_dir)} is not the folder of a run: {problem}")
    plain = _upgraded(path, upgrade)
    if not isinstance(plain.get("kind"), str):
        where = str(above) if inner else "the folder that a training command had as --run-dir"
        raise ValueError(
            f"{path} does not say what kind of run it belongs to: it is no run of ours; give "
            f"{where}"
        )
    return plain


def read_plain(path: Path) -> dict[str, Any]:
    """A ``config.json`` as it stands; ``ValueError`` where it is none."""
    try:
        plain = json.loads(path.read_text())
    except (ValueError, OSError, RecursionError) as error:  # no JSON, no text at all, or no file
        raise _damaged(path, why(error)) from None
    if not isinstance(plain, dict):
        raise _damaged(path, f"a {type(plain).__name__} and no object")
    options: dict[str, Any] = spell_infinite(plain)  # older files have Infinity
    return options


def write_reached(run_dir: Path, step: int, total_steps: int, unit: str) -> None:
    """Note in ``RUN/reached.json`` how far the run has come, in its unit of progress."""
    reached = {"step": step, "total_steps": total_steps, "unit": unit}
    write_atomically(run_dir / REACHED, json_text(reached) + "\n")


def describe_unfinished(run_dir: str | Path) -> str | None:
    """A sentence for those who use a run that has not reached its end, or None."""
    path = Path(run_dir) / REACHED
    if not path.exists():  # of an older version, or not saved yet
        return None
    try:
        reached = json.loads(path.read_text())
        if reached["step"] >= reached["total_steps"]:
            return None
        where = f"{reached['unit']} {reached['step']} of {reached['total_steps']}"
        return f"{run_dir} is unfinished: {where}"
    except (ValueError, OSError, KeyError, TypeError):
        return f"{path} is damaged, so it is not known how far the run has come"


def config_text(kind: str, config: Any) -> str:
    """The text of a ``config.json``."""
    package = importlib.import_module(__name__.partition(".")[0])
    header = dict(zip(HEADER, (kind, FORMAT_VERSION, package.__version__), strict=True))
    return json_text({**header, **as_plain(config)}, indent=2) + "\n"


def as_plain(config: Any) -> dict[str, Any]:
    """A dataclass of options as JSON values; infinite numbers as one gives them, such as "inf"."""
    options = spell_infinite(dataclasses.asdict(config))
    plain: dict[str, Any] = json.loads(json_text(options))
    return plain


def from_plain(kind: Any, value: Any, origin: str, group: str = "") -> Any:
    """The dataclass ``kind`` from JSON values; errors name the file ``origin`` and the ``group``.

    Raises:
        ValueError: an option is unknown, of another type, or missing and not one of those that were
            `added` later.
    """
    if dataclasses.is_dataclass(kind):
        if not isinstance(value, dict):
            raise ValueError(
                f"{origin}: {json_text(value)} stands where a group of options belongs; put the "
                "original back, or train anew in another folder"
            )
        hints = typing.get_type_hints(kind)
        fields = {field.name: field for field in dataclasses.fields(kind)}
        absent = [name for name in fields if name not in value]
        for problem, found in (
            ("unknown", [key for key in value if key not in fields]),
            ("missing", [name for name in absent if not fields[name].metadata.get("added")]),
        ):
            if found:
                raise ValueError(
                    f"{origin}: {problem} {', '.join(found)}; it was written by another version or "
                    "changed by hand: put the original back, or train anew in another folder"
                )
        for key, item in value.items():
            _require_type(hints[key], item, f"{origin}: {group}{key}")
        known = {
            key: from_plain(hints[key], item, origin, f"{group}{key}.")
            for key, item in value.items()
        }
        return kind(**known)  # type: ignore[operator]
    arguments = typing.get_args(kind)
    if typing.get_origin(kind) in {typing.Union, types.UnionType} and value is not None:
        inner = next(kind for kind in arguments if kind is not type(None))
        return from_plain(inner, value, origin, group)
    if typing.get_origin(kind) is tuple:
        each = [arguments[0]] * len(value) if arguments[-1] is ... else arguments
        return tuple(from_plain(item, part, origin) for item, part in zip(each, value, strict=True))
    if kind is float and value in INFINITE:
        return float(value)
    return Path(value) if kind is Path and value is not None else value


def _require_type(kind: Any, value: Any, name: str) -> None:
    """Refuse a ``value`` that no command line can have given to an option of the type ``kind``."""
    if kind is float and value in INFINITE:
        return
    allowed = TYPES.get(kind, object)
    if not isinstance(value, allowed) or (isinstance(value, bool) and kind in (int, float)):
        wanted = f"must be of type {kind.__name__}"
    elif typing.get_origin(kind) is typing.Literal and value not in typing.get_args(kind):
        wanted = f"must be one of {', '.join(map(str, typing.get_args(kind)))}"
    else:
        return
    raise ValueError(
        f"{name} {wanted}, got {json_text(value)}; put the original file back, or train anew in "
        "another folder"
    )


def _upgraded(path: Path, upgrade: Upgrade | None) -> dict[str, Any]:
    """The ``config.json`` at ``path`` in today's form; refuses one of a later version."""
    plain = read_plain(path)
    version = plain.get("format_version", 1)
    if not isinstance(version, int):
        raise _damaged(path, f"its format_version is {version!r}")
    if version > FORMAT_VERSION:
        raise ValueError(
            f"{path} has format {version}, written by version {plain.get('version')}; this version "
            f"reads up to {FORMAT_VERSION}: install the other"
        )
    if version < FORMAT_VERSION and upgrade is not None:
        unknown = {"version": "an older one"}
        return {**unknown, **upgrade(plain), "format_version": FORMAT_VERSION}
    if version == FORMAT_VERSION and not isinstance(plain.get("version"), str):
        raise _damaged(path, "it does not say which version wrote it")
    return plain


def _require_folder(path: Path) -> None:
    """Refuse a place for a run that is a file or lies below one."""
    if path.name in ("checkpoints", "model") and (path.parent / CONFIG).exists():
        raise ValueError(
            f"--run-dir {path} is a part of the run in {path.parent}; choose another folder"
        )
    for one in (path, *path.parents):
        if one.exists():
            if not one.is_dir():
                raise ValueError(f"--run-dir {path}: {one} is a file; choose a folder for the run")
            return


def _damaged(path: Path, reason: str) -> ValueError:
    return ValueError(
        f"{path} is no configuration that a run wrote ({reason}); put the original back or "
        "choose another folder"
    )


def _flatten(plain: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in plain.items():
        if prefix or key not in HEADER:
            name = f"{prefix}{key}".replace("_", "-")
            flat |= _flatten(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return flat


def _is_below(name: str, prefixes: Sequence[str]) -> bool:
    known = [prefix.replace("_", "-") for prefix in prefixes]
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in known)


def _given(name: str, value: Any) -> str:
    """The option ``name`` with its ``value``, as one gives it."""
    if isinstance(value, bool):
        group, dot, last = name.rpartition(".")
        return f"--{group}{dot}{'' if value else 'no-'}{last}"
    return f"--{name} {_shown(value)}"


def _shown(value: Any) -> str:
    """A value as one writes it on the command line."""
    if isinstance(value, list):
        return " ".join(map(_shown, value)) or "(nothing)"
    return shown(value)


def _sibling(path: Path) -> Path:
    return path.with_name(f".{path.name}.opening")
