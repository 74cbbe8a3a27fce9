"""Scores of sentence VAEs and language models (Table 1, Appendix): ``optimus evaluate``.

Perplexity by importance weighting, ELBO, KL, mutual information, active units, and BLEU of
generated text.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from ..api import SentenceVAE
from ..config import Device
from ..data.text import (
    Batch,
    Padding,
    Sentences,
    TextOptions,
    evaluation_batches,
    load_corpus,
)
from ..metrics.latent import (
    active_units,
    baseline_perplexity,
    likelihood_report,
    mutual_information,
    reconstruction_report,
    sentence_noise,
)
from ..metrics.text import bleu, self_bleu
from ..models.encoder import Posterior
from ..models.pretrained import without_lora
from ..models.vae import OptimusModel, importance_scores
from ..runs import open_run, step_of
from ..runtime.checkpoint import finished_steps, read_part
from ..runtime.command import parse
from ..runtime.distributed import World, gather_objects, is_main, start
from ..runtime.evaluation import Provenance
from ..runtime.files import write_atomically
from ..runtime.options import at_least, require
from ..runtime.precision import ieee_fp32
from ..runtime.text_files import read_texts
from .language_model import TASK
from .training import (
    Results,
    print_results,
    write_results,
)

logger = logging.getLogger(__name__)
SAMPLES = 100  # of the importance-weighted likelihood in the paper
AUTHORS_KEYS = ("perplexity", "elbo", "kl", "nll", "au", "mi")  # of their eval_results.txt


@dataclass(frozen=True)
class EvaluateConfig:
    """Score a model on a split, its checkpoints by reconstruction, or a file of generated text."""

    run_dir: Path | None = None
    """Folder of the run to score; the results are written into it."""
    step: int | None = None
    """Step of the checkpoint to score; by default the newest weights of the run."""
    model: Path | None = None
    """Folder of a model without a run."""
    data: Path | None = None
    """Folder of the corpus; by default that of the run."""
    format: Literal["text", "label-text"] | None = None
    """Format of the corpus; by default that of the run, else text."""
    split: Literal["train", "valid", "test"] = "test"
    """What to score."""
    samples: int = SAMPLES
    """Samples K of the importance-weighted likelihood."""
    batch_size: int = 32
    """Sentences encoded at once."""
    max_sentences: int = 0
    """Score only the first sentences of the split; 0 is all."""
    block_size: int = 0
    """Sentences with more words are left out; 0 is the run's own limit, else 510."""
    reconstruction_study: bool = False
    """Reconstruction error of every checkpoint of the run instead (the injection ablation)."""
    generated: Path | None = None
    """File of generated sentences: BLEU-n against --references and self-BLEU-n instead."""
    references: Path | None = None
    """File of real sentences."""
    ngram: int = 5
    """n of BLEU-n and self-BLEU-n."""
    output_dir: Path | None = None
    """Where to write the results, if not to the run or model folder."""
    seed: int = 42
    """Seed of the posterior samples."""
    device: Device = "auto"
    """Where to compute."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Arithmetic of the networks; the bound itself is always fp32."""

    def __post_init__(self) -> None:
        require(
            self.run_dir is not None or self.model is not None or self.generated is not None,
            "give --run-dir (a run), --model (a model's folder) or --generated (a text file)",
        )
        at_least(self, samples=1, batch_size=1, ngram=1, max_sentences=0, block_size=0)
        require(
            self.run_dir is None or self.model is None,
            "--run-dir and --model name two models; give one of them",
        )
        require(
            (self.generated is None) == (self.references is None),
            "--generated and --references, files of sentences, belong together; give both",
        )
        require(
            not self.reconstruction_study or self.run_dir is not None,
            "--reconstruction-study needs --run-dir, a run with checkpoints",
        )


def evaluate_command(argv: Sequence[str]) -> None:
    """Run ``optimus evaluate --run-dir runs/x --split test`` and print the results."""
    print_results(evaluate(parse(EvaluateConfig, argv, "optimus evaluate")))


