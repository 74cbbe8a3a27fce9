"""``optimus train-dialog PRESET``: responses to contexts in a fused latent space (Sec. 4.2)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor

from .data.batches import Batches, Padding
from .data.dialog import Dialogs, load_dialogs, read_turns
from .data.sentences import Sentences, TextOptions, load_sentences
from .data.tokenizers import Tokenizers
from .dialog_options import PRESETS, DialogConfig
from .initialize import build_model, build_optimizer, build_tokenizers
from .loop_options import rows_per_process
from .models.spacefusion import SpaceFusion
from .objectives import learning_rate_at
from .optimizer import norm_to_check
from .running_means import RunningMeans
from .runtime.checkpoint import Checkpoint, Progress
from .runtime.command import parse_preset
from .runtime.distributed import World, barrier, start, wrap
from .runtime.logs import Logs
from .runtime.precision import MixedPrecision, check_finite
from .runtime.rundir import open_run
from .runtime.signals import StopSignal

MAX_NORM = 1.0  # of the gradient


def main(argv: Sequence[str]) -> None:
    """Run ``optimus train-dialog dailydialog-2.0 --data.batch-size 8``."""
    train(parse_preset(PRESETS, argv, "optimus train-dialog"))


def train(config: DialogConfig) -> SpaceFusion:
    """Run ``config`` to its last step, continuing from the newest checkpoint in ``run_dir``.

    Leaves ``checkpoints/``, logs and ``model/``, the whole module with both vocabularies, there.

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
        padding = Padding(tokenizers.pad_id, tokenizers.encoder_pad_id)
        dialogs = load_train_dialogs(config, tokenizers)
        batches = _batches(config, dialogs.responses, padding, world)
        styles = load_style(config, tokenizers)
        style_batches = _batches(config, styles, padding, world) if styles is not None else None
        total_steps = config.steps(batches.batches_per_epoch)
        model = build_fusion(config, tokenizers).to(world.device)
        optimizer = build_optimizer(config.optimizer, model)  # type: ignore[arg-type]
        amp = MixedPrecision(config.precision, world.device)
        model, optimizer = amp.prepare(model, optimizer)
        network, progress = wrap(model, world), Progress()
        means = RunningMeans(("loss", "rec", "reg", "pull", "push", "style"), world.device)
        state: dict[str, Any] = {"model": model, "optimizer": optimizer, "amp": amp}
        state |= {"data": batches, "progress": progress, "means": means}
        if style_batches is not None:
            state["style"] = style_batches
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
                for group in optimizer.param_groups:
                    group["lr"] = lr
                optimizer.zero_grad(set_to_none=True)
                turns = dialogs.with_contexts(next(batches), padding).to(world.device)
                with amp.autocast():
                    losses = network(
                        turns.context_ids,
                        turns.response.encoder_ids,
                        turns.response.decoder_ids,
                        weight=config.fusion.weight,
                        style=_next_style(style_batches, world),
                        style_weight=config.fusion.style_weight,
                    )
                    amp.backward(losses.total.mean(), optimizer)
                means.add(
                    loss=losses.total,
                    rec=losses.reconstruction,
                    reg=losses.regulariser,
                    pull=losses.pull,
                    push=losses.push,
                    style=losses.style,
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
                    checked = norm_to_check(norm, config.precision)
                    check_finite(progress.step, loss=means.sums[0], gradient_norm=checked)
                if logging_now:
                    logs.log(progress.step, lr=lr, gradient_norm=norm, **means.take())
                if saving:
                    checkpoint.save(progress.step)
                if stopping and not ended:
                    stop.leave(progress.step)
            if world.is_main:
                model.save_pretrained(run_dir / "model")
                tokenizers.save(run_dir / "model" / "tokenizers")
            barrier()
            logs.text(f"the model of step {progress.step} is in {run_dir / 'model'}")
    return model


def build_fusion(config: DialogConfig, tokenizers: Tokenizers) -> SpaceFusion:
    """The module with its initial weights, in training mode.

    Raises:
        ValueError: the encoder has fewer layers than are to be copied or frozen.
    """
    options = config.fusion
    return SpaceFusion(
        build_model(config.model, tokenizers),
        options.context_layers,
        options.frozen_layers,
        sep_id=tokenizers.sep_id,
        include_self=options.push == "constant",
        mask_padding=options.context_mask == "padding",
        speaker_rule=options.speakers,
    ).train()


def load_train_dialogs(config: DialogConfig, tokenizers: Tokenizers) -> Dialogs:
    """The training turns of ``config``."""
    path = config.data.folder / config.data.train_file
    return load_dialogs(path, tokenizers, max_tokens=config.data.max_tokens)


def load_style(config: DialogConfig, tokenizers: Tokenizers) -> Sentences | None:
    """The style sentences, or None."""
    if config.fusion.style is None:
        return None
    limit = config.data.max_tokens
    options = TextOptions(max_encoder_tokens=limit, max_decoder_tokens=limit, overlong="truncate")
    return load_sentences(config.fusion.style, tokenizers, options)


def _batches(config: DialogConfig, rows: Sentences, padding: Padding, world: World) -> Batches:
    size = rows_per_process(config.data.batch_size, world.size)
    return Batches(rows, size, padding, seed=config.seed, rank=world.rank, world_size=world.size)


def _next_style(batches: Batches | None, world: World) -> tuple[Tensor, Tensor] | None:
    if batches is None:
        return None
    batch = next(batches).to(world.device)
    return batch.encoder_ids, batch.decoder_ids


def _train_lines(config: DialogConfig) -> Iterator[str]:
    """Every utterance, for vocabularies of one's own."""
    for context, response in read_turns(config.data.folder / config.data.train_file):
        yield context.rpartition("[SEP]")[2].strip()
        yield response
