"""An encoder as a classifier, with few or all labels (Sec. 4.4), and as a judge of generated text.

One command trains one classifier for each amount of labels and each seed, and writes the table of
means with their spread.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import BertModel

from ..config import (
    LoopOptions,
    ModelOptions,
    OptimizerOptions,
    require,
    require_positive,
    rows_per_process,
)
from ..data.labeled import (
    LABELED,
    ExampleBatch,
    ExampleBatches,
    Examples,
    collate,
    find_file,
    find_task,
    load_task,
    read_labeled,
    read_task,
    sample_examples,
)
from ..data.text import cut_tokens, pad_rows
from ..data.tokenizers import Tokenizers, load_tokenizers
from ..metrics.classification import spread, task_scores
from ..models.classifier import SentenceClassifier, classification_loss
from ..models.vae import without_bars
from ..objectives import learning_rate_at
from ..optimizer import RunningMeans, norm_to_check, parameter_groups
from ..released.pickles import load_untrusted
from ..runtime.checkpoint import Checkpoint, Progress
from ..runtime.command import parse_preset
from ..runtime.distributed import World, barrier, start, wrap
from ..runtime.files import write_atomically
from ..runtime.logs import Logs
from ..runtime.precision import MixedPrecision, build_adamw, check_finite
from ..runtime.published import markdown_table
from ..runtime.random_state import seed_all
from ..runtime.rundir import open_run
from ..runtime.signals import StopSignal
from .initialize import build_model, build_tokenizers


@dataclass(frozen=True)
class TaskOptions:
    """What to classify."""

    task: str = "SST-2"
    """A task of GLUE (CoLA, SST-2, MRPC, STS-B, QQP, MNLI, MNLI-mm, QNLI, RTE, WNLI), YELP, or
    `labeled` for any labelled text."""
    folder: Path = Path("data/glue")
    """Folder with one folder a task; for `labeled` the training text (NAME.text with NAME.labels, a
    file of `label TAB text`, or the stem of STEM.0, STEM.1)."""
    test: Path | None = None
    """For `labeled`: the test text."""
    max_tokens: int = 128
    """Longer examples are cut."""
    batch_size: int = 32
    """Examples per optimizer step, over all processes together."""

    def __post_init__(self) -> None:
        require_positive(self, "batch_size", prefix="data.")
        require(
            4 <= self.max_tokens <= 512,
            f"--data.max-tokens must be in 4..512 (BERT's positions), got {self.max_tokens}",
        )
        require(
            self.task != "labeled" or self.test is not None,
            "--data.task labeled needs --data.test, a labelled text to score",
        )


@dataclass(frozen=True)
class ClassifierConfig(LoopOptions):
    """Train classifiers on few or all labels, over several seeds, and score them."""

    run_dir: Path = Path("runs/low_resource/task")
    """Folder of the run: one folder for each amount of labels and seed, and the table of scores."""
    mode: Literal["feature", "finetune"] = "finetune"
    """feature: the encoder is fixed and only a linear map is trained; finetune: everything is."""
    model: ModelOptions = field(default_factory=ModelOptions)
    """The encoder: of an Optimus model (one folder in --model.init), plain BERT (two folders), or
    from scratch."""
    data: TaskOptions = field(default_factory=TaskOptions)
    optimizer: OptimizerOptions = field(default_factory=lambda: OptimizerOptions(lr=2e-5))
    fractions: tuple[float, ...] = (1.0,)
    """Shares of the labels of each class to train on, one run each."""
    counts: tuple[int, ...] = ()
    """Numbers of labels of each class instead of shares."""
    sample_seed: int = 0
    """Seed of the draw of labels, apart from --seeds."""
    seeds: tuple[int, ...] = (42,)
    """Seeds of the head, the order and the dropout, one run each."""
    dump_features: bool = False
    """Write the pooled vectors of the test examples to features.npz, for `optimus plot-latents`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(bool(self.seeds), "--seeds must name at least one seed")
        require(bool(self.fractions or self.counts), "--fractions or --counts must name an amount")
        for share in self.fractions:
            require(0 < share <= 1, f"--fractions must be in (0, 1], got {share}")
        for count in self.counts:
            require(count >= 1, f"--counts must be at least 1, got {count}")
        require(
            self.optimizer.accumulate == 1,
            "--optimizer.accumulate is not supported here; lower --data.batch-size",
        )

    @property
    def amounts(self) -> tuple[int | float, ...]:
        """Counts if there are any, else shares."""
        return self.counts or tuple(float(share) for share in self.fractions)


