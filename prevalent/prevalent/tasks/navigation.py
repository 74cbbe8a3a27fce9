"""Options of the commands that train Room-to-Room agents; their presets are in `agent_presets`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, TypeVar

import torch
from torch import nn

from ..config import Precision, default_data_dir
from ..data.features import DeviceFeatures, open_store
from ..data.instructions import Instruction, read_instructions
from ..data.tokenizers import WordTokenizer, read_vocabulary
from ..data.toy import make_toy_world
from ..environments.navigation import NavigationEnvironment, Task, check_tasks
from ..optimizer import OptimizerConfig
from ..released.snapshots import find_agent, load_agent, load_snapshot
from ..runtime.distributed import World
from ..simulator.graph import Graphs, load_graphs


@dataclass(frozen=True)
class AgentRun:
    """What the commands that train an agent have in common."""

    shortest_text: ClassVar[int] = 3

    run_dir: Path = Path("runs/r2r")
    """Folder of checkpoints, logs and snapshots; the same command continues there."""
    data_dir: Path = field(default_factory=default_data_dir)
    """Folder with ``r2r/``, ``connectivity/`` and ``vocab/`` (default: $PREVALENT_DATA)."""
    world: Literal["matterport", "toy"] = "matterport"
    """``toy`` makes houses, features and instructions by code in ``RUN_DIR/world``."""
    toy_houses: int = 24
    """Training houses of the toy world."""
    features: Path | None = Path("features/ResNet-152-imagenet.tsv")
    """View features, relative to the data folder; None takes random stand-in features."""
    standin_dim: int = 64
    """Width of the stand-in features where ``features`` is None."""
    angle_layout: Literal["interleaved", "block"] = "interleaved"
    """Order of the angle features; pre-training uses ``block``, the authors' agents do not."""
    words: Path = Path("r2r/train_vocab.txt")
    """Word vocabulary of LSTM encoders and speakers, relative to the data folder."""
    max_length: int = 80
    """Longest instruction in words or word pieces."""
    train: tuple[str, ...] = ("train",)
    """Splits to learn from: names, ``NAME@N`` for a random N paths, or ``./file.json``."""
    held_out: tuple[str, ...] = ("val_seen", "val_unseen")
    """Splits to evaluate; those that are also trained on are cut to 20 batches."""
    start_from: Path | None = None
    """Agent to begin with: a run, one of its snapshots, or a file that the authors' code saved."""
    load_optimizer: bool = False
    """Take the optimizer's state from such a file too."""

    batch_size: int = 64
    """Episodes of one process and one roll-out."""
    max_steps: int = 80_000
    """Optimizer steps."""
    precision: Precision = "fp32"
    """Arithmetic of the forward passes."""
    device: str = "auto"
    """``auto``, ``cpu`` or ``cuda``."""
    seed: int = 1
    """Seed of weights, dropout and sampled actions; the order of the data has its own."""
    deterministic: bool = False
    """On a GPU, only operations that give the same numbers in every run; slower. On a CPU they
    always do."""
    log_every: int = 100
    """Steps between two records."""
    eval_every: int = 500
    """Steps between two evaluations; the last step is always evaluated."""
    save_every: int = 500
    """Steps between two checkpoints."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)

    def __post_init__(self) -> None:
        for name in ("batch_size", "max_steps", "log_every", "eval_every", "save_every"):
            if getattr(self, name) < 1:
                option = name.replace("_", "-")
                raise ValueError(f"--{option} must be at least 1, got {getattr(self, name)}")
        if self.max_length < self.shortest_text:
            raise ValueError(
                f"--max-length must be at least {self.shortest_text}, got {self.max_length}"
            )
        if not self.train:
            raise ValueError("--train needs at least one split, for example train")


Config = TypeVar("Config", bound=AgentRun)


@dataclass(frozen=True)
class AgentWorld:
    """Scans, what is seen in them, and the instructions of every split."""

    graphs: Graphs
    features: DeviceFeatures
    environment: NavigationEnvironment
    splits: Mapping[str, Sequence[Instruction]]

    def instructions(self, names: Iterable[str]) -> list[Instruction]:
        """Those of several splits, one after the other."""
        return [one for name in names for one in self.splits[name]]


def settle(config: Config, run_dir: Path, world: World) -> Config:
    """``config`` with the toy world made and its paths filled in; itself for real data."""
    if config.world != "toy":
        return config
    folder = run_dir / "world"
    features = make_toy_world(folder, config.toy_houses, world)
    changes: dict[str, Any] = {"data_dir": folder, "features": features, "world": "matterport"}
    if hasattr(config, "wordpieces"):  # a speaker has words alone
        changes["wordpieces"] = Path("wordpiece.txt")
    return replace(config, **changes)


def open_world(config: AgentRun, splits: Iterable[str], device: torch.device) -> AgentWorld:
    """Read ``splits``, their scans and features.

    Raises ``FileNotFoundError`` or ``ValueError`` naming the file or viewpoint that is missing.
    """
    read = {
        name: read_instructions(config.data_dir, [name], shuffle_seed=None)
        for name in dict.fromkeys(splits)
    }
    size = getattr(config, "model" if hasattr(config, "model") else "speaker").angle_size
    place = open_place(config, read, size, device)
    environment = NavigationEnvironment(place.graphs, place.rows)
    return AgentWorld(place.graphs, place.features, environment, read)


class Place(NamedTuple):
    """Scans and what is seen in them."""

    graphs: Graphs
    features: DeviceFeatures
    rows: Mapping[str, int]  # of each ``scan_viewpoint`` in the features


def open_place(
    config: AgentRun, splits: Mapping[str, Sequence[Task]], angle_size: int, device: torch.device
) -> Place:
    """The scans of all tasks of ``splits``, checked to hold every walk and to have features.

    Raises ``FileNotFoundError`` or ``ValueError`` naming the split, task, file or viewpoint.
    """
    empty = [name for name, tasks in splits.items() if not tasks]
    if empty:
        raise ValueError(f"the split {empty[0]!r} is empty; give another")
    scans = sorted({one.scan for tasks in splits.values() for one in tasks})
    graphs = load_graphs(config.data_dir / "connectivity", scans)
    check_tasks(graphs, (one for tasks in splits.values() for one in tasks))
    store = open_store(config.data_dir, config.features, graphs, scans, config.standin_dim)
    features = DeviceFeatures(store, device, angle_size=angle_size, layout=config.angle_layout)
    return Place(graphs, features, store.rows)


def open_words(path: Path, max_length: int) -> WordTokenizer:
    """The word vocabulary at ``path``."""
    return WordTokenizer(read_vocabulary(path), max_length)


def load_weights(
    path: Path,
    modules: Mapping[str, nn.Module],
    optimizers: Mapping[str, torch.optim.Optimizer] | None = None,
    snapshot: str = "best_val_unseen",
) -> None:
    """Load an agent of any form into ``modules``; raises as `load_snapshot` does."""
    path = find_agent(path, snapshot)
    if path.is_file():
        load_snapshot(path, modules, optimizers)
    else:
        load_agent(path, modules)
