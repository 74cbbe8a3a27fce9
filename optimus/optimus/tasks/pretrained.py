"""Two pre-trained networks from ``--model.init ENCODER DECODER``: found, checked, loaded, adapted.

A folder is refused by name where its architecture, its tensors or its tokenizer do not fit. LoRA
(Hu et al., ICLR 2022) is peft's.
"""

from __future__ import annotations

import importlib.util
import logging
import pickle
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import nn
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, PreTrainedConfig
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
)

from ..config import ModelOptions
from ..data.pretrained_tokenizers import PretrainedTokenizers, read_pretrained_tokenizers
from ..data.text import Padding, Sentences, gather
from ..data.tokenizers import Tokenizers, load_tokenizers
from ..models.encoder import Pooling
from ..models.pretrained import (
    LORA_SCALING,
    find_encoder_misfit,
    find_misfit,
    grow_vocabulary,
    pooler_options,
    set_dropout,
)
from ..models.start import start_from_data
from ..models.vae import OptimusModel, without_bars, without_tables
from ..runtime.options import require
from ..runtime.run_folder import read_plain

logger = logging.getLogger(__name__)
HUB_NAME = re.compile(r"^[\w.-]+(/[\w.-]+)?$")
HUB_FILES = ("*.json", "*.safetensors", "*.txt", "*.model")
HUB_SECONDS = 10.0
START_BATCH = 64  # sentences read at once for a start from data
SENTENCE_POOLINGS: dict[str, Pooling] = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "cls": "cls",  # newer files have one word
    "mean": "mean",
}


def find_folders(init: tuple[Path, ...]) -> tuple[Path, ...]:
    """The folders of ``--model.init``; the name of a hub is fetched, where the network allows it.

    Raises:
        FileNotFoundError: there is neither such a folder nor such a model within reach.
    """
    return tuple(one if one.is_dir() else _fetch(one) for one in init)


def _fetch(name: Path) -> Path:
    reason = "it is a file" if name.exists() else "no name of a hub has that form"
    if HUB_NAME.match(str(name)) and not name.exists():
        try:
            from huggingface_hub import snapshot_download

            return Path(
                snapshot_download(str(name), allow_patterns=[*HUB_FILES], etag_timeout=HUB_SECONDS)
            )
        except Exception as error:  # of the network, of the hub, of the file system
            reason = f"the hub does not give it: {type(error).__name__}"
    raise FileNotFoundError(
        f"--model.init {name} is not a folder ({reason}); give a model of ours, a checkpoint of "
        "the authors, or the folders of an encoder and of a decoder"
    )


def require_joined(folder: Path) -> None:
    """Refuse a ``folder`` that stands alone in ``--model.init`` and holds one network."""
    found = _model_type(folder)
    known = {*MODEL_FOR_MASKED_LM_MAPPING_NAMES, *MODEL_FOR_CAUSAL_LM_MAPPING_NAMES}
    require(
        found not in known,
        f"--model.init {folder} holds one network alone ({found}); give two folders, that of an "
        "encoder and that of a decoder",
    )


def are_the_papers(options: ModelOptions, folders: tuple[Path, ...]) -> bool:
    """Whether the two ``folders`` are read as the paper's BERT, with its pooler, and GPT-2."""
    kinds = [_model_type(folder) for folder in folders]
    plain = options.pooling in ("default", "pooler") and options.start == "fresh"
    plain = plain and options.weights == "pretrained"
    return kinds == ["bert", "gpt2"] and plain


def read_tokenizers(options: ModelOptions, folders: tuple[Path, ...]) -> Tokenizers:
    """The tokenizers of the networks in the two ``folders``, after a look at what these are."""
    for side, folder in zip(("encoder", "decoder"), folders, strict=True):
        _check_architecture(side, folder)
    if are_the_papers(options, folders):
        return load_tokenizers(*folders)
    return read_pretrained_tokenizers(*folders)