GLUE_TASKS = (
    "CoLA",
    "SST-2",
    "MRPC",
    "STS-B",
    "QQP",
    "MNLI",
    "MNLI-mm",
    "QNLI",
    "RTE",
    "WNLI",
)
WEIGHTS = {
    "optimus": (Path("runs/pretrain/wikipedia_768/model"),),
    "bert": (Path("weights/bert-base-cased"), Path("weights/gpt2")),
}
LATENT = {"optimus": 768, "bert": 32}
MODES: tuple[Literal["feature", "finetune"], ...] = ("feature", "finetune")


def _slug(task: str) -> str:
    return task.lower().replace("-", "")


def _glue() -> Iterator[tuple[str, tuple[str, ClassifierConfig]]]:
    """Every GLUE task, with the encoder of Optimus and with plain BERT (Sec. 4.4)."""
    for task in GLUE_TASKS:
        for encoder, weights in WEIGHTS.items():
            for mode in MODES:
                name = f"{_slug(task)}-{encoder}-{mode}"
                config = ClassifierConfig(
                    run_dir=Path("runs/low_resource", name.replace("-", "_")),
                    mode=mode,
                    model=ModelOptions(latent_dim=LATENT[encoder], init=weights),
                    data=TaskOptions(task),
                    epochs=50.0 if mode == "feature" else 3.0,
                )
                yield name, (f"Sec. 4.4, {task}, {encoder}, {mode}", config)


def _yelp() -> Iterator[tuple[str, tuple[str, ClassifierConfig]]]:
    """Yelp with few labels (the low-resource figure)."""
    for encoder, weights in WEIGHTS.items():
        for mode in MODES:
            name = f"yelp-{encoder}-{mode}"
            config = ClassifierConfig(
                run_dir=Path("runs/low_resource", name.replace("-", "_")),
                mode=mode,
                model=ModelOptions(latent_dim=LATENT[encoder], init=weights),
                data=TaskOptions("YELP", Path("data")),
                counts=(1, 10, 100, 1000, 10_000),
                seeds=(42, 43, 44),
                epochs=50.0,
                dump_features=True,
            )
            yield name, (f"low resource, Yelp, {encoder}, {mode}", config)


SMALL = Path("runs/from_scratch/small_tatoeba_0.50/model")


def _small() -> Iterator[tuple[str, tuple[str, ClassifierConfig]]]:
    """Small encoders on a CPU: pre-trained by `optimus train` against the same from scratch."""
    scratch = ModelOptions(vocabulary=str(SMALL / "tokenizers"), layers=2, hidden=256, dropout=0.1)
    encoders = {"pretrained": replace(scratch, init=(SMALL,)), "scratch": scratch}
    steps = {"feature": 1000, "finetune": 300}
    for task in ("RTE", "CoLA", "SST-2"):
        for encoder, model in encoders.items():
            for mode in MODES:
                name = f"small-{_slug(task)}-{encoder}-{mode}"
                config = ClassifierConfig(
                    run_dir=Path("runs/low_resource", name.replace("-", "_")),
                    mode=mode,
                    model=model,
                    data=TaskOptions(task, max_tokens=64),
                    optimizer=OptimizerOptions(lr=1e-2 if mode == "feature" else 3e-4),
                    fractions=(0.01, 0.1, 1.0),
                    seeds=(1, 2, 3),
                    max_steps=steps[mode],
                    save_every=100,
                )
                yield name, (f"{task} with 1, 10 and 100 % of the labels, {encoder}, CPU", config)


