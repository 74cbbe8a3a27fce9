"""``prevalent convert SOURCE DESTINATION``: released checkpoints and agents to ours and back.

Formats of pre-trained models: ``ours`` is ``model.safetensors`` and ``config.json``; ``authors`` is
the released layout, ``pytorch_model.bin`` and ``config.json`` of pytorch-transformers 1.2.
``training_args.bin`` of a released folder is a pickle of code objects and is never opened.

Formats of agents: ``authors`` is one snapshot file of their code (NDH: two, ``NAME_enc_iter_N`` and
``NAME_dec_iter_N``), ``ours`` the folder of a run. Sizes are read off the tensors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro
from torch import Tensor, nn

from .agents.follower import FollowerConfig, build_decoder, build_encoder
from .agents.ndh import NDHConfig, build_ndh_decoder, build_ndh_encoder
from .agents.speaker import SpeakerConfig
from .config import ModelConfig
from .data.features import DeviceFeatures, synthetic_features
from .data.records import read_json
from .models.decoders import Critic, SpeakerDecoder, SpeakerEncoder
from .models.prevalent import PrevalentForPretraining, PrevalentModel
from .old_runs import upgrade
from .optimizer import OPTIMIZERS, OptimizerConfig
from .released.checkpoints import (
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
    BEST,
    OLD_KINDS,
    as_options,
    check_fit,
    find_agent,
    kind_of_agent,
    read_agent_config,
    read_snapshot,
    save_agent,
    write_snapshot,
)
from .runtime.command import parse
from .runtime.files import require_target, write_atomically
from .runtime.run_folder import CONFIG, config_text, read_plain
from .runtime.weight_files import compare_tensors
from .tasks.navigation import WORDS
from .tasks.ndh import NDHRun, file_of
from .tasks.r2r import R2RRun
from .tasks.speaker import SpeakerRun

States = Mapping[str, Mapping[str, Tensor]]


@dataclass(frozen=True)
class Sizes:
    """What an agent's tensors do not tell."""

    summary: Literal["tanh", "max"] = "max"
    num_heads: int = 0
    """0: one for each 64 numbers of the transformer's width, as in BERT."""
    angle_size: int = 128
    """Of a speaker, or of an agent of NDH."""


@dataclass(frozen=True)
class ConvertConfig:
    """Convert a checkpoint folder or an agent and check every tensor."""

    source: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE")]
    """Folder with ``config.json`` and ``pytorch_model.bin`` or ``model.safetensors``; or an agent:
    a snapshot file of the authors' code, a run, or a snapshot folder of a run."""
    destination: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DESTINATION")]
    """Folder to write, which must not hold weights yet; an agent for the authors is a file."""
    to: Literal["ours", "authors"] = "ours"
    """Format to write."""
    quiet: bool = False
    """Print the totals alone, not every tensor."""
    vocabulary: Path | None = None
    """Agents from the authors: the vocabulary they were trained with, to keep beside them."""
    agent: Sizes = field(default_factory=Sizes)


def main(argv: Sequence[str]) -> None:
    """Run ``prevalent convert checkpoint-12864 prevalent-base``."""
    config = parse(ConvertConfig, argv, "prevalent convert")
    kind = kind_of(config.source)
    if kind is None or kind == "pretraining":
        source = config.source / "model" if kind else config.source
        convert(replace(config, source=source))
    else:
        convert_agent(config, kind)


def kind_of(source: Path) -> str | None:
    """The kind of a run, a snapshot or an agent's file; None for a pre-trained model."""
    if source.is_file():
        return "ndh" if "_enc_" in source.name or "_dec_" in source.name else "r2r"
    if not (source / CONFIG).is_file():
        return kind_of_agent(find_agent(source)) if (source / "snapshots").is_dir() else None
    kind = upgrade(read_plain(source / CONFIG)).get("kind")
    return None if kind is None else OLD_KINDS.get(str(kind), str(kind))


def convert_agent(config: ConvertConfig, kind: str) -> None:
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
    if wanted == "ours":
        done = import_agent(config, kind)
    elif kind == "ndh":
        done = export_ndh(config.source, config.destination)
    elif kind in ("r2r", "speaker"):
        done = export_snapshot(config.source, config.destination, kind)
    else:
        raise ValueError(
            f"{config.source} is of kind {kind!r}, which has no file of the authors to be written "
            "as; r2r, speaker, ndh and pretraining have one"
        )
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
    require_target(config.destination)
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
    report = compare_tensors(model, state)
    if not config.quiet:
        print(list_tensors({name: state[name] for name in report.matched}))
    for title in ("missing", "unexpected", "wrong_shape"):
        for line in getattr(report, title):
            print(f"  {title}: {line}")
    print(report.summary())
    restore(model, state, weights)
    (save_model if config.to == "ours" else save_authors_folder)(config.destination, model)
    vocabulary = config.source / "vocab.txt"
    if vocabulary.is_file():
        write_atomically(config.destination / "vocab.txt", vocabulary.read_bytes())
    print(f"written: {config.destination}")
    return model


