"""The authors' checkpoints <-> ours, tensor by tensor and without running anything in the files."""

from __future__ import annotations

import argparse
import codecs
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..data.tokenizers import load_tokenizers
from ..models.decoder import Injection
from ..models.vae import NUM_ADDED_TOKENS, TOKEN_FIELDS, OptimusConfig, OptimusModel
from ..runs import KINDS, find_weights
from ..runtime.command import parse
from ..runtime.files import json_text, require_target, why
from ..runtime.weight_files import read_weight_file

# What the authors' files hold besides tensors: the arguments of a run, its device, and a numpy
# number. None of these does anything when it is built. numpy renamed the module of `scalar`.
_SCALAR = np.float64().__reduce__()[0]
ALLOWED: tuple[Any, ...] = (
    argparse.Namespace,
    torch.device,
    np.dtype,
    type(np.dtype("float64")),
    type(np.dtype("float32")),
    type(np.dtype("int64")),
    codecs.encode,
    (_SCALAR, "numpy.core.multiarray.scalar"),
    (_SCALAR, "numpy._core.multiarray.scalar"),
)
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


def load_tensors(path: Path) -> dict[str, Tensor]:
    """The state dict in ``path``, alone or under ``model_state_dict``/``state_dict``/``model``."""
    content = read_weight_file(path, ALLOWED)
    for key in ("model_state_dict", "state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not any(isinstance(v, Tensor) for v in content.values()):
        raise ValueError(f"{path} holds no tensors by name; expected a model's state dict")
    return {str(name): value for name, value in content.items() if isinstance(value, Tensor)}


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
        raise ValueError(f"{folder / 'config.json'} is not valid JSON: {why(error)}") from error


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


GPT2_VOCAB_SIZE = 50257
"""GPT-2's own vocabulary; a decoder of just this size has not been given the three tokens yet."""

_CONNECTORS = {
    "encoder.linear.weight": "encoder.head.weight",
    "decoder.transformer.linear.weight": "decoder.memory.weight",
    "decoder.transformer.linear_emb.weight": "decoder.embedding.weight",
}
_BUFFERS = (".attn.bias", ".attn.masked_bias", "embeddings.position_ids")


class TensorRow(NamedTuple):
    """One line of a report."""

    theirs: str  # "" where the tensor has no counterpart
    ours: str
    shape: tuple[int, ...]
    status: str  # copied, tied, buffer, unused, new


@dataclass(frozen=True)
class ConversionReport:
    """What became of every tensor."""

    rows: tuple[TensorRow, ...]
    missing: tuple[str, ...]
    """Tensors of the target that the source lacks."""
    unexpected: tuple[str, ...]
    """Tensors of the source that the target has no place for."""
    notes: tuple[str, ...] = ()

    def text(self) -> str:
        """The report as a table with a line of counts below it."""
        width = max((len(row.theirs) for row in self.rows), default=0)
        lines = [
            f"{row.status:<7} {row.theirs:<{width}}  {row.ours}  {list(row.shape)}"
            for row in self.rows
        ]
        lines += [f"note: {note}" for note in self.notes]
        copied = sum(row.status == "copied" for row in self.rows)
        lines.append(
            f"{len(self.rows)} tensors, {copied} copied, {len(self.missing)} missing, "
            f"{len(self.unexpected)} unexpected"
        )
        return "\n".join(lines)


def load_authors_checkpoint(
    source: Path,
    *,
    latent_dim: int | None = None,
    inject: Injection | None = None,
    step: int | None = None,
) -> tuple[OptimusModel, ConversionReport]:
    """Read the authors' checkpoint in ``source``; see ``read_authors_checkpoint`` for its forms."""
    return import_checkpoint(
        read_authors_checkpoint(source, step, language_model=inject == "none"),
        latent_dim=latent_dim,
        inject=inject,
    )


def our_name(theirs: str) -> str:
    """Our name of a tensor of the full checkpoint; raises ``ValueError`` where there is none."""
    if theirs in _CONNECTORS:
        return _CONNECTORS[theirs]
    for part, module in (("encoder.", "bert."), ("decoder.", "gpt2.")):
        if theirs.startswith(part):
            return part + module + theirs.removeprefix(part)
    raise ValueError(f"no part of a sentence VAE is called {theirs!r}")


def authors_name(ours: str) -> str:
    """The authors' name, as in the full checkpoint, of a parameter of ``OptimusModel``."""
    for theirs, mine in _CONNECTORS.items():
        if ours == mine:
            return theirs
    return ours.replace("encoder.bert.", "encoder.", 1).replace("decoder.gpt2.", "decoder.", 1)


def import_checkpoint(
    checkpoint: AuthorsCheckpoint,
    *,
    latent_dim: int | None = None,
    inject: Injection | None = None,
) -> tuple[OptimusModel, ConversionReport]:
    """Build our model from the authors' tensors.

    Args:
        checkpoint: the tensors and settings read from their files.
        latent_dim: Z; read from the tensors where None, an error where it contradicts them.
        inject: how z enters the decoder, which their files do not say; None is ``both``, or what
            the tensors allow; ``none`` makes a plain language model of the decoder.

    Raises:
        ValueError: if tensors are missing or left over, with their names.
    """
    tensors, notes = dict(checkpoint.tensors), list[str]()
    found = latent_dim or 1
    if inject != "none":
        found = _latent_dim(tensors, latent_dim)
        inject = _complete_connectors(tensors, found, inject, checkpoint.decoder_config, notes)
    gpt2 = {
        key: checkpoint.decoder_config[key]
        for key in DECODER_FIELDS
        if key in checkpoint.decoder_config
    }
    tokens = {
        key: checkpoint.decoder_config[key]
        for key in TOKEN_FIELDS
        if key in checkpoint.decoder_config
    }
    added = NUM_ADDED_TOKENS if gpt2["vocab_size"] == GPT2_VOCAB_SIZE else 0
    if added:
        gpt2["vocab_size"] += added
        tokens = {}
        notes.append(f"the decoder had no special tokens: {added} new rows drawn from N(0, 0.02)")
    config = OptimusConfig(
        bert=checkpoint.encoder_config or None, gpt2=gpt2, latent_dim=found, inject=inject, **tokens
    )
    model = OptimusModel(config)
    report = _copy(model, tensors, notes)
    if report.missing or report.unexpected:
        raise ValueError(
            f"{checkpoint.files[0] if checkpoint.files else 'the checkpoint'} does not fit: "
            f"missing {list(report.missing)[:5]}, unexpected {list(report.unexpected)[:5]} "
            f"({len(report.missing)} and {len(report.unexpected)} in all)"
        )
    return model.eval(), report


def _latent_dim(tensors: dict[str, Tensor], wanted: int | None) -> int:
    if "encoder.linear.weight" not in tensors:
        raise ValueError(
            "the encoder has no linear.weight, the map to the latent: it is a plain BERT, give it "
            "and a GPT-2 as initial weights instead"
        )
    found = tensors["encoder.linear.weight"].shape[0] // 2
    for name in ("decoder.transformer.linear.weight", "decoder.transformer.linear_emb.weight"):
        if name in tensors and tensors[name].shape[1] != found:
            raise ValueError(
                f"the encoder's latent has {found} dimensions and the decoder's "
                f"{tensors[name].shape[1]} ({name}): the two folders are not of one model"
            )
    if wanted is not None and wanted != found:
        raise ValueError(
            f"--latent-dim {wanted} contradicts the weights, which have {found}; leave it out"
        )
    return found


def _complete_connectors(
    tensors: dict[str, Tensor],
    latent_dim: int,
    inject: Injection | None,
    config: dict[str, int],
    notes: list[str],
) -> Injection:
    """Return the injection, after filling in what ``tensors`` lack for it."""
    memory, embedding = "decoder.transformer.linear.weight", "decoder.transformer.linear_emb.weight"
    if inject is None:
        inject = "both" if memory in tensors else "embedding"
        if inject == "embedding":
            notes.append("no memory connector (transformer.linear.weight): injecting by embedding")
    if inject in ("embedding", "both") and embedding not in tensors:
        # Older code had the memory alone; zeros leave such a model as it was.
        tensors[embedding] = torch.zeros(config["n_embd"], latent_dim)
        notes.append("no transformer.linear_emb.weight: set to zero, z enters by memory alone")
    return inject


def _copy(model: OptimusModel, tensors: dict[str, Tensor], notes: list[str]) -> ConversionReport:
    """Copy ``tensors`` into ``model`` and say what became of each."""
    own = model.state_dict()
    rows, unexpected, filled = [], [], set()
    unused = {name for name in _CONNECTORS.values() if name not in own}
    for theirs, value in tensors.items():
        shape = tuple(value.shape)
        ours = our_name(theirs) if theirs.startswith(("encoder.", "decoder.")) else ""
        if theirs.endswith(_BUFFERS):
            rows.append(TensorRow(theirs, "", shape, "buffer"))
        elif ours in unused or (model.encoder is None and theirs.startswith("encoder.")):
            rows.append(TensorRow(theirs, ours, shape, "unused"))
        elif ours == "decoder.gpt2.lm_head.weight":
            if not torch.equal(value, tensors["decoder.transformer.wte.weight"]):
                notes.append("lm_head.weight differs from wte.weight: the tied wte.weight was kept")
            rows.append(TensorRow(theirs, ours, shape, "tied"))
            filled.add(ours)
        elif ours not in own or not _fits(value, own[ours], ours):
            unexpected.append(theirs)
        else:
            own[ours][: len(value)].copy_(value)
            rows.append(TensorRow(theirs, ours, shape, "copied"))
            filled.add(ours)
    if "decoder.gpt2.transformer.wte.weight" in filled:
        filled.add("decoder.gpt2.lm_head.weight")
    missing = tuple(name for name in own if name not in filled)
    return ConversionReport(tuple(rows), missing, tuple(unexpected), tuple(notes))


def _fits(value: Tensor, target: Tensor, name: str) -> bool:
    grows = name == "decoder.gpt2.transformer.wte.weight" and len(value) == GPT2_VOCAB_SIZE
    return value.shape == target.shape or (grows and value.shape[1] == target.shape[1])


def export_authors_checkpoint(model: OptimusModel, target: Path, step: int = 0) -> ConversionReport:
    """Write ``model`` as the authors' three folders of ``step`` under ``target``.

    The files are those of ``torch.save`` before torch 1.6, so that the authors' environment reads
    them; their causal-mask buffers are put back, and an absent connector is written as zeros, which
    is what leaving it out amounts to for ``embedding`` but not for ``memory`` (a zero slot would
    still be attended to): such a model is refused.
    """
    if model.config.gpt2 is None:
        raise ValueError(
            "the authors' layout has a place for BERT and GPT-2 only, and this model is of other "
            "networks; SentenceVAE.save_pretrained writes it whole"
        )
    if model.encoder is None or model.decoder.memory is None:
        raise ValueError(
            f"the authors' layout has no place for inject={model.config.inject!r}: their code "
            "always reads a memory connector when it loads a folder"
        )
    state = {name: value.detach().cpu() for name, value in model.state_dict().items()}
    rows = [TensorRow(authors_name(k), k, tuple(v.shape), "copied") for k, v in state.items()]
    tensors = {authors_name(name): value for name, value in state.items()}
    gpt2 = model.config.gpt2
    causal = torch.ones(gpt2.n_positions, gpt2.n_positions).tril()[None, None]
    extra = {f"decoder.transformer.h.{i}.attn.bias": causal for i in range(gpt2.n_layer)}
    if model.decoder.embedding is None:
        zeros = torch.zeros(gpt2.n_embd, model.config.latent_dim)
        extra["decoder.transformer.linear_emb.weight"] = zeros
    rows += [TensorRow(name, "", tuple(value.shape), "new") for name, value in extra.items()]
    _write_folders(model.config, {**tensors, **extra}, target, step)
    return ConversionReport(tuple(rows), (), ())


def _write_folders(
    config: OptimusConfig, tensors: dict[str, Tensor], target: Path, step: int
) -> None:
    arguments = argparse.Namespace(
        latent_size=config.latent_dim,
        latent_as_gpt_memory=int(config.inject in ("memory", "both")),
        latent_as_gpt_emb=int(config.inject in ("embedding", "both")),
    )
    gpt2 = config.gpt2.to_dict()
    tokens = {key: getattr(config, key) for key in TOKEN_FIELDS}
    settings = {
        "encoder": {key: config.bert.to_dict()[key] for key in ENCODER_FIELDS},
        "decoder": {key: gpt2[key] for key in DECODER_FIELDS}
        | {"n_ctx": gpt2["n_positions"], "latent_size": config.latent_dim, **tokens},
    }
    for part, fields in settings.items():
        folder = target / f"checkpoint-{part}-{step}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json_text(fields, indent=2) + "\n", encoding="utf-8")
        prefix = part + "."
        half = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        _save_legacy(half, folder / "pytorch_model.bin")
        _save_legacy(arguments, folder / "training_encoder_args.bin")
    full = target / f"checkpoint-full-{step}"
    full.mkdir(parents=True, exist_ok=True)
    content = {
        "iter": step,
        "model_state_dict": tensors,
        "optimizer_state_dict": {},
        "beta": 0.0,
        "args": arguments,
    }
    _save_legacy(content, full / "training.bin")


def _save_legacy(content: object, path: Path) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


@dataclass(frozen=True)
class ConvertConfig:
    """Convert checkpoints of the authors to ours, or back."""

    source: Path
    """import: their folder, or one weight file of the whole model; export: a run or a folder of a
    model."""
    target: Path
    """The folder to write."""
    direction: Literal["import", "export"] = "import"
    """import reads the authors' layout, export writes it."""
    tokenizers: Path | None = None
    """import: a folder with bert/vocab.txt and gpt2/{vocab.json,merges.txt} to keep beside the
    model; the authors' folders have no tokenizers."""
    latent_dim: int | None = None
    """import: size of z, to check; it is read from the weights."""
    inject: Injection | None = None
    """import: how z enters GPT-2, which the authors' files do not say; both by default; none makes
    a plain language model of the decoder, which may then stand alone."""
    step: int | None = None
    """Step to read (the newest by default) or to write (0 by default)."""


def convert(config: ConvertConfig) -> ConversionReport:
    """Carry out ``config`` and return what became of every tensor."""
    require_target(config.target)
    if config.direction == "export":
        folder, _ = find_weights(config.source, *KINDS)
        if not (folder / "config.json").is_file():
            raise FileNotFoundError(f"{folder} is no model folder: it has no config.json")
        model = OptimusModel.from_pretrained(folder)
        return export_authors_checkpoint(model, config.target, config.step or 0)
    model, report = load_authors_checkpoint(
        config.source, latent_dim=config.latent_dim, inject=config.inject, step=config.step
    )
    if config.tokenizers is not None:
        tokenizers = load_tokenizers(config.tokenizers)
        if tokenizers.decoder_vocab_size != model.config.gpt2.vocab_size:
            raise ValueError(
                f"--tokenizers {config.tokenizers} has {tokenizers.decoder_vocab_size} decoder "
                f"tokens, the model {model.config.gpt2.vocab_size}: they are not of one model"
            )
        tokenizers.save(config.target / "tokenizers")
    model.save_pretrained(config.target)
    return report


def main(argv: Sequence[str]) -> None:
    """Run ``optimus convert --source FOLDER --target FOLDER``."""
    config = parse(ConvertConfig, argv, "optimus convert")
    print(convert(config).text())
