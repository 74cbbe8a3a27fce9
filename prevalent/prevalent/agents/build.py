"""Agents and their world from options or from a run's folder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from torch import nn

from ..agent_config import FollowerConfig, OptimizerConfig, RolloutConfig, SpeakerConfig
from ..agent_options import AgentRun, R2RRun
from ..config import ModelConfig
from ..data.corpus import make_toy_world
from ..data.features import DeviceFeatures, open_store
from ..data.instructions import Instruction, read_instructions
from ..data.json_records import read_json
from ..data.snapshots import load_agent, load_snapshot, read_snapshot, save_agent
from ..data.tokenizers import WordPieceTokenizer
from ..data.vocabulary import WordTokenizer, read_vocabulary
from ..data.weights import load_model
from ..environments.navigation import NavigationEnvironment
from ..environments.walk import Task, check_tasks
from ..models.prevalent import PrevalentModel
from ..runtime.distributed import World
from ..runtime.files import write_atomically
from ..simulator.connectivity import load_graphs
from ..simulator.graph import Graphs
from .episodes import Tokenizer
from .follower import Follower
from .speaker import Speaker

Config = TypeVar("Config", bound=AgentRun)
Options = TypeVar("Options", FollowerConfig, SpeakerConfig, RolloutConfig, ModelConfig)


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
    size = getattr(config, "model" if isinstance(config, R2RRun) else "speaker").angle_size
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


def find_vocabulary(config: R2RRun) -> Path:
    """The file of the follower's vocabulary."""
    if config.model.encoder == "lstm":
        return config.data_dir / config.words
    own = None if config.pretrained is None else config.pretrained / "vocab.txt"
    return own if own is not None and own.is_file() else config.data_dir / config.wordpieces


def open_tokenizer(config: FollowerConfig, vocabulary: Path, max_length: int) -> Tokenizer:
    """The tokenizer that suits the encoder."""
    if config.encoder == "lstm":
        return open_words(vocabulary, max_length)
    return WordPieceTokenizer(vocabulary, max_length)


