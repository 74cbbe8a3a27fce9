"""Agents in the authors' snapshot files to ours and back; sizes are read off the tensors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

from ..agent_config import FollowerConfig, OptimizerConfig, SpeakerConfig
from ..agent_options import R2RRun, SpeakerRun
from ..config import ModelConfig
from ..data.features import DeviceFeatures, synthetic_features
from ..data.snapshots import check_fit, read_snapshot, save_agent, write_snapshot
from ..data.weights import read_weights
from ..models.decoder import Critic
from ..models.prevalent import PrevalentModel
from ..models.speaker import SpeakerDecoder, SpeakerEncoder
from ..runtime.files import write_atomically
from .build import as_options, find_agent
from .follower import build_decoder, build_encoder
from .updates import OPTIMIZERS

States = Mapping[str, Mapping[str, Tensor]]


@dataclass(frozen=True)
class Untold:
    """What an agent's tensors do not tell."""

    summary: Literal["tanh", "max"] = "max"
    num_heads: int = 0
    """0: one for each 64 numbers of the transformer's width, as in BERT."""
    angle_size: int = 128
    """Of a speaker, or of an agent of NDH."""


def import_snapshot(path: Path, run_dir: Path, vocabulary: Path | None, untold: Untold) -> str:
    """Write the authors' snapshot as a run that `evaluate`, `submit` and ``--start-from`` take.

    Returns a line that counts the tensors. Raises ``ValueError`` where one does not fit.
    """
    parts = read_snapshot(path)
    states = {name: part.state for name, part in parts.items()}
    content, modules = modules_of(states, untold)
    for name, module in modules.items():
        check_fit(name, module, states.get(name, {}), path)
        module.load_state_dict(states[name])
    folder = run_dir / "snapshots" / "best_val_unseen"
    save_agent(folder, modules, content)
    if vocabulary is not None:
        write_atomically(folder / "vocab.txt", vocabulary.read_bytes())
    config: R2RRun | SpeakerRun
    if content["kind"] == "follower":
        config = R2RRun(run_dir=run_dir, model=as_options(FollowerConfig, content["model"]))
    else:
        speaker = as_options(SpeakerConfig, content["speaker"])
        config = SpeakerRun(run_dir=run_dir, speaker=speaker)
    plain = json.dumps(asdict(config), indent=2, default=str)
    write_atomically(run_dir / "config.json", plain + "\n")
    count = sum(len(module.state_dict()) for module in modules.values())
    return f"{content['kind']}: {count} tensors fit, 0 missing, 0 unexpected"


def export_snapshot(source: Path, path: Path) -> str:
    """Write an agent of ours (a run or its snapshot folder) as the authors' snapshot file.

    The optimizers in it are fresh. Returns a line that counts the tensors.
    """
    folder = find_agent(source)
    weights = read_weights(folder / "model.safetensors")
    states: dict[str, dict[str, Tensor]] = {}
    for key, value in weights.items():
        name, _, tensor = key.partition(".")
        states.setdefault(name, {})[tensor] = value
    known = json.loads((folder / "config.json").read_text())
    sizes = known["model"] if known["kind"] == "follower" else known["speaker"]
    heads = known["bert"]["num_heads"] if known.get("bert") else 0
    untold = Untold(sizes.get("summary", "max"), heads, sizes["angle_size"])
    _, modules = modules_of(states, untold)
    for name, module in modules.items():
        check_fit(name, module, states[name], folder)
        module.load_state_dict(states[name])
    kind = OPTIMIZERS["rms" if known["kind"] == "follower" else "adam"]
    lr = OptimizerConfig().lr
    optimizers = {
        name: kind(module.parameters(), lr=lr)  # type: ignore[call-arg]
        for name, module in modules.items()
    }
    write_snapshot(path, modules, optimizers, 0)
    return f"{known['kind']}: {len(weights)} tensors written"


def modules_of(states: States, untold: Untold) -> tuple[dict[str, Any], dict[str, nn.Module]]:
    """The description that a snapshot folder holds, and modules of the sizes of ``states``."""
    missing = [name for name in ("encoder", "decoder") if name not in states]
    if missing:
        raise ValueError(f"the snapshot has no {missing[0]}; it holds {', '.join(states)}")
    if "projection.weight" in states["decoder"]:
        return _speaker(states, untold)
    return _follower(states, untold)


