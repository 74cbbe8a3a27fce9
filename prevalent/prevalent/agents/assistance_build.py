"""Agents of HANNA and their world from options or from a run's folder."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from ..assistance_config import AssistanceConfig, SearchConfig
from ..assistance_options import HannaRun
from ..config import ModelConfig
from ..data.assistance import AssistanceTask, SpaceTokenizer, read_routes, read_tasks
from ..data.features import DeviceFeatures
from ..data.snapshots import check_fit, load_agent, save_agent
from ..data.tokenizers import WordPieceTokenizer
from ..data.vocabulary import read_vocabulary
from ..data.weights import load_model, read_weights
from ..environments.anna import Anna
from ..environments.assistance import AssistanceEnvironment
from ..environments.walk import Episode, check_tasks
from ..models.prevalent import PrevalentModel
from ..runtime.files import write_atomically
from ..simulator.graph import Graphs
from .assistance import AssistanceAgent
from .build import as_options, find_agent, open_place, read_agent_config

KIND = "assistance agent"
AssistanceTokenizer = SpaceTokenizer | WordPieceTokenizer


@dataclass(frozen=True)
class AssistanceWorld:
    """Scans, what is seen in them, ANNA, and the tasks of every split."""

    graphs: Graphs
    features: DeviceFeatures
    environment: AssistanceEnvironment
    splits: Mapping[str, Sequence[AssistanceTask]]

    def tasks(self, names: Iterable[str]) -> list[AssistanceTask]:
        """Those of several splits, one after the other."""
        return [one for name in names for one in self.splits[name]]


def open_assistance_world(
    config: HannaRun, splits: Iterable[str], device: torch.device
) -> AssistanceWorld:
    """Read ``splits``, their scans, routes and features.

    Raises ``FileNotFoundError`` or ``ValueError`` naming the file or viewpoint that is missing.
    """
    read = {name: read_tasks(config.data_dir, name) for name in dict.fromkeys(splits)}
    graphs, features, rows = open_place(config, read, config.model.angle_size, device)
    paths = ((one, path) for tasks in read.values() for one in tasks for path in one.paths)
    check_tasks(graphs, (Episode(one.scan, path, id=one.id) for one, path in paths))
    anna = Anna(graphs, read_routes(config.data_dir, graphs.scans), config.search.start_radius)
    return AssistanceWorld(graphs, features, AssistanceEnvironment(graphs, anna, rows), read)


def find_assistance_vocabulary(config: HannaRun) -> Path:
    """The file of the agent's vocabulary."""
    if config.model.encoder == "words":
        return config.data_dir / config.words
    own = None if config.pretrained is None else config.pretrained / "vocab.txt"
    return own if own is not None and own.is_file() else config.data_dir / config.wordpieces


def open_assistance_tokenizer(config: HannaRun, vocabulary: Path) -> AssistanceTokenizer:
    """The tokenizer that suits the encoder."""
    if config.model.encoder == "dic":
        return WordPieceTokenizer(vocabulary, config.max_length)
    return SpaceTokenizer(read_vocabulary(vocabulary), config.max_length)