def build_follower(config: R2RRun, world: AgentWorld, tokenizer: Tokenizer) -> Follower:
    """A follower with the same weights on every rank, from scratch or from ``start_from``."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        bert = None
        if config.model.encoder != "lstm":
            bert = open_bert(config, world.features.width, len(tokenizer))
        follower = Follower(
            config.model,
            world.environment,
            world.features,
            vocab_size=len(tokenizer),
            bert=bert,
            optimizer=config.optimizer,
            walk=config.rollout,
            precision=config.precision,
        )
    if config.start_from is not None:
        optimizers = follower.optimizers if config.load_optimizer else None
        load_weights(config.start_from, follower.modules, optimizers)
    return follower.train()


def open_bert(config: R2RRun, width: int, num_words: int) -> PrevalentModel:
    """The pre-trained encoder, or one of the ``--bert`` sizes with random weights.

    Raises ``ValueError`` where the vocabulary of ``num_words`` does not fit it.
    """
    if config.pretrained is None:
        sizes = replace(config.bert, vocab_size=num_words, image_dim=width)
        return PrevalentModel(sizes)
    bert = load_model(config.pretrained).bert
    if bert.config.vocab_size != num_words:
        raise ValueError(
            f"--pretrained {config.pretrained} knows {bert.config.vocab_size} word pieces, the "
            f"vocabulary {find_vocabulary(config)} has {num_words}; give the vocabulary it was "
            "trained with as --wordpieces"
        )
    if bert.config.max_positions < config.max_length:
        raise ValueError(
            f"--max-length {config.max_length} exceeds the {bert.config.max_positions} positions "
            f"of --pretrained {config.pretrained}; lower it"
        )
    return bert


def find_agent(path: Path, snapshot: str = "best_val_unseen") -> Path:
    """The agent that ``path`` means: a file of the authors' code, a snapshot, or a run's snapshot.

    Raises ``FileNotFoundError`` naming the snapshots that there are.
    """
    if path.is_file() or (path / "model.safetensors").is_file():
        return path
    folder = path / "snapshots"
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{path} holds no agent: it is no file, has no model.safetensors and no snapshots/; "
            "give the --run-dir of a finished `prevalent train-r2r` or `prevalent train-speaker`"
        )
    if not (folder / snapshot / "model.safetensors").is_file():
        known = ", ".join(sorted(one.name for one in folder.iterdir() if one.is_dir())) or "none"
        raise FileNotFoundError(f"{path} has no snapshot {snapshot!r}; it has {known}")
    return folder / snapshot


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


def save_follower(folder: Path, follower: Follower, vocabulary: Path, max_length: int) -> None:
    """Write weights, sizes and vocabulary, all that `load_follower` needs beside the data."""
    bert = getattr(follower.modules["encoder"], "bert", None)
    content = {
        "kind": "follower",
        "model": asdict(follower.config),
        "bert": None if bert is None else asdict(bert.config),
        "rollout": asdict(follower.walk),
        "max_length": max_length,
    }
    save_agent(folder, follower.modules, content)
    write_atomically(folder / "vocab.txt", vocabulary.read_bytes())


def save_speaker(folder: Path, speaker: Speaker, vocabulary: Path) -> None:
    """Write weights, sizes and vocabulary of a speaker."""
    content = {
        "kind": "speaker",
        "speaker": asdict(speaker.config),
        "max_length": speaker.tokenizer.max_length,
        "angle_layout": speaker.features.layout,
    }
    save_agent(folder, speaker.modules, content)
    write_atomically(folder / "vocab.txt", vocabulary.read_bytes())


def load_follower(
    folder: Path, config: R2RRun, splits: Sequence[str], device: torch.device
) -> tuple[Follower, AgentWorld, Tokenizer]:
    """The follower of a snapshot folder in eval mode, its world and its tokenizer.

    Args:
        folder: written by `save_follower`.
        config: of its run; data and features are read from where it says.
        splits: to open.
        device: to run on.
    """
    content = read_agent_config(folder, "follower")
    model = as_options(FollowerConfig, content["model"])
    world = open_world(replace(config, model=model, pretrained=None), splits, device)
    tokenizer = open_tokenizer(model, folder / "vocab.txt", content["max_length"])
    bert = None
    if content["bert"] is not None:
        bert = PrevalentModel(as_options(ModelConfig, content["bert"]))
    follower = Follower(
        model,
        world.environment,
        world.features,
        vocab_size=len(tokenizer),
        bert=bert,
        walk=as_options(RolloutConfig, content["rollout"]),
        precision=config.precision,
    )
    load_agent(folder, follower.modules)
    return follower.train(False), world, tokenizer


def load_speaker(path: Path, world: AgentWorld, words: Path, *, max_length: int = 80) -> Speaker:
    """A speaker from a run, a snapshot folder or the authors' file.

    Args:
        path: of the speaker.
        world: where it shall speak.
        words: vocabulary of an authors' file; a snapshot folder holds its own.
        max_length: of encoded texts, for an authors' file.
    """
    path = find_agent(path)
    if path.is_file():
        config = sizes_of_speaker(path, world.features.angle_size)
        tokenizer = open_words(words, max_length)
    else:
        content = read_agent_config(path, "speaker")
        config = as_options(SpeakerConfig, content["speaker"])
        if content["angle_layout"] != world.features.layout:
            raise ValueError(
                f"the speaker {path} was trained with --angle-layout {content['angle_layout']}, "
                f"the follower has {world.features.layout}; train both with the same"
            )
        tokenizer = open_words(path / "vocab.txt", content["max_length"])
    if config.angle_size != world.features.angle_size:
        raise ValueError(
            f"the speaker {path} was trained with angles of {config.angle_size} numbers, the "
            f"follower has {world.features.angle_size}; train it with --speaker.angle-size "
            f"{world.features.angle_size}"
        )
    speaker = Speaker(
        config, world.environment, world.features, tokenizer, optimizer=OptimizerConfig("adam")
    )
    if path.is_file():
        load_snapshot(path, speaker.modules)
    else:
        load_agent(path, speaker.modules)
    return speaker.train(False)


def sizes_of_speaker(path: Path, angle_size: int) -> SpeakerConfig:
    """Sizes of a speaker in the authors' file, from its tensors."""
    parts = read_snapshot(path)
    state = parts["decoder"].state if "decoder" in parts else {}
    if "projection.weight" not in state:
        raise ValueError(f"{path} holds no speaker; give a file that speaker training has saved")
    return SpeakerConfig(
        hidden_size=state["projection.weight"].shape[1],
        word_size=state["embedding.weight"].shape[1],
        angle_size=angle_size,
    )


def read_agent_config(folder: Path, kind: str) -> dict[str, Any]:
    """``config.json`` of a snapshot folder; ``ValueError`` where it is another kind of agent."""
    path = folder / "config.json"
    if not path.is_file():
        raise FileNotFoundError(f"{folder} has no config.json beside its weights")
    content = read_json(path, "train or convert it again")
    if content.get("kind") != kind:
        raise ValueError(f"{folder} holds no {kind} (its kind is {content.get('kind')!r})")
    return content


def as_options(kind: type[Options], plain: Mapping[str, Any]) -> Options:
    """The dataclass ``kind`` from a JSON record; keys it does not know are left out."""
    names = {field.name for field in fields(kind)}
    return kind(**{name: value for name, value in plain.items() if name in names})