def build_from_networks(
    options: ModelOptions, folders: tuple[Path, ...], tokenizers: Tokenizers
) -> OptimusModel:
    """The networks of the two ``folders`` with fresh connectors, on the CPU."""
    encoder_folder, decoder_folder = folders
    config = _check_architecture("decoder", decoder_folder)
    set_dropout(config, options.dropout)
    random = options.weights == "random"
    decoder = load_network(AutoModelForCausalLM, decoder_folder, config, random=random)
    misfit = find_misfit(decoder)
    require(misfit is None, f"--model.init {decoder_folder} cannot be a decoder: {misfit}")
    rows = decoder.get_input_embeddings().num_embeddings
    added = 3 if isinstance(tokenizers, PretrainedTokenizers) else 0
    require(
        rows + added >= tokenizers.decoder_vocab_size,
        f"--model.init {decoder_folder}: the tokenizer has {tokenizers.decoder_vocab_size} tokens "
        f"and the network embeddings for {rows}; put the network's own tokenizer there",
    )
    grow_vocabulary(decoder, tokenizers.decoder_vocab_size)
    encoder: Any = None
    pooling: Pooling = "cls"
    if options.inject != "none":
        encoder, pooling = _load_encoder(options, encoder_folder)
        misfit = find_encoder_misfit(encoder, pooling, tokenizers.encoder_pad_id)
        require(misfit is None, f"--model.init {encoder_folder} cannot be an encoder: {misfit}")
    return OptimusModel.from_networks(
        encoder,
        decoder,
        tokens={
            "pad_token_id": tokenizers.pad_id,
            "bos_token_id": tokenizers.bos_id,
            "eos_token_id": tokenizers.eos_id,
        },
        latent_dim=options.latent_dim,
        inject=options.inject,
        pooling=pooling,
        encoder_pad_token_id=tokenizers.encoder_pad_id,
    )


def _load_encoder(options: ModelOptions, folder: Path) -> tuple[Any, Pooling]:
    config = _check_architecture("encoder", folder)
    set_dropout(config, options.dropout)
    pooling: Pooling = (
        _own_pooling(folder, config) if options.pooling == "default" else options.pooling
    )
    if pooling == "pooler" and not (pooler_options(config, pooling) and _has_pooler(folder)):
        require(
            options.pooling == "default",
            f"--model.pooling pooler: the network in {folder} has no pooler; give cls or mean",
        )
        pooling = "cls"
    given = {"random": options.weights == "random", **pooler_options(config, pooling)}
    return load_network(AutoModel, folder, config, **given), pooling


def _own_pooling(folder: Path, config: PreTrainedConfig) -> Pooling:
    """What the folder says of itself: sentence encoders carry a file, ModernBERT an option."""
    file = folder / "1_Pooling" / "config.json"
    if file.is_file():
        settings = read_plain(file)
        asked = [name for name, on in settings.items() if name.startswith("pooling_mode_") and on]
        asked = asked or [str(settings.get("pooling_mode"))]
        pooling = SENTENCE_POOLINGS.get(asked[0]) if len(asked) == 1 else None
        if pooling is None:
            raise ValueError(
                f"{file} asks for {' and '.join(asked)}, which is not offered; say with "
                "--model.pooling whether pooler, cls or mean is to read a sentence"
            )
        return pooling
    own = getattr(config, "classifier_pooling", None)
    return own if own in ("cls", "mean") else "pooler"


def _has_pooler(folder: Path) -> bool:
    """Whether the weights in ``folder`` hold a pooler; many come without the one of their class."""
    names: set[str] = set()
    try:
        for file in folder.glob("*.safetensors"):
            with safe_open(file, "pt") as tensors:
                names.update(tensors.keys())
    except SafetensorError:
        return True  # loading says what is wrong with it
    return not names or any("pooler." in name for name in names)


def _model_type(folder: Path) -> str | None:
    config = folder / "config.json"
    return read_plain(config).get("model_type") if config.is_file() else None


def _check_architecture(side: str, folder: Path) -> PreTrainedConfig:
    """The configuration in ``folder``, which has to be an encoder or a causal decoder."""
    found = _model_type(folder)
    masked = found in MODEL_FOR_MASKED_LM_MAPPING_NAMES
    causal = found in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and not masked
    examples = {
        "encoder": "an encoder such as BERT, RoBERTa or ModernBERT",
        "decoder": "a causal decoder such as GPT-2, Llama or Qwen2",
    }
    settings = read_plain(folder / "config.json") if found else {}
    fits = (masked if side == "encoder" else causal) and not settings.get("is_encoder_decoder")
    require(
        fits,
        f"--model.init {folder} must hold {examples[side]}, and its config.json says {found!r}; "
        "the first folder is the encoder's, the second the decoder's",
    )
    return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def load_network(
    network: Any,
    folder: Path,
    config: PreTrainedConfig | None = None,
    *,
    random: bool = False,
    option: str = "--model.init",
    **options: Any,
) -> Any:
    """The ``network`` in ``folder``, in fp32; all of its tensors are there, and no others.

    With ``random`` it is one of that ``config`` with random weights. ``option`` is what
    names the folder, if anything does.
    """
    if random:
        assert config is not None
        config.dtype = torch.float32
        return network.from_config(config, **options)
    said = f"{option} {folder}".lstrip()
    try:
        with without_bars(), without_tables():
            loaded, report = network.from_pretrained(
                folder,
                config=config,
                dtype="float32",
                local_files_only=True,
                output_loading_info=True,
                **options,
            )
    except (pickle.UnpicklingError, SafetensorError) as error:
        raise ValueError(
            f"the weights of {said} were refused or are damaged, "
            f"nothing in them was run: {str(error).strip().splitlines()[-1]}"
        ) from error
    missing = report["missing_keys"]
    require(
        not missing,
        f"{said} lacks {len(missing)} tensors of the network, such as "
        f"{min(missing, default='')}; they would be random: give whole weights",
    )
    over = _left_over(loaded, report["unexpected_keys"])
    require(
        not over,
        f"{said} has {len(over)} tensors that the network has no place for, such as "
        f"{min(over, default='')}; its config.json belongs to other weights",
    )
    return loaded


