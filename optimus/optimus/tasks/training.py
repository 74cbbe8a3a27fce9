"""What the tasks share: AdamW and its schedule, vocabularies, initial weights, exports, results.

The authors' variant of AdamW is here for comparison with their runs.
"""

from __future__ import annotations

import logging
import math
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import BertConfig, BertModel, GPT2Config, GPT2LMHeadModel

from ..config import ModelOptions, OptimizerOptions
from ..data.text import Batch
from ..data.tokenizers import Tokenizers, load_tokenizers, train_tokenizers
from ..loop import Intervals, RunProgress, Training
from ..models.pretrained import set_dropout
from ..models.vae import OptimusConfig, OptimusModel
from ..objectives import learning_rate_at
from ..released.checkpoints import import_checkpoint, read_authors_checkpoint
from ..runtime.distributed import World, barrier, is_main
from ..runtime.evaluation import Provenance, write_evaluation
from ..runtime.files import replace_folder, why
from ..runtime.logs import Logs
from ..runtime.means import RunningMeans
from ..runtime.options import option, require
from ..runtime.precision import (
    MixedPrecision,
    build_adamw,
    check_finite,
    clear_gradients,
    norm_to_check,
)
from ..runtime.published import markdown_table
from ..runtime.run_folder import RunFolder
from .pretrained import (
    are_the_papers,
    build_from_networks,
    find_folders,
    is_new,
    load_network,
    read_tokenizers,
    require_joined,
)

logger = logging.getLogger(__name__)
Results = dict[str, float | int | str]
MAX_NORM = 1.0  # of the gradient
HEAD_DIM = 64  # as in BERT-base and GPT-2 small
REFERENCE_WIDTH = 768  # of both, for which their initial N(0, 0.02) was chosen
MEAN_OVER_NOISE = 5.0  # of the posterior from scratch, at a pooled vector of unit variance
ENCODER_POSITIONS = 512
DECODER_POSITIONS = 1024
FIXED = (
    *(f"model.{name}" for name in ("latent_dim", "inject", "init", "vocabulary")),
    *("model.layers", "model.hidden", "model.pooling", "model.start", "model.start_sentences"),
    "model.weights",
    *("model.train_encoder", "model.train_decoder", "model.lora_rank"),
    *("optimizer.kind", "optimizer.accumulate"),
    *("data.batch_size", "seed", "precision"),
)
"""Options that every task keeps from the first checkpoint on."""


class AdamWTraining(Training):
    """A run with AdamW, a linear warm-up, a schedule after it, and clipped gradients.

    A task sets ``parts`` and takes the ``step``.

    Args:
        config: its options, with a group ``optimizer``.
        world: this process.
        amp: arithmetic of the forward pass.
        optimizer: the one whose learning rate follows the schedule.
        names: scalars that are averaged between two log lines.
        total_steps: where the run ends.
        decay_steps: where the learning rate is zero, if elsewhere.
    """

    def __init__(
        self,
        config: Any,
        world: World,
        amp: MixedPrecision,
        optimizer: torch.optim.Optimizer,
        *,
        names: Sequence[str],
        total_steps: int,
        decay_steps: int | None = None,
    ) -> None:
        self.config, self.world, self.amp, self.optimizer = config, world, amp, optimizer
        self.progress, self.means = RunProgress(), RunningMeans(names, world.device)
        self.total_steps, self.decay_steps = total_steps, decay_steps or total_steps
        evaluated = bool(config.eval_every)
        self.intervals = Intervals(
            config.log_every, config.save_every, config.eval_every, evaluated
        )
        self.lr, self.norm = 0.0, torch.zeros(())

    def begin_step(self) -> None:
        """Set the learning rate of this step and forget the gradients of the last."""
        options: OptimizerOptions = self.config.optimizer
        self.lr = learning_rate_at(
            self.progress.step,
            base=options.lr,
            warmup_steps=options.warmup_steps,
            total_steps=self.decay_steps,
            schedule=options.schedule,
        )
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr * (self.base_rate(group) / options.lr)
        clear_gradients(self.optimizer)

    def base_rate(self, group: Mapping[str, Any]) -> float:
        """Learning rate of a group of parameters after the warm-up."""
        options: OptimizerOptions = self.config.optimizer
        return options.new_lr if group.get("new") and options.new_lr else options.lr

    def end_step(self, parameters: Iterable[Tensor]) -> None:
        """Clip the gradients of ``parameters``, update them, and count the step."""
        norm = self.amp.step(self.optimizer, parameters, MAX_NORM)
        assert norm is not None
        self.norm = norm
        self.progress.step += 1

    def check(self) -> None:
        self.means.check(self.progress.step)
        norm = norm_to_check(self.norm, self.config.precision)
        check_finite(self.progress.step, gradient_norm=norm)

    def scalars(self) -> Mapping[str, float | Tensor | None]:
        return {"lr": self.lr, "gradient_norm": self.norm, **self.means.take()}

    def finish(self, run_dir: Path, logs: Logs) -> None:
        logs.text(f"the model of step {self.progress.step} is in {run_dir / 'model'}")


