"""``optimus evaluate-dialog``: N responses to each context, scored by DialogWAE's protocol."""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .data.batches import Padding, evaluation_batches, pad_rows
from .data.dialog import Dialogs, load_dialogs, read_turns
from .data.tokenizers import Tokenizers, load_tokenizers
from .decoding import Sampling, generate
from .dialog_options import DialogConfig, EvaluateDialogConfig
from .judge import Judge
from .metrics.classification import NgramJudge
from .metrics.dialog import (
    Turn,
    WordVectors,
    ngram_entropy,
    read_generated,
    read_glove,
    score_turns,
    with_references,
)
from .models.spacefusion import SpaceFusion, towards_style
from .runtime.command import parse
from .runtime.distributed import choose_device
from .runtime.files import write_atomically
from .runtime.published import markdown_table
from .runtime.rundir import read_config
from .sentence_vae import SentenceVAE

logger = logging.getLogger(__name__)
Results = dict[str, float | int | str]
JUDGE_TEXTS = 20_000  # texts of each side that the n-gram judge of styles learns from


def main(argv: Sequence[str]) -> None:
    """Run ``optimus evaluate-dialog --run-dir runs/dialog/x`` and print the scores."""
    results = evaluate(parse(EvaluateDialogConfig, argv, "optimus evaluate-dialog"))
    shown = [(k, f"{v:.4f}" if isinstance(v, float) else v) for k, v in results.items()]
    print(markdown_table(["metric", "value"], shown))


def evaluate(config: EvaluateDialogConfig) -> Results:
    """Answer and score what ``config`` says; the responses and scores are written and returned.

    Raises:
        FileNotFoundError: a model, dialogues, word vectors or references are missing.
        ValueError: a file has another format, or the word vectors another width.
    """
    turns = answer(config)
    missing = 0
    if config.references is not None:
        turns, missing = with_references(turns, config.references)
    vectors = read_vectors(config, turns)
    if vectors is None:
        logger.info("--glove is not given: the bag-of-words scores are left out")
    responses = sum(len(turn.responses) for turn in turns)
    results: Results = {
        "contexts": len(turns),
        "responses": responses,
        **score_turns(turns, vectors),
    }
    if config.references is not None:
        results["contexts_without_reference"] = missing
    if config.style is not None:
        results |= score_style(config, turns)
    name = "eval_results" if config.split == "test" else f"eval_results_{config.split}"
    if config.baseline != "none":
        name += f"_{config.baseline}"
    folder = _output_dir(config)
    write_atomically(folder / f"{name}.json", json.dumps(results, indent=2) + "\n")
    logger.info("results are in %s", folder / f"{name}.json")
    return results


