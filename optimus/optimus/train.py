"""``optimus train PRESET``: pre-training, fine-tuning and the GPT-2 baseline in one loop."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .config import ObjectiveOptions, TrainConfig
from .data.batches import Batch, Batches, Padding, evaluation_batches
from .data.corruption import corrupt
from .data.sentences import Sentences, TextOptions, read_lines
from .data.shards import load_corpus
from .data.tokenizers import Tokenizers
from .initialize import build_model, build_optimizer, build_tokenizers
from .metrics.latent import active_units
from .models.vae import OptimusModel
from .objectives import Objective, beta_schedule, learning_rate_at
from .optimizer import norm_to_check
from .presets import PRESETS
from .running_means import RunningMeans
from .runtime.checkpoint import Checkpoint, Progress
from .runtime.command import parse_preset
from .runtime.distributed import World, gather_objects, start, wrap
from .runtime.logs import Logs
from .runtime.precision import MixedPrecision, check_finite
from .runtime.rundir import open_run
from .runtime.signals import StopSignal
from .sentence_vae import SentenceVAE

logger = logging.getLogger(__name__)
MAX_NORM = 1.0  # of the gradient
COLLAPSED = 0.05  # nats; below this KL the latent says nothing about the sentence


def main(argv: Sequence[str]) -> None:
    """Run ``optimus train lm-snli-0.50 --data.batch-size 80``."""
    train(parse_preset(PRESETS, argv, "optimus train"))


def train(config: TrainConfig) -> OptimusModel:
    """Run ``config`` to its last step, continuing from the newest checkpoint in ``run_dir``.

    Leaves ``checkpoints/``, logs and ``model/`` (weights and vocabularies) in ``run_dir``.

    Raises:
        FloatingPointError: the loss is not finite; the earlier checkpoints are kept.
        Stopped: a signal asked to stop; a checkpoint of this step was written.
    """
    with (
        start(config.device, seed=config.seed) as world,
        open_run(config.run_dir, config) as run_dir,
        StopSignal() as stop,
    ):
        tokenizers = build_tokenizers(config.model, lambda: _train_lines(config), run_dir)
        shards = _load(config, "train", tokenizers)
        batches = build_batches(config, shards, tokenizers, world)
        total_steps = count_steps(config, batches)
        betas, objective = build_schedule(config.objective, total_steps)
        horizon = _horizon(config, shards, total_steps)
        model = build_model(config.model, tokenizers)
        model.to(world.device)  # type: ignore[arg-type]
        optimizer = build_optimizer(config.optimizer, model, "adamw" in config.compat)
        amp = MixedPrecision(config.precision, world.device)
        model, optimizer = amp.prepare(model, optimizer)
        network, progress = wrap(model, world), Progress()
        means = RunningMeans(("loss", "rec", "kl", "full_kl"), world.device)
        state: dict[str, Any] = {"model": model, "optimizer": optimizer, "amp": amp}
        state |= {"data": batches, "progress": progress, "means": means}
        checkpoint = Checkpoint(run_dir, keep=config.keep, **state)
        checkpoint.load_latest()

        with Logs(run_dir, total_steps, progress.step) as logs:
            while progress.step < total_steps:
                beta = betas[progress.step]
                lr = learning_rate_at(
                    progress.step,
                    base=config.optimizer.lr,
                    warmup_steps=config.optimizer.warmup_steps,
                    total_steps=horizon,
                )
                for group in optimizer.param_groups:
                    group["lr"] = lr
                optimizer.zero_grad(set_to_none=True)
                for micro in range(config.optimizer.accumulate):
                    batch = _next_batch(config, batches, tokenizers).to(world.device)
                    last = micro == config.optimizer.accumulate - 1
                    with _synchronise(network, last):
                        with amp.autocast():
                            losses = network(
                                batch.encoder_ids, batch.decoder_ids, objective=objective, beta=beta
                            )
                        loss = losses.total.mean() / config.optimizer.accumulate
                        amp.backward(loss, optimizer)
                    means.add(
                        loss=losses.total,
                        rec=losses.reconstruction,
                        kl=losses.kl,
                        full_kl=losses.full_kl,
                    )
                norm = amp.step(optimizer, model.parameters(), MAX_NORM)
                progress.step += 1
                logs.advance(progress.step)

                stopping = stop.requested(progress.step)
                ended = progress.step == total_steps
                saving = stopping or ended or progress.step % config.save_every == 0
                logging_now = progress.step % config.log_every == 0 or ended
                if logging_now or saving:
                    means.share()
                    # before a save, so that a checkpoint never holds weights of a broken loss
                    checked = norm_to_check(norm, config.precision)
                    check_finite(progress.step, loss=means.sums[0], gradient_norm=checked)
                if logging_now:
                    scalars = means.take()
                    logs.log(progress.step, lr=lr, beta=beta, gradient_norm=norm, **scalars)
                    _warn_of_collapse(logs, progress.step, beta, scalars["full_kl"])
                if ended or (config.eval_every and progress.step % config.eval_every == 0):
                    scores = validate(config, model, tokenizers, world)
                    logs.log(progress.step, **scores)
                    if scores.get("eval_au") == 0:
                        logs.text("posterior collapse: no latent dimension is active")
                if saving:
                    checkpoint.save(progress.step)
                if stopping and not ended:
                    stop.leave(progress.step)
            if world.is_main:
                SentenceVAE(model, tokenizers).save_pretrained(run_dir / "model")
            logs.text(f"the model of step {progress.step} is in {run_dir / 'model'}")
    return model


def build_batches(
    config: TrainConfig, shards: list[Sentences], tokenizers: Tokenizers, world: World
) -> Batches:
    """Endless batches of one backward pass of this process."""
    share = world.size * config.optimizer.accumulate
    if config.data.batch_size % share:
        raise ValueError(
            f"--data.batch-size {config.data.batch_size} must be a multiple of {world.size} "
            f"processes x --optimizer.accumulate {config.optimizer.accumulate}"
        )
    return Batches(
        shards,
        config.data.batch_size // share,
        Padding(tokenizers.pad_id, tokenizers.encoder_pad_id),
        seed=config.seed,
        order="original" if "order" in config.compat else "shuffled",
        rank=world.rank,
        world_size=world.size,
    )


def count_steps(config: TrainConfig, batches: Batches) -> int:
    """Optimizer steps of the run."""
    passes = config.epochs * batches.batches_per_epoch / config.optimizer.accumulate
    return config.max_steps or max(1, int(passes))


def build_schedule(options: ObjectiveOptions, steps: int) -> tuple[list[float], Objective]:
    """Beta of every step and the loss; only a variational objective has a KL term."""
    if options.kind == "autoencoder":
        return [0.0] * steps, Objective("autoencoder", length_weighted=options.length_weighted)
    if options.kind == "language-model":
        return [0.0] * steps, Objective(length_weighted=options.length_weighted)
    betas = beta_schedule(
        steps,
        stop=options.beta,
        num_cycles=options.cycles,
        ratio_increase=options.ratio_increase,
        ratio_zero=options.ratio_zero,
    )
    objective = Objective(
        kind="deterministic-connect" if options.kind == "deterministic-connect" else "vae",
        free_bits=options.free_bits,
        free_bits_rule="floor" if options.kind == "free-bits-floor" else "mask",
        length_weighted=options.length_weighted,
    )
    return betas, objective


@torch.no_grad()
def validate(
    config: TrainConfig, model: OptimusModel, tokenizers: Tokenizers, world: World
) -> dict[str, float]:
    """Scores on the validation split with one posterior sample a sentence, KL in full.

    The noise has its own generator: evaluation changes nothing in the training that follows.
    """
    if not (config.data.folder / "valid.txt").exists():
        return {}
    (sentences,) = _load(config, "valid", tokenizers)
    padding = Padding(tokenizers.pad_id, tokenizers.encoder_pad_id)
    generator = torch.Generator().manual_seed(config.seed)
    per_process = max(1, config.data.batch_size // config.optimizer.accumulate // world.size)
    rows: list[Tensor] = []
    means: list[Tensor] = []
    model.eval()
    for number, batch in enumerate(evaluation_batches(sentences, per_process, padding)):
        eps = torch.randn(len(batch.index), 1, config.model.latent_dim, generator=generator)
        if number % world.size != world.rank:
            continue
        batch = batch.to(world.device)
        noise = None if model.encoder is None else eps.to(world.device)
        losses = model(batch.encoder_ids, batch.decoder_ids, beta=1.0, eps=noise)
        rows.append(torch.stack([losses.reconstruction, losses.full_kl], dim=1).double().cpu())
        if model.encoder is not None:
            means.append(losses.mean.float().cpu())
    model.train()
    gathered = gather_objects((torch.cat(rows), torch.cat(means) if means else None))
    rec, kl = torch.cat([part for part, _ in gathered]).mean(dim=0).tolist()
    scores = {"eval_loss": rec + kl, "eval_rec": rec}
    if model.encoder is not None:
        units = active_units(torch.cat([part for _, part in gathered if part is not None]))
        scores |= {"eval_kl": kl, "eval_au": float(units.count)}
    return scores


def _load(config: TrainConfig, split: str, tokenizers: Tokenizers) -> list[Sentences]:
    options = TextOptions(max_words=config.data.block_size, format=config.data.format)
    return load_corpus(config.data.folder, split, tokenizers, options)


def _train_lines(config: TrainConfig) -> list[str]:
    path: Path = config.data.folder / "train.txt"
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing: `optimus prepare` makes corpora, --data.folder names one"
        )
    return list(read_lines(path, config.data.format))


def _horizon(config: TrainConfig, shards: list[Sentences], total_steps: int) -> int:
    """Step at which the learning rate is zero."""
    if "horizon" not in config.compat:
        return total_steps
    return max(1, int(config.epochs * (len(shards[0]) // config.data.batch_size)))


def _next_batch(config: TrainConfig, batches: Batches, tokenizers: Tokenizers) -> Batch:
    batch = next(batches)
    probability = config.objective.mask_probability
    return corrupt(batch, tokenizers, probability) if probability else batch


def _synchronise(network: nn.Module, last: bool) -> Any:
    """Gradients travel between processes in the last backward pass of a step only."""
    if last or not isinstance(network, nn.parallel.DistributedDataParallel):
        return nullcontext()
    return network.no_sync()


def _warn_of_collapse(logs: Logs, step: int, beta: float, kl: float) -> None:
    if beta > 0 and kl < COLLAPSED:
        logs.text(
            f"step {step}: the KL is {kl:.3g} nats, the posterior has collapsed onto the prior; "
            "raise --objective.free-bits or --objective.ratio-zero"
        )
