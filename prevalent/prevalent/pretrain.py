"""``prevalent pretrain PRESET``: masked words and next actions from triplets (Sec. 3)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .config import PRETRAIN_PRESETS, PretrainConfig
from .data.corpus import Corpus, build_corpus
from .data.triplet_batches import TripletBatch, TripletBatches
from .data.triplets import TripletTable
from .data.weights import initialize_from, save_model
from .models.prevalent import IGNORE, PretrainOutput, PrevalentForPretraining
from .optimizer import AuthorsAdamW, check_weights, linear_schedule, parameter_groups
from .runtime.checkpoint import Checkpoint, Progress
from .runtime.command import parse_preset
from .runtime.distributed import World, barrier, reduce_mean, reduce_sum, start, unwrap, wrap
from .runtime.files import write_atomically
from .runtime.logs import Logs, read_metrics
from .runtime.precision import MixedPrecision, build_adamw, check_finite
from .runtime.rundir import open_run
from .runtime.signals import StopSignal


def main(argv: Sequence[str]) -> None:
    """Run ``prevalent pretrain r2r-small --batch-size 64``."""
    pretrain(parse_preset(PRETRAIN_PRESETS, argv, "prevalent pretrain"))


def pretrain(config: PretrainConfig) -> PrevalentForPretraining:
    """Run ``config`` to its last step, continuing from the newest checkpoint in ``run_dir``.

    Leaves ``checkpoints/``, logs, ``curve.png`` and ``model/`` in ``run_dir``.

    Raises:
        FloatingPointError: the loss is not finite; the earlier checkpoints are kept.
        Stopped: a signal asked to stop; a checkpoint of this step was written.
    """
    with (
        start(config.device, seed=config.seed) as world,
        open_run(config.run_dir, config) as run_dir,
        StopSignal() as stop,
    ):
        corpus = build_corpus(config, run_dir, world)
        batches = build_batches(config, corpus, corpus.train, world)
        total_steps = count_steps(config, batches)
        model, optimizer = build_model(config, corpus, world)
        amp = MixedPrecision(config.precision, world.device)
        model, optimizer = amp.prepare(model, optimizer)
        network: Any = wrap(model, world, find_unused_parameters=True)
        progress, means = Progress(), Means(world.device)
        state: dict[str, Any] = {"model": model, "optimizer": optimizer, "amp": amp}
        state |= {"data": batches, "progress": progress, "means": means}
        checkpoint = Checkpoint(run_dir, **state)
        checkpoint.load_latest()

        with Logs(run_dir, total_steps, progress.step) as logs:
            if progress.step == 0:
                logs.text(corpus.summary)
            while progress.step < total_steps:
                lr = config.lr * linear_schedule(progress.step, total_steps, config.warmup_steps)
                for group in optimizer.param_groups:
                    group["lr"] = lr
                optimizer.zero_grad(set_to_none=True)
                for micro in range(config.accumulate):
                    last = micro == config.accumulate - 1
                    waiting = nullcontext() if last or world.size == 1 else network.no_sync()
                    with waiting, amp.autocast():
                        output = forward(network, next(batches), config.predict_action)
                        amp.backward(output.loss / config.accumulate, optimizer)
                    means.add(output)
                norm = amp.step(optimizer, model.parameters(), config.max_norm)
                progress.step += 1
                logs.advance(progress.step)

                stopping = stop.requested(progress.step)
                ended = progress.step == total_steps
                saving = stopping or ended or progress.step % config.save_every == 0
                if ended or progress.step % config.log_every == 0:
                    scalars = means.take()
                    check_finite(progress.step, **scalars)
                    logs.log(progress.step, lr=lr, gradient_norm=norm, **scalars)
                if ended or progress.step % config.eval_every == 0:
                    logs.log(progress.step, **evaluate_held_out(config, corpus, model, world))
                if saving:
                    check_finite(progress.step, loss=output.loss)
                    check_weights(progress.step, checkpoint.parts)
                    checkpoint.save(progress.step)
                if stopping and not ended:
                    stop.leave(progress.step)
            if world.is_main:
                export(run_dir, corpus, model)
                logs.text(draw_curve(run_dir))
            barrier()
    return model


def build_batches(
    config: PretrainConfig, corpus: Corpus, table: TripletTable, world: World, seed: int = 0
) -> TripletBatches:
    """Endless batches of ``table`` for this process."""
    return TripletBatches(
        table,
        corpus.codes,
        config.batch_size,
        features=corpus.features,
        feature_rows=corpus.feature_rows,
        device=world.device,
        seed=config.seed + seed,
        rank=world.rank,
        world_size=world.size,
    )


def count_steps(config: PretrainConfig, batches: TripletBatches) -> int:
    """Optimizer steps of the run."""
    passes = config.epochs * batches.batches_per_epoch / config.accumulate
    return config.max_steps or math.ceil(passes)


def build_model(
    config: PretrainConfig, corpus: Corpus, world: World
) -> tuple[PrevalentForPretraining, torch.optim.Optimizer]:
    """The network with the same weights on every rank, and its optimizer."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = PrevalentForPretraining(corpus.fit(config.model))
    if config.init_from is not None:
        initialize_from(model, config.init_from)
    model = model.to(world.device).train()
    groups = parameter_groups(model, config.weight_decay)
    if config.optimizer == "authors":
        return model, AuthorsAdamW(groups, lr=config.lr)
    return model, build_adamw(groups, kind=config.optimizer, lr=config.lr)


