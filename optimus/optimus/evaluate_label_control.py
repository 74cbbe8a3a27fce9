"""``optimus evaluate-label-control``: reconstruction, attribute transfer, generation by label."""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .data.batches import build_batch
from .data.labeled import read_labeled
from .data.tokenizers import Tokenizers, load_tokenizers
from .decoding import Sampling, generate
from .judge import Judge
from .label_control_options import ControlConfig, EvaluateControlConfig
from .metrics.classification import NgramJudge
from .metrics.text import bleu, self_bleu, words_of
from .models.label_control import LabelControl
from .runtime.command import parse
from .runtime.distributed import choose_device
from .runtime.files import write_atomically
from .runtime.published import markdown_table
from .runtime.rundir import read_config

logger = logging.getLogger(__name__)
Results = dict[str, float | int | str]
NGRAM = 4


@dataclass(frozen=True)
class Outputs:
    """What the model made of N labelled sentences."""

    sources: list[str]
    labels: list[int]
    targets: list[int]  # the other label that is asked for
    reconstructed: list[str]
    transferred: list[str]
    sampled: list[str]  # from the generator, with the label ``targets``


class Controller:
    """Text in, text out: sentences with another label, and sentences by label.

    Args:
        model: put into evaluation mode here.
        tokenizers: of the same vocabularies.
        names: of the labels.
    """

    def __init__(self, model: LabelControl, tokenizers: Tokenizers, names: Sequence[str]) -> None:
        self.model, self.tokenizers, self.names = model.eval(), tokenizers, tuple(names)

    @classmethod
    def load(cls, run_dir: Path, device: torch.device) -> Controller:
        """The model of a run."""
        folder = run_dir / "model"
        model = LabelControl.from_pretrained(folder).to(device)
        names = json.loads((folder / "labels.json").read_text(encoding="utf-8"))
        return cls(model, load_tokenizers(folder / "tokenizers"), names)

    @torch.no_grad()
    def encode(self, texts: Sequence[str], batch_size: int = 64) -> Tensor:
        """z (N, Z), without their labels."""
        rows = [
            self.model.encode(
                build_batch(self.tokenizers, texts[i : i + batch_size]).encoder_ids.to(self.device)
            )
            for i in range(0, len(texts), batch_size)
        ]
        return torch.cat(rows)

    @torch.no_grad()
    def decode(
        self, latent: Tensor, labels: Sequence[int], sampling: Sampling, batch_size: int = 64
    ) -> list[str]:
        """One sentence of label ``labels[i]`` for each row of ``latent`` (N, Z)."""
        given = self.model.condition(latent, torch.tensor(labels, device=self.device))
        ids = generate(self.model.vae, given, sampling, batch_size=batch_size)
        return [" ".join(text.split()) for text in self.tokenizers.decode_batch(ids)]

    @torch.no_grad()
    def own_labels(self, texts: Sequence[str], batch_size: int = 256) -> np.ndarray:
        """Labels (N,) by the model's own text classifier."""
        rows = [
            self.model.predict_text(
                build_batch(self.tokenizers, texts[i : i + batch_size]).decoder_ids.to(self.device)
            ).cpu()
            for i in range(0, len(texts), batch_size)
        ]
        return torch.cat(rows).numpy()

    @property
    def device(self) -> torch.device:
        return self.model.vae.device


def main(argv: Sequence[str]) -> None:
    """Run ``optimus evaluate-label-control --run-dir runs/label_control/x``."""
    results = evaluate(parse(EvaluateControlConfig, argv, "optimus evaluate-label-control"))
    shown = [(k, f"{v:.4f}" if isinstance(v, float) else v) for k, v in results.items()]
    print(markdown_table(["metric", "value"], shown))


def evaluate(config: EvaluateControlConfig) -> Results:
    """Do and score what ``config`` says; texts and scores are written and returned.

    Raises:
        FileNotFoundError: the model, the test text or the judge is missing.
        ValueError: the test text has a label that the training text has not.
    """
    torch.manual_seed(config.seed)
    controller = Controller.load(config.run_dir, choose_device(config.device))
    run = read_config(ControlConfig, config.run_dir)
    outputs = transfer_test(config, controller, config.test or run.data.test, run.data.max_words)
    if config.classifier is not None:
        judge: Judge | NgramJudge = Judge.load(config.classifier, str(controller.device))
    else:
        judge = train_judge(run.data.train, controller.names)
    results = score(config, controller, outputs, judge)
    folder = config.output_dir or config.run_dir
    folder.mkdir(parents=True, exist_ok=True)
    _write_texts(folder, controller.names, outputs)
    write_atomically(folder / "eval_results.json", json.dumps(results, indent=2) + "\n")
    logger.info("results are in %s", folder / "eval_results.json")
    return results


