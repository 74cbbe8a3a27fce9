"""``optimus train-label-control PRESET``: label-conditional generation, CARA (Sec. 4.3)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .data.batches import Batch, Batches, Padding
from .data.labeled import Labeled, load_labeled, read_labeled
from .data.sentences import TextOptions
from .data.tokenizers import Tokenizers
from .initialize import build_model, build_tokenizers
from .label_control_options import PRESETS, ControlConfig
from .loop_options import rows_per_process
from .models.label_control import ControlLosses, LabelControl
from .objectives import learning_rate_at
from .optimizer import norm_to_check, parameter_groups
from .running_means import RunningMeans
from .runtime.checkpoint import Checkpoint, Progress
from .runtime.command import parse_preset
from .runtime.distributed import barrier, start, wrap
from .runtime.logs import Logs
from .runtime.precision import MixedPrecision, build_adamw, check_finite
from .runtime.rundir import open_run
from .runtime.signals import StopSignal

MAX_NORM = 1.0  # of the gradient
CRITICS = ("discriminator", "classifier", "convolution", "text_head")


def main(argv: Sequence[str]) -> None:
    """Run ``optimus train-label-control yelp --control.encoder-weight 2``."""
    train(parse_preset(PRESETS, argv, "optimus train-label-control"))


def train(config: ControlConfig) -> LabelControl:
    """Run ``config`` to its last step, continuing from the newest checkpoint in ``run_dir``.

    A step updates the critics on fixed z ``critic_steps`` times and then the model against fixed
    critics. Leaves ``model/``, the whole module with vocabularies and ``labels.json``, there.

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
        data = load_labeled(config.data.train, tokenizers, text_options(config))
        batches = Batches(
            data.sentences,
            rows_per_process(config.data.batch_size, world.size),
            Padding(tokenizers.pad_id, tokenizers.encoder_pad_id),
            seed=config.seed,
            rank=world.rank,
            world_size=world.size,
        )
        alternating = config.control.updates == "alternating"
        rounds = config.control.critic_steps if alternating else 0
        drawing = alternating and config.control.soft_weight > 0
        soft_temperature = config.control.soft_temperature if drawing else 0.0
        total_steps = config.steps(max(1, batches.batches_per_epoch // (rounds + 1)))
        model = build_control(config, tokenizers, len(data.names)).to(world.device)
        optimizers = build_optimizers(config, model)
        amp = MixedPrecision(config.precision, world.device)
        model, optimizers = amp.prepare(model, optimizers)
        trained, critics = optimizers
        owned = [parameter for group in trained.param_groups for parameter in group["params"]]
        # the two phases use different parameters, and the posterior head is used by neither
        network, progress = wrap(model, world, find_unused_parameters=True), Progress()
        means = RunningMeans(
            ("loss", "rec", "encoder", "gan_g", "gan_d", "lsc", "cls", "soft"), world.device
        )
        state: dict[str, Any] = {"model": model, "optimizer": trained, "critics": critics}
        state |= {"amp": amp, "data": batches, "progress": progress, "means": means}
        checkpoint = Checkpoint(run_dir, keep=config.keep, **state)
        checkpoint.load_latest()

        with Logs(run_dir, total_steps, progress.step) as logs:
            while progress.step < total_steps:
                lr = learning_rate_at(
                    progress.step,
                    base=config.optimizer.lr,
                    warmup_steps=config.optimizer.warmup_steps,
                    total_steps=total_steps,
                )
                for group in trained.param_groups:
                    group["lr"] = lr
                judged = None
                for _ in range(rounds):
                    judged = _update_critics(
                        config, network, critics, amp, next_rows(batches, data)
                    )
                batch, labels = next_rows(batches, data)
                trained.zero_grad(set_to_none=True)
                with amp.autocast():
                    losses = network(
                        batch.encoder_ids.to(world.device),
                        batch.decoder_ids.to(world.device),
                        labels.to(world.device),
                        phase="model",
                        adversary=config.control.adversary,
                        soft_temperature=soft_temperature,
                    )
                    total = total_of_model(config, losses, progress.step / total_steps)
                    amp.backward(total, trained)
                norm = amp.step(trained, owned, MAX_NORM)
                means.add(**_scalars(total, losses, judged or losses))
                progress.step += 1
                logs.advance(progress.step)

                stopping = stop.requested(progress.step)
                ended = progress.step == total_steps
                saving = stopping or ended or progress.step % config.save_every == 0
                logging_now = progress.step % config.log_every == 0 or ended
                if logging_now or saving:
                    means.share()
                    checked = norm_to_check(norm, config.precision)
                    check_finite(progress.step, loss=means.sums[0], gradient_norm=checked)
                if logging_now:
                    logs.log(progress.step, lr=lr, gradient_norm=norm, **means.take())
                if saving:
                    checkpoint.save(progress.step)
                if stopping and not ended:
                    stop.leave(progress.step)
            if world.is_main:
                save_model(model, tokenizers, data.names, run_dir / "model")
            barrier()
            logs.text(f"the model of step {progress.step} is in {run_dir / 'model'}")
    return model


def build_control(config: ControlConfig, tokenizers: Tokenizers, num_labels: int) -> LabelControl:
    """The module with its initial weights, in training mode."""
    options, released = config.control, config.control.updates == "released"
    model = LabelControl(
        build_model(config.model, tokenizers),
        num_labels,
        hidden=options.hidden,
        train_zero_label=not released,
        mask_padding=not released,
        noise=options.noise,
    )
    if options.start == "posterior" and config.model.init and not released:
        model.start_from_posterior()
    return model.train()


def build_optimizers(
    config: ControlConfig, model: LabelControl
) -> tuple[torch.optim.Optimizer, torch.optim.Optimizer]:
    """Of encoder, decoder, labels and generator; and of the critics."""
    groups = parameter_groups(_Others(model), config.optimizer.weight_decay)
    options: dict[str, Any] = {"betas": (0.9, 0.999), "eps": 1e-8, "kind": config.optimizer.kind}
    trained = build_adamw(groups, lr=config.optimizer.lr, **options)
    critics = build_adamw(model.critics(), lr=config.control.critic_lr, **options)
    return trained, critics


class _Others(nn.Module):
    """A view of the parameters that are not the critics'."""

    def __init__(self, model: LabelControl) -> None:
        super().__init__()
        for name, child in model.named_children():
            if name not in CRITICS:
                self.add_module(name, child)


def total_of_model(config: ControlConfig, losses: ControlLosses, done: float = 1.0) -> Tensor:
    """What the model lowers, a scalar, when the share ``done`` of the run is over.

    The released switch leaves reconstruction alone.
    """
    total = losses.reconstruction.mean()
    if config.control.updates == "released":
        return total
    if done >= config.control.encoder_start:
        total = total + config.control.encoder_weight * losses.encoder
    total = total + config.control.soft_weight * losses.soft
    return total + config.control.generator_weight * losses.generator


def _update_critics(
    config: ControlConfig,
    network: nn.Module,
    critics: torch.optim.Optimizer,
    amp: MixedPrecision,
    rows: tuple[Batch, Tensor],
) -> ControlLosses:
    """One update of discriminator, latent classifier and text classifier on fixed z."""
    batch, labels = rows
    device = next(network.parameters()).device
    critics.zero_grad(set_to_none=True)
    with amp.autocast():
        losses: ControlLosses = network(
            batch.encoder_ids.to(device),
            batch.decoder_ids.to(device),
            labels.to(device),
            phase="critics",
        )
        total = config.control.discriminator_weight * losses.discriminator
        total = total + config.control.classifier_weight * losses.classifier
        total = total + config.control.text_weight * losses.text
        amp.backward(total, critics)
    amp.step(critics)
    return losses


def next_rows(batches: Batches, data: Labeled) -> tuple[Batch, Tensor]:
    """A batch and its labels."""
    batch = next(batches)
    return batch, data.labels_of(batch)


def save_model(
    model: LabelControl, tokenizers: Tokenizers, names: Sequence[str], folder: Path
) -> None:
    """Write the module, its vocabularies and the names of its labels."""
    model.save_pretrained(folder)
    tokenizers.save(folder / "tokenizers")
    (folder / "labels.json").write_text(json.dumps(list(names)) + "\n", encoding="utf-8")


def text_options(config: ControlConfig) -> TextOptions:
    """Which sentences are used."""
    return TextOptions(max_words=config.data.max_words)


def _scalars(total: Tensor, losses: ControlLosses, judged: ControlLosses) -> dict[str, Tensor]:
    return {
        "loss": total,
        "rec": losses.reconstruction,
        "encoder": losses.encoder,
        "gan_g": losses.generator,
        "gan_d": judged.discriminator,
        "lsc": judged.classifier,
        "cls": judged.text,
        "soft": losses.soft,
    }


def _train_lines(config: ControlConfig) -> Iterator[str]:
    return (text for text in read_labeled(config.data.train)[1] if text.strip())
