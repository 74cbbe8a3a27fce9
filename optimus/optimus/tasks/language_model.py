"""The sentence VAE and the GPT-2 baseline (Sec. 4.1, 5): presets, training and scores.

``PRESETS`` has one entry for each experiment of the paper.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from ..api import SentenceVAE
from ..config import (
    DataOptions,
    EvaluateConfig,
    ModelOptions,
    ObjectiveOptions,
    OptimizerOptions,
    TrainConfig,
)
from ..data.text import (
    Batch,
    Batches,
    Padding,
    Sentences,
    TextOptions,
    corrupt,
    evaluation_batches,
    load_corpus,
    read_lines,
)
from ..data.tokenizers import Tokenizers
from ..metrics.latent import (
    active_units,
    baseline_perplexity,
    importance_log_weights,
    likelihood_report,
    log_marginal,
    mutual_information,
    reconstruction_report,
)
from ..metrics.text import bleu, self_bleu
from ..models.encoder import Posterior
from ..models.vae import OptimusModel
from ..objectives import Objective, beta_schedule, kl_divergence, learning_rate_at
from ..optimizer import RunningMeans, norm_to_check
from ..released.pickles import load_untrusted
from ..runtime.checkpoint import Checkpoint, Progress
from ..runtime.command import parse, parse_preset
from ..runtime.distributed import World, gather_objects, is_main, start, wrap
from ..runtime.files import write_atomically
from ..runtime.logs import Logs
from ..runtime.precision import MixedPrecision, check_finite
from ..runtime.published import markdown_table
from ..runtime.rundir import open_run, read_config
from ..runtime.signals import StopSignal
from .initialize import build_model, build_optimizer, build_tokenizers

LAMBDAS = ("0.05", "0.10", "0.25", "0.50", "1.00")
WIKIPEDIA_STEPS = 508_523  # one epoch of 65.1 M sentences at batch 128
PUBLIC_WEIGHTS = (Path("weights/bert-base-cased"), Path("weights/gpt2"))


def _wikipedia() -> Iterator[tuple[str, tuple[str, TrainConfig]]]:
    """Pre-training (Sec. 4.1): one epoch, ten beta cycles, lambda 1."""
    for dim in (32, 768):
        name = f"pretrain-wikipedia-{dim}"
        config = TrainConfig(
            run_dir=Path("runs", f"pretrain/wikipedia_{dim}"),
            model=ModelOptions(latent_dim=dim, init=PUBLIC_WEIGHTS),
            objective=ObjectiveOptions(free_bits=1.0, cycles=10),
            data=DataOptions(Path("data/wikipedia"), block_size=256, batch_size=128),
            max_steps=WIKIPEDIA_STEPS,
            save_every=20_000,
        )
        yield name, (f"Sec. 4.1, Wikipedia, {dim} dimensions", config)


# corpus -> format, longest sentence in words, sentences per step, epochs
CORPORA: dict[str, tuple[Literal["text", "label-text"], int, int, float]] = {
    "penn": ("text", 100, 16, 1.0),
    "yelp": ("label-text", 300, 16, 1.0),
    "yahoo": ("text", 510, 16, 1.0),
    "snli": ("text", 100, 40, 20.0),
}


def _language_modeling() -> Iterator[tuple[str, tuple[str, TrainConfig]]]:
    """Fine-tuning of the Wikipedia model on four corpora for five lambdas (Table 1)."""
    for corpus, (form, block_size, batch_size, epochs) in CORPORA.items():
        for free_bits in LAMBDAS:
            name = f"lm-{corpus}-{free_bits}"
            config = TrainConfig(
                run_dir=Path("runs", f"language_modeling/{corpus}_{free_bits}"),
                model=ModelOptions(init=(Path("runs/pretrain/wikipedia_32/model"),)),
                objective=ObjectiveOptions(free_bits=float(free_bits)),
                data=DataOptions(Path("data", corpus), form, block_size, batch_size),
                epochs=epochs,
                save_every=2000,
            )
            yield name, (f"Table 1, {corpus}, lambda {free_bits}", config)


def _baselines() -> Iterator[tuple[str, tuple[str, TrainConfig]]]:
    """GPT-2 fine-tuned as a language model (Table 1, GPT-2 row)."""
    batches = {"penn": 16, "yelp": 24, "yahoo": 32, "snli": 16}
    for corpus, (form, block_size, _, epochs) in CORPORA.items():
        name = f"gpt2-{corpus}"
        config = TrainConfig(
            run_dir=Path("runs", f"gpt2_baseline/{corpus}"),
            model=ModelOptions(inject="none", init=PUBLIC_WEIGHTS),
            objective=ObjectiveOptions(kind="language-model"),
            data=DataOptions(Path("data", corpus), form, block_size, batches[corpus]),
            epochs=epochs,
            save_every=2000,
        )
        yield name, (f"Table 1, {corpus}, GPT-2 without a latent", config)


def _manipulation() -> Iterator[tuple[str, tuple[str, TrainConfig]]]:
    """The 768-dimensional SNLI models of Sec. 5.2 (interpolation, analogy)."""
    for beta in ("0.0", "0.5", "1.0"):
        name = f"manipulate-snli-768-{beta}"
        config = TrainConfig(
            run_dir=Path("runs", f"latent_manipulation/snli_768_{beta}"),
            model=ModelOptions(latent_dim=768, init=(Path("runs/pretrain/wikipedia_768/model"),)),
            objective=ObjectiveOptions(beta=float(beta), free_bits=5.0, length_weighted=True),
            data=DataOptions(Path("data/snli"), batch_size=16),
            max_steps=31_250,
            save_every=2000,
        )
        yield name, (f"Sec. 5.2, SNLI, 768 dimensions, beta {beta}", config)


def _injection() -> Iterator[tuple[str, tuple[str, TrainConfig]]]:
    """Memory against embedding against both (the paper's ablation figure), beta 0."""
    for inject in ("memory", "embedding", "both"):
        name = f"inject-penn-{inject}"
        config = TrainConfig(
            run_dir=Path("runs", f"injection_ablation/penn_{inject}"),
            model=ModelOptions(inject=inject, init=PUBLIC_WEIGHTS),
            objective=ObjectiveOptions(beta=0.0),
            data=DataOptions(Path("data/penn"), batch_size=10),
            max_steps=13_145,
            save_every=2000,
            keep=16,
        )
        yield name, (f"Injection ablation, {inject}", config)


def _from_scratch() -> Iterator[tuple[str, tuple[str, TrainConfig]]]:
    """Small models for a CPU (small-*) and mid-size ones for one GPU (mid-*), no downloads."""
    epochs = {"penn": (1.5, 20.0), "tatoeba": (8.0, 60.0)}
    for corpus, (small_epochs, mid_epochs) in epochs.items():
        for free_bits in ("0.00", "0.50"):
            small = TrainConfig(
                run_dir=Path("runs", f"from_scratch/small_{corpus}_{free_bits}"),
                model=ModelOptions(vocabulary="8000", layers=2, hidden=256),
                objective=ObjectiveOptions(
                    free_bits=float(free_bits), ratio_zero=0.25, ratio_increase=0.25
                ),
                data=DataOptions(Path("data", corpus), block_size=60, batch_size=32),
                optimizer=OptimizerOptions(lr=1e-3, warmup_steps=200),
                epochs=small_epochs,
                save_every=500,
            )
            mid = replace(
                small,
                run_dir=Path("runs", f"from_scratch/mid_{corpus}_{free_bits}"),
                model=ModelOptions(vocabulary="8000"),
                data=replace(small.data, batch_size=64),
                optimizer=OptimizerOptions("fused", lr=2e-4, warmup_steps=500),
                epochs=mid_epochs,
                precision="bf16",
            )
            yield f"small-{corpus}-{free_bits}", (f"{corpus} from scratch, CPU", small)
            yield f"mid-{corpus}-{free_bits}", (f"{corpus} from scratch, 12 layers, GPU", mid)


def _own() -> Iterator[tuple[str, tuple[str, TrainConfig]]]:
    """The VAE that sees GLUE's texts before its labels, the quick check, and the demo."""
    demo = TrainConfig(
        run_dir=Path("runs/demo"),
        model=ModelOptions(latent_dim=32, vocabulary="400", layers=1, hidden=128, dropout=0.0),
        objective=ObjectiveOptions(free_bits=1.0, ratio_zero=0.5, ratio_increase=0.25),
        data=DataOptions(Path("data/toy"), block_size=30, batch_size=32),
        optimizer=OptimizerOptions(lr=5e-4, warmup_steps=100),
        max_steps=3000,
        log_every=250,
        save_every=1500,
    )
    smoke = replace(
        demo,
        run_dir=Path("runs/smoke"),
        model=replace(demo.model, latent_dim=8, hidden=64),
        data=replace(demo.data, batch_size=8),
        max_steps=6,
        log_every=2,
        save_every=3,
        eval_every=3,
    )
    glue = TrainConfig(
        run_dir=Path("runs/low_resource/glue_text"),
        model=ModelOptions(init=(Path("runs/pretrain/wikipedia_32/model"),)),
        objective=ObjectiveOptions(free_bits=1.0),
        data=DataOptions(Path("data/glue-text"), block_size=256),
        save_every=1000,
    )
    yield "glue-text", ("Sec. 4.4, the sentence VAE on GLUE's texts", glue)
    yield "smoke", ("a few steps on the toy corpus", smoke)
    yield "demo", ("the toy corpus of `optimus demo`", demo)


PRESETS: dict[str, tuple[str, TrainConfig]] = {
    name: entry
    for rows in (
        _wikipedia,
        _language_modeling,
        _baselines,
        _manipulation,
        _injection,
        _from_scratch,
        _own,
    )
    for name, entry in rows()
}


logger = logging.getLogger(__name__)
MAX_NORM = 1.0  # of the gradient
COLLAPSED = 0.05  # nats; below this KL the latent says nothing about the sentence


def train_command(argv: Sequence[str]) -> None:
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


_CHUNK_TOKENS = {"cpu": 8192, "cuda": 65536}
"""Decoder tokens worked on at once: enough to fill the device, few enough to stay small."""


class ImportanceScores(NamedTuple):
    """Everything the evaluation says about a sentence, in nats."""

    log_weight: Tensor  # (B, K) log p(x|z_k) + log p(z_k) - log q(z_k|x), float64
    log_likelihood: Tensor  # (B, K) log p(x|z_k)
    kl: Tensor  # (B,) KL(q(z|x) || N(0, I))
    mean: Tensor  # (B, Z)
    logvar: Tensor  # (B, Z)
    latent: Tensor  # (B, K, Z) the samples z_k

    def log_marginal(self) -> Tensor:
        """The importance-weighted bound of log p(x), (B,): tighter with every sample."""
        return log_marginal(self.log_weight)


@torch.no_grad()
def importance_scores(
    model: OptimusModel,
    encoder_ids: Tensor,
    decoder_ids: Tensor,
    *,
    num_samples: int = 100,
    eps: Tensor | None = None,
    mask_padding: bool = True,
    chunk_tokens: int | None = None,
) -> ImportanceScores:
    """Score a batch with K samples of z per sentence, encoding each sentence once.

    Args:
        model: in evaluation mode.
        encoder_ids: (B, S), right-padded.
        decoder_ids: (B, T), right-padded; sentences of like length waste least.
        num_samples: K; the paper has 100.
        eps: (B, K, Z) the noise; drawn where None.
        mask_padding: False attends to the encoder's padding as the authors' evaluation does.
        chunk_tokens: decoder tokens per pass; by default what suits the device.
    """
    posterior = model.encode(encoder_ids, mask_padding)
    latent = posterior.sample(eps, num_samples)
    log_likelihood = -_nll(model, decoder_ids, latent, chunk_tokens)
    return ImportanceScores(
        importance_log_weights(log_likelihood, latent, posterior.mean, posterior.logvar),
        log_likelihood,
        kl_divergence(posterior.mean, posterior.logvar),
        posterior.mean,
        posterior.logvar,
        latent,
    )


@torch.no_grad()
def language_model_nll(model: OptimusModel, decoder_ids: Tensor) -> Tensor:
    """-log p(x) of ``decoder_ids`` (B, T) without any latent. Returns (B,) nats."""
    return model.decoder.nll(decoder_ids, None)


def _nll(
    model: OptimusModel, decoder_ids: Tensor, latent: Tensor, chunk_tokens: int | None
) -> Tensor:
    """-log p(x_i|z_ik), (B, K), the B * K sequences in chunks of equal size."""
    batch, samples = latent.shape[:2]
    tokens = chunk_tokens or _CHUNK_TOKENS.get(decoder_ids.device.type, 8192)
    size = max(1, tokens // decoder_ids.shape[1])
    rows = torch.arange(batch, device=decoder_ids.device).repeat_interleave(samples)
    parts = [
        model.decoder.nll(decoder_ids[index], z)
        for index, z in zip(rows.split(size), latent.flatten(0, 1).split(size), strict=True)
    ]
    return torch.cat(parts).view(batch, samples)


AUTHORS_KEYS = ("perplexity", "elbo", "kl", "nll", "au", "mi")  # of their eval_results.txt
Results = dict[str, float | int | str]


def evaluate_command(argv: Sequence[str]) -> None:
    """Run ``optimus evaluate --run-dir runs/x --split test`` and print the results."""
    results = evaluate(parse(EvaluateConfig, argv, "optimus evaluate"))
    if results:
        print(markdown_table(["metric", "value"], [(k, _shown(v)) for k, v in results.items()]))


def evaluate(config: EvaluateConfig) -> Results:
    """Do what ``config`` asks for; results are written by rank 0 and returned there.

    Raises:
        FileNotFoundError: a model, corpus or text file is missing.
        ValueError: the corpus has no usable sentence.
    """
    if config.generated is not None:
        return _write(config, "bleu_results", score_texts(config))
    with start(config.device, seed=config.seed) as world, torch.no_grad():
        folder = config.model or Path(config.run_dir or ".") / "model"
        vae = SentenceVAE.from_pretrained(folder, device=str(world.device))
        sentences = _load_split(config, vae)
        batches = [*_batches(config, vae, sentences, world)]
        if config.reconstruction_study:
            results = study_checkpoints(config, vae.model, batches, world)
            return _write(config, "eval_rec_results", results) if world.is_main else {}
        score = score_vae if vae.model.encoder is not None else score_language_model
        results = score(config, vae.model, batches, world)
    if not is_main():
        return {}
    name = "eval_results" if config.split == "test" else f"eval_results_{config.split}"
    return _write(config, name, {"split": config.split, **results})


def score_vae(
    config: EvaluateConfig, model: OptimusModel, batches: list[Batch], world: World
) -> Results:
    """All scores of a VAE; the encoder runs once per sentence.

    The keys ``perplexity``, ``elbo``, ``nll``, ``kl``, ``mi`` and ``au`` mean what the authors'
    script prints under these names: ``elbo`` is the negative ELBO and ``nll`` the reconstruction
    term. ``iw_nll`` is the importance-weighted negative log-likelihood in nats per sentence.
    """
    rows = []
    for batch in batches:
        batch = batch.to(world.device)
        eps = _noise(config, batch, config.samples + 1, model.config.latent_dim)
        with _autocast(config, world):
            scores = importance_scores(model, batch.encoder_ids, batch.decoder_ids, eps=eps[:, 1:])
        posterior = Posterior(scores.mean, scores.logvar)
        sample = posterior.sample(eps[:, :1])[:, 0]  # a draw of its own for the MI
        rows.append(
            (
                batch.index.cpu(),
                scores.log_weight.cpu(),
                scores.log_likelihood.cpu(),
                scores.kl.cpu(),
                batch.decoder_lengths.cpu(),
                batch.words.cpu(),
                posterior.mean.cpu(),
                posterior.logvar.cpu(),
                sample.cpu(),
            )
        )
    weight, likelihood, kl, tokens, words, mean, logvar, sample = _gather(rows)
    report = likelihood_report(weight, likelihood, kl, tokens, words)
    units = active_units(mean)
    if units.count == 0:
        logger.warning("posterior collapse: no latent dimension is active")
    return {
        "sentences": len(kl),
        "samples": config.samples,
        "perplexity": report.perplexity,
        "perplexity_predicted": report.perplexity_predicted,
        "perplexity_word": report.perplexity_word,
        "elbo": report.elbo,
        "kl": report.kl,
        "nll": report.reconstruction,
        "reconstruction": report.reconstruction,
        "iw_nll": report.iw_nll,
        "mi": mutual_information(mean, logvar, sample),
        "au": units.count,
    }


def score_language_model(
    config: EvaluateConfig, model: OptimusModel, batches: list[Batch], world: World
) -> Results:
    """Perplexity of GPT-2 without a latent, in the authors' conventions and per word.

    ``of_totals`` is exp(total nats / total tokens), ``of_means`` averages over batches first; the
    token count is with BOS and EOS (m + 2), with EOS (m + 1) or without either (m).
    """
    rows = []
    for batch in batches:
        batch = batch.to(world.device)
        with _autocast(config, world):
            nll = language_model_nll(model, batch.decoder_ids)
        rows.append((batch.index.cpu(), nll.cpu(), batch.decoder_lengths.cpu(), batch.words.cpu()))
    nll, tokens, words = _gather(rows)
    with_ends = baseline_perplexity(nll, tokens)
    predicted = baseline_perplexity(nll, tokens - 1)
    without_ends = baseline_perplexity(nll, tokens - 2)
    return {
        "sentences": len(nll),
        "perplexity": with_ends.of_totals,
        "perplexity_of_means": with_ends.of_means,
        "perplexity_predicted": predicted.of_totals,
        "perplexity_without_ends": without_ends.of_totals,
        "perplexity_without_ends_of_means": without_ends.of_means,
        "perplexity_word": float((nll.double().sum() / (words + 1).sum()).exp()),
        "nll": float(nll.double().mean()),
    }


def study_checkpoints(
    config: EvaluateConfig, model: OptimusModel, batches: list[Batch], world: World
) -> Results:
    """Reconstruction error of every checkpoint: nats per sentence and per token, one sample."""
    folders = sorted(Path(config.run_dir or ".", "checkpoints").glob("[0-9]*"))
    if not folders:
        raise FileNotFoundError(
            f"{config.run_dir} has no checkpoints; train with a larger --keep to study several"
        )
    results: Results = {}
    for folder in folders:
        model.load_state_dict(load_untrusted(folder / "model.pt"))
        rows = []
        for batch in batches:
            batch = batch.to(world.device)
            eps = _noise(config, batch, 1, model.config.latent_dim)
            with _autocast(config, world):
                losses = model(batch.encoder_ids, batch.decoder_ids, eps=eps)
            rows.append(
                (batch.index.cpu(), losses.reconstruction.cpu(), batch.decoder_lengths.cpu())
            )
        report = reconstruction_report(*_gather(rows))
        results[f"rec_s_{int(folder.name)}"] = report.per_sentence
        results[f"rec_w_{int(folder.name)}"] = report.per_token
    return results


def score_texts(config: EvaluateConfig) -> Results:
    """BLEU-n of generated lines against all real ones, and self-BLEU-n among the generated."""
    generated, real = (_read_lines(path) for path in (config.generated, config.references))
    if config.max_sentences:
        generated = generated[: config.max_sentences]
    n = config.ngram
    return {
        "sentences": len(generated),
        "references": len(real),
        f"bleu_{n}": bleu(real, generated, n),
        f"self_bleu_{n}": self_bleu(generated, n),
    }


def _load_split(config: EvaluateConfig, vae: SentenceVAE) -> Sentences:
    folder, form, block_size = config.data, config.format, config.block_size
    if config.run_dir is not None and (config.run_dir / "config.json").exists():
        data = read_config(TrainConfig, config.run_dir).data
        folder, form = folder or data.folder, form or data.format
        block_size = block_size or data.block_size
    if folder is None:
        raise ValueError("--data is missing: the folder of a corpus with test.txt")
    options = TextOptions(max_words=block_size or 510, format=form or "text")
    (sentences,) = load_corpus(folder, config.split, vae.tokenizers, options)
    return sentences


def _batches(
    config: EvaluateConfig, vae: SentenceVAE, sentences: Sentences, world: World
) -> Iterator[Batch]:
    padding = Padding(vae.tokenizers.pad_id, vae.tokenizers.encoder_pad_id)
    limit = config.max_sentences or len(sentences)
    order = "original" if config.max_sentences else "sorted"
    batches = evaluation_batches(
        sentences,
        config.batch_size,
        padding,
        rank=world.rank,
        world_size=world.size,
        order=order,  # type: ignore[arg-type]
    )
    for batch in batches:
        kept = batch.index < limit
        if kept.any():
            yield Batch(*(tensor[kept] for tensor in batch))


def _gather(rows: Sequence[tuple[Tensor, ...]]) -> list[Tensor]:
    """Columns of ``rows`` over all batches and processes, in the order of the file.

    The first column, the number of the sentence, is used for the order and left out.
    """
    parts = [part for rank in gather_objects(rows) for part in rank]
    columns = [torch.cat(column) for column in zip(*parts, strict=True)]
    order = columns[0].argsort()
    return [column[order] for column in columns[1:]]


def _noise(config: EvaluateConfig, batch: Batch, samples: int, latent_dim: int) -> Tensor:
    """Noise (B, K, Z) that depends on a sentence's number alone, not on its batch or process."""
    generator = torch.Generator()
    draws = []
    for number in batch.index.tolist():
        generator.manual_seed((config.seed << 32) + number)
        draws.append(torch.randn(samples, latent_dim, generator=generator))
    return torch.stack(draws).to(batch.index.device)


def _autocast(config: EvaluateConfig, world: World) -> AbstractContextManager[object]:
    return torch.autocast(
        world.device.type, dtype=torch.bfloat16, enabled=config.precision == "bf16"
    )


def _read_lines(path: Path | None) -> list[str]:
    if path is None or not path.is_file():
        raise FileNotFoundError(f"no text file {path}")
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    lines = [line for line in lines if line]
    if not lines:
        raise ValueError(f"{path} holds no sentence")
    return lines


def _write(config: EvaluateConfig, name: str, results: Results) -> Results:
    """Write NAME.json and, as the authors do, NAME.txt with one `key = value` a line."""
    fallback = config.generated.parent if config.generated is not None else config.model
    folder = config.output_dir or config.run_dir or fallback or Path()
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / f"{name}.json", json.dumps(results, indent=2) + "\n")
    keys = [key for key in AUTHORS_KEYS if key in results] or list(results)
    lines = [f"{key} = {results[key]}\n" for key in sorted(keys)]
    write_atomically(folder / f"{name}.txt", "".join(lines))
    logger.info("results are in %s", folder / f"{name}.json")
    return results


def _shown(value: float | int | str) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)
