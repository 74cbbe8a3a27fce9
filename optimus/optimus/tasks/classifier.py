"""An encoder as a classifier, with few or all labels (Sec. 4.4).

One command trains one classifier for each amount of labels and each seed, and writes the table of
means with their spread.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor, nn

from .. import loop
from ..config import (
    LoopOptions,
    ModelOptions,
    OptimizerOptions,
    rows_per_process,
    unused_options,
)
from ..data.labeled import (
    LABELED,
    TASKS,
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
from ..data.tokenizers import Tokenizers
from ..metrics.classification import spread, task_scores
from ..models.classifier import SentenceClassifier, classification_loss
from ..models.pretrained import encoder_positions
from ..old_runs import upgrade
from ..runtime.checkpoint import finished_steps
from ..runtime.command import parse_preset
from ..runtime.distributed import World, barrier, start, wrap
from ..runtime.evaluation import Provenance, write_evaluation
from ..runtime.files import write_atomically, write_json
from ..runtime.logs import Logs
from ..runtime.options import ADDED, at_least, require
from ..runtime.precision import MixedPrecision
from ..runtime.published import markdown_table
from ..runtime.random_state import seed_all
from ..runtime.run_folder import (
    CONFIG,
    RunFolder,
    config_text,
    settle_precision,
    settle_unused,
    write_reached,
)
from ..runtime.signals import StopSignal
from ..runtime.transfer import Prepared, ReadAhead, uploaded
from ..runtime.weight_files import read_weight_file
from .judge import KIND, save_classifier
from .training import (
    FIXED,
    AdamWTraining,
    build_model,
    build_optimizer,
    build_tokenizers,
    exporting,
    require_whole,
)

logger = logging.getLogger(__name__)
TRIAL_KIND = "classifier-trial"  # of one classifier in a run
FIXED_OPTIONS = (
    *FIXED,
    *("mode", "optimizer", "epochs", "max_steps", "sample_seed"),
    *("data.task", "data.max_tokens"),
)
BEST = "best.safetensors"  # of one classifier: what is trained of it, best by --data.valid
ENCODE_BATCH = 128  # examples whose pooled vectors are computed at once


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
    valid: Path | None = field(default=None, metadata=ADDED)
    """For `labeled`: text that is scored at --eval-every; the weights that are best on it are
    tested and kept."""

    def __post_init__(self) -> None:
        at_least(self, "data", batch_size=1)
        require(
            4 <= self.max_tokens <= 512,
            f"--data.max-tokens must be in 4..512 (BERT's positions), got {self.max_tokens}",
        )
        require(
            self.task == "labeled" or self.test is None,
            f"--data.test {self.test} counts with --data.task labeled only, got {self.task}; the "
            "test texts of a task are in its folder",
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
    sample_seed: int | None = 0
    """Seed of the draw of labels, the same for all --seeds; None: each seed draws its own, as
    independent trials do."""
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
        require(
            self.eval_every == 0 or self.data.valid is not None,
            "--eval-every needs --data.valid, a labelled text apart from training and test (with "
            "--data.task labeled); the test texts are scored once, at the end",
        )
        require(
            self.data.valid is None or self.data.task == LABELED,
            f"--data.valid counts with --data.task labeled only, got {self.data.task}",
        )

    @property
    def amounts(self) -> tuple[int | float, ...]:
        """Counts if there are any, else shares."""
        return self.counts or tuple(float(share) for share in self.fractions)


GLUE_TASKS = tuple(name for name in TASKS if name != "YELP")
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
                yield name, (f"Table 7, {task}, {encoder}, {mode}", config)


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


class Trial(NamedTuple):
    """One classifier to train."""

    amount: int | float  # labels of each class, a count or a share
    seed: int

    @property
    def folder(self) -> str:
        """Its folder in the run's."""
        kind = "fraction" if isinstance(self.amount, float) else "count"
        return f"{kind}_{self.amount}_seed_{self.seed}"

    def draw(self, config: ClassifierConfig) -> tuple[int | float, int]:
        """The amount of its labels and the seed that draws them."""
        return self.amount, self.seed if config.sample_seed is None else config.sample_seed

    def options(self, config: ClassifierConfig) -> ClassifierConfig:
        """Those of this classifier alone, which is a run in its folder."""
        place = config.run_dir / self.folder
        config = replace(config, run_dir=place, seed=self.seed, seeds=(self.seed,))
        if isinstance(self.amount, float):
            return replace(config, fractions=(self.amount,))
        return replace(config, counts=(self.amount,))


