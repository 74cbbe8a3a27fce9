"""Vocabularies, initial weights and optimizer of a run, from its options."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import BertConfig, BertModel, GPT2Config, GPT2LMHeadModel

from ..config import ModelOptions, OptimizerOptions
from ..data.tokenizers import Tokenizers, load_tokenizers, train_tokenizers
from ..models.vae import OptimusConfig, OptimusModel, without_bars
from ..optimizer import OriginalAdamW, parameter_groups
from ..released.checkpoints import import_checkpoint, read_authors_checkpoint
from ..runtime.distributed import barrier, is_main
from ..runtime.precision import build_adamw

logger = logging.getLogger(__name__)
HEAD_DIM = 64  # as in BERT-base and GPT-2 small
REFERENCE_WIDTH = 768  # of both, for which their initial N(0, 0.02) was chosen
MEAN_OVER_NOISE = (
    5.0  # of the posterior of a model from scratch, at a pooled vector of unit variance
)
ENCODER_POSITIONS = 512
DECODER_POSITIONS = 1024


def build_tokenizers(
    options: ModelOptions, corpus: Callable[[], Iterable[str]], run_dir: Path
) -> Tokenizers:
    """The pair of vocabularies of a run, kept in ``run_dir/tokenizers`` from its first start on.

    They come from the folder ``options.vocabulary``, else from ``options.init``, else they are
    learned from the lines of ``corpus()`` (on rank 0; the others read what it wrote).
    """
    kept = run_dir / "tokenizers"
    if is_main() and not (kept / "tokenizers.json").exists():
        if not options.vocabulary.isdigit():
            tokenizers = load_tokenizers(options.vocabulary)
        elif len(options.init) == 2:
            tokenizers = load_tokenizers(*options.init)
        elif options.init:
            tokenizers = load_tokenizers(_find_vocabulary(options.init[0]))
        else:
            size = int(options.vocabulary)
            tokenizers = train_tokenizers(corpus(), size, size)
        tokenizers.save(kept)
    barrier()
    return load_tokenizers(kept)


def build_model(options: ModelOptions, tokenizers: Tokenizers) -> OptimusModel:
    """The model with its initial weights, in training mode, on the CPU.

    Raises:
        FileNotFoundError: a folder of ``--model.init`` is missing.
        ValueError: the folder's latent size or vocabulary contradicts the options.
    """
    for folder in options.init:
        if not folder.is_dir():
            raise FileNotFoundError(
                f"--model.init {folder} is not a folder; give a model of ours, a checkpoint of the "
                "authors, or a BERT and a GPT-2 folder (nothing is fetched from a model hub)"
            )
    if len(options.init) == 2:
        model = _from_public_weights(options)
    elif options.init:
        model = _from_optimus(options)
    else:
        model = _spread(OptimusModel(scratch_config(options, tokenizers)), options.hidden)
    _check_vocabulary(model, tokenizers)
    _set_dropout(model, options.dropout)
    return model.train()


def scratch_config(options: ModelOptions, tokenizers: Tokenizers) -> OptimusConfig:
    """Sizes of a model from scratch, with the vocabularies of ``tokenizers``."""
    hidden, heads = options.hidden, options.hidden // HEAD_DIM
    bert = BertConfig(
        vocab_size=tokenizers.encoder_vocab_size,
        hidden_size=hidden,
        num_hidden_layers=options.layers,
        num_attention_heads=heads,
        intermediate_size=4 * hidden,
        max_position_embeddings=ENCODER_POSITIONS,
    )
    gpt2 = GPT2Config(
        vocab_size=tokenizers.decoder_vocab_size,
        n_embd=hidden,
        n_layer=options.layers,
        n_head=heads,
        n_positions=DECODER_POSITIONS,
        bos_token_id=tokenizers.bos_id,
        eos_token_id=tokenizers.eos_id,
    )
    return OptimusConfig(
        bert=bert,
        gpt2=gpt2,
        latent_dim=options.latent_dim,
        inject=options.inject,
        encoder_pad_token_id=tokenizers.encoder_pad_id,
        pad_token_id=tokenizers.pad_id,
        bos_token_id=tokenizers.bos_id,
        eos_token_id=tokenizers.eos_id,
    )


def build_optimizer(
    options: OptimizerOptions, model: OptimusModel, authors: bool = False
) -> torch.optim.Optimizer:
    """AdamW over the decayed and the other weights; ``authors`` restores their update rule."""
    groups = parameter_groups(model, options.weight_decay, compat=authors)
    if authors:
        return OriginalAdamW(groups, lr=options.lr, betas=(0.9, 0.999), eps=1e-8)
    return build_adamw(groups, kind=options.kind, lr=options.lr, betas=(0.9, 0.999), eps=1e-8)


def _spread(model: OptimusModel, hidden: int) -> OptimusModel:
    """Give a network from scratch the initial spread that its width asks for.

    N(0, 0.02) is meant for width 768, and for connectors between trained networks. From scratch it
    leaves the mean far below the unit noise and the decoder learns to ignore z. Here the mean
    starts above the noise, a memory slot with unit variance, and what z adds to an embedding as
    large as the embedding.
    """
    width = (REFERENCE_WIDTH / hidden) ** 0.5
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(width)
        head = model.encoder.head if model.encoder is not None else None
        inputs = model.config.latent_dim**-0.5
        for connector, spread in (
            (head, MEAN_OVER_NOISE * hidden**-0.5),
            (model.decoder.memory, inputs),
            (model.decoder.embedding, inputs * width * model.config.initializer_range),
        ):
            if connector is not None:
                torch.nn.init.normal_(connector.weight, std=spread)
    return model


def _from_public_weights(options: ModelOptions) -> OptimusModel:
    bert_folder, gpt2_folder = options.init
    try:
        with without_bars():
            bert = BertModel.from_pretrained(bert_folder, local_files_only=True)
            gpt2 = GPT2LMHeadModel.from_pretrained(gpt2_folder, local_files_only=True)
    except (pickle.UnpicklingError, SafetensorError) as error:
        raise ValueError(
            f"the weights of --model.init {bert_folder} {gpt2_folder} were refused or are damaged, "
            f"nothing in them was run: {str(error).strip().splitlines()[-1]}"
        ) from error
    return OptimusModel.from_parts(bert, gpt2, latent_dim=options.latent_dim, inject=options.inject)


def _from_optimus(options: ModelOptions) -> OptimusModel:
    folder = options.init[0]
    if (folder / "model.safetensors").exists():
        model = OptimusModel.from_pretrained(folder, local_files_only=True)
    else:
        checkpoint = read_authors_checkpoint(folder)
        model, report = import_checkpoint(checkpoint, inject=options.inject)  # type: ignore[arg-type]
        logger.info("%s", report.text())
    if model.config.latent_dim != options.latent_dim and model.config.inject != "none":
        raise ValueError(
            f"--model.latent-dim {options.latent_dim} contradicts the weights in {folder}, which "
            f"have {model.config.latent_dim} latent dimensions; leave one of the two out"
        )
    if model.config.inject != options.inject:
        raise ValueError(
            f"--model.inject {options.inject} contradicts the model in {folder}, which was made "
            f"with {model.config.inject}"
        )
    return model


def _check_vocabulary(model: OptimusModel, tokenizers: Tokenizers) -> None:
    sizes = {"GPT-2": (model.config.gpt2.vocab_size, tokenizers.decoder_vocab_size)}
    if model.encoder is not None:
        sizes["BERT"] = (model.config.bert.vocab_size, tokenizers.encoder_vocab_size)
    for side, (have, need) in sizes.items():
        if have != need:
            raise ValueError(
                f"the {side} vocabulary has {need} tokens and the model {have}; point "
                "--model.vocabulary at the vocabularies that the model was trained with"
            )


def _set_dropout(model: OptimusModel, probability: float) -> None:
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = probability


def _find_vocabulary(folder: Path) -> Path:
    return folder / "tokenizers" if (folder / "tokenizers").is_dir() else folder