class Known(NamedTuple):
    """What the host knows of a batch, and need not wait for the device to learn."""

    targets: Tensor  # (N,) places of the decoder's targets in B (T - 1)
    padded: bool  # whether the encoder's side has padding

    @classmethod
    def of(cls, batch: Batch, pad_id: int) -> Known:
        """Of ``batch``, on the CPU; ``pad_id`` is the decoder's."""
        targets = (batch.decoder_ids[:, 1:].flatten() != pad_id).nonzero().squeeze(1)
        return cls(targets, not bool(batch.encoder_mask.all()))


@contextmanager
def exporting(folder: Path) -> Iterator[Path]:
    """A place for weights, which becomes ``folder`` when all is written."""
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        yield partial
        replace_folder(partial, folder)
    except (OSError, SafetensorError) as error:
        raise OSError(
            f"could not write the weights to {folder} ({why(error)}); the checkpoints are whole: "
            "make room there and run the same command again"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def print_results(results: Results) -> None:
    """Print scores as a table; nothing where there are none, as on ranks other than 0."""
    if results:
        rows = [(k, f"{v:.4f}" if isinstance(v, float) else v) for k, v in results.items()]
        print(markdown_table(["metric", "value"], rows))


def write_results(folder: Path, name: str, results: Results, about: Provenance) -> Path:
    """Write ``NAME.json``, or ``NAME.trial.json``, into ``folder``; returns the file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = write_evaluation(folder / f"{name}.json", results, about)
    logger.info("results are in %s", path)
    return path


def build_tokenizers(
    options: ModelOptions, corpus: Callable[[], Iterable[str]], folder: RunFolder
) -> Tokenizers:
    """The pair of vocabularies of a run, which keeps them from its first checkpoint on.

    They come from the folder ``options.vocabulary``, else from ``options.init``, else they are
    learned from the lines of ``corpus()`` (on rank 0; the others read what it wrote).
    """
    place = folder.place("tokenizers")
    if is_main() and not folder.has("tokenizers"):
        if len(options.init) != 2:  # names of a hub are fetched
            _require_folders(options.init)
        if not options.vocabulary.isdigit():
            tokenizers = load_tokenizers(options.vocabulary)
        elif len(options.init) == 2:
            tokenizers = read_tokenizers(options, find_folders(options.init))
        elif options.init:
            require_joined(options.init[0])
            tokenizers = load_tokenizers(_find_vocabulary(options.init[0]))
        else:
            size = int(options.vocabulary)
            tokenizers = train_tokenizers(corpus(), size, size)
        tokenizers.save(place)
    barrier()
    return load_tokenizers(place)


def build_model(
    options: ModelOptions,
    tokenizers: Tokenizers,
    folder: RunFolder | None = None,
) -> OptimusModel:
    """The model with its initial weights, in training mode, on the CPU.

    Where the run in ``folder`` has weights of its own already, which its checkpoint will fill in,
    the model is built without reading ``options.init``.

    Raises:
        FileNotFoundError: a folder of ``--model.init`` is missing.
        ValueError: the folder's latent size or vocabulary contradicts the options.
    """
    if folder is not None and folder.started and folder.has("model/config.json"):
        config = OptimusConfig.from_pretrained(folder.path / "model")
        _set_network_dropout(config, options.dropout)
        model = OptimusModel(config)
    else:
        model = _initial_model(options, tokenizers)
    _check_vocabulary(model, tokenizers)
    _set_dropout(model, options.dropout)
    return model.train()


def require_whole(options: ModelOptions) -> None:
    """Refuse options of start and training in a task that trains the whole model as it is."""
    defaults: dict[str, object] = {
        "start": "fresh",
        "train_encoder": "full",
        "train_decoder": "full",
        "checkpointing": False,
    }
    for name, default in defaults.items():
        value = getattr(options, name)
        require(
            value == default,
            f"{option(name, 'model')} {value} counts in `optimus train` only; leave it out",
        )


def _require_folders(init: Sequence[Path]) -> None:
    """Refuse places of initial weights that are not there."""
    for folder in init:
        if not folder.is_dir():
            first = ""
            if folder.name == "model":
                first = f"train the run {folder.parent} first, or "
            raise FileNotFoundError(
                f"--model.init {folder} is not a folder; {first}give a model of ours, a checkpoint "
                "of the authors, or the folders of an encoder and of a decoder"
            )


def _initial_model(options: ModelOptions, tokenizers: Tokenizers) -> OptimusModel:
    if len(options.init) == 2:
        folders = find_folders(options.init)
        if are_the_papers(options, folders):
            return _from_public_weights(options, folders)
        return build_from_networks(options, folders, tokenizers)
    _require_folders(options.init)
    if options.init:
        return _from_optimus(options)
    return _spread(OptimusModel(scratch_config(options, tokenizers)), options.hidden)


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


def _from_public_weights(options: ModelOptions, folders: tuple[Path, ...]) -> OptimusModel:
    bert, gpt2 = (
        load_network(network, folder)
        for network, folder in zip((BertModel, GPT2LMHeadModel), folders, strict=True)
    )
    return OptimusModel.from_parts(bert, gpt2, latent_dim=options.latent_dim, inject=options.inject)


def _from_optimus(options: ModelOptions) -> OptimusModel:
    folder = _weights_folder(options.init[0])
    if (folder / "label_control.json").is_file():
        logger.warning(
            "%s is of label control: its networks are taken, neither its labels nor its map to z; "
            "the posterior is the one that it began with",
            folder,
        )
    if (folder / "model.safetensors").exists():
        config = OptimusConfig.from_pretrained(folder)
        _set_network_dropout(config, options.dropout)
        model = OptimusModel.from_pretrained(folder, config=config, local_files_only=True)
    else:
        checkpoint = read_authors_checkpoint(folder)
        model, report = import_checkpoint(checkpoint, inject=options.inject)  # type: ignore[arg-type]
        logger.info("%s", report.text())
    if model.config.latent_dim != options.latent_dim and model.config.inject != "none":
        raise ValueError(
            f"--model.latent-dim {options.latent_dim} contradicts the weights in {folder}, which "
            f"have {model.config.latent_dim} latent dimensions; give --model.latent-dim "
            f"{model.config.latent_dim}, or other weights"
        )
    if model.config.inject != options.inject:
        raise ValueError(
            f"--model.inject {options.inject} contradicts the model in {folder}, which was made "
            f"with {model.config.inject}; give --model.inject {model.config.inject}, or other "
            "weights"
        )
    return model


def _check_vocabulary(model: OptimusModel, tokenizers: Tokenizers) -> None:
    rows = 0 if model.encoder is None else model.config.encoder_vocab_size
    misfit = tokenizers.misfit(rows, model.config.decoder_vocab_size)
    if misfit is not None:
        raise ValueError(
            f"{misfit}; point --model.vocabulary at the vocabularies that the model was trained "
            "with"
        )


def _set_dropout(model: OptimusModel, probability: float) -> None:
    """In the layers of BERT and GPT-2, and in the configurations that are saved with them."""
    if model.config.gpt2 is None:
        return  # of other networks it is set before they are built
    for config, names in (
        (model.config.bert, ("hidden_dropout_prob", "attention_probs_dropout_prob")),
        (model.config.gpt2, ("embd_pdrop", "attn_pdrop", "resid_pdrop")),
    ):
        for name in names:
            setattr(config, name, probability)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = probability


def _set_network_dropout(config: OptimusConfig, probability: float) -> None:
    """Of networks other than the paper's, which have to be told before they are built."""
    for network in (config.encoder, config.decoder):
        if network is not None:
            set_dropout(network, probability)


def _weights_folder(init: Path) -> Path:
    """The folder of weights that ``--model.init`` names: of a run it is ``model/``."""
    return init / "model" if (init / "model" / "model.safetensors").is_file() else init


def _find_vocabulary(init: Path) -> Path:
    folder = _weights_folder(init)
    return folder / "tokenizers" if (folder / "tokenizers").is_dir() else folder


def build_optimizer(
    options: OptimizerOptions,
    model: nn.Module,
    authors: bool = False,
    apart: nn.Module | None = None,
) -> torch.optim.Optimizer:
    """AdamW over the decayed and the other weights; ``authors`` restores their update rule.

    Groups say whether they are ``new`` where such have a learning rate, and ``apart`` where the
    part of ``model`` of that name is to have one: see ``AdamWTraining.base_rate``.
    """
    groups = parameter_groups(model, options.weight_decay, compat=authors)
    if options.new_lr:
        fresh = [one for name, one in model.named_parameters() if is_new(name)]
        groups = [part for group in groups for part in _split(group, fresh, "new")]
    if apart is not None:
        own = list(apart.parameters())
        groups = [part for group in groups for part in _split(group, own, "apart")]
    if authors:
        return OriginalAdamW(groups, lr=options.lr, betas=(0.9, 0.999), eps=1e-8)
    return build_adamw(groups, kind=options.kind, lr=options.lr, betas=(0.9, 0.999), eps=1e-8)


def parameter_groups(
    model: nn.Module, weight_decay: float, compat: bool = False
) -> list[dict[str, Any]]:
    """Two groups for AdamW: with ``weight_decay``, and without any.

    Biases and norms are never decayed. ``compat=True`` restores the authors' rule, by name: it
    spares "bias" and "LayerNorm.weight", so that GPT-2's norms, called ``ln_*``, are decayed.
    """
    decayed: list[nn.Parameter] = []
    spared: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        norm = "LayerNorm.weight" in name if compat else parameter.ndim < 2
        (spared if "bias" in name or norm else decayed).append(parameter)
    return [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": spared, "weight_decay": 0.0},
    ]


def _split(
    group: dict[str, Any], chosen: Iterable[nn.Parameter], name: str
) -> Iterator[dict[str, Any]]:
    """``group`` in two, as far as there are such: without and with the ``chosen`` parameters."""
    own = {id(one) for one in chosen}
    for inside in (False, True):
        params = [one for one in group["params"] if (id(one) in own) == inside]
        if params:
            yield {**group, "params": params, name: inside}


class OriginalAdamW(torch.optim.Optimizer):
    """AdamW as the authors' library had it in 2019.

    update = lr * sqrt(1 - b2^t) / (1 - b1^t) * m / (sqrt(v) + eps): ``eps`` is not bias-corrected,
    and the decay acts on the weights after the update. ``torch.optim.AdamW`` differs by less than
    1e-5 relative over a short run.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 5e-5,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, parameter.grad, group)
        return loss

    def _update(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["step"] = 0
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        state["step"] += 1
        first, second = group["betas"]
        mean, square = state["exp_avg"], state["exp_avg_sq"]
        mean.mul_(first).add_(gradient, alpha=1 - first)
        square.mul_(second).addcmul_(gradient, gradient, value=1 - second)
        rate = group["lr"] * math.sqrt(1 - second ** state["step"]) / (1 - first ** state["step"])
        parameter.addcdiv_(mean, square.sqrt().add_(group["eps"]), value=-rate)
        if group["weight_decay"] > 0:
            parameter.mul_(1 - group["lr"] * group["weight_decay"])