def answer(config: EvaluateDialogConfig) -> list[Turn]:
    """The turns to score: read, of a baseline, or said by the model, which are written down."""
    if config.generated is not None:
        return read_generated(config.generated)
    if config.baseline != "none":
        return answer_by_baseline(config)
    device = choose_device(config.device)
    model, tokenizers = load_fusion(config.run_dir, device)
    data = read_config(DialogConfig, config.run_dir).data
    path = (config.data or data.folder) / f"{config.split}.txt"
    dialogs = load_dialogs(path, tokenizers, max_tokens=data.max_tokens)
    texts = list(read_turns(path))[: config.max_contexts or None]
    style = style_latents(config, SentenceVAE(model.vae, tokenizers))
    turns = []
    for start, latents in context_latents(config, model, dialogs, len(texts)):
        if style is not None and config.style_degree:
            latents = towards_style(latents, style.to(latents), config.style_degree)
        said = respond(config, model, tokenizers, latents)
        for row in range(0, len(said), config.responses):
            context, reference = texts[start + row // config.responses]
            turns.append(Turn(context, (reference,), tuple(said[row : row + config.responses])))
    folder = _output_dir(config)
    write_responses(turns, folder / "eval_text_generation_results.txt")
    if config.latents:
        dump_latents(config, model, dialogs, tokenizers, folder / "latents.npz")
    return turns


def load_fusion(run_dir: Path, device: torch.device) -> tuple[SpaceFusion, Tokenizers]:
    """The model of a run with its vocabularies, in evaluation mode."""
    model = SpaceFusion.from_pretrained(run_dir / "model").to(device)
    return model, load_tokenizers(run_dir / "model" / "tokenizers")


@torch.no_grad()
def context_latents(
    config: EvaluateDialogConfig, model: SpaceFusion, dialogs: Dialogs, count: int
) -> Iterator[tuple[int, Tensor]]:
    """Number of a batch's first context, and N latents for each context in turn, (B N, Z)."""
    device = model.vae.device
    generator = torch.Generator().manual_seed(config.seed)
    pad = model.vae.config.encoder_pad_token_id
    for start in range(0, count, config.batch_size):
        rows = dialogs.contexts[start : min(start + config.batch_size, count)]
        posterior = model.context_posterior(pad_rows(rows, pad)[0].to(device))
        shape = len(rows), config.responses, posterior.mean.shape[1]
        eps = torch.randn(shape, generator=generator).to(device)
        yield start, posterior.sample(eps).flatten(0, 1)


def respond(
    config: EvaluateDialogConfig, model: SpaceFusion, tokenizers: Tokenizers, latents: Tensor
) -> list[str]:
    """One response for each latent, all decoded side by side."""
    sampling = Sampling(**asdict(config.decoding))
    ids = generate(model.vae, latents, sampling, batch_size=len(latents))
    # a tab or a line break would end a field of the file
    return [" ".join(text.split()) for text in tokenizers.decode_batch(ids)]


def answer_by_baseline(config: EvaluateDialogConfig) -> list[Turn]:
    """``random``: responses of other training turns; ``human``: the reference."""
    data = read_config(DialogConfig, config.run_dir).data if config.data is None else None
    folder = config.data or data.folder  # type: ignore[union-attr]
    texts = list(read_turns(folder / f"{config.split}.txt"))[: config.max_contexts or None]
    if config.baseline == "human":
        return [Turn(context, (said,), (said,) * config.responses) for context, said in texts]
    name = data.train_file if data is not None else "train.txt"
    pool = [response for _, response in read_turns(folder / name)]
    if len(pool) < config.responses:
        raise ValueError(f"{folder / name} has {len(pool)} responses, --responses asks for more")
    generator = random.Random(config.seed)
    return [
        Turn(context, (said,), tuple(generator.sample(pool, config.responses)))
        for context, said in texts
    ]


def read_vectors(config: EvaluateDialogConfig, turns: Sequence[Turn]) -> WordVectors | None:
    """Vectors of the words that occur, or None without ``--glove``."""
    if config.glove is None:
        return None
    texts = (text for turn in turns for text in (*turn.references, *turn.responses))
    words = {word for text in texts for word in text.split()}
    return read_glove(config.glove, width=config.glove_width, words=words)


def style_latents(config: EvaluateDialogConfig, vae: SentenceVAE) -> Tensor | None:
    """Posterior means (M, Z) of the style sentences."""
    return None if config.style is None else vae.encode(_read_style(config.style))


def score_style(config: EvaluateDialogConfig, turns: Sequence[Turn]) -> Results:
    """Extension: how much of the style the responses have, and how varied they are.

    ``style_ngram`` is the mean probability of style by logistic regression on n-grams, which learns
    from the style sentences and the references; ``style_neural`` that of ``--style-classifier``.
    """
    assert config.style is not None
    said = [text for turn in turns for text in turn.responses]
    styled = _read_style(config.style)[:JUDGE_TEXTS]
    plain = [text for turn in turns for text in turn.references][:JUDGE_TEXTS]
    judge = NgramJudge([*plain, *styled], [0] * len(plain) + [1] * len(styled))
    results: Results = {"style_ngram": float(judge.probabilities(said)[:, 1].mean())}
    if config.style_classifier is not None:
        neural = Judge.load(config.style_classifier, str(choose_device(config.device)))
        results["style_neural"] = float(neural.probabilities(said)[:, -1].mean())
    results["entropy_4"] = ngram_entropy(said, 4)
    return results


@torch.no_grad()
def dump_latents(
    config: EvaluateDialogConfig,
    model: SpaceFusion,
    dialogs: Dialogs,
    tokenizers: Tokenizers,
    path: Path,
) -> None:
    """Write 2n posterior means: n of responses (class 0), then those of their contexts (1)."""
    padding = Padding(tokenizers.pad_id, tokenizers.encoder_pad_id)
    responses: list[Tensor] = []
    contexts: list[Tensor] = []
    count = min(config.latents, len(dialogs))
    for batch in evaluation_batches(
        dialogs.responses, config.batch_size, padding, order="original"
    ):
        if sum(len(rows) for rows in responses) >= count:
            break
        turns = dialogs.with_contexts(batch, padding).to(model.vae.device)
        responses.append(model.vae.encode(turns.response.encoder_ids).mean.cpu())
        contexts.append(model.context_posterior(turns.context_ids).mean.cpu())
    latents = torch.cat([torch.cat(rows)[:count] for rows in (responses, contexts)]).numpy()
    labels = np.repeat(np.arange(2), count)
    np.savez(path, features=latents, labels=labels, names=np.array(["response", "context"]))
    logger.info("%d latents are in %s", len(latents), path)


def write_responses(turns: Sequence[Turn], path: Path) -> None:
    """Write ``context TAB reference TAB response`` lines, as the authors do."""
    rows = ["\t".join((t.context, t.references[0], said)) for t in turns for said in t.responses]
    write_atomically(path, "".join(f"{row}\n" for row in rows))


def _output_dir(config: EvaluateDialogConfig) -> Path:
    folder = config.output_dir or config.run_dir
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _read_style(path: Path) -> list[str]:
    if not path.is_file():
        raise FileNotFoundError(f"--style {path} does not exist; it has one sentence a line")
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if line]
