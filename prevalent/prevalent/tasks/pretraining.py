"""Pre-training: masked words and next actions from triplets (Sec. 3), ``prevalent pretrain``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from .. import loop
from ..config import (
    READING_MODEL,
    SMALL_MODEL,
    TINY_MODEL,
    TOY_MODEL,
    ModelConfig,
    check_shares,
    check_sources,
    unused_options,
)
from ..curves import draw_scores
from ..data.features import DeviceFeatures, FeatureStore, synthetic_features
from ..data.instructions import read_instructions, with_goals
from ..data.tokenizers import WordCodes, WordPieceTokenizer
from ..data.toy import make_toy_world, toy_size
from ..data.triplets import (
    TripletBatch,
    TripletBatches,
    TripletTable,
    collect_triplets,
    read_triplets,
    relative_views,
)
from ..loop import Intervals, RunProgress
from ..models.prevalent import IGNORE, PretrainOutput, PrevalentForPretraining
from ..old_runs import upgrade
from ..optimizer import AuthorsAdamW, linear_schedule, parameter_groups
from ..released.checkpoints import initialize_from, save_model
from ..runtime.distributed import World, reduce_sum, unwrap, wrap
from ..runtime.files import write_atomically
from ..runtime.logs import Logs
from ..runtime.means import RunningMeans
from ..runtime.options import ADDED, at_least, positive
from ..runtime.precision import MixedPrecision, build_adamw, check_weights, clear_gradients
from ..runtime.run_folder import RunFolder
from ..runtime.transfer import ReadAhead
from ..simulator.geometry import NUM_VIEWS
from ..simulator.graph import Graphs
from .options import TrainingRun
from .starting import parse_start

ActionTarget = Literal["rank", "relative-view"]


@dataclass(frozen=True)
class PretrainConfig(TrainingRun):
    """Pre-training on image-text-action triplets: masked words and the next action."""

    run_dir: Path = Path("runs/pretrain")
    train: tuple[str, ...] = ("triplets:triplets",)
    """Sources: ``triplets:FILE_OR_FOLDER``, ``r2r:SPLIT``, ``r2r:SPLIT@N``, ``r2r:./file.json``."""
    held_out: tuple[str, ...] = ("r2r:val_seen", "r2r:val_unseen")
    """Sources that are only evaluated, one figure each."""
    angle_size: int = 128
    """Width of the angle features."""
    vocabulary: Path = Path("vocab/bert/bert-base-uncased-vocab.txt")
    """WordPiece vocabulary, relative to the data folder."""
    max_path_steps: int = 10
    """Most actions collected from a path."""

    batch_size: int = 96
    """Triplets of one forward pass, over all processes together."""
    accumulate: int = 1
    """Forward passes of one optimizer step."""
    epochs: int = 20
    """Passes over the triplets, where ``max_steps`` is 0."""
    max_steps: int = 0
    """Optimizer steps; 0 follows ``epochs``."""
    lr: float = 5e-5
    """Peak learning rate; falls linearly to 0."""
    warmup_steps: int = 0
    """Steps of linear warm-up."""
    weight_decay: float = 0.0
    """Decay of the parameters that the authors decay."""
    max_norm: float = 1.0
    """Gradient norm is clipped to this."""
    optimizer: Literal["authors", "torch", "fused"] = "authors"
    """``authors``: AdamW of pytorch-transformers; ``torch`` and ``fused``: torch's (apex's)."""
    action_target: ActionTarget = "rank"
    """What the action head learns. ``rank``: the place of the next viewpoint among the candidates,
    sorted by the size of their relative heading (the recorded files); ``relative-view``: the view
    that shows it, counted from the present one, for which --model.num-actions must be 37."""
    predict_action: bool = True
    """False leaves masked words alone (ablation)."""
    use_images: bool = True
    """False is a text-only encoder (ablation)."""
    init_from: Path | None = None
    """BERT weights (folder or file) for the text side, or a released or converted checkpoint."""

    seed: int = 42
    """Seed of weights, order and masks."""
    compile: bool = field(default=False, metadata=ADDED)
    """Compile the layers of text and fusion in the first steps, which takes minutes: faster on a
    GPU, with other last bits."""
    log_every: int = 50
    eval_every: int = 2000
    eval_batches: int = 50
    """Batches of every held-out source."""
    save_every: int = 2000
    patience: int = 0
    """End after so many evaluations without a lower held-out loss; 0: never."""
    model: ModelConfig = field(default_factory=ModelConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, accumulate=1, epochs=1, max_steps=0, warmup_steps=0)
        at_least(self, eval_batches=1, max_path_steps=1)
        positive(self, "", "lr", "max_norm")
        if self.max_length > self.model.max_positions:
            raise ValueError(
                f"--max-length {self.max_length} exceeds --model.max-positions "
                f"{self.model.max_positions}; lower the one or raise the other"
            )
        if self.angle_size < 4 or self.angle_size % 4:
            raise ValueError(f"--angle-size must be a multiple of 4, got {self.angle_size}")
        if self.action_target == "relative-view" and self.model.num_actions != NUM_VIEWS + 1:
            raise ValueError(
                f"--action-target relative-view chooses among {NUM_VIEWS} views and a stop; set "
                f"--model.num-actions to {NUM_VIEWS + 1} (it is {self.model.num_actions})"
            )
        for source in (*self.train, *self.held_out):
            if source.partition(":")[0] not in {"triplets", "r2r"} or ":" not in source:
                raise ValueError(
                    f"source {source!r} of --train or --held-out must read triplets:PATH or "
                    "r2r:SPLIT, for example r2r:train@100"
                )
        if not self.train:
            raise ValueError("--train needs at least one source, for example r2r:train")

    def unused(self) -> dict[str, str]:
        """Options of this task that the run would record and not use; see `unused_options`."""
        found = super().unused()
        if not self.predict_action:
            found["--action-target"] = "--no-predict-action learns no action; drop one of them"
        return found


PRETRAIN_PRESETS: dict[str, tuple[str, PretrainConfig]] = {
    "prevalent-base": (
        "Sec. 3, 8 GPUs: batch 8 x 96, 20 epochs, learning rate 5e-5",
        PretrainConfig(run_dir=Path("runs/pretrain/base")),
    ),
    "prevalent-checkpoint-12864": (
        "the released checkpoint by its name, 8 GPUs: one epoch at a global batch of 512",
        PretrainConfig(run_dir=Path("runs/pretrain/checkpoint-12864"), batch_size=64, epochs=1),
    ),
    "prevalent-mlm-only": (
        "ablation: image-attended masked words without action prediction",
        PretrainConfig(run_dir=Path("runs/pretrain/mlm-only"), predict_action=False),
    ),
    "prevalent-text-only": (
        "ablation: masked words without images and actions",
        PretrainConfig(
            run_dir=Path("runs/pretrain/text-only"), predict_action=False, use_images=False
        ),
    ),
    "prevalent-bert-init": (
        "variant: text side from bert-base-uncased (a local folder)",
        PretrainConfig(
            run_dir=Path("runs/pretrain/bert-init"), init_from=Path("bert-base-uncased")
        ),
    ),
    "prevalent-relative-view": (
        "variant: the action is the next view counted from the present one, or a stop",
        PretrainConfig(
            run_dir=Path("runs/pretrain/relative-view"),
            action_target="relative-view",
            model=ModelConfig(num_actions=37),
        ),
    ),
    "r2r-small": (
        "small model on triplets of the R2R training paths, random stand-in features",
        PretrainConfig(
            run_dir=Path("runs/pretrain/r2r-small"),
            train=("r2r:train",),
            features=None,
            batch_size=16,
            max_steps=6000,
            lr=1e-3,
            warmup_steps=200,
            eval_every=500,
            eval_batches=60,
            save_every=500,
            model=SMALL_MODEL,
        ),
    ),
    "demo": (
        "toy houses made by code, a few minutes on a CPU",
        PretrainConfig(
            run_dir=Path("runs/pretrain/demo"),
            train=("r2r:train",),
            world="toy",
            batch_size=32,
            max_steps=1500,
            lr=1e-3,
            warmup_steps=50,
            eval_every=250,
            eval_batches=10,
            save_every=500,
            model=TOY_MODEL,
        ),
    ),
    "toy": (
        "toy houses made by code, ten minutes on a CPU: learns to read and see",
        PretrainConfig(
            run_dir=Path("runs/pretrain/toy"),
            train=("r2r:train",),
            held_out=("r2r:val_seen@100", "r2r:val_unseen@100"),
            world="toy",
            toy_houses=240,
            angle_size=32,
            batch_size=32,
            max_steps=6000,
            lr=2e-3,
            warmup_steps=200,
            eval_every=500,
            eval_batches=10,
            save_every=500,
            action_target="relative-view",
            model=READING_MODEL,
        ),
    ),
    "smoke": (
        "toy houses, a few steps: does everything run",
        PretrainConfig(
            run_dir=Path("runs/pretrain/smoke"),
            train=("r2r:train",),
            world="toy",
            toy_houses=2,
            batch_size=4,
            max_steps=6,
            lr=1e-3,
            log_every=2,
            eval_every=3,
            eval_batches=2,
            save_every=3,
            model=TINY_MODEL,
        ),
    ),
}


def main(argv: Sequence[str]) -> None:
    """Run ``prevalent pretrain r2r-small --batch-size 64``."""
    pretrain(parse_start(TASK, PRETRAIN_PRESETS, argv, "prevalent pretrain"))


def pretrain(config: PretrainConfig) -> PrevalentForPretraining:
    """Run ``config`` to its last step, continuing from the newest checkpoint in ``run_dir``.

    Leaves ``checkpoints/``, logs, ``curve.png``, ``model/`` and, where the held-out loss was
    lowest, ``best/`` in ``run_dir``. Errors are those of ``loop.train``.
    """
    return loop.train(TASK, config).model  # type: ignore[attr-defined]


class PretrainTraining(loop.Training):
    """The network with its two heads, and the triplets it learns from."""

    def __init__(self, config: PretrainConfig, world: World, folder: RunFolder) -> None:
        here = config
        check_sources(config)
        if config.world == "toy":
            here = _in_toy_world(config, folder)
        self.config, self.world = config, world
        self.corpus = build_corpus(here, world)
        self.batches = build_batches(config, self.corpus, self.corpus.train, world)
        self.ahead = ReadAhead(self.batches, world.device)
        self.total_steps = count_steps(config, self.batches)
        self.length_option = "--max-steps" if config.max_steps else "--epochs"
        model, optimizer = build_model(config, self.corpus, world)
        self.amp = MixedPrecision(config.precision, world.device)
        self.model, self.optimizer = self.amp.prepare(model, optimizer)
        self.network: Any = wrap(self.model, world, find_unused_parameters=True)
        self.progress = RunProgress()
        self.means = RunningMeans(("loss", "word_loss", "action_loss"), world.device)
        evaluate = config.eval_every if config.held_out else 0
        self.intervals = Intervals(config.log_every, config.save_every, evaluate, evaluate > 0)
        self.parts = {"model": self.model, "optimizer": self.optimizer, "amp": self.amp}
        self.parts |= {"data": self.ahead, "means": self.means}
        self.regions = [*self.model.bert.lalayer, *self.model.bert.addlayer]
        self.lr, self.norm = 0.0, torch.zeros(())

    def begin(self, run_dir: Path, logs: Logs) -> None:
        logs.text(self.corpus.summary)

    def step(self) -> None:
        config, progress, amp = self.config, self.progress, self.amp
        self.lr = config.lr * linear_schedule(progress.step, self.total_steps, config.warmup_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr
        clear_gradients(self.optimizer)
        for micro in range(config.accumulate):
            last = micro == config.accumulate - 1
            waiting = nullcontext() if last or self.world.size == 1 else self.network.no_sync()
            with waiting, amp.autocast():
                output = forward(self.network, next(self.ahead), config.predict_action)
                amp.backward(output.loss / config.accumulate, self.optimizer)
            action = output.action_loss
            action = output.loss.new_zeros(()) if action is None else action
            losses = {"loss": output.loss, "word_loss": output.word_loss, "action_loss": action}
            self.means.add(losses)
        norm = amp.step(self.optimizer, self.model.parameters(), config.max_norm)
        assert norm is not None
        self.norm = norm
        progress.step += 1

    def check(self) -> None:
        self.means.check(self.progress.step)
        check_weights(self.progress.step, {"model": self.model})

    def scalars(self) -> Mapping[str, float | Tensor | None]:
        return {"lr": self.lr, "gradient_norm": self.norm, **self.means.take()}

    def evaluate(self) -> dict[str, float]:
        with self.amp.autocast():
            return evaluate_held_out(self.config, self.corpus, self.model, self.world)

    def goals(self, scores: Mapping[str, float]) -> dict[str, float]:
        """The lowest sum of the held-out losses."""
        losses = [value for name, value in scores.items() if name.endswith("_loss")]
        return {"best": -sum(losses)} if losses else {}

    def export(self, run_dir: Path, name: str) -> None:
        """Write the weights, with the vocabulary, into ``run_dir/model`` or ``run_dir/best``."""
        folder = run_dir / ("model" if name == "last" else name)
        save_model(folder, unwrap(self.model))
        if self.corpus.vocabulary is not None:
            write_atomically(folder / "vocab.txt", self.corpus.vocabulary)

    def finish(self, run_dir: Path, logs: Logs) -> None:
        if self.world.is_main:
            panels = ("word_loss", "action_loss", "word_accuracy", "action_accuracy")
            logs.text(f"{draw_scores(run_dir, *panels)} (dashed: chance)")


TASK = loop.Task(
    kind="pretraining",
    config=PretrainConfig,
    open=PretrainTraining,
    fixed=(
        *(
            "world",
            "toy_houses",
            "features",
            "feature_columns",
            "standin_dim",
            "angle_size",
            "vocabulary",
            "train",
        ),
        *("max_length", "max_path_steps", "accumulate", "optimizer", "precision"),
        *("seed", "action_target", "predict_action", "use_images", "model"),
        "init_from",
    ),
    upgrade=upgrade,
    unused=unused_options,
)


def _in_toy_world(config: PretrainConfig, folder: RunFolder) -> PretrainConfig:
    """``config`` in a toy world made in the run's folder."""
    place = folder.place("world")
    features = make_toy_world(place, toy_size(config.toy_houses))
    return replace(config, data_dir=place, vocabulary=Path("wordpiece.txt"), features=features)


DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Corpus:
    """Training and held-out triplets with all that belongs to them."""

    train: TripletTable
    held_out: dict[str, TripletTable]
    codes: WordCodes
    features: DeviceFeatures | None
    feature_rows: dict[str, int] | None
    vocabulary: bytes | None  # content of its file
    summary: str
    word_prior: Tensor  # (V,) log-frequency of the words of the training triplets
    action_prior: Tensor  # (A,) of their actions

    def fit(self, model: ModelConfig) -> ModelConfig:
        """``model`` with the vocabulary and the image width of this corpus."""
        width = model.image_dim if self.features is None else self.features.width
        return replace(model, vocab_size=self.codes.vocab_size, image_dim=width)


def build_corpus(config: PretrainConfig, world: World) -> Corpus:
    """Read or collect all triplets of ``config`` and open the features they need.

    Raises ``FileNotFoundError`` or ``ValueError`` naming the file or viewpoint that is missing.
    """
    sources = (*config.train, *config.held_out)
    vocabulary = config.data_dir / config.vocabulary
    tokenizer = None
    if vocabulary.is_file() or any(source.startswith("r2r:") for source in sources):
        tokenizer = WordPieceTokenizer(vocabulary, config.max_length)
    codes = WordCodes(vocab_size=config.model.vocab_size) if tokenizer is None else tokenizer.codes
    train = _load(config, config.train, tokenizer)
    held_out = {
        source.partition(":")[2]: _load(config, [source], tokenizer) for source in config.held_out
    }
    if config.action_target == "relative-view":
        train = replace(train, action=relative_views(train))
        held_out = {
            name: replace(table, action=relative_views(table)) for name, table in held_out.items()
        }
    _check_actions(config, [train, *held_out.values()])
    features = store = None
    if config.use_images:
        store = _open_features(config, [train, *held_out.values()])
        features = DeviceFeatures(
            store,
            world.device,
            DTYPES.get(config.precision, torch.float32),
            angle_size=config.angle_size,
            layout="block",
        )
    sizes = ", ".join(f"{name} {len(table)}" for name, table in held_out.items())
    return Corpus(
        train=train,
        held_out=held_out,
        codes=codes,
        features=features,
        feature_rows=None if store is None else store.rows,
        vocabulary=None if tokenizer is None else vocabulary.read_bytes(),
        summary=f"{len(train)} triplets of {len(train.ids)} instructions; held out: {sizes}",
        word_prior=_word_prior(train, codes),
        action_prior=_log_frequency(np.bincount(train.action, minlength=config.model.num_actions)),
    )


