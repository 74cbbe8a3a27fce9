"""Part of agents.exchange."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro
from torch import Tensor, nn

from .agents.follower import FollowerConfig, build_decoder, build_encoder
from .agents.ndh import DialogConfig, build_ndh_decoder, build_ndh_encoder
from .agents.speaker import SpeakerConfig
from .config import ModelConfig
from .data.features import DeviceFeatures, synthetic_features
from .data.records import read_json
from .models.decoders import Critic, SpeakerDecoder, SpeakerEncoder
from .models.prevalent import PrevalentForPretraining, PrevalentModel
from .optimizer import OPTIMIZERS, OptimizerConfig
from .released.checkpoints import (
    compare,
    find_weights,
    list_tensors,
    normalize_names,
    read_weights,
    restore,
    save_authors_folder,
    save_model,
    to_model_config,
)
from .released.snapshots import (
    as_options,
    check_fit,
    find_agent,
    read_snapshot,
    save_agent,
    write_snapshot,
)
from .runtime.command import parse
from .runtime.files import write_atomically
from .tasks.ndh import KIND, WORDS, NDHRun, file_of
from .tasks.r2r import R2RRun
from .tasks.speaker import SpeakerRun


@dataclass(frozen=True)
class Untold:
    """What an agent's tensors do not tell."""

    summary: Literal["tanh", "max"] = "max"
    num_heads: int = 0
    """0: one for each 64 numbers of the transformer's width, as in BERT."""
    angle_size: int = 128
    """Of a speaker, or of an agent of NDH."""


@dataclass(frozen=True)
class ConvertConfig:
    """Convert a checkpoint folder or an agent and check every tensor."""

    source: Annotated[Path, tyro.conf.Positional]
    """Folder with ``config.json`` and ``pytorch_model.bin`` or ``model.safetensors``; or an agent:
    a snapshot file of the authors' code, a run, or a snapshot folder of a run."""
    destination: Annotated[Path, tyro.conf.Positional]
    """Folder to write, which must not hold weights yet; an agent for the authors is a file."""
    to: Literal["ours", "authors"] = "ours"
    """Format to write."""
    quiet: bool = False
    """Print the totals alone, not every tensor."""
    vocabulary: Path | None = None
    """Agents from the authors: the vocabulary they were trained with, to keep beside them."""
    agent: Untold = field(default_factory=Untold)


def main(argv: Sequence[str]) -> None:
    """Run ``prevalent convert checkpoint-12864 prevalent-base``."""
    config = parse(ConvertConfig, argv, "prevalent convert")
    if is_agent(config.source):
        convert_agent(config)
    else:
        convert(config)


def is_agent(source: Path) -> bool:
    """Whether ``source`` is a snapshot file, a run with snapshots or one of its snapshots."""
    if source.is_file() or (source / "snapshots").is_dir():
        return True
    description = source / "config.json"
    return description.is_file() and "kind" in read_json(description, "convert it again")


def convert_agent(config: ConvertConfig) -> None:
    """Turn the authors' snapshot file into a run, or an agent of ours into such a file.

    Raises ``ValueError`` where the destination exists, a tensor does not fit, or ``--to`` names the
    format that the source has already.
    """
    if config.destination.exists():
        raise ValueError(f"{config.destination} exists already; give a new name")
    if config.vocabulary is not None and not config.vocabulary.is_file():
        raise FileNotFoundError(f"--vocabulary {config.vocabulary} does not exist")
    wanted = "ours" if config.source.is_file() else "authors"
    if config.to != wanted:
        raise ValueError(f"{config.source} has the format {config.to!r} already; add --to {wanted}")
    if is_dialog_file(config.source):
        done = import_dialog_agent(
            config.source, config.destination, config.vocabulary, config.agent
        )
    elif wanted == "authors" and is_dialog_agent(config.source):
        done = export_dialog_agent(config.source, config.destination)
    elif wanted == "ours":
        done = import_snapshot(config.source, config.destination, config.vocabulary, config.agent)
    else:
        done = export_snapshot(config.source, config.destination)
    if not config.quiet:
        ours = find_agent(config.destination if wanted == "ours" else config.source)
        print(list_tensors(read_weights(ours / "model.safetensors")))
    print(f"{done}\nwritten: {config.destination}")


def convert(config: ConvertConfig) -> PrevalentForPretraining:
    """Read ``source`` without executing code in it, check every tensor, write ``destination``.

    Raises:
        FileNotFoundError: the folder lacks a file.
        ValueError: a tensor is missing, unexpected or of another shape than ``config.json`` says.
    """
    for name in ("model.safetensors", "pytorch_model.bin"):
        if (config.destination / name).exists():
            raise ValueError(
                f"{config.destination} already holds {name}; give an empty or new folder"
            )
    weights, config_path = find_weights(config.source), config.source / "config.json"
    if not config_path.is_file():
        raise FileNotFoundError(f"{config.source} has no config.json beside {weights.name}")
    state = normalize_names(read_weights(weights))
    model = PrevalentForPretraining(
        to_model_config(read_json(config_path, "fetch or convert it again"), config_path)
    )
    report = compare(model, state)
    if not config.quiet:
        print(list_tensors({name: state[name] for name in report.matched}))
    for title in ("missing", "unexpected", "wrong_shape"):
        for line in getattr(report, title):
            print(f"  {title}: {line}")
    print(
        f"{len(report.matched)} tensors fit, {len(report.missing)} missing, "
        f"{len(report.unexpected)} unexpected, {len(report.wrong_shape)} of another shape"
    )
    restore(model, state, weights)
    (save_model if config.to == "ours" else save_authors_folder)(config.destination, model)
    vocabulary = config.source / "vocab.txt"
    if vocabulary.is_file():
        write_atomically(config.destination / "vocab.txt", vocabulary.read_bytes())
    print(f"written: {config.destination}")
    return model