def forward(network: Any, batch: TripletBatch, predict_action: bool) -> PretrainOutput:
    """One pass of ``batch`` through the network, wrapped or not."""
    return network(
        batch.tokens,
        batch.mask,
        batch.images,
        batch.labels,
        batch.actions if predict_action else None,
        positions=batch.positions,
        word_positions=batch.word_positions,
        word_count=batch.word_count,
    )


class Means:
    """Mean losses since the last record; part of the checkpoint, so that records repeat exactly."""

    NAMES = ("loss", "word_loss", "action_loss")

    def __init__(self, device: torch.device) -> None:
        self.sums = torch.zeros(len(self.NAMES) + 1, device=device)

    def add(self, output: PretrainOutput) -> None:
        """Add the losses of one backward pass (no synchronisation)."""
        action = output.loss.new_zeros(()) if output.action_loss is None else output.action_loss
        losses = [output.loss, output.word_loss, action, torch.ones_like(action)]
        self.sums += torch.stack(losses).detach()

    def take(self) -> dict[str, float]:
        """The means over all ranks; starts anew."""
        shared = reduce_mean(self.sums.clone())
        self.sums.zero_()
        values = (shared[:-1] / shared[-1].clamp(min=1)).tolist()
        return dict(zip(self.NAMES, values, strict=True))

    def state_dict(self) -> dict[str, Any]:
        return {"sums": self.sums.cpu()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.sums.copy_(state["sums"])


def evaluate_held_out(
    config: PretrainConfig, corpus: Corpus, model: PrevalentForPretraining, world: World
) -> dict[str, float]:
    """Losses (nats) and accuracies on every held-out source, each beside its chance level.

    Chance is the training data's frequencies without any input: always the commonest word or
    action for the accuracies, the frequencies as a prediction for the losses. The batches and
    their masks are the same at every call.
    """
    results: dict[str, float] = {}
    model.eval()
    for number, (name, table) in enumerate(corpus.held_out.items()):
        batches = build_batches(config, corpus, table, world, seed=1000 + number)
        count = min(config.eval_batches, math.ceil(batches.batches_per_epoch))
        sums = torch.zeros(10, dtype=torch.float64, device=world.device)
        for _ in range(count):
            batch = next(batches)
            with torch.no_grad():
                output = forward(unwrap(model), batch, True)
            words = _score(output.word_logits, output.word_labels, corpus.word_prior)
            actions = _score(output.action_log_probs, batch.actions, corpus.action_prior)
            sums += torch.cat([words, actions])
        values = reduce_sum(sums).tolist()
        kinds = {"word": values[:5]} | ({"action": values[5:]} if config.predict_action else {})
        for kind, (total, loss, hits, prior_loss, prior_hits) in kinds.items():
            results |= {
                f"{name}/{kind}_loss": loss / max(total, 1),
                f"{name}/{kind}_accuracy": hits / max(total, 1),
                f"{name}/{kind}_loss_chance": prior_loss / max(total, 1),
                f"{name}/{kind}_accuracy_chance": prior_hits / max(total, 1),
            }
    model.train()
    return results


def _score(logits: Tensor, labels: Tensor, log_prior: Tensor) -> Tensor:
    """(5,) sums over the labels: their number, loss and hits, and loss and hits of the prior."""
    used = labels != IGNORE
    logits, labels = logits[used], labels[used]
    losses = torch.nn.functional.cross_entropy(logits.float(), labels, reduction="sum")
    prior = log_prior.to(labels.device)
    return torch.stack(
        [
            used.sum().double(),
            losses.double(),
            (logits.argmax(dim=-1) == labels).sum().double(),
            -prior[labels].sum().double(),
            (labels == prior.argmax()).sum().double(),
        ]
    )


def export(run_dir: Path, corpus: Corpus, model: PrevalentForPretraining) -> None:
    """Write the weights for use, with the vocabulary, into ``run_dir/model``."""
    save_model(run_dir / "model", unwrap(model))
    if corpus.vocabulary is not None:
        write_atomically(run_dir / "model" / "vocab.txt", corpus.vocabulary.read_bytes())


def draw_curve(run_dir: Path) -> str:
    """Draw losses and accuracies over steps into ``run_dir/curve.png``; returns a line for the log.

    Dashed lines are the chance level.
    """
    try:
        import matplotlib
    except ImportError:
        return "no curve.png: matplotlib is not installed (pip install 'prevalent-vln[plots]')"
    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = read_metrics(run_dir)
    figure, axes = pyplot.subplots(2, 2, figsize=(10, 7), layout="constrained")
    panels = [f"{kind}_{what}" for what in ("loss", "accuracy") for kind in ("word", "action")]
    for axis, panel in zip(axes.flat, panels, strict=True):
        names = sorted({name for row in rows for name in row if name.split("/")[-1] == panel})
        for color, name in enumerate(names):
            points = [(row["step"], row[name]) for row in rows if name in row]
            label = name.removesuffix(f"/{panel}") if "/" in name else "train"
            axis.plot(*zip(*points, strict=True), f"C{color}", label=label)
            chance = [row[f"{name}_chance"] for row in rows if f"{name}_chance" in row]
            if chance:
                axis.axhline(chance[-1], color=f"C{color}", linestyle="--", linewidth=0.8)
        axis.set(title=panel.replace("_", " "), xlabel="step")
        if names:
            axis.legend()
    path = run_dir / "curve.png"
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
    return f"curve: {path} (dashed: chance)"