def _load(
    config: PretrainConfig,
    sources: tuple[str, ...] | list[str],
    tokenizer: WordPieceTokenizer | None,
) -> TripletTable:
    kinds = {source.partition(":")[0] for source in sources}
    names = [source.partition(":")[2] for source in sources]
    if kinds == {"triplets"}:
        return read_triplets(
            Path(name) if Path(name).exists() else config.data_dir / name for name in names
        )
    if kinds != {"r2r"} or tokenizer is None:
        raise ValueError(
            f"--train {' '.join(sources)} mixes triplet files with R2R splits; collect the splits "
            "with `prevalent prepare triplets` first"
        )
    instructions = with_goals(read_instructions(config.data_dir, names), " ".join(names))
    if not instructions:
        raise ValueError(f"the source {' '.join(sources)} has no instruction")
    graphs = Graphs.load(
        config.data_dir / "connectivity", sorted({one.scan for one in instructions})
    )
    tokens = tokenizer.encode_sentences([one.text for one in instructions])
    return collect_triplets(graphs, instructions, tokens, max_steps=config.max_path_steps)


def _check_actions(config: PretrainConfig, tables: list[TripletTable]) -> None:
    largest = max(int(table.action.max()) for table in tables)
    if largest >= config.model.num_actions:
        raise ValueError(
            f"the triplets hold action {largest}, but --model.num-actions is "
            f"{config.model.num_actions}; raise it to {largest + 1} or more"
        )


