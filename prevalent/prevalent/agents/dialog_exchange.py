"""Agents of NDH in the authors' two files to ours and back; sizes are read off the tensors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor, nn

from ..config import ModelConfig
from ..data.features import DeviceFeatures, synthetic_features
from ..data.snapshots import check_fit, save_agent
from ..data.weights import read_weights
from ..dialog_options import DialogConfig, NDHRun
from ..models.prevalent import PrevalentModel
from ..runtime.files import write_atomically
from .build import find_agent
from .dialog import build_decoder, build_encoder
from .dialog_build import KIND, WORDS, file_of
from .exchange import Untold, bert_sizes

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
    built = build_encoder(config, features, vocab_size=words, bert=model)
    built_decoder = build_decoder(config, features, built.context_size)
    return config, bert, {"encoder": built, "decoder": built_decoder}
