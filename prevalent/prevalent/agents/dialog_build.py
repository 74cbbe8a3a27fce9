"""Agents of NDH and their world from options or from a run's folder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import nn

from ..config import ModelConfig
from ..data.dialogs import (
    Dialog,
    DialogTokenizer,
    encode_dialogs,
    open_dialog_pieces,
    open_dialog_words,
    read_dialogs,
)
from ..data.features import DeviceFeatures
from ..data.snapshots import check_fit, load_agent, save_agent
from ..data.weights import load_model, read_weights
from ..dialog_options import DialogConfig, DialogWalk, NDHRun
from ..environments.dialog import DialogEnvironment
from ..environments.low_level import LowLevelEnvironment
from ..models.prevalent import PrevalentModel
from ..runtime.files import write_atomically
from ..simulator.graph import Graphs
from .build import as_options, find_agent, open_place, read_agent_config
from .dialog import DialogAgent
from .episodes import Episodes

WORDS = "embeddings.word_embeddings.weight"
KIND = "dialog agent"


@dataclass(frozen=True)
class DialogEpisodes(Episodes):
    """Dialogs of a split with their encoded texts."""

    instructions: Sequence[Dialog]  # type: ignore[assignment]


@dataclass(frozen=True)
class DialogWorld:
    """Scans, what is seen in them, and the dialogs of every split."""

    graphs: Graphs
    features: DeviceFeatures
    environment: DialogEnvironment | LowLevelEnvironment
    splits: Mapping[str, Sequence[Dialog]]

    def dialogs(self, names: Iterable[str]) -> list[Dialog]:
        """Those of several splits, one after the other."""
        return [one for name in names for one in self.splits[name]]


def open_dialog_world(config: NDHRun, splits: Iterable[str], device: torch.device) -> DialogWorld:
    """Read ``splits``, their scans and features.

    Raises ``FileNotFoundError`` or ``ValueError`` naming the file or viewpoint that is missing.
    """
    read = {
        name: read_dialogs(config.data_dir, name, config.path_type)
        for name in dict.fromkeys(splits)
    }
    place = open_place(config, read, config.model.angle_size, device)
    kind = LowLevelEnvironment if config.model.actions == "low-level" else DialogEnvironment
    return DialogWorld(place.graphs, place.features, kind(place.graphs, place.rows), read)


def find_dialog_vocabulary(config: NDHRun) -> Path:
    """The file of the agent's vocabulary."""
    if config.model.encoder == "lstm":
        return config.data_dir / config.words
    own = None if config.pretrained is None else config.pretrained / "vocab.txt"
    return own if own is not None and own.is_file() else config.data_dir / config.wordpieces


def open_dialog_tokenizer(config: NDHRun, vocabulary: Path) -> DialogTokenizer:
    """The tokenizer that suits the encoder."""
    if config.model.encoder == "lstm":
        return open_dialog_words(vocabulary, config.text_length)
    return open_dialog_pieces(
        vocabulary, config.text_length, tags=config.tags, keep_first=config.keep_first
    )


def open_dialogs(
    config: NDHRun, dialogs: Sequence[Dialog], tokenizer: DialogTokenizer
) -> DialogEpisodes:
    """``dialogs`` with what the agent reads of them."""
    return DialogEpisodes(dialogs, encode_dialogs(dialogs, tokenizer, config.history))


