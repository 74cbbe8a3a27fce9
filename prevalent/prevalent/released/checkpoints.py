"""Weights on disk: our folders, the authors' folders, and the one reader of foreign files.

`read_weights` is the only place in the package that opens weight files of other people. It never
executes what is in them.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ..config import ModelConfig
from ..data.records import read_json
from ..models.prevalent import PrevalentForPretraining
from ..runtime.files import write_json
from ..runtime.weight_files import TensorReport, compare_tensors, read_weight_file

logger = logging.getLogger(__name__)
WORDS = "bert.embeddings.word_embeddings.weight"
TIED = "mlmhead.predictions.decoder.weight"  # the same tensor as WORDS

CONFIG_KEYS = {  # ours -> the key in the released config.json
    "vocab_size": "vocab_size",
    "hidden_size": "hidden_size",
    "num_heads": "num_attention_heads",
    "intermediate_size": "intermediate_size",
    "num_language_layers": "la_layers",
    "num_cross_layers": "vl_layers",
    "image_dim": "img_feature_dim",
    "num_actions": "action_space",
    "max_positions": "max_position_embeddings",
    "num_token_types": "type_vocab_size",
    "dropout": "hidden_dropout_prob",
    "attention_dropout": "attention_probs_dropout_prob",
    "layer_norm_eps": "layer_norm_eps",
    "initializer_range": "initializer_range",
    "update_language": "update_lang_bert",
    "update_cross": "update_add_layer",
}
CONSTANT_KEYS: dict[str, Any] = {  # of pytorch-transformers 1.2; the model does not need them
    "finetuning_task": None,
    "hidden_act": "gelu",
    "img_feature_type": "",
    "num_hidden_layers": 12,
    "num_labels": 2,
    "output_attentions": False,
    "output_hidden_states": False,
    "pruned_heads": {},
    "torchscript": False,
}


def read_weights(path: str | Path, allowed: Sequence[Any] = ()) -> dict[str, Any]:
    """Read a weight file of any origin, plain or nested as in agent snapshots.

    Raises as ``read_weight_file`` does, and ``ValueError`` where the file holds no named tensors.
    """
    content = read_weight_file(path, allowed)
    if not isinstance(content, Mapping) or not all(isinstance(name, str) for name in content):
        raise ValueError(f"{path} holds a {type(content).__name__}, not named tensors")
    return dict(content)


def normalize_names(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Drop ``module.`` of DataParallel, rename ``gamma``/``beta`` of old files, tie the head."""
    renamed: dict[str, Tensor] = {}
    for name, value in state.items():
        name = name.removeprefix("module.")
        if name.endswith(".gamma"):
            name = name.removesuffix("gamma") + "weight"
        elif name.endswith(".beta"):
            name = name.removesuffix("beta") + "bias"
        renamed[name] = value
    if WORDS in renamed:
        renamed.setdefault(TIED, renamed[WORDS])
    return renamed


def restore(model: nn.Module, state: Mapping[str, Tensor], origin: str | Path) -> TensorReport:
    """Load ``state`` into ``model``; every tensor must fit, else ``ValueError`` names the first."""
    report = compare_tensors(model, state)
    report.require_complete(origin)
    model.load_state_dict(dict(state))
    logger.info("%s: all %d tensors fit, 0 missing, 0 unexpected", origin, len(report.matched))
    return report


def list_tensors(state: Mapping[str, Tensor]) -> str:
    """One line for each tensor: name, shape and type."""
    return "\n".join(
        f"  {name}  {tuple(value.shape)}  {str(value.dtype).removeprefix('torch.')}"
        for name, value in state.items()
    )