def _speaker(states: States, untold: Untold) -> tuple[dict[str, Any], dict[str, nn.Module]]:
    words, hidden = states["decoder"]["projection.weight"].shape
    word_size = states["decoder"]["embedding.weight"].shape[1]
    width = states["encoder"]["lstm.weight_ih_l0"].shape[1]
    config = SpeakerConfig(hidden, word_size, angle_size=untold.angle_size)
    modules = {
        "encoder": SpeakerEncoder(width, config.angle_size, hidden),
        "decoder": SpeakerDecoder(words, word_size, hidden),
    }
    content = {"kind": "speaker", "speaker": asdict(config), "max_length": 80}
    return {**content, "angle_layout": "interleaved"}, modules


def _follower(states: States, untold: Untold) -> tuple[dict[str, Any], dict[str, nn.Module]]:
    encoder, decoder = states["encoder"], states["decoder"]
    action_size, angle_size = decoder["embedding.0.weight"].shape
    hidden = decoder["lstm.weight_hh"].shape[1]
    width = decoder["feat_att_layer.linear_in.weight"].shape[0]
    bert = None
    config = FollowerConfig(
        hidden_size=hidden,
        action_size=action_size,
        angle_size=angle_size,
        summary=untold.summary,
        bidirectional="lstm.weight_ih_l0_reverse" in encoder,
    )
    if (texts := _texts_side_by_side(decoder, hidden)) > 1:
        config = replace(config, num_texts=texts, merge_texts="cat")
    if "bert.embeddings.word_embeddings.weight" in encoder:
        bert = bert_sizes(encoder, width, untold.num_heads)
        if "encoder_lstm2decoder_ht.weight" in encoder:
            size = encoder["lstm.weight_hh_l0"].shape[1]
            config = replace(config, encoder="dic", encoder_size=size)
        elif "linear_in.weight" in encoder:
            size = encoder["linear_in.weight"].shape[0]
            config = replace(config, encoder="bert-projected", word_size=size)
        else:
            config = replace(config, encoder="bert")
    elif "embedding.weight" in encoder:
        config = replace(config, word_size=encoder["embedding.weight"].shape[1])
    else:
        raise ValueError("the snapshot's encoder has neither word embeddings nor a transformer")
    store = synthetic_features(["none"], width - angle_size)
    features = DeviceFeatures(store, angle_size=angle_size)
    vocabulary = encoder["embedding.weight"].shape[0] if bert is None else None
    built = build_encoder(
        config,
        features,
        vocab_size=vocabulary,
        bert=None if bert is None else PrevalentModel(bert),
    )
    modules = {
        "encoder": built,
        "decoder": build_decoder(config, features, built.context_size),
        "critic": Critic(hidden),
    }
    content = {
        "kind": "follower",
        "model": asdict(config),
        "bert": None if bert is None else asdict(bert),
        "rollout": {},
        "max_length": 80,
    }
    return content, modules


def _texts_side_by_side(decoder: Mapping[str, Tensor], hidden: int) -> int:
    """M of an agent whose output layer takes M contexts one beside the other.

    Other ways of merging leave no trace in the sizes; such an agent reads one text.
    """
    context = len(decoder["attention_layer.linear_in.weight"])
    return (decoder["attention_layer.linear_out.weight"].shape[1] - hidden) // context


def bert_sizes(encoder: Mapping[str, Tensor], image_dim: int, num_heads: int) -> ModelConfig:
    """Sizes of the transformer in an encoder; 0 heads: one for each 64 numbers of its width."""
    names = {name.split(".")[1] + "." + name.split(".")[2] for name in encoder if "layer." in name}
    words, hidden = encoder["bert.embeddings.word_embeddings.weight"].shape
    inner = next(value for name, value in encoder.items() if "intermediate.dense.weight" in name)
    return ModelConfig(
        vocab_size=words,
        hidden_size=hidden,
        num_heads=num_heads or max(1, hidden // 64),
        intermediate_size=inner.shape[0],
        num_language_layers=sum(name.startswith("lalayer.") for name in names),
        num_cross_layers=sum(name.startswith("addlayer.") for name in names),
        image_dim=image_dim,
        max_positions=encoder["bert.embeddings.position_embeddings.weight"].shape[0],
        num_token_types=encoder["bert.embeddings.token_type_embeddings.weight"].shape[0],
    )