def _own() -> Iterator[tuple[str, tuple[str, ClassifierConfig]]]:
    """The quick check."""
    smoke = ClassifierConfig(
        run_dir=Path("runs/low_resource/smoke"),
        model=ModelOptions(latent_dim=8, vocabulary="400", layers=1, hidden=64),
        data=TaskOptions("SST-2", max_tokens=32, batch_size=4),
        optimizer=OptimizerOptions(lr=1e-3),
        fractions=(0.5, 1.0),
        seeds=(1, 2),
        max_steps=4,
        log_every=2,
        save_every=2,
    )
    yield "smoke", ("a few steps", smoke)


PRESETS: dict[str, tuple[str, ClassifierConfig]] = {
    name: entry for rows in (_glue, _yelp, _small, _own) for name, entry in rows()
}


logger = logging.getLogger(__name__)
MAX_NORM = 1.0  # of the gradient
ENCODE_BATCH = 128  # examples whose pooled vectors are computed at once


class Trial(NamedTuple):
    """One classifier to train."""

    amount: int | float  # labels of each class, a count or a share
    seed: int

    @property
    def folder(self) -> str:
        """Its folder in the run's."""
        kind = "fraction" if isinstance(self.amount, float) else "count"
        return f"{kind}_{self.amount}_seed_{self.seed}"


def train_command(argv: Sequence[str]) -> None:
    """Run ``optimus train-classifier sst2-optimus-feature --fractions 0.01 0.1 1.0``."""
    results = train_all(parse_preset(PRESETS, argv, "optimus train-classifier"))
    if results:
        print(table(results))


def train_all(config: ClassifierConfig) -> dict[str, Any]:
    """Train and score every amount of labels with every seed; finished ones are kept.

    Leaves a folder for each in ``run_dir``, ``eval_results.json`` and ``results.md`` with means and
    sample standard deviations over the seeds, and ``model/``, the classifier of the largest amount
    and the first seed.

    Raises:
        FileNotFoundError: the task's files or the encoder's folder are missing.
        Stopped: a signal asked to stop; running the same command again continues.
    """
    with (
        start(config.device, seed=config.seed) as world,
        open_run(config.run_dir, config) as run_dir,
        StopSignal() as stop,
    ):
        tokenizers = build_tokenizers(config.model, lambda: task_lines(config), run_dir)
        train_set, test_set = load_examples(config, tokenizers)
        scores: dict[str, dict[str, float]] = {}
        vectors = TrainingVectors(config, world)
        for amount in config.amounts:
            chosen = sample_examples(train_set, amount, config.sample_seed)
            for seed in config.seeds:
                trial = Trial(amount, seed)
                path = run_dir / trial.folder / "eval_results.json"
                # on every rank alike, for rank 0 writes only after all have looked
                done = path.is_file()
                barrier()
                if not done:
                    model = train(config, trial, tokenizers, chosen, world, stop, vectors=vectors)
                    predictions, features = predict(config, model, test_set, world)
                    found = task_scores(test_set.metric, predictions, test_set.labels)
                    if world.is_main:
                        _keep(config, trial, model, tokenizers, test_set, features)
                        write_atomically(path, json.dumps(found, indent=2) + "\n")
                barrier()
                scores[trial.folder] = json.loads(path.read_text())
        results = summarize(config, scores)
        if world.is_main:
            write_atomically(run_dir / "eval_results.json", json.dumps(results, indent=2) + "\n")
            write_atomically(run_dir / "results.md", table(results))
        barrier()
    return results if world.is_main else {}