@dataclass(frozen=True)
class Shared:
    """What the classifiers of a run have in common."""

    tokenizers: Tokenizers
    train_set: Examples
    test_set: Examples
    valid_set: Examples | None
    vectors: FixedVectors  # of training examples
    test_vectors: FixedVectors


def train_command(argv: Sequence[str]) -> None:
    """Run ``optimus train-classifier sst2-optimus-feature --fractions 0.01 0.1 1.0``."""
    results = train_all(parse_preset(PRESETS, argv, "optimus train-classifier", unused))
    if results:
        print(table(results))


def unused(config: ClassifierConfig) -> dict[str, str]:
    """`unused_options`, and those of which a classifier has others, or nothing to use them for."""
    found = unused_options(config)
    found["--seed"] = "classifiers have --seeds, and the draw of labels --sample-seed; give those"
    if config.counts:
        found["--fractions"] = "--counts says how many labels; drop one of the two"
    if not config.eval_every:
        found["--data.valid"] = "nothing is scored on the way; give --eval-every too"
    if config.mode == "feature":
        found["--model.dropout"] = "the encoder of --mode feature has none; drop one of them"
    if len(config.model.init) != 1:  # else they have to be the run's
        names = ("--model.latent-dim", "--model.inject")
        found |= dict.fromkeys(names, "a classifier has no latent; drop it")
    return found


def train_all(config: ClassifierConfig) -> dict[str, Any]:
    """Train and score every amount of labels with every seed; finished ones are kept.

    Leaves a folder for each in ``run_dir``, ``eval_results.json`` and ``results.md`` with means and
    sample standard deviations over the seeds, and ``model/``, the classifier of the largest amount
    and the first seed.

    Raises:
        FileNotFoundError: the task's files or the encoder's folder are missing.
        Stopped: a signal asked to stop; running the same command again continues.
    """
    steps = [step for place in config.run_dir.glob("*_seed_*") for step in finished_steps(place)]
    with (
        start(config.device, seed=config.seed, deterministic=config.deterministic) as world,
        StopSignal() as stop,
    ):
        where, device = config.run_dir, world.device
        config = settle_precision(config, where, device, upgrade, started=bool(steps))
        config = settle_unused(config, where, unused(config), upgrade, started=bool(steps))
        opened = RunFolder(
            where, KIND, config, fixed=FIXED_OPTIONS, upgrade=upgrade, steps=sorted(steps)
        )
        with opened as folder:
            return _train_trials(config, world, stop, folder)


def _train_trials(
    config: ClassifierConfig, world: World, stop: StopSignal, folder: RunFolder
) -> dict[str, Any]:
    """`train_all` in a folder that is open; results on rank 0, nothing elsewhere."""
    shared = open_shared(config, world, folder)
    run_dir, scores = folder.path, dict[str, dict[str, float]]()
    trials = [Trial(amount, seed) for amount in config.amounts for seed in config.seeds]
    draws = dict.fromkeys(trial.draw(config) for trial in trials)
    drawn = {draw: sample_examples(shared.train_set, *draw) for draw in draws}
    if not folder.started:  # the folder of weights is good, or nothing is written
        model = build_classifier(config, shared.tokenizers, shared.train_set.outputs)
        _check_lengths(model, shared)
    folder.commit()
    for number, trial in enumerate(trials, start=1):
        path = run_dir / trial.folder / "eval_results.json"
        # on every rank alike, for rank 0 writes only after all have looked
        done = path.is_file()
        barrier()
        if not done:
            found = _run_trial(trial, config, shared, drawn[trial.draw(config)], world, stop)
            if world.is_main:
                write_json(path, found)
                write_reached(run_dir, number, len(trials), "classifier")
        barrier()
        scores[trial.folder] = json.loads(path.read_text())
    results = summarize(config, scores)
    if world.is_main:
        about = Provenance(
            kind=KIND,
            data=f"{config.data.task}, {config.data.test or 'dev'}",
            items=len(shared.test_set),
            precision=config.precision,
            settings={"seeds": config.seeds, "sample_seed": config.sample_seed},
        )
        write_evaluation(run_dir / "eval_results.json", results, about)
        write_atomically(run_dir / "results.md", table(results))
    barrier()
    return results if world.is_main else {}


