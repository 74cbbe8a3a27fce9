"""``optimus evaluate``: perplexity by importance weighting, ELBO, KL, MI, active units, BLEU."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import torch
from torch import Tensor

from .config import EvaluateConfig, TrainConfig
from .data.batches import Batch, Padding, evaluation_batches
from .data.sentences import Sentences, TextOptions
from .data.shards import load_corpus
from .metrics.latent import (
    active_units,
    baseline_perplexity,
    likelihood_report,
    mutual_information,
    reconstruction_report,
)
from .metrics.text import bleu, self_bleu
from .models.encoder import Posterior
from .models.vae import OptimusModel
from .runtime.command import parse
from .runtime.distributed import World, gather_objects, is_main, start
from .runtime.files import write_atomically
from .runtime.published import markdown_table
from .runtime.rundir import read_config
from .scoring import importance_scores, language_model_nll
from .sentence_vae import SentenceVAE
from .unpickle import load_untrusted

logger = logging.getLogger(__name__)
AUTHORS_KEYS = ("perplexity", "elbo", "kl", "nll", "au", "mi")  # of their eval_results.txt
Results = dict[str, float | int | str]


def main(argv: Sequence[str]) -> None:
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