def train(
    config: ClassifierConfig,
    trial: Trial,
    tokenizers: Tokenizers,
    examples: Examples,
    world: World,
    stop: StopSignal,
    *,
    vectors: TrainingVectors,
) -> SentenceClassifier:
    """Train one classifier, continuing from the newest checkpoint in its folder."""
    folder = config.run_dir / trial.folder
    folder.mkdir(parents=True, exist_ok=True)
    seed_all(trial.seed + world.rank)
    # every rank draws its own head; DistributedDataParallel then spreads that of rank 0
    model = build_classifier(config, tokenizers, examples.outputs).to(world.device)
    rows_per_process(config.data.batch_size, world.size)
    batches = ExampleBatches(
        examples,
        config.data.batch_size,
        seed=trial.seed,
        rank=world.rank,
        world_size=world.size,
    )
    total_steps = config.steps(batches.batches_per_epoch)
    trained: nn.Module = model.classifier if model.frozen else model
    groups = parameter_groups(trained, config.optimizer.weight_decay)
    optimizer = build_adamw(groups, kind=config.optimizer.kind, lr=config.optimizer.lr)
    amp = MixedPrecision(config.precision, world.device)
    model, optimizer = amp.prepare(model, optimizer)
    fixed = vectors.of(model, examples) if model.frozen else None
    network, progress = wrap(_Step(model), world), Progress()
    means = RunningMeans(("loss",), world.device)
    state: dict[str, Any] = {"model": trained, "optimizer": optimizer, "amp": amp}
    state |= {"data": batches, "progress": progress, "means": means}
    checkpoint = Checkpoint(folder, keep=config.keep, **state)
    checkpoint.load_latest()

    with Logs(folder, total_steps, progress.step) as logs:
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
            chosen = next(batches)
            batch = collate(examples, chosen, tokenizers.encoder_pad_id).to(world.device)
            with amp.autocast():
                logits = network(batch, None if fixed is None else fixed[batch.index])
                loss = classification_loss(logits, batch.labels)
                amp.backward(loss, optimizer)
            means.add(loss=loss)
            norm = amp.step(optimizer, trained.parameters(), MAX_NORM)
            progress.step += 1
            logs.advance(progress.step)

            stopping = stop.requested(progress.step)
            ended = progress.step == total_steps
            saving = stopping or ended or progress.step % config.save_every == 0
            if progress.step % config.log_every == 0 or ended or saving:
                means.share()
                checked = norm_to_check(norm, config.precision)
                check_finite(progress.step, loss=means.sums[0], gradient_norm=checked)
            if progress.step % config.log_every == 0 or ended:
                logs.log(progress.step, lr=lr, gradient_norm=norm, **means.take())
            if saving:
                checkpoint.save(progress.step)
            if stopping and not ended:
                stop.leave(progress.step)
    return model.eval()


class _Step(nn.Module):
    """Logits of a batch, or of pooled vectors computed before, in one ``forward`` for DDP."""

    def __init__(self, model: SentenceClassifier) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: ExampleBatch, features: Tensor | None) -> Tensor:
        if features is not None:
            return self.model.classify(features)
        return self.model(batch.ids, batch.segments)


def build_classifier(
    config: ClassifierConfig, tokenizers: Tokenizers, outputs: int
) -> SentenceClassifier:
    """The encoder of ``config.model`` with a fresh head, in training mode."""
    vae = build_model(config.model, tokenizers)
    if vae.encoder is None:
        raise ValueError(f"{config.model.init[0]} is a language model and has no encoder")
    bert: BertModel = vae.encoder.bert
    return SentenceClassifier(
        bert,
        outputs,
        frozen=config.mode == "feature",
        pad_token_id=tokenizers.encoder_pad_id,
    ).train()


class TrainingVectors:
    """The pooled vectors of a fixed encoder's training examples.

    A pre-trained encoder is the same for every seed and so encodes an amount of labels once.
    """

    def __init__(self, config: ClassifierConfig, world: World) -> None:
        self.config, self.world = config, world
        self.examples: Examples | None = None
        self.vectors: Tensor | None = None

    def of(self, model: SentenceClassifier, examples: Examples) -> Tensor:
        """(N, H) for the N ``examples``."""
        known = bool(self.config.model.init) and self.examples is examples
        if self.vectors is None or not known:
            self.vectors = pooled_vectors(self.config, model, examples, self.world)
            self.examples = examples
        return self.vectors