States = Mapping[str, Mapping[str, Tensor]]


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


State = Mapping[str, Tensor]


def is_dialog_file(path: Path) -> bool:
    """Whether ``path`` is named like one of the authors' two files."""
    return path.is_file() and ("_enc_" in path.name or "_dec_" in path.name)


def is_dialog_agent(source: Path) -> bool:
    """Whether ``source`` is a run of ours, or a snapshot of one, that holds an agent of NDH."""
    if source.is_file():
        return False
    description = find_agent(source) / "config.json"
    return description.is_file() and json.loads(description.read_text()).get("kind") == KIND


def import_dialog_agent(path: Path, run_dir: Path, vocabulary: Path | None, untold: Untold) -> str:
    """Write the authors' files as a run that `evaluate`, `submit` and ``--start-from`` take.

    Returns a line that counts the tensors. Raises ``ValueError`` where one does not fit.
    """
    states = {
        name: {
            key.removeprefix("module."): value
            for key, value in read_weights(file_of(path, name)).items()
        }
        for name in ("encoder", "decoder")
    }
    config, bert, modules = dialog_modules_of(states["encoder"], states["decoder"], untold)
    for name, module in modules.items():
        check_fit(name, module, states[name], path)
        module.load_state_dict(states[name])
    run = NDHRun(run_dir=run_dir, model=config)
    content = {
        "kind": KIND,
        "model": asdict(config),
        "bert": None if bert is None else asdict(bert),
        "walk": {},
        "max_length": run.text_length,
    }
    folder = run_dir / "snapshots" / "best_val_unseen"
    save_agent(folder, modules, content)
    if vocabulary is not None:
        write_atomically(folder / "vocab.txt", vocabulary.read_bytes())
    plain = json.dumps(asdict(run), indent=2, default=str)
    write_atomically(run_dir / "config.json", plain + "\n")
    count = sum(len(module.state_dict()) for module in modules.values())
    return f"{KIND}: {count} tensors fit, 0 missing, 0 unexpected"


def export_dialog_agent(source: Path, path: Path) -> str:
    """Write an agent of ours as the authors' two files, ``path`` being one of them.

    Returns a line that counts the tensors. Raises ``ValueError`` where ``path`` has another name.
    """
    if "_enc_" not in path.name:
        raise ValueError(
            f"{path} must be named like the authors' file of an encoder, NAME_enc_iter_N; the "
            "decoder is written beside it as NAME_dec_iter_N"
        )
    states: dict[str, dict[str, Tensor]] = {"encoder": {}, "decoder": {}}
    for key, value in read_weights(find_agent(source) / "model.safetensors").items():
        name, _, tensor = key.partition(".")
        states[name][tensor] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    for name, state in states.items():
        place = path.with_name(path.name.replace("_enc_", f"_{name[:3]}_"))
        torch.save(state, place, _use_new_zipfile_serialization=False)
    return f"{KIND}: {sum(map(len, states.values()))} tensors written"


def dialog_modules_of(
    encoder: State, decoder: State, untold: Untold
) -> tuple[DialogConfig, ModelConfig | None, dict[str, nn.Module]]:
    """Sizes and modules of these tensors."""
    hidden = decoder["lstm.weight_hh"].shape[1]
    both = "lstm.weight_ih_l0_reverse" in encoder
    low_level = "embedding.weight" in decoder
    if low_level:
        action_size = decoder["embedding.weight"].shape[1]
        width = decoder["lstm.weight_ih"].shape[1] - action_size + untold.angle_size
    else:
        action_size, width = 32, decoder["lstm.weight_ih"].shape[1] // 2
    bert = bert_sizes(encoder, width, untold.num_heads) if f"bert.{WORDS}" in encoder else None
    top = "encoder2decoder_ht.weight" not in encoder or (
        encoder["encoder2decoder_ht.weight"].shape
        == encoder["encoder_lstm2decoder_ht.weight"].shape
    )
    config = DialogConfig(
        encoder="lstm" if bert is None else "dic",
        actions="low-level" if low_level else "panoramic",
        hidden_size=hidden,
        encoder_size=encoder["lstm.weight_hh_l0"].shape[1],
        word_size=encoder["embedding.weight"].shape[1] if bert is None else 256,
        action_size=action_size,
        attention_size=256 if low_level else len(decoder["decoder2action.linear_in_h.weight"]),
        bidirectional=both,
        top_lstm=top,
        angle_size=untold.angle_size,
    )
    store = synthetic_features(["none"], width - config.angle_size)
    features = DeviceFeatures(store, angle_size=config.angle_size)
    words = None if bert is not None else len(encoder["embedding.weight"])
    model = None if bert is None else PrevalentModel(bert)
    built = build_ndh_encoder(config, features, vocab_size=words, bert=model)
    built_decoder = build_ndh_decoder(config, features, built.context_size)
    return config, bert, {"encoder": built, "decoder": built_decoder}