def build_assistance_agent(
    config: HannaRun, world: AssistanceWorld, tokenizer: AssistanceTokenizer
) -> AssistanceAgent:
    """An agent with the same weights on every rank, from scratch or from ``start_from``."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        bert = None
        if config.model.encoder == "dic":
            bert = open_assistance_bert(config, len(tokenizer))
        agent = AssistanceAgent(
            config.model,
            world.environment,
            world.features,
            tokenizer.encode,
            vocab_size=len(tokenizer),
            max_length=config.max_length,
            bert=bert,
            optimizer=config.optimizer,
            search=config.search,
            precision=config.precision,
        )
    if config.start_from is not None:
        load_assistance_weights(config.start_from, agent.modules)
    return agent.train()


def open_assistance_bert(config: HannaRun, num_words: int) -> PrevalentModel:
    """The pre-trained encoder, or one of the ``--bert`` sizes with random weights.

    Raises ``ValueError`` where it knows another vocabulary or shorter texts.
    """
    if config.pretrained is None:
        return PrevalentModel(replace(config.bert, vocab_size=num_words))
    bert = load_model(config.pretrained).bert
    if bert.config.vocab_size != num_words:
        raise ValueError(
            f"--pretrained {config.pretrained} knows {bert.config.vocab_size} word pieces, the "
            f"vocabulary {find_assistance_vocabulary(config)} has {num_words}; give the vocabulary "
            "it was trained with as --wordpieces"
        )
    if bert.config.max_positions < config.max_length:
        raise ValueError(
            f"--max-length {config.max_length} exceeds the {bert.config.max_positions} positions "
            f"of --pretrained {config.pretrained}; lower it"
        )
    return bert


def load_assistance_weights(
    path: Path, modules: Mapping[str, nn.Module], snapshot: str = "best_val_unseen"
) -> None:
    """Load an agent into ``modules``: a run, a snapshot, or a ``.ckpt`` of the authors' code.

    Raises ``ValueError`` where a tensor does not fit.
    """
    path = find_agent(path, snapshot)
    if path.is_dir():
        load_agent(path, modules)
        return
    with torch.serialization.safe_globals([Namespace]):  # their options: names and plain values
        content = read_weights(path)
    if "model_state_dict" not in content:
        raise ValueError(
            f"{path} is no checkpoint of HANNA's code: it has no model_state_dict; give NAME_last."
            "ckpt or the like"
        )
    states: dict[str, dict[str, Tensor]] = {name: {} for name in modules}
    for key, value in content["model_state_dict"].items():
        name, _, tensor = key.partition(".")
        if name not in states:
            raise ValueError(
                f"{path} does not fit: it has {key}, this agent consists of {', '.join(states)}"
            )
        states[name][tensor] = value
    for name, module in modules.items():
        check_fit(name, module, states[name], path)
    for name, module in modules.items():
        module.load_state_dict(states[name])


def save_assistance_agent(
    folder: Path, agent: AssistanceAgent, config: HannaRun, vocabulary: Path
) -> None:
    """Write weights, sizes and vocabulary, all that `load_assistance_agent` needs but the data."""
    bert = getattr(agent.modules["nav_module"].encoder, "bert", None)
    content = {
        "kind": KIND,
        "model": asdict(agent.config),
        "bert": None if bert is None else asdict(bert.config),
        "search": asdict(agent.search),
        "max_length": config.max_length,
    }
    save_agent(folder, agent.modules, content)
    write_atomically(folder / "vocab.txt", vocabulary.read_bytes())


def load_assistance_agent(
    folder: Path, config: HannaRun, splits: Sequence[str], device: torch.device
) -> tuple[AssistanceAgent, AssistanceWorld]:
    """The agent of a snapshot folder in eval mode, and its world.

    Args:
        folder: written by `save_assistance_agent`.
        config: of its run; data and features are read from where it says.
        splits: to open.
        device: to run on.
    """
    content = read_agent_config(folder, KIND)
    model = as_options(AssistanceConfig, content["model"])  # type: ignore[type-var]
    search = as_options(SearchConfig, content["search"])  # type: ignore[type-var]
    config = replace(
        config, model=model, search=search, pretrained=None, max_length=content["max_length"]
    )
    world = open_assistance_world(config, splits, device)
    tokenizer = open_assistance_tokenizer(config, folder / "vocab.txt")
    bert = None
    if content["bert"] is not None:
        bert = PrevalentModel(as_options(ModelConfig, content["bert"]))
    agent = AssistanceAgent(
        model,
        world.environment,
        world.features,
        tokenizer.encode,
        vocab_size=len(tokenizer),
        max_length=config.max_length,
        bert=bert,
        search=search,
        precision=config.precision,
    )
    load_agent(folder, agent.modules)
    return agent.train(False), world