def transfer_test(
    config: EvaluateControlConfig, controller: Controller, path: Path, max_words: int
) -> Outputs:
    """Reconstruct and transfer test sentences, drawn evenly over the file, and sample as many."""
    sources, labels = read_test(path, controller.names, max_words)
    generator = random.Random(config.seed)
    if config.max_sentences and len(sources) > config.max_sentences:
        chosen = sorted(generator.sample(range(len(sources)), config.max_sentences))
        sources, labels = [sources[i] for i in chosen], [labels[i] for i in chosen]
    numbers = range(len(controller.names))
    targets = [generator.choice([n for n in numbers if n != label]) for label in labels]
    sampling = Sampling(**asdict(config.decoding))
    latent = controller.encode(sources, config.batch_size)
    noise = torch.randn(latent.shape, generator=torch.Generator().manual_seed(config.seed))
    with torch.no_grad():
        made = controller.model.make_latent(noise.to(latent))
    return Outputs(
        sources,
        labels,
        targets,
        controller.decode(latent, labels, sampling, config.batch_size),
        controller.decode(latent, targets, sampling, config.batch_size),
        controller.decode(made, targets, sampling, config.batch_size),
    )


def score(
    config: EvaluateControlConfig,
    controller: Controller,
    outputs: Outputs,
    judge: Judge | NgramJudge,
) -> Results:
    """Accuracies by ``judge`` and by the model's own classifier, BLEU, self-BLEU and G-score.

    ``transfer_bleu`` is against the source, as the paper measures content; ``g_score`` is the
    geometric mean of it and the accuracy of the transfer.
    """
    wanted = {
        "source": (outputs.sources, outputs.labels),
        "reconstruction": (outputs.reconstructed, outputs.labels),
        "transfer": (outputs.transferred, outputs.targets),
        "conditional": (outputs.sampled, outputs.targets),
    }
    results: Results = {"sentences": len(outputs.sources)}
    for name, (texts, labels) in wanted.items():
        results[f"{name}_accuracy"] = float(np.mean(judge.predict(texts) == np.array(labels)))
        own = controller.own_labels(texts) == np.array(labels)
        results[f"{name}_own_accuracy"] = float(np.mean(own))
    results["reconstruction_bleu"] = paired_bleu(outputs.sources, outputs.reconstructed)
    content = results["transfer_bleu"] = paired_bleu(outputs.sources, outputs.transferred)
    results["g_score"] = float(np.sqrt(float(results["transfer_accuracy"]) * content))
    few = outputs.sampled[: config.self_bleu_sentences]
    results["conditional_bleu"] = bleu(outputs.sources, few, NGRAM)
    results["self_bleu"] = self_bleu(few, NGRAM) if len(few) > 1 else 0.0
    return results


def paired_bleu(references: Sequence[str], hypotheses: Sequence[str]) -> float:
    """Corpus BLEU-4 of ``hypotheses``, each against its own reference; in [0, 1]."""
    from nltk.translate.bleu_score import SmoothingFunction, corpus_bleu

    return float(
        corpus_bleu(
            [[words_of(text)] for text in references],
            [words_of(text) for text in hypotheses],
            smoothing_function=SmoothingFunction().method1,
        )
    )


def read_test(path: Path, names: Sequence[str], max_words: int) -> tuple[list[str], list[int]]:
    """Sentences that are not blank or too long, and their class numbers."""
    labels, texts = read_labeled(path)
    unknown = sorted(set(labels) - {*names, ""})
    if unknown:
        raise ValueError(f"{path} has the label {unknown[0]!r}; known are {', '.join(names)}")
    pairs = [
        (text.strip(), names.index(label))
        for label, text in zip(labels, texts, strict=True)
        if 0 < len(text.split()) <= max_words
    ]
    if not pairs:
        raise ValueError(f"{path} holds no sentence of at most {max_words} words")
    return [text for text, _ in pairs], [label for _, label in pairs]


def train_judge(path: Path, names: Sequence[str]) -> NgramJudge:
    """A judge apart from the model: logistic regression on the training text's n-grams."""
    labels, texts = read_labeled(path)
    rows = [(t, names.index(n)) for t, n in zip(texts, labels, strict=True) if t.strip()]
    return NgramJudge([text for text, _ in rows], [label for _, label in rows])


def _write_texts(folder: Path, names: Sequence[str], outputs: Outputs) -> None:
    """The three files that the authors write, one sentence a line with its label before it."""
    for name, labels, texts in (
        ("reconstruction", outputs.labels, outputs.reconstructed),
        ("attribute_transfer", outputs.targets, outputs.transferred),
    ):
        rows = zip(labels, outputs.sources, texts, strict=True)
        lines = [f"{names[label]}\t{source}\t{text}\n" for label, source, text in rows]
        write_atomically(folder / f"{name}.txt", "".join(lines))
    pairs = zip(outputs.targets, outputs.sampled, strict=True)
    lines = [f"{names[label]}\t{text}\n" for label, text in pairs]
    write_atomically(folder / "conditional_generation.txt", "".join(lines))