@torch.no_grad()
def pooled_vectors(
    config: ClassifierConfig, model: SentenceClassifier, examples: Examples, world: World
) -> Tensor:
    """The vectors (N, H) of ``examples``, without dropout in the encoder.

    Deviation: the authors run the fixed encoder anew in every epoch, with dropout.
    """
    training = model.training
    model.eval()
    amp = MixedPrecision(config.precision, world.device)
    order = np.argsort([len(ids) for ids in examples.ids], kind="stable")  # little padding
    rows = []
    for start_at in range(0, len(order), ENCODE_BATCH):
        chosen = order[start_at : start_at + ENCODE_BATCH]
        batch = collate(examples, chosen, model.pad_token_id).to(world.device)
        with amp.autocast():
            rows.append(model.features(batch.ids, batch.segments).float())
    model.train(training)
    return torch.cat(rows)[torch.from_numpy(np.argsort(order)).to(world.device)]


@torch.no_grad()
def predict(
    config: ClassifierConfig, model: SentenceClassifier, examples: Examples, world: World
) -> tuple[np.ndarray, np.ndarray]:
    """Classes, or numbers, (N,) of ``examples``, and their pooled vectors (N, H)."""
    model.eval()
    features = pooled_vectors(config, model, examples, world)
    logits = model.classify(features).cpu()
    predictions = logits[:, 0] if not examples.names else logits.argmax(dim=1)
    return predictions.numpy(), features.cpu().numpy()


def load_examples(config: ClassifierConfig, tokenizers: Tokenizers) -> tuple[Examples, Examples]:
    """Training and test examples of the task; GLUE is scored on its development set."""
    data = config.data
    load = {"tokenizers": tokenizers, "max_tokens": data.max_tokens}
    train_set = load_task(data.task, data.folder, "train", **load)  # type: ignore[arg-type]
    folder = data.test if data.task == LABELED and data.test is not None else data.folder
    test_set = load_task(data.task, folder, "dev", names=train_set.names, **load)  # type: ignore[arg-type]
    return train_set, test_set


def task_lines(config: ClassifierConfig) -> list[str]:
    """Training texts, for a vocabulary of one's own."""
    data = config.data
    if data.task == LABELED:
        return [text for text in read_labeled(data.folder)[1] if text.strip()]
    path = find_file(data.task, data.folder, "train")
    columns, _ = read_task(path, find_task(data.task))
    return [text for column in columns for text in column]


def summarize(config: ClassifierConfig, scores: dict[str, dict[str, float]]) -> dict[str, Any]:
    """Mean and deviation over the seeds of every score, for each amount of labels."""
    rows = []
    for amount in config.amounts:
        found = [scores[Trial(amount, seed).folder] for seed in config.seeds]
        row: dict[str, Any] = {"amount": amount, "seeds": len(found)}
        for name in found[0]:
            value = spread([each[name] for each in found])
            row[name] = value.mean
            row[f"{name}_deviation"] = None if value.seeds < 2 else value.deviation
        rows.append(row)
    return {
        "task": config.data.task,
        "mode": config.mode,
        "score": rows[-1]["score"],
        "rows": rows,
    }


def table(results: dict[str, Any]) -> str:
    """The scores as Markdown, ``mean ± deviation``."""
    names = [
        name
        for name in results["rows"][0]
        if not name.endswith("_deviation") and name not in ("amount", "seeds")
    ]
    lines = []
    for row in results["rows"]:
        amount = row["amount"]
        shown = f"{amount:.4g} of the labels" if isinstance(amount, float) else f"{amount} a class"
        cells = [shown, row["seeds"]]
        for name in names:
            deviation = row[f"{name}_deviation"]
            cells.append(f"{row[name]:.3f}" + ("" if deviation is None else f" ± {deviation:.3f}"))
        lines.append(cells)
    return markdown_table([f"{results['task']} ({results['mode']})", "seeds", *names], lines)