def to_model_config(plain: Mapping[str, Any], origin: str | Path) -> ModelConfig:
    """Read our ``config.json`` or the authors'; raises ``ValueError`` naming an absent key."""
    if not isinstance(plain, Mapping):
        raise ValueError(f"{origin} must hold a record; it is not a config of this model")
    names = [field.name for field in fields(ModelConfig)]
    keys = CONFIG_KEYS if "la_layers" in plain else {name: name for name in names}
    absent = [keys[name] for name in names if keys[name] not in plain]
    if absent:
        raise ValueError(f"{origin} has no key {absent[0]!r}; it is not a config of this model")
    if plain.get("hidden_act", "gelu") != "gelu":
        raise ValueError(f"{origin} asks for {plain['hidden_act']!r}; only gelu is supported")
    return ModelConfig(**{name: plain[keys[name]] for name in names})


def to_authors_config(config: ModelConfig) -> dict[str, Any]:
    """The content of the authors' ``config.json``."""
    ours = {CONFIG_KEYS[name]: value for name, value in asdict(config).items()}
    return dict(sorted({**CONSTANT_KEYS, **ours}.items()))


def initialize_from(model: PrevalentForPretraining, path: str | Path) -> TensorReport:
    """Start ``model`` from BERT (its text side) or from weights of this model (all of it).

    Args:
        model: changed in place.
        path: a weight file, or a folder with ``model.safetensors`` or ``pytorch_model.bin``.

    Returns:
        What was loaded and what keeps its random start (``missing``). Raises ``ValueError`` where
        a tensor has the wrong shape or nothing fits.
    """
    path = Path(path)
    weights = find_weights(path) if path.is_dir() else path
    state = normalize_names(_from_bert(read_weights(weights)))
    ours = model.state_dict()
    report = compare_tensors(model, state)
    if report.wrong_shape or not report.matched:
        reason = report.wrong_shape[0] if report.wrong_shape else "no tensor has a known name"
        raise ValueError(f"--init-from {path} does not fit the model: {reason}")
    model.load_state_dict({**ours, **{name: state[name] for name in report.matched}})
    return report


def _from_bert(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """BERT's names to those of this model, also of files without heads; other names stay."""
    renamed = {}
    bare = "encoder.layer.0.output.dense.weight" in state  # of transformers' BertModel
    for name, value in state.items():
        name = f"bert.{name}" if bare else name
        name = name.replace("bert.encoder.layer.", "bert.lalayer.")
        renamed[name.replace("cls.predictions.", "mlmhead.predictions.")] = value
    return renamed


def find_weights(folder: str | Path) -> Path:
    """The weight file of a model folder, ours or the authors'."""
    for name in ("model.safetensors", "pytorch_model.bin"):
        if (Path(folder) / name).is_file():
            return Path(folder) / name
    raise FileNotFoundError(
        f"{folder} holds neither model.safetensors nor pytorch_model.bin; give a folder written by "
        "`prevalent pretrain` (RUN/model) or a released checkpoint folder"
    )


def load_model(folder: str | Path) -> PrevalentForPretraining:
    """Build the model of a folder, ours or a released one, with its weights, in eval mode."""
    folder = Path(folder)
    weights, config_path = find_weights(folder), folder / "config.json"
    if not config_path.is_file():
        raise FileNotFoundError(f"{folder} has no config.json beside {weights.name}")
    model = PrevalentForPretraining(
        to_model_config(read_json(config_path, "fetch or convert it again"), config_path)
    )
    restore(model, normalize_names(read_weights(weights)), weights)
    return model.eval()


def save_model(folder: str | Path, model: PrevalentForPretraining) -> None:
    """Write ``model.safetensors`` and ``config.json``; the tied matrix is stored once."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: value.contiguous() for name, value in model.state_dict().items() if name != TIED}
    partial = folder / "model.safetensors.tmp"
    save_file(state, partial)
    partial.replace(folder / "model.safetensors")
    write_json(folder / "config.json", asdict(model.config))


def save_authors_folder(folder: str | Path, model: PrevalentForPretraining) -> None:
    """Write ``pytorch_model.bin`` (legacy container) and ``config.json`` as the authors do."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(
        model.state_dict(), folder / "pytorch_model.bin", _use_new_zipfile_serialization=False
    )
    plain = to_authors_config(model.config)
    write_json(folder / "config.json", plain)