def import_agent(config: ConvertConfig, kind: str) -> str:
    """Write the authors' file as a run, for `evaluate` and `prevalent train-r2r --start-from`.

    Returns a line that counts the tensors. Raises ``ValueError`` where one does not fit.
    """
    source, run_dir = config.source, config.destination
    run: R2RRun | SpeakerRun | NDHRun
    states: dict[str, dict[str, Tensor]]
    if kind == "ndh":
        states = {
            name: {
                key.removeprefix("module."): value
                for key, value in read_weights(file_of(source, name)).items()
            }
            for name in ("encoder", "decoder")
        }
        content, modules = ndh_modules_of(states["encoder"], states["decoder"], config.agent)
        run = NDHRun(run_dir=run_dir, model=as_options(NDHConfig, content["model"]))
        content["max_length"] = run.text_length
    else:
        states = {name: part.state for name, part in read_snapshot(source).items()}
        content, modules = modules_of(states, config.agent)
        kind = content["kind"]
        if kind == "r2r":
            run = R2RRun(run_dir=run_dir, model=as_options(FollowerConfig, content["model"]))
        else:
            speaker = as_options(SpeakerConfig, content["speaker"])
            run = SpeakerRun(run_dir=run_dir, speaker=speaker)
    for name, module in modules.items():
        check_fit(name, module, states.get(name, {}), source)
        module.load_state_dict(states[name])
    words = None if config.vocabulary is None else config.vocabulary.read_bytes()
    save_agent(run_dir / "snapshots" / BEST, modules, content, words)
    write_atomically(run_dir / CONFIG, config_text(kind, run))
    count = sum(len(module.state_dict()) for module in modules.values())
    return f"{kind}: {count} tensors fit, 0 missing, 0 unexpected"


def read_states(folder: Path) -> dict[str, dict[str, Tensor]]:
    """The tensors of a snapshot of ours by module."""
    states: dict[str, dict[str, Tensor]] = {}
    for key, value in read_weights(folder / "model.safetensors").items():
        name, _, tensor = key.partition(".")
        states.setdefault(name, {})[tensor] = value
    return states


def export_snapshot(source: Path, path: Path, kind: str) -> str:
    """Write a follower or speaker of ours (a run or its snapshot) as the authors' snapshot file.

    The optimizers in it are fresh. Returns a line that counts the tensors.
    """
    folder = find_agent(source)
    states, known = read_states(folder), read_agent_config(folder, kind)
    options = known["model"] if kind == "r2r" else known["speaker"]
    heads = known["bert"]["num_heads"] if known.get("bert") else 0
    sizes = Sizes(options.get("summary", "max"), heads, options["angle_size"])
    _, modules = modules_of(states, sizes)
    for name, module in modules.items():
        check_fit(name, module, states[name], folder)
        module.load_state_dict(states[name])
    optimizer = OPTIMIZERS["rms" if kind == "r2r" else "adam"]
    lr = OptimizerConfig().lr
    optimizers = {
        name: optimizer(module.parameters(), lr=lr)  # type: ignore[call-arg]
        for name, module in modules.items()
    }
    write_snapshot(path, modules, optimizers, 0)
    return f"{kind}: {sum(map(len, states.values()))} tensors written"


def export_ndh(source: Path, path: Path) -> str:
    """Write an agent of NDH as the authors' two files, ``path`` being that of the encoder.

    Returns a line that counts the tensors. Raises ``ValueError`` where ``path`` has another name.
    """
    if "_enc_" not in path.name:
        raise ValueError(
            f"{path} must be named like the authors' file of an encoder, NAME_enc_iter_N; the "
            "decoder is written beside it as NAME_dec_iter_N"
        )
    states = read_states(find_agent(source))
    path.parent.mkdir(parents=True, exist_ok=True)
    for name, state in states.items():
        place = path.with_name(path.name.replace("_enc_", f"_{name[:3]}_"))
        torch.save(state, place, _use_new_zipfile_serialization=False)
    return f"ndh: {sum(map(len, states.values()))} tensors written"


