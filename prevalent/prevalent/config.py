"""The model's sizes and what all commands share: data folder, arithmetic, checks of options."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from typing import Any

from .runtime.options import at_least, option, require
from .runtime.precision import Precision as Precision


def check_shares(batch_size: int, processes: int) -> int:
    """Rows of one of ``processes`` that share ``batch_size``; ``ValueError`` where it is uneven."""
    require(
        batch_size % processes == 0,
        f"--batch-size {batch_size} must be a multiple of the {processes} processes that share it",
    )
    return batch_size // processes


def default_data_dir() -> Path:
    """``$PREVALENT_DATA``, else ``data``: the folder with ``r2r/``, ``connectivity/`` and so on."""
    return Path(os.environ.get("PREVALENT_DATA", "data"))


@dataclass(frozen=True)
class ModelConfig:
    """The image-attended text encoder and its two heads (the released checkpoint's sizes)."""

    vocab_size: int = 30522
    """V, number of word pieces."""
    hidden_size: int = 768
    """d, width of both streams."""
    num_heads: int = 12
    """Attention heads."""
    intermediate_size: int = 3072
    """Width of the feed-forward layers."""
    num_language_layers: int = 9
    """Text layers before fusion."""
    num_cross_layers: int = 4
    """Cross-modal layers."""
    image_dim: int = 2176
    """Width of a view: image features (2048) and angle features (128)."""
    num_actions: int = 36
    """Outputs of the action head; targets are places in the candidate list, 0 = stop."""
    max_positions: int = 512
    """Longest text."""
    num_token_types: int = 2
    """Rows of the token-type embedding; only row 0 is used."""
    dropout: float = 0.1
    """Dropout on embeddings, projections and residual branches."""
    attention_dropout: float = 0.1
    """Dropout on attention weights."""
    layer_norm_eps: float = 1e-12
    """Epsilon of every LayerNorm."""
    initializer_range: float = 0.02
    """Standard deviation of the initial weights."""
    update_language: bool = True
    """False stops the gradient between the text layers and the fusion."""
    update_cross: bool = True
    """False stops the gradient at the output of the cross-modal layers."""

    def __post_init__(self) -> None:
        at_least(self, "model", num_heads=1, num_language_layers=0, num_cross_layers=0)
        if self.hidden_size % self.num_heads:
            raise ValueError(
                f"--model.hidden-size {self.hidden_size} must be a multiple of --model.num-heads "
                f"{self.num_heads}"
            )
        for name in ("dropout", "attention_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(
                    f"--model.{name.replace('_', '-')} must be in [0, 1), got {getattr(self, name)}"
                )


IN_TOY_WORLDS = ("data_dir", "features", "feature_columns", "wordpieces", "vocabulary")
"""Options of data that a toy world has of its own."""


def check_sources(config: Any) -> None:
    """Raise ``ValueError`` naming an option of data that a run would record and not use.

    Called where a run starts and not where one is read: older runs may hold such options.
    """
    usual = {
        one.name: one.default if one.default_factory is MISSING else one.default_factory()
        for one in fields(config)
    }
    if config.world == "toy":
        for name in IN_TOY_WORLDS:
            value = getattr(config, name, None)
            if value is not None and value != usual[name]:
                raise ValueError(
                    f"{option(name)} {value} is not used: --world toy makes its own data; drop "
                    f"{option(name)}, or give --world matterport to use it"
                )
    elif config.features is None and config.feature_columns:
        raise ValueError(
            f"--feature-columns {config.feature_columns} is not used with stand-in features; drop "
            "it, or give a file as --features"
        )
    if getattr(config, "load_optimizer", False) and config.start_from is None:
        raise ValueError(
            "--load-optimizer takes the state from the file of --start-from; give one or drop it"
        )


def unused_options(config: Any) -> dict[str, str]:
    """Options that a run of ``config`` would record and not use, with the reason and the cure.

    For `refuse_unused`, which knows what was given: a preset may hold such options.
    """
    unused: dict[str, str] = {}
    if config.world != "toy":
        unused["--toy-houses"] = "it counts the houses of --world toy; give that, or drop it"
    if config.world == "toy" or config.features is not None:
        have = "--world toy makes features" if config.world == "toy" else "--features names a file"
        unused["--standin-dim"] = f"{have}; drop it, or use stand-ins with --features None"
    if hasattr(config, "bert"):
        unused |= _unused_sizes(config)
    if hasattr(config, "use_images"):  # pre-training
        if config.use_images:
            unused["--model.image-dim"] = "it follows from the features; drop it"
        else:
            alone = "--no-use-images trains on the texts alone; drop one of the two"
            names = ("features", "feature_columns", "standin_dim", "angle_size")
            unused |= options_in("", names, alone)
        if not any(source.startswith("r2r:") for source in (*config.train, *config.held_out)):
            made = "triplet files are made of texts and steps already; drop it"
            unused |= options_in("", ("max_length", "max_path_steps"), made)
            if not (config.data_dir / config.vocabulary).is_file():
                unused["--vocabulary"] = (
                    f"there is no {config.data_dir / config.vocabulary}; give a file in --data-dir"
                )
        if config.world == "toy" or (config.data_dir / config.vocabulary).is_file():
            unused["--model.vocab-size"] = "it follows from the vocabulary; drop it"
        if config.max_steps:
            unused["--epochs"] = (
                f"--max-steps {config.max_steps} says how long; drop it, or give --max-steps 0"
            )
    return unused | config.unused()


def options_in(section: str, names: Iterable[str], reason: str) -> dict[str, str]:
    """The options ``names`` of ``section``, each with the ``reason`` why it is not used."""
    return {option(name, section): reason for name in names}


def _unused_sizes(config: Any) -> dict[str, str]:
    """Of an agent: sizes and vocabularies of the encoder that it does not have."""
    encoder = getattr(config.model, "encoder", "dic")
    if encoder in ("lstm", "words"):
        reason = f"--model.encoder {encoder} has no transformer; drop it or choose another encoder"
        return {"--bert.": reason, "--wordpieces": reason}
    unused = {
        "--bert.vocab-size": "it follows from the vocabulary; drop it",
        "--bert.num-actions": "an agent chooses by its own decoder; drop it",
        "--bert.image-dim": "it follows from the features; drop it",
    }
    if hasattr(config.model, "update_cross"):
        for name in ("update-language", "update-cross"):
            unused[f"--bert.{name}"] = f"--model.{name} says it; give that, or drop it"
    else:  # HANNA's
        names = ("image_dim", "update_cross")
        unused |= options_in("bert", names, "this agent reads texts without views; drop it")
    if not hasattr(config, "speaker"):  # whose words are read from there
        unused["--words"] = "this encoder reads word pieces; give --wordpieces, or drop it"
    if config.pretrained is not None:
        unused["--bert."] = (
            f"the sizes are those of --pretrained {config.pretrained}; drop one of the two"
        )
        own, given = config.pretrained / "vocab.txt", config.data_dir / config.wordpieces
        same = own.is_file() and given.is_file() and own.read_bytes() == given.read_bytes()
        if own.is_file() and not same:
            unused["--wordpieces"] = (
                f"--pretrained {config.pretrained} has its own vocab.txt; drop one of the two"
            )
    return unused


SMALL_MODEL = ModelConfig(
    hidden_size=128,
    num_heads=4,
    intermediate_size=512,
    num_language_layers=2,
    num_cross_layers=2,
    dropout=0.0,
    attention_dropout=0.0,
)
TOY_MODEL = ModelConfig(
    hidden_size=64,
    num_heads=4,
    intermediate_size=128,
    num_language_layers=2,
    num_cross_layers=2,
    dropout=0.0,
    attention_dropout=0.0,
)


READING_MODEL = replace(
    TOY_MODEL,
    num_language_layers=1,
    num_actions=37,
    initializer_range=0.1,  # at this width 0.02 leaves attention nearly uniform for long
)


TINY_MODEL = ModelConfig(
    hidden_size=16, num_heads=2, intermediate_size=32, num_language_layers=1, num_cross_layers=1
)


def check_dropouts(section: str = "model", /, **probabilities: float) -> None:
    """Raise ``ValueError`` naming the first option of ``section`` that is not in [0, 1)."""
    for name, value in probabilities.items():
        if not 0 <= value < 1:
            raise ValueError(f"{option(name, section)} must be in [0, 1), got {value}")


def check_angle_size(size: int, section: str = "model") -> None:
    """Raise ``ValueError`` unless ``size`` holds whole groups of four numbers."""
    if size < 4 or size % 4:
        raise ValueError(f"{option('angle_size', section)} must be a multiple of 4, got {size}")