def _keep(
    config: ClassifierConfig,
    trial: Trial,
    model: SentenceClassifier,
    tokenizers: Tokenizers,
    test_set: Examples,
    features: np.ndarray,
) -> None:
    """Write the classifier of the largest amount and first seed, and its features if asked for."""
    if trial != Trial(max(config.amounts), config.seeds[0]):
        return
    names = test_set.names or ("value",)
    Judge(model, tokenizers, names, config.data.max_tokens).save(config.run_dir / "model")
    if config.dump_features:
        path = Path(config.run_dir) / "features.npz"
        np.savez(path, features=features, labels=test_set.labels, names=np.array(names))
        logger.info("the pooled vectors of %d examples are in %s", len(features), path)


class Judge:
    """Classes of sentences by a ``SentenceClassifier``; a folder of ``optimus train-classifier``.

    Args:
        model: put into evaluation mode here.
        tokenizers: of the same vocabulary as the encoder.
        names: names of the classes.
        max_tokens: longer sentences are cut.
    """

    def __init__(
        self,
        model: SentenceClassifier,
        tokenizers: Tokenizers,
        names: Sequence[str],
        max_tokens: int = 128,
    ) -> None:
        self.model, self.tokenizers = model.eval(), tokenizers
        self.names, self.max_tokens = tuple(names), max_tokens

    @torch.no_grad()
    def probabilities(self, texts: Sequence[str], batch_size: int = 128) -> np.ndarray:
        """(N, C) in [0, 1]."""
        limit = min(self.max_tokens, self.model.bert.config.max_position_embeddings)
        device = self.model.classifier.weight.device
        rows = [cut_tokens(row, limit) for row in self.tokenizers.encode_encoder(texts)]
        found = []
        for first in range(0, len(rows), batch_size):
            part = [np.array(row) for row in rows[first : first + batch_size]]
            ids, _ = pad_rows(part, self.model.pad_token_id)
            found.append(self.model(ids.to(device)).softmax(dim=1).cpu())
        return torch.cat(found).numpy() if found else np.zeros((0, len(self.names)))

    def predict(self, texts: Sequence[str]) -> np.ndarray:
        """Classes (N,)."""
        return self.probabilities(texts).argmax(axis=1)

    def save(self, folder: str | Path) -> None:
        """Write the encoder, the head, the vocabularies and the names into ``folder``."""
        folder = Path(folder)
        self.model.bert.save_pretrained(folder / "bert")
        head = {name: value.cpu() for name, value in self.model.classifier.state_dict().items()}
        save_file(head, folder / "head.safetensors")
        self.tokenizers.save(folder / "tokenizers")
        content: dict[str, Any] = {"names": self.names, "max_tokens": self.max_tokens}
        (folder / "classifier.json").write_text(json.dumps(content, indent=2) + "\n")

    @classmethod
    def load(cls, folder: str | Path, device: str = "cpu") -> Judge:
        """Read what ``save`` wrote, or a run that has it in ``model/``.

        Raises:
            FileNotFoundError: there is no classifier.
        """
        folder = Path(folder)
        if (folder / "model" / "classifier.json").is_file():
            folder = folder / "model"
        if not (folder / "classifier.json").is_file():
            raise FileNotFoundError(
                f"{folder} holds no classifier; `optimus train-classifier` trains one"
            )
        content = json.loads((folder / "classifier.json").read_text())
        tokenizers = load_tokenizers(folder / "tokenizers")
        with without_bars():
            bert = BertModel.from_pretrained(folder / "bert", local_files_only=True)
        model = SentenceClassifier(
            bert,
            len(content["names"]),
            pad_token_id=tokenizers.encoder_pad_id,
        )
        model.classifier.load_state_dict(load_untrusted(folder / "head.safetensors"))
        return cls(model.to(device), tokenizers, content["names"], content["max_tokens"])