def _open_features(config: PretrainConfig, tables: list[TripletTable]) -> FeatureStore:
    if config.features is None:
        places = sorted({f"{s}_{v}" for table in tables for s, v in table.places})
        return synthetic_features(places, config.standin_dim)
    store = FeatureStore.open(config.data_dir / config.features, columns=config.feature_columns)
    for table in tables:
        table.rows(store.rows)
        store.check_finite(f"{scan}_{viewpoint}" for scan, viewpoint in table.places)
    return store


def _word_prior(table: TripletTable, codes: WordCodes) -> Tensor:
    steps = np.diff(table.first)
    counts = np.zeros(codes.vocab_size)
    np.add.at(counts, table.tokens, steps[:, None])
    counts[list(codes.special)] = 0  # never selected, so never a label
    return _log_frequency(counts)


def _log_frequency(counts: np.ndarray) -> Tensor:
    smoothed = torch.as_tensor(counts, dtype=torch.float64) + 1
    return (smoothed / smoothed.sum()).log()


def build_batches(
    config: PretrainConfig, corpus: Corpus, table: TripletTable, world: World, seed: int = 0
) -> TripletBatches:
    """Endless batches of ``table`` for this process."""
    return TripletBatches(
        table,
        corpus.codes,
        check_shares(config.batch_size, world.size),
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
