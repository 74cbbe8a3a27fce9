"""Options and presets of ``optimus train-classifier``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from .config import ModelOptions, OptimizerOptions
from .loop_options import LoopOptions, require, require_positive


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