def build_dialog_agent(
    config: NDHRun, world: DialogWorld, tokenizer: DialogTokenizer
) -> DialogAgent:
    """An agent with the same weights on every rank, from scratch or from ``start_from``."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        bert = None
        if config.model.encoder == "dic":
            bert = open_dialog_bert(config, world.features.width, len(tokenizer))
        agent = DialogAgent(
            config.model,
            world.environment,
            world.features,
            max_actions=config.max_actions,
            vocab_size=len(tokenizer),
            bert=bert,
            optimizer=config.optimizer,
            walk=config.walk,
            precision=config.precision,
        )
    if config.start_from is not None:
        load_dialog_weights(config.start_from, agent.modules)
    return agent.train()


def open_dialog_bert(config: NDHRun, width: int, num_words: int) -> PrevalentModel:
    """The pre-trained encoder with new rows for the tags, or one with random weights.

    Raises ``ValueError`` where it knows another vocabulary or shorter texts.
    """
    if config.pretrained is None:
        return PrevalentModel(replace(config.bert, vocab_size=num_words, image_dim=width))
    bert = load_model(config.pretrained).bert
    added = num_words - bert.config.vocab_size
    if added not in (0, 3):
        raise ValueError(
            f"--pretrained {config.pretrained} knows {bert.config.vocab_size} word pieces, the "
            f"vocabulary {find_dialog_vocabulary(config)} has {num_words - 3}; give the vocabulary "
            "it was trained with as --wordpieces"
        )
    if bert.config.max_positions < config.text_length:
        raise ValueError(
            f"--max-length {config.text_length} exceeds the {bert.config.max_positions} positions "
            f"of --pretrained {config.pretrained}; lower it"
        )
    return extend_vocabulary(bert, num_words)


def extend_vocabulary(bert: PrevalentModel, num_words: int) -> PrevalentModel:
    """A copy of ``bert`` with ``num_words`` word embeddings; the new rows are random."""
    wider = PrevalentModel(replace(bert.config, vocab_size=num_words))
    state = dict(bert.state_dict())
    known = state.pop(WORDS)
    wider.load_state_dict(state, strict=False)
    with torch.no_grad():
        wider.embeddings.word_embeddings.weight[: len(known)] = known
    return wider


def load_dialog_weights(
    path: Path, modules: Mapping[str, nn.Module], snapshot: str = "best_val_unseen"
) -> None:
    """Load an agent into ``modules``: a run, a snapshot, or the authors' file of an encoder.

    The authors save encoder and decoder as ``NAME_enc_iter_N`` and ``NAME_dec_iter_N``; either may
    be named.

    Raises:
        FileNotFoundError: the other of the two files is missing.
        ValueError: a tensor does not fit.
    """
    path = find_agent(path, snapshot)
    if path.is_dir():
        load_agent(path, modules)
        return
    for name, module in modules.items():
        part = file_of(path, name)
        state = {k.removeprefix("module."): v for k, v in read_weights(part).items()}
        check_fit(name, module, state, part)
        module.load_state_dict(state)


def file_of(path: Path, name: str) -> Path:
    """The authors' file of the encoder or decoder (``name``) that belongs to ``path``."""
    part = path.with_name(path.name.replace("_enc_", "_dec_").replace("_dec_", f"_{name[:3]}_"))
    if not part.is_file():
        raise FileNotFoundError(
            f"{part} does not exist; put the {name} of {path.name} beside it under this name"
        )
    return part


def save_dialog_agent(folder: Path, agent: DialogAgent, config: NDHRun, vocabulary: Path) -> None:
    """Write weights, sizes and vocabulary, all that `load_dialog_agent` needs beside the data."""
    bert = getattr(agent.modules["encoder"], "bert", None)
    content = {
        "kind": KIND,
        "model": asdict(agent.config),
        "bert": None if bert is None else asdict(bert.config),
        "walk": asdict(agent.walk),
        "history": config.history,
        "max_length": config.text_length,
        "path_type": config.path_type,
    }
    save_agent(folder, agent.modules, content)
    write_atomically(folder / "vocab.txt", vocabulary.read_bytes())


def load_dialog_agent(
    folder: Path, config: NDHRun, splits: Sequence[str], device: torch.device
) -> tuple[DialogAgent, DialogWorld, DialogTokenizer]:
    """The agent of a snapshot folder in eval mode, its world and its tokenizer.

    Args:
        folder: written by `save_dialog_agent`.
        config: of its run; data and features are read from where it says.
        splits: to open.
        device: to run on.
    """
    content = read_agent_config(folder, KIND)
    model = as_options(DialogConfig, content["model"])  # type: ignore[type-var]
    config = replace(config, model=model, pretrained=None, max_length=content["max_length"])
    world = open_dialog_world(config, splits, device)
    tokenizer = open_dialog_tokenizer(config, folder / "vocab.txt")
    bert = None
    if content["bert"] is not None:
        bert = PrevalentModel(as_options(ModelConfig, content["bert"]))
    agent = DialogAgent(
        model,
        world.environment,
        world.features,
        max_actions=config.max_actions,
        vocab_size=len(tokenizer),
        bert=bert,
        walk=as_options(DialogWalk, content["walk"]),  # type: ignore[type-var]
        precision=config.precision,
    )
    load_agent(folder, agent.modules)
    return agent.train(False), world, tokenizer