def open_shared(config: ClassifierConfig, world: World, folder: RunFolder) -> Shared:
    """Vocabularies and examples of a run."""
    rows_per_process(config.data.batch_size, world.size)
    tokenizers = build_tokenizers(config.model, lambda: task_lines(config), folder)
    train_set, test_set = load_examples(config, tokenizers)
    valid_set = None
    if config.eval_every and config.data.valid is not None:
        valid_set = load_task(
            LABELED,
            config.data.valid,
            "dev",
            tokenizers,
            max_tokens=config.data.max_tokens,
            names=train_set.names,
        )
    vectors = (FixedVectors(config, world), FixedVectors(config, world))
    return Shared(tokenizers, train_set, test_set, valid_set, *vectors)


def _check_lengths(model: SentenceClassifier, shared: Shared) -> None:
    """Refuse examples that the encoder has no positions for."""
    sets = [one for one in (shared.train_set, shared.test_set, shared.valid_set) if one is not None]
    longest = max(len(ids) for one in sets for ids in one.ids)
    limit = encoder_positions(model.bert)
    require(
        longest <= limit,
        f"an example has {longest} tokens and the encoder {limit} positions; give "
        f"--data.max-tokens {limit}",
    )


def _run_trial(
    trial: Trial,
    config: ClassifierConfig,
    shared: Shared,
    examples: Examples,
    world: World,
    stop: StopSignal,
) -> dict[str, float]:
    """Train one classifier, or finish it, and score it."""
    options = trial.options(config)
    path = options.run_dir / CONFIG
    if world.is_main and finished_steps(options.run_dir) and not path.exists():
        write_atomically(path, config_text(TRIAL_KIND, options))  # version 0.1 wrote none here
    barrier()
    kept = config.run_dir if trial == Trial(max(config.amounts), config.seeds[0]) else None
    run = loop.train_in(world, stop, trial_task(shared, examples, kept), options)
    model: SentenceClassifier = run.model.eval()  # type: ignore[attr-defined]
    fixed = shared.test_vectors.of(model, shared.test_set) if model.frozen else None
    predictions, features = predict(config, model, shared.test_set, world, fixed)
    if kept is not None and world.is_main and config.dump_features:
        labels, names = shared.test_set.labels, np.array(shared.test_set.names or ("value",))
        np.savez(kept / "features.npz", features=features, labels=labels, names=names)
        logger.info("the pooled vectors of the test examples are in %s", kept / "features.npz")
    return task_scores(shared.test_set.metric, predictions, shared.test_set.labels)


def trial_task(shared: Shared, examples: Examples, kept: Path | None = None) -> loop.Task:
    """The kind of run that trains one classifier; see `ClassifierTraining`."""
    opening = partial(ClassifierTraining, shared=shared, examples=examples, kept=kept)
    return loop.Task(TRIAL_KIND, ClassifierConfig, opening, FIXED_OPTIONS, upgrade, unused)