def evaluate(config: EvaluateConfig) -> Results:
    """Do what ``config`` asks for; results are written by rank 0 and returned there.

    Raises:
        FileNotFoundError: a model, corpus or text file is missing.
        ValueError: the corpus has no usable sentence, or the run is of another kind.
    """
    if config.generated is not None:
        return _write(config, "bleu_results", *score_texts(config))
    with start(config.device, seed=config.seed) as world, torch.no_grad(), ieee_fp32():
        vae = SentenceVAE.from_pretrained(
            config.model or config.run_dir or Path(),
            str(world.device),
            step=config.step,
            kinds=(TASK.kind,),
        )
        sentences, about = _load_split(config, vae)
        batches = [*_batches(config, vae, sentences, world)]
        if config.reconstruction_study:
            results = study_checkpoints(config, vae.model, batches, world)
            return _write(config, "eval_rec_results", results, about) if world.is_main else {}
        score = score_vae if vae.model.encoder is not None else score_language_model
        results = score(config, vae.model, batches, world)
    if not is_main():
        return {}
    name = "eval_results" if config.split == "test" else f"eval_results_{config.split}"
    if config.step is not None:
        name += f"_step_{config.step}"
    return _write(config, name, {"split": config.split, **results}, about)


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
            nll = model.decoder.nll(batch.decoder_ids, None)
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
    assert config.run_dir is not None
    steps = finished_steps(config.run_dir)
    if not steps:
        raise FileNotFoundError(
            f"{config.run_dir} has no checkpoints; train with a larger --keep to study several"
        )
    results: Results = {}
    for step in steps:
        state = read_part(config.run_dir, "model", step)[0]
        model.load_state_dict(without_lora(state, model))
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
        results[f"rec_s_{step}"] = report.per_sentence
        results[f"rec_w_{step}"] = report.per_token
    return results


def score_texts(config: EvaluateConfig) -> tuple[Results, Provenance]:
    """BLEU-n of generated lines against all real ones, and self-BLEU-n among the generated."""
    generated, real = (
        _read_texts(path, option)
        for path, option in ((config.generated, "generated"), (config.references, "references"))
    )
    kept = generated[: config.max_sentences or None]
    require(
        len(kept) > 1,
        f"--generated {config.generated}: of {len(kept)} sentence there is no self-BLEU; two or "
        "more are needed",
    )
    n = config.ngram
    results: Results = {
        "sentences": len(kept),
        "references": len(real),
        f"bleu_{n}": bleu(real, kept, n),
        f"self_bleu_{n}": self_bleu(kept, n),
    }
    left_out = len(generated) - len(kept)
    about = Provenance("text", str(config.references), len(kept), left_out, trial=left_out > 0)
    return results, about


def _load_split(config: EvaluateConfig, vae: SentenceVAE) -> tuple[Sentences, Provenance]:
    """The sentences to score, and what the scores will be of."""
    folder, form, block_size = config.data, config.format, config.block_size
    if config.run_dir is not None:
        data = open_run(config.run_dir, TASK.kind).config.data
        folder, form = folder or data.folder, form or data.format
        block_size = block_size or data.block_size
    if folder is None:
        raise ValueError("--data is missing: the folder of a corpus with test.txt")
    options = TextOptions(max_words=block_size or 510, format=form or "text")
    sentences, *more = load_corpus(folder, config.split, vae.tokenizers, options)
    require(
        not more,
        f"--split {config.split}: {folder} has {1 + len(more)} shards of training sentences, which "
        "are not scored; take valid or test, or `optimus score` for a file of any size",
    )
    counts, items = sentences.counts, len(sentences)
    if config.max_sentences:
        items = min(items, config.max_sentences)
    with_latent = vae.model.encoder is not None and not config.reconstruction_study
    about = Provenance(
        kind=TASK.kind,
        data=f"{folder}, {config.split}",
        items=items,
        left_out=counts.read - counts.empty - items,
        trial=items < len(sentences) or (with_latent and config.samples < SAMPLES),
        step=step_of(config.run_dir, config.step),
        seed=config.seed,
        precision=config.precision,
        settings={"samples": config.samples if with_latent else 1, "max_words": options.max_words},
    )
    return sentences, about


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
    """Noise (B, K, Z) of the sentences of ``batch``."""
    noise = sentence_noise(batch.index.tolist(), samples, latent_dim, config.seed)
    return noise.to(batch.index.device)


def _autocast(config: EvaluateConfig, world: World) -> AbstractContextManager[object]:
    return torch.autocast(
        world.device.type, dtype=torch.bfloat16, enabled=config.precision == "bf16"
    )


def _read_texts(path: Path | None, option: str) -> list[str]:
    if path is None or not path.is_file():
        raise FileNotFoundError(f"--{option} {path} is no text file")
    lines = [line.strip() for line in read_texts(path) if line.strip()]
    if not lines:
        raise ValueError(f"{path} holds no sentence")
    return lines


def _write(config: EvaluateConfig, name: str, results: Results, about: Provenance) -> Results:
    """Write NAME.json and, as the authors do, NAME.txt with one `key = value` a line."""
    fallback = config.generated.parent if config.generated is not None else config.model
    folder = config.output_dir or config.run_dir or fallback or Path()
    path = write_results(folder, name, results, about)
    keys = [key for key in AUTHORS_KEYS if key in results] or list(results)
    lines = [f"{key} = {results[key]}\n" for key in sorted(keys)]
    write_atomically(path.with_suffix(".txt"), "".join(lines))
    return results