def _left_over(network: Any, names: Any) -> list[str]:
    """Of the tensors ``names`` that found no place, those that the network itself should have.

    An encoder may have had a head for its training, and a pooler that is left out on purpose.
    """
    prefix = network.base_model_prefix
    if network.get_output_embeddings() is not None:
        return [*names]
    own = {name for name, _ in network.named_children()} | {prefix}
    kept = [name for name in names if not re.match(rf"({prefix}\.)?pooler\.", name)]
    return [name for name in kept if name.split(".")[0] in own]


def adapt(model: OptimusModel, options: ModelOptions) -> None:
    """Train each network whole, not at all, or by LoRA; connectors are always trained.

    Raises:
        ValueError: LoRA is asked for and peft is not installed, or a network cannot recompute.
    """
    for name, part in (("encoder", model.encoder), ("decoder", model.decoder)):
        how = getattr(options, f"train_{name}")
        if part is None or how == "full":
            continue
        part.network.requires_grad_(False)
        if how == "lora":
            _add_lora(part.network, options.lora_rank, f"--model.train-{name}")
    if options.checkpointing:
        try:
            model.gradient_checkpointing_enable()
        except ValueError as error:  # ALBERT and a few others cannot
            raise ValueError(f"--model.checkpointing: {str(error).splitlines()[0]}") from error


def _add_lora(network: nn.Module, rank: int, option: str) -> None:
    require(
        importlib.util.find_spec("peft") is not None,
        f"{option} lora needs peft: install the extra with `pip install 'optimus-vae[lora]'`, or "
        "give full or frozen",
    )
    from peft import LoraConfig, inject_adapter_in_model

    settings = LoraConfig(
        r=rank, lora_alpha=LORA_SCALING * rank, lora_dropout=0.0, target_modules="all-linear"
    )
    inject_adapter_in_model(settings, network)


def is_new(name: str) -> bool:
    """Whether a parameter is none of the pre-trained networks': a connector, or of LoRA."""
    networks = ("network", "bert", "gpt2", "context_layers")  # the last: dialog's copies of BERT's
    pretrained = any(f".{part}." in f".{name}" for part in networks)
    return not pretrained or "lora_" in name


def check_lengths(
    model: OptimusModel, corpora: Sequence[Sentences], option: str = "--data.block-size"
) -> None:
    """Refuse sentences that a network has no positions for; ``option`` leaves long ones out."""
    sides = [("decoder", "decoder_lengths", model.decoder.max_tokens)]
    if model.encoder is not None:
        sides.append(("encoder", "encoder_lengths", model.encoder.num_positions))
    for side, lengths, limit in sides:
        longest = max(int(getattr(one, lengths).max(initial=0)) for one in corpora)
        require(
            longest <= limit,
            f"the corpus has a sentence of {longest} {side} tokens and the {side} {limit} "
            f"positions; leave long sentences out by a smaller {option}",
        )


def start_from_sentences(model: OptimusModel, sentences: Sentences, count: int) -> None:
    """Set the connectors of ``model`` from the first ``count`` of ``sentences``, and say how."""
    padding = Padding(model.config.pad_token_id, model.config.encoder_pad_token_id)
    numbers = np.arange(min(count, len(sentences)))
    numbers = numbers[np.argsort(sentences.decoder_lengths[numbers], kind="stable")]
    batches = [
        gather(sentences, numbers[first : first + START_BATCH], padding).to(model.device)
        for first in range(0, len(numbers), START_BATCH)
    ]
    report = start_from_data(model, [(one.encoder_ids, one.decoder_ids) for one in batches])
    logger.info("%s", report)
