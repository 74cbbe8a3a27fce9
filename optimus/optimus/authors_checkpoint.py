"""The authors' checkpoint folders: which files there are, what their tensors and settings mean."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from .models.vae import TOKEN_FIELDS
from .unpickle import load_tensors

_FOLDER = re.compile(r"checkpoint-(encoder|decoder|full)-(\d+)(-\d+\.\d+)?")
_WEIGHTS = ("training.bin", "model.safetensors", "pytorch_model.bin")
_WORDS, _TOKENS = "embeddings.word_embeddings.weight", "wte.weight"

ENCODER_FIELDS = (
    "attention_probs_dropout_prob",
    "hidden_act",
    "hidden_dropout_prob",
    "hidden_size",
    "initializer_range",
    "intermediate_size",
    "layer_norm_eps",
    "max_position_embeddings",
    "num_attention_heads",
    "num_hidden_layers",
    "type_vocab_size",
    "vocab_size",
)
DECODER_FIELDS = (
    "attn_pdrop",
    "embd_pdrop",
    "resid_pdrop",
    "initializer_range",
    "layer_norm_epsilon",
    "n_embd",
    "n_head",
    "n_layer",
    "n_positions",
    "vocab_size",
)


class AuthorsCheckpoint(NamedTuple):
    """A checkpoint by the authors' names, whatever folders it came from."""

    tensors: dict[str, Tensor]  # "encoder.*" and "decoder.*", as in the full checkpoint
    encoder_config: dict[str, Any]  # BERT fields, sizes as in the tensors
    decoder_config: dict[str, Any]  # GPT-2 fields and, where given, TOKEN_FIELDS
    files: tuple[Path, ...]


def read_authors_checkpoint(
    source: Path, step: int | None = None, *, language_model: bool = False
) -> AuthorsCheckpoint:
    """Read the checkpoint in ``source``.

    Args:
        source: a folder with ``checkpoint-{encoder,decoder,full}-STEP`` (also with a suffix such
            as ``-1.0``) or ``encoder``, ``decoder``, ``full``; one of these folders itself; a
            folder with one weight file of the whole model, as third parties convert it; that file.
        step: which of several steps; None is the newest.
        language_model: a decoder folder alone will do, as the GPT-2 baselines wrote it.
    """
    if not source.exists():
        raise FileNotFoundError(f"there is no checkpoint {source}")
    parts = {} if source.is_file() else _find_parts(source, step)
    files: list[Path] = []
    if "full" in parts:
        files = [_weight_file(parts["full"])]
        tensors = _whole(load_tensors(files[0]), files[0])
    elif {"encoder", "decoder"} <= parts.keys():
        files = [_weight_file(parts["encoder"]), _weight_file(parts["decoder"])]
        tensors = _half(load_tensors(files[0]), "encoder", _WORDS, ("bert.",), files[0])
        tensors |= _half(load_tensors(files[1]), "decoder", _TOKENS, (), files[1])
    elif language_model and "decoder" in parts:
        files = [_weight_file(parts["decoder"])]
        tensors = _half(load_tensors(files[0]), "decoder", _TOKENS, (), files[0])
    elif parts:
        lacking = {"encoder", "decoder"} - parts.keys()
        hint = "" if "decoder" in lacking else "; for a plain language model say --inject none"
        raise FileNotFoundError(
            f"{source} has no {' and no '.join(sorted(lacking))} checkpoint folder{hint}"
        )
    else:
        files = [source if source.is_file() else _weight_file(source)]
        tensors = _whole(load_tensors(files[0]), files[0])
    encoder_config = _read_config(parts.get("encoder"))
    return assemble(tensors, encoder_config, _read_config(parts.get("decoder")), files)


def assemble(
    tensors: Mapping[str, Tensor],
    encoder_config: Mapping[str, Any],
    decoder_config: Mapping[str, Any],
    files: Sequence[Path] = (),
) -> AuthorsCheckpoint:
    """A checkpoint from named tensors and what their ``config.json`` say, which may be nothing.

    Sizes are read from the tensors; of the two configurations only what those cannot tell.
    """
    tensors = {_modern(name): value for name, value in tensors.items()}
    return AuthorsCheckpoint(
        tensors,
        _encoder_config(tensors, encoder_config),
        _decoder_config(tensors, decoder_config),
        tuple(files),
    )


def _find_parts(source: Path, step: int | None) -> dict[str, Path]:
    """Folders of the parts ``encoder``, ``decoder`` and ``full`` of one step."""
    own = _FOLDER.fullmatch(source.name)
    if own:
        source, step = source.parent, int(own[2])
    found: dict[int, dict[str, Path]] = {}
    for folder in sorted(path for path in source.iterdir() if path.is_dir()):
        match = _FOLDER.fullmatch(folder.name)
        if match:
            found.setdefault(int(match[2]), {})[match[1]] = folder
    if not found:
        plain = {part: source / part for part in ("encoder", "decoder", "full")}
        return {part: folder for part, folder in plain.items() if folder.is_dir()}
    if step is not None and step not in found:
        raise FileNotFoundError(f"{source} has no step {step}, only {sorted(found)}")
    whole = [
        at for at, parts in found.items() if "full" in parts or {"encoder", "decoder"} <= {*parts}
    ]
    return found[step if step is not None else max(whole or found)]