def modules_of(states: States, sizes: Sizes) -> tuple[dict[str, Any], dict[str, nn.Module]]:
    """The description that a snapshot folder holds, and modules of the sizes of ``states``."""
    missing = [name for name in ("encoder", "decoder") if name not in states]
    if missing:
        raise ValueError(f"the snapshot has no {missing[0]}; it holds {', '.join(states)}")
    if "projection.weight" in states["decoder"]:
        return _speaker_of(states, sizes)
    return _follower_of(states, sizes)


def _speaker_of(states: States, sizes: Sizes) -> tuple[dict[str, Any], dict[str, nn.Module]]:
    words, hidden = states["decoder"]["projection.weight"].shape
    word_size = states["decoder"]["embedding.weight"].shape[1]
    width = states["encoder"]["lstm.weight_ih_l0"].shape[1]
    config = SpeakerConfig(hidden, word_size, angle_size=sizes.angle_size)
    modules = {
        "encoder": SpeakerEncoder(width, config.angle_size, hidden),
        "decoder": SpeakerDecoder(words, word_size, hidden),
    }
    content = {"kind": "speaker", "speaker": asdict(config), "max_length": 80}
    return {**content, "angle_layout": "interleaved"}, modules


def _follower_of(states: States, sizes: Sizes) -> tuple[dict[str, Any], dict[str, nn.Module]]:
    encoder, decoder = states["encoder"], states["decoder"]
    action_size, angle_size = decoder["embedding.0.weight"].shape
    hidden = decoder["lstm.weight_hh"].shape[1]
    width = decoder["feat_att_layer.linear_in.weight"].shape[0]
    bert = None
    config = FollowerConfig(
        hidden_size=hidden,
        action_size=action_size,
        angle_size=angle_size,
        summary=sizes.summary,
        bidirectional="lstm.weight_ih_l0_reverse" in encoder,
    )
    if (texts := _texts_side_by_side(decoder, hidden)) > 1:
        config = replace(config, num_texts=texts, merge_texts="cat")
    if "bert.embeddings.word_embeddings.weight" in encoder:
        bert = bert_sizes(encoder, width, sizes.num_heads)
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
        "kind": "r2r",
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


def ndh_modules_of(
    encoder: Mapping[str, Tensor], decoder: Mapping[str, Tensor], sizes: Sizes
) -> tuple[dict[str, Any], dict[str, nn.Module]]:
    """The description that a snapshot of NDH holds, and modules of the sizes of these tensors."""
    hidden = decoder["lstm.weight_hh"].shape[1]
    both = "lstm.weight_ih_l0_reverse" in encoder
    low_level = "embedding.weight" in decoder
    if low_level:
        action_size = decoder["embedding.weight"].shape[1]
        width = decoder["lstm.weight_ih"].shape[1] - action_size + sizes.angle_size
    else:
        action_size, width = 32, decoder["lstm.weight_ih"].shape[1] // 2
    bert = bert_sizes(encoder, width, sizes.num_heads) if f"bert.{WORDS}" in encoder else None
    top = "encoder2decoder_ht.weight" not in encoder or (
        encoder["encoder2decoder_ht.weight"].shape
        == encoder["encoder_lstm2decoder_ht.weight"].shape
    )
    config = NDHConfig(
        encoder="lstm" if bert is None else "dic",
        actions="low-level" if low_level else "panoramic",
        hidden_size=hidden,
        encoder_size=encoder["lstm.weight_hh_l0"].shape[1],
        word_size=encoder["embedding.weight"].shape[1] if bert is None else 256,
        action_size=action_size,
        attention_size=256 if low_level else len(decoder["decoder2action.linear_in_h.weight"]),
        bidirectional=both,
        top_lstm=top,
        angle_size=sizes.angle_size,
    )
    store = synthetic_features(["none"], width - config.angle_size)
    features = DeviceFeatures(store, angle_size=config.angle_size)
    words = None if bert is not None else len(encoder["embedding.weight"])
    model = None if bert is None else PrevalentModel(bert)
    built = build_ndh_encoder(config, features, vocab_size=words, bert=model)
    built_decoder = build_ndh_decoder(config, features, built.context_size)
    content = {
        "kind": "ndh",
        "model": asdict(config),
        "bert": None if bert is None else asdict(bert),
        "rollout": {},
    }
    return content, {"encoder": built, "decoder": built_decoder}