class ClassifierTraining(AdamWTraining):
    """One classifier of a run.

    Args:
        config: options of this classifier.
        world: this process.
        folder: of this classifier.
        shared: what it has in common with the others.
        examples: what it learns from.
        kept: the run's folder, if this is the classifier that the run is to keep.
    """

    def __init__(
        self,
        config: ClassifierConfig,
        world: World,
        folder: RunFolder,
        *,
        shared: Shared,
        examples: Examples,
        kept: Path | None,
    ) -> None:
        seed_all(config.seed + world.rank)
        # every rank draws its own head; DistributedDataParallel then spreads that of rank 0
        model = build_classifier(config, shared.tokenizers, examples.outputs).to(world.device)
        self.batches = ExampleBatches(
            examples,
            config.data.batch_size,
            seed=config.seed,
            rank=world.rank,
            world_size=world.size,
        )
        self.ahead = ReadAhead(Prepared(self.batches, self._prepare), world.device)
        self.trained: nn.Module = model.classifier if model.frozen else model
        optimizer = build_optimizer(config.optimizer, self.trained)
        amp = MixedPrecision(config.precision, world.device)
        self.model, optimizer = amp.prepare(model, optimizer)
        self.fixed = shared.vectors.of(self.model, examples) if model.frozen else None
        super().__init__(
            config,
            world,
            amp,
            optimizer,
            names=("loss",),
            total_steps=config.steps(self.batches.batches_per_epoch),
        )
        self.shared, self.examples, self.kept = shared, examples, kept
        self.network = wrap(_Step(self.model), world)
        self.parts = {"model": self.trained, "optimizer": optimizer, "amp": amp}
        self.parts |= {"data": self.ahead, "means": self.means}

    def _prepare(self, chosen: np.ndarray) -> ExampleBatch:
        return collate(self.examples, chosen, self.shared.tokenizers.encoder_pad_id)

    def step(self) -> None:
        self.begin_step()
        batch = next(self.ahead)
        with self.amp.autocast():
            logits = self.network(batch, None if self.fixed is None else self.fixed[batch.index])
            loss = classification_loss(logits, batch.labels)
            self.amp.backward(loss, self.optimizer)
        self.means.add({"loss": loss})
        self.end_step(self.trained.parameters())

    def evaluate(self) -> dict[str, float]:
        """The score on ``--data.valid``, alike on every rank."""
        valid = self.shared.valid_set
        if valid is None:
            return {}
        predictions, _ = predict(self.config, self.model, valid, self.world)
        self.model.train()
        scores = task_scores(valid.metric, predictions, valid.labels)
        return {"eval_score": scores["score"]}

    def goals(self, scores: Mapping[str, float]) -> dict[str, float]:
        return {"best": scores["eval_score"]} if scores else {}

    def export(self, run_dir: Path, name: str) -> None:
        if name == "best":
            state = {key: value.cpu() for key, value in self.trained.state_dict().items()}
            write_atomically(run_dir / BEST, save(state))
        elif self.kept is not None:
            names, limit = self.examples.names or ("value",), self.config.data.max_tokens
            with exporting(self.kept / "model") as folder:
                save_classifier(self.model, self.shared.tokenizers, names, limit, folder)

    def finish(self, run_dir: Path, logs: Logs) -> None:
        """Take the weights that were best on the validation text, for the scores that follow."""
        self.ahead.close()
        if self.shared.valid_set is not None and (run_dir / BEST).is_file():
            self.trained.load_state_dict(read_weight_file(run_dir / BEST))
            if self.world.is_main:
                self.export(run_dir, "last")


class _Step(nn.Module):
    """Logits of a batch, or of pooled vectors computed before, in one ``forward`` for DDP."""

    def __init__(self, model: SentenceClassifier) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: ExampleBatch, features: Tensor | None) -> Tensor:
        if features is not None:
            return self.model.classify(features)
        return self.model(batch.ids, batch.segments, padded=batch.padded)


def build_classifier(
    config: ClassifierConfig, tokenizers: Tokenizers, outputs: int
) -> SentenceClassifier:
    """The encoder of ``config.model`` with a fresh head, in training mode."""
    require_whole(config.model)
    vae = build_model(config.model, tokenizers)
    if vae.encoder is None:
        raise ValueError(f"{config.model.init[0]} is a language model and has no encoder")
    return SentenceClassifier(
        vae.encoder.network,
        outputs,
        frozen=config.mode == "feature",
        pad_token_id=tokenizers.encoder_pad_id,
        pooling=vae.config.pooling,
    ).train()


class FixedVectors:
    """The pooled vectors that a fixed encoder makes of a set of examples.

    A pre-trained encoder is the same for every seed, and so encodes the same examples once.
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
        batch = uploaded(collate(examples, chosen, model.pad_token_id), world.device)
        with amp.autocast():
            vectors = model.features(batch.ids, batch.segments, padded=batch.padded)
            rows.append(vectors.float())
    model.train(training)
    return torch.cat(rows)[torch.from_numpy(np.argsort(order)).to(world.device)]


@torch.no_grad()
def predict(
    config: ClassifierConfig,
    model: SentenceClassifier,
    examples: Examples,
    world: World,
    features: Tensor | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Classes, or numbers, (N,) of ``examples``, and their pooled vectors (N, H).

    ``features`` are those vectors, where they are known.
    """
    model.eval()
    if features is None:
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