def _weight_file(folder: Path) -> Path:
    for name in _WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    others = sorted(p for p in folder.iterdir() if p.suffix in (".pth", ".pt", ".safetensors"))
    if len(others) == 1:
        return others[0]
    raise FileNotFoundError(f"{folder} holds none of {', '.join(_WEIGHTS)}")


def _read_config(folder: Path | None) -> dict[str, Any]:
    if folder is None or not (folder / "config.json").is_file():
        return {}
    try:
        return json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{folder / 'config.json'} is not valid JSON: {error}") from error


def _whole(tensors: dict[str, Tensor], file: Path) -> dict[str, Tensor]:
    """Drop what stands before ``encoder.`` and ``decoder.``, such as ``module.``."""
    marker = "encoder." + _WORDS
    roots = [name.removesuffix(marker) for name in tensors if name.endswith(marker)]
    if not roots:
        raise ValueError(f"{file} is no sentence VAE of the authors: it has no {marker}")
    root = min(roots, key=len)
    return {name.removeprefix(root): value for name, value in tensors.items()}


def _half(
    tensors: dict[str, Tensor], part: str, marker: str, extra: tuple[str, ...], file: Path
) -> dict[str, Tensor]:
    """Names of one network, brought to the form they have in the full checkpoint."""
    roots = [name.removesuffix(marker) for name in tensors if name.endswith(marker)]
    if not roots:
        raise ValueError(f"{file} is no {part} of the authors: it has no {marker}")
    root = min(roots, key=len).removesuffix("transformer.")
    renamed = {}
    for name, value in tensors.items():
        name = name.removeprefix(root)
        for prefix in extra:
            name = name.removeprefix(prefix)
        if part == "decoder" and not name.startswith(("transformer.", "lm_head.")):
            name = "transformer." + name  # saved from the base model
        renamed[f"{part}.{name}"] = value
    return renamed


def _modern(name: str) -> str:
    """TensorFlow-era names of the norms' parameters."""
    return re.sub(r"\.gamma$", ".weight", re.sub(r"\.beta$", ".bias", name))


def _encoder_config(tensors: dict[str, Tensor], given: Mapping[str, Any]) -> dict[str, Any]:
    if "encoder." + _WORDS not in tensors:
        return {}
    words = tensors["encoder." + _WORDS]
    config = {key: given[key] for key in ENCODER_FIELDS if key in given}
    first = "encoder.encoder.layer.0.intermediate.dense.weight"
    sizes = {
        "vocab_size": words.shape[0],
        "hidden_size": words.shape[1],
        "max_position_embeddings": _rows(tensors, "encoder.embeddings.position_embeddings.weight"),
        "type_vocab_size": _rows(tensors, "encoder.embeddings.token_type_embeddings.weight"),
        "intermediate_size": _rows(tensors, first),
        "num_hidden_layers": _layers(tensors, r"encoder\.encoder\.layer\.(\d+)\."),
    }
    # Heads leave no trace in the tensors; 64 dimensions a head is true of every public BERT.
    return {"num_attention_heads": max(1, words.shape[1] // 64), **config, **sizes}


def _decoder_config(tensors: dict[str, Tensor], given: Mapping[str, Any]) -> dict[str, Any]:
    name = "decoder.transformer." + _TOKENS
    if name not in tensors:
        raise ValueError(f"the checkpoint is no sentence VAE of the authors: it has no {name}")
    width = tensors[name].shape[1]
    config = {key: given[key] for key in DECODER_FIELDS if key in given}
    config |= {key: given[key] for key in TOKEN_FIELDS if given.get(key) is not None}
    sizes = {
        "vocab_size": tensors[name].shape[0],
        "n_embd": width,
        "n_positions": _rows(tensors, "decoder.transformer.wpe.weight"),
        "n_layer": _layers(tensors, r"decoder\.transformer\.h\.(\d+)\."),
    }
    return {"n_head": max(1, width // 64), **config, **sizes}


def _rows(tensors: dict[str, Tensor], name: str) -> int:
    if name not in tensors:
        raise ValueError(f"the checkpoint is incomplete: it has no {name}")
    return tensors[name].shape[0]


def _layers(tensors: dict[str, Tensor], pattern: str) -> int:
    return 1 + max((int(m[1]) for m in map(re.compile(pattern).match, tensors) if m), default=-1)
