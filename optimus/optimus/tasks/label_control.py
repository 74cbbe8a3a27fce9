"""Label-conditional generation, CARA (Sec. 4.3): options, training, transfer and its scores."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from .. import loop
from ..config import (
    Device,
    LoopOptions,
    ModelOptions,
    OptimizerOptions,
    rows_per_process,
    unused_options,
)
from ..data.labeled import Labeled, load_labeled, read_labeled
from ..data.text import Batch, Batches, Padding, TextOptions, build_batch, evaluation_batches
from ..data.tokenizers import Tokenizers, load_tokenizers
from ..decoding import Sampling, check_used, generate
from ..metrics.classification import NgramJudge
from ..metrics.text import bleu, paired_bleu, self_bleu
from ..models.label_control import ControlLosses, LabelControl
from ..old_runs import upgrade
from ..runs import find_weights, open_run, step_of
from ..runtime.command import parse, parse_preset
from ..runtime.distributed import World, choose_device, wrap
from ..runtime.evaluation import Provenance
from ..runtime.files import json_text, write_atomically
from ..runtime.options import ADDED, at_least, option, positive, require
from ..runtime.precision import MixedPrecision, build_adamw, clear_gradients
from ..runtime.run_folder import RunFolder
from ..runtime.transfer import Prepared, ReadAhead
from .judge import Judge
from .pretrained import check_lengths
from .training import (
    FIXED,
    AdamWTraining,
    Known,
    Results,
    build_model,
    build_optimizer,
    build_tokenizers,
    exporting,
    print_results,
    require_whole,
    write_results,
)

CRITICS = ("discriminator", "classifier", "convolution", "text_head")
NGRAM = 4


@dataclass(frozen=True)
class ControlOptions:
    """The terms of the loss (Sec. 4.3) and their weights."""

    updates: Literal["alternating", "released"] = "alternating"
    """alternating: critics on fixed z, then the model against fixed critics; released: the authors'
    code, in which reconstruction has weight 1, all else 0, and label 0 is a constant zero."""
    encoder_weight: float = 1.0
    """Of the term that removes the label from z."""
    encoder_start: float = 0.0
    """Share of the run without that term: an auto-encoder that has learned nothing yet obeys it by
    saying nothing at all."""
    generator_weight: float = 1.0
    """Of the generator's term of the GAN in latent space."""
    discriminator_weight: float = 1.0
    """Of its discriminator."""
    classifier_weight: float = 1.0
    """Of the latent classifier."""
    text_weight: float = 1.0
    """Of the text classifier (beta_cls)."""
    soft_weight: float = 0.0
    """Of the text classifier's loss on softly drawn sentences with another label (Gumbel-softmax),
    which trains encoder, decoder and label vectors; 0 leaves it out."""
    soft_temperature: float = 0.5
    """Of that drawing."""
    adversary: Literal["reverse", "confusion"] = "reverse"
    """reverse: 1 - cross-entropy, the authors'; confusion: cross-entropy towards equal odds."""
    start: Literal["posterior", "random"] = "posterior"
    """Where a model is given. posterior: z begins as its posterior mean, which the decoder knows,
    label vectors have a mean of 0, and the generator gives the prior; random: the authors'."""
    hidden: int = 0
    """Width of a hidden layer in the critics on z; 0 is none, the authors'."""
    noise: float = 0.0
    """Standard deviation of noise on z in training; 0 is the authors'."""
    critic_steps: int = 1
    """Updates of the critics per step."""
    critic_lr: float = 1e-3
    """Learning rate of the critics."""
    generator_lr: float = field(default=0.0, metadata=ADDED)
    """That of the generator, which has to follow a z that moves; 0 is the rate of new parts."""

    def __post_init__(self) -> None:
        positive(self, "control", "critic_lr", "soft_temperature")
        weights = ("encoder", "generator", "discriminator", "classifier", "text", "soft")
        at_least(self, "control", critic_steps=1, hidden=0, noise=0, generator_lr=0)
        at_least(self, "control", **{f"{name}_weight": 0 for name in weights})
        require(
            0 <= self.encoder_start < 1,
            f"--control.encoder-start must be in [0, 1), got {self.encoder_start}",
        )


@dataclass(frozen=True)
class LabeledData:
    """Sentences with labels."""

    train: Path = Path("data/yelp_sentiment/sentiment.train.text")
    """Training text: NAME.text with NAME.labels beside it, a file of `label TAB text`, or the stem
    of STEM.0, STEM.1, ..."""
    test: Path = Path("data/yelp_sentiment/sentiment.test.text")
    """Test text, alike."""
    valid: Path | None = None
    """Text whose reconstruction is scored at --eval-every, alike."""
    max_words: int = 300
    """Sentences of more words are left out."""
    batch_size: int = 64
    """Sentences per optimizer step, over all processes together."""

    def __post_init__(self) -> None:
        at_least(self, "data", batch_size=1, max_words=1)


@dataclass(frozen=True)
class ControlConfig(LoopOptions):
    """Train a sentence VAE whose sentences have a chosen label."""

    run_dir: Path = Path("runs/label_control/yelp")
    """Folder of the run: config, checkpoints, logs and the model."""
    model: ModelOptions = field(default_factory=ModelOptions)
    control: ControlOptions = field(default_factory=ControlOptions)
    data: LabeledData = field(default_factory=LabeledData)
    optimizer: OptimizerOptions = field(default_factory=OptimizerOptions)

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.model.inject != "none", "--model.inject none has no latent to control")
        require(
            self.optimizer.accumulate == 1,
            "--optimizer.accumulate must be 1: the critics step in between",
        )
        require(
            not self.eval_every or self.data.valid is not None,
            "--eval-every needs --data.valid, a labelled text apart from training and test",
        )


_WIKIPEDIA = ModelOptions(init=(Path("runs/pretrain/wikipedia_32/model"),))
_YELP = ControlConfig(
    run_dir=Path("runs/label_control/yelp"),
    model=_WIKIPEDIA,
    optimizer=OptimizerOptions(lr=5e-6),
    save_every=1000,
)
_SMALL = ControlConfig(
    run_dir=Path("runs/label_control/small_yelp"),
    model=ModelOptions(latent_dim=64, vocabulary="4000", layers=2, hidden=128, dropout=0.0),
    control=ControlOptions(
        adversary="confusion",
        hidden=128,
        noise=0.1,
        encoder_weight=5.0,
        encoder_start=0.4,
        critic_steps=2,
    ),
    data=LabeledData(
        Path("data/yelp_sentiment/sentiment.dev"),
        Path("data/yelp_sentiment/sentiment.test"),
        max_words=20,
    ),
    optimizer=OptimizerOptions(lr=1e-3, warmup_steps=100),
    max_steps=2500,
    save_every=500,
    seed=1,
)
_REAL = replace(
    _SMALL,
    run_dir=Path("runs/label_control/real_yelp"),
    model=ModelOptions(init=(Path("runs/real_weights/yelp_0.50/model"),), dropout=0.0),
    control=replace(_SMALL.control, generator_lr=1e-2),
    data=replace(_SMALL.data, batch_size=16),
    optimizer=OptimizerOptions("fused", lr=1e-4, new_lr=1e-3, warmup_steps=20),
    max_steps=400,
    log_every=10,
    precision="bf16",
    save_every=200,
    seed=42,
)
_TOY = replace(
    _SMALL,
    run_dir=Path("runs/label_control/toy"),
    model=ModelOptions(latent_dim=32, vocabulary="400", layers=1, hidden=64, dropout=0.0),
    control=ControlOptions(
        adversary="confusion", hidden=64, noise=0.1, encoder_weight=2.0, encoder_start=0.5
    ),
    data=LabeledData(
        Path("data/toy-labels/train.txt"), Path("data/toy-labels/test.txt"), batch_size=32
    ),
    optimizer=OptimizerOptions(lr=1.5e-3, warmup_steps=100),
    max_steps=4000,
    log_every=250,
)
_SMOKE = replace(
    _TOY,
    run_dir=Path("runs/label_control/smoke"),
    model=ModelOptions(latent_dim=8, vocabulary="400", layers=1, hidden=64),
    data=replace(_TOY.data, batch_size=8),
    max_steps=4,
    log_every=2,
    save_every=2,
)

PRESETS: dict[str, tuple[str, ControlConfig]] = {
    "yelp": ("Table 6, Yelp sentiment", _YELP),
    "yelp-released": (
        "Table 6, Yelp sentiment as the authors' code trains it: reconstruction alone",
        replace(
            _YELP,
            run_dir=Path("runs/label_control/yelp_released"),
            control=ControlOptions(updates="released"),
        ),
    ),
    "small-yelp": ("Yelp sentiment from scratch, CPU", _SMALL),
    "real-yelp": ("Yelp sentiment, MiniLM and SmolLM2, CPU", _REAL),
    "small-rt-polarity": (
        "film reviews from scratch, CPU",
        replace(
            _SMALL,
            run_dir=Path("runs/label_control/small_rt_polarity"),
            data=LabeledData(
                Path("data/rt-polarity/train.txt"), Path("data/rt-polarity/test.txt"), max_words=30
            ),
            max_steps=2000,
        ),
    ),
    "toy": ("tense in the toy grammar, three labels", _TOY),
    "smoke": ("a few steps", _SMOKE),
}


def train_command(argv: Sequence[str]) -> None:
    """Run ``optimus train-label-control yelp --control.encoder-weight 2``."""
    train(parse_preset(PRESETS, argv, "optimus train-label-control", unused))


def unused(config: ControlConfig) -> dict[str, str]:
    """`unused_options`, and those of terms of the loss that do not count."""
    found, control = unused_options(config), config.control
    if not config.eval_every:
        found["--data.valid"] = "nothing is scored on the way; give --eval-every too"
    if not config.model.init:
        found["--control.start"] = "the model starts at random; give --model.init, or drop it"
    if not control.soft_weight:
        reason = "nothing is drawn softly; give --control.soft-weight, or drop it"
        found["--control.soft-temperature"] = reason
    if not control.encoder_weight:
        reason = "--control.encoder-weight 0 leaves that term out; drop one of them"
        found |= {"--control.encoder-start": reason, "--control.adversary": reason}
    if control.updates == "released":
        reason = "--control.updates released trains reconstruction alone; drop one of them"
        used = ("updates", "hidden", "noise")
        names = [name for name in asdict(control) if name not in used]
        found |= {option(name, "control"): reason for name in names}
    return found


def train(config: ControlConfig) -> LabelControl:
    """Run ``config`` to its last step, continuing from the newest checkpoint in ``run_dir``.

    Leaves ``model/``, the whole module with vocabularies and ``labels.json``, there. Errors are
    those of ``loop.train``.
    """
    return loop.train(TASK, config).model  # type: ignore[attr-defined]


class LabeledBatch(NamedTuple):
    """What a step needs of a batch."""

    encoder_ids: Tensor  # (B, S)
    decoder_ids: Tensor  # (B, T)
    labels: Tensor  # (B,)
    targets: Tensor  # see `Known`
    padded: bool


class ControlTraining(AdamWTraining):
    """A model and its critics.

    A step updates the critics on fixed z ``critic_steps`` times and then the model against fixed
    critics.
    """

    def __init__(self, config: ControlConfig, world: World, folder: RunFolder) -> None:
        tokenizers = build_tokenizers(config.model, lambda: _train_lines(config), folder)
        options = TextOptions(max_words=config.data.max_words)
        self.data = load_labeled(config.data.train, tokenizers, options)
        names = self.data.names
        self.held_out: Labeled | None = None
        if config.eval_every and config.data.valid is not None:
            self.held_out = load_labeled(config.data.valid, tokenizers, options, names=names)
        self.padding = Padding(tokenizers.pad_id, tokenizers.encoder_pad_id)
        self.batches = Batches(
            self.data.sentences,
            rows_per_process(config.data.batch_size, world.size),
            self.padding,
            seed=config.seed,
            rank=world.rank,
            world_size=world.size,
            beside=self.data.digest,
        )
        alternating = config.control.updates == "alternating"
        self.rounds = config.control.critic_steps if alternating else 0
        drawing = alternating and config.control.soft_weight > 0
        self.soft_temperature = config.control.soft_temperature if drawing else 0.0
        self.ahead = ReadAhead(Prepared(self.batches, self._prepare), world.device)
        total_steps = config.steps(max(1, self.batches.batches_per_epoch // (self.rounds + 1)))
        model = build_control(config, tokenizers, len(names), folder).to(world.device)
        corpora = [self.data.sentences, *([self.held_out.sentences] if self.held_out else [])]
        check_lengths(model.vae, corpora, "--data.max-words")
        optimizers = build_optimizers(config, model)
        amp = MixedPrecision(config.precision, world.device)
        self.model, optimizers = amp.prepare(model, optimizers)
        optimizer, self.critics = optimizers
        super().__init__(
            config,
            world,
            amp,
            optimizer,
            names=("loss", "rec", "encoder", "gan_g", "gan_d", "lsc", "cls", "soft"),
            total_steps=total_steps,
        )
        self.tokenizers = tokenizers
        # the two phases use different parameters, and the posterior head is used by neither
        self.network = wrap(self.model, world, find_unused_parameters=True)
        self.parts = {"model": self.model, "optimizer": optimizer, "critics": self.critics}
        self.parts |= {"amp": amp, "data": self.ahead, "means": self.means}

    def step(self) -> None:
        self.begin_step()
        control, judged = self.config.control, None
        for _ in range(self.rounds):
            judged = self._update_critics()
        with self.amp.autocast():
            losses = self._losses(
                next(self.ahead),
                phase="model",
                adversary=control.adversary,
                soft_temperature=self.soft_temperature,
            )
            total = total_of_model(self.config, losses, self.progress.step / self.total_steps)
            self.amp.backward(total, self.optimizer)
        judged = judged or losses
        self.means.add(
            {
                "loss": total,
                "rec": losses.reconstruction,
                "encoder": losses.encoder,
                "gan_g": losses.generator,
                "gan_d": judged.discriminator,
                "lsc": judged.classifier,
                "cls": judged.text,
                "soft": losses.soft,
            }
        )
        self.end_step(p for group in self.optimizer.param_groups for p in group["params"])

    def base_rate(self, group: Mapping[str, Any]) -> float:
        own = self.config.control.generator_lr if group.get("apart") else 0.0
        return own or super().base_rate(group)

    def _update_critics(self) -> ControlLosses:
        """One update of discriminator, latent classifier and text classifier on fixed z."""
        control = self.config.control
        rows = next(self.ahead)
        clear_gradients(self.critics)
        with self.amp.autocast():
            losses = self._losses(rows, phase="critics")
            total = control.discriminator_weight * losses.discriminator
            total = total + control.classifier_weight * losses.classifier
            total = total + control.text_weight * losses.text
            self.amp.backward(total, self.critics)
        self.amp.step(self.critics)
        return losses

    def _losses(self, rows: LabeledBatch, **options: Any) -> ControlLosses:
        """Those of `LabelControl.forward` on ``rows``."""
        ids, known = rows[:3], {"targets": rows.targets, "padded": rows.padded}
        return self.network(*ids, **known, **options)  # type: ignore[no-any-return]

    def _prepare(self, batch: Batch) -> LabeledBatch:
        ids = batch.encoder_ids, batch.decoder_ids, self.data.labels_of(batch)
        return LabeledBatch(*ids, *Known.of(batch, self.padding.decoder))

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """The mean reconstruction term of ``--data.valid``, in nats; alike on every rank."""
        if self.held_out is None:
            return {}
        device, rows = self.world.device, []
        self.model.eval()
        for batch in evaluation_batches(
            self.held_out.sentences, self.config.data.batch_size, self.padding
        ):
            ids = batch.encoder_ids.to(device), batch.decoder_ids.to(device)
            with self.amp.autocast():
                losses = self.model(*ids, self.held_out.labels_of(batch).to(device), phase="model")
            rows.append(losses.reconstruction.double().cpu())
        self.model.train()
        return {"eval_rec": float(torch.cat(rows).mean())}

    def goals(self, scores: Mapping[str, float]) -> dict[str, float]:
        return {"best": -scores["eval_rec"]} if scores else {}

    def export(self, run_dir: Path, name: str) -> None:
        with exporting(run_dir / ("model" if name == "last" else name)) as folder:
            self.model.save_pretrained(folder)
            self.tokenizers.save(folder / "tokenizers")
            names = json_text(list(self.data.names))
            (folder / "labels.json").write_text(f"{names}\n", encoding="utf-8")


TASK = loop.Task(
    kind="label-control",
    config=ControlConfig,
    open=ControlTraining,
    fixed=(
        *FIXED,
        *("control.updates", "control.hidden", "control.noise", "control.critic_steps"),
        *("control.start", "data.max_words"),
    ),
    upgrade=upgrade,
    unused=unused,
)


def build_control(
    config: ControlConfig,
    tokenizers: Tokenizers,
    num_labels: int,
    folder: RunFolder | None = None,
) -> LabelControl:
    """The module with its initial weights, in training mode; see ``build_model`` for ``folder``."""
    options, released = config.control, config.control.updates == "released"
    require_whole(config.model)
    model = LabelControl(
        build_model(config.model, tokenizers, folder),
        num_labels,
        hidden=options.hidden,
        train_zero_label=not released,
        mask_padding=not released,
        noise=options.noise,
    )
    if options.start == "posterior" and config.model.init and not released:
        model.start_from_posterior()
    return model.train()


def build_optimizers(
    config: ControlConfig, model: LabelControl
) -> tuple[torch.optim.Optimizer, torch.optim.Optimizer]:
    """Of encoder, decoder, labels and generator; and of the critics."""
    apart = model.generator if config.control.generator_lr else None
    trained = build_optimizer(config.optimizer, _Others(model), apart=apart)
    options: dict[str, Any] = {"betas": (0.9, 0.999), "eps": 1e-8, "kind": config.optimizer.kind}
    return trained, build_adamw(model.critics(), lr=config.control.critic_lr, **options)


class _Others(nn.Module):
    """A view of the parameters that are not the critics'."""

    def __init__(self, model: LabelControl) -> None:
        super().__init__()
        for name, child in model.named_children():
            if name not in CRITICS:
                self.add_module(name, child)


def total_of_model(config: ControlConfig, losses: ControlLosses, done: float = 1.0) -> Tensor:
    """What the model lowers, a scalar, when the share ``done`` of the run is over.

    The released switch leaves reconstruction alone.
    """
    total = losses.reconstruction.mean()
    if config.control.updates == "released":
        return total
    if done >= config.control.encoder_start:
        total = total + config.control.encoder_weight * losses.encoder
    total = total + config.control.soft_weight * losses.soft
    return total + config.control.generator_weight * losses.generator


def _train_lines(config: ControlConfig) -> Iterator[str]:
    return (text for text in read_labeled(config.data.train)[1] if text.strip())


DECODING = Sampling("sample", top_k=5, max_new_tokens=60)


@dataclass(frozen=True)
class EvaluateControlConfig:
    """Reconstruct, transfer to other labels, generate by label, and score all three."""

    run_dir: Path = Path("runs/label_control/yelp")
    """Folder of the run; results are written into it."""
    step: int | None = None
    """Step of the checkpoint to use; by default the newest weights of the run."""
    test: Path | None = None
    """Labelled test text; by default that of the run."""
    max_sentences: int = 1000
    """Only so many sentences, drawn by --seed from the whole test text; 0 is all."""
    decoding: Sampling = DECODING
    classifier: Path | None = None
    """Run of `optimus train-classifier` that judges labels; without it, logistic regression on
    words and word pairs of the training text does."""
    self_bleu_sentences: int = 500
    """Conditional samples among which self-BLEU is taken."""
    batch_size: int = 64
    """Sentences encoded or decoded at once."""
    output_dir: Path | None = None
    """Where to write, if not to the run."""
    seed: int = 42
    """Seed of sampling and of the target labels."""
    device: Device = "auto"
    """Where to compute."""

    def __post_init__(self) -> None:
        at_least(self, batch_size=1, self_bleu_sentences=1, max_sentences=0)
        check_used(self.decoding, DECODING)


@dataclass(frozen=True)
class Outputs:
    """What the model made of N labelled sentences."""

    left_out: int  # sentences of the test text, those of too many words among them
    cut: bool  # whether --max-sentences left out some
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
    def load(cls, run_dir: Path, device: torch.device, step: int | None = None) -> Controller:
        """The model of a run, or of one checkpoint of it."""
        folder, state = find_weights(run_dir, TASK.kind, step=step)
        model = LabelControl.from_pretrained(folder).to(device)
        if state is not None:
            model.load_state_dict(state)
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
        texts = self.tokenizers.decode_batch(ids, sampling.clean)
        return [" ".join(text.split()) for text in texts]

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


def evaluate_command(argv: Sequence[str]) -> None:
    """Run ``optimus evaluate-label-control --run-dir runs/label_control/x``."""
    print_results(evaluate(parse(EvaluateControlConfig, argv, "optimus evaluate-label-control")))


def evaluate(config: EvaluateControlConfig) -> Results:
    """Do and score what ``config`` says; texts and scores are written and returned.

    Raises:
        FileNotFoundError: the model, the test text or the judge is missing.
        ValueError: the test text has a label that the training text has not.
    """
    torch.manual_seed(config.seed)
    run = open_run(config.run_dir, TASK.kind).config
    controller = Controller.load(config.run_dir, choose_device(config.device), config.step)
    test = config.test or run.data.test
    outputs = transfer_test(config, controller, test, run.data.max_words)
    if config.classifier is not None:
        judge: Judge | NgramJudge = Judge.load(config.classifier, str(controller.device))
    else:
        judge = train_judge(run.data.train, controller.names)
    results = score(config, controller, outputs, judge)
    folder = config.output_dir or config.run_dir
    name = "eval_results" if config.step is None else f"eval_results_step_{config.step}"
    about = Provenance(
        kind=TASK.kind,
        data=str(test),
        items=len(outputs.sources),
        left_out=outputs.left_out,
        trial=outputs.cut,
        step=step_of(config.run_dir, config.step),
        seed=config.seed,
        settings={
            "judge": str(config.classifier or "n-grams"),
            "decoding": asdict(config.decoding),
            "max_words": run.data.max_words,
        },
    )
    write_results(folder, name, results, about)
    _write_texts(folder, controller.names, outputs)
    return results


def transfer_test(
    config: EvaluateControlConfig, controller: Controller, path: Path, max_words: int
) -> Outputs:
    """Reconstruct and transfer test sentences, drawn evenly over the file, and sample as many."""
    sources, labels, whole = read_test(path, controller.names, max_words)
    generator = random.Random(config.seed)
    cut = 0 < config.max_sentences < len(sources)
    if cut:
        chosen = sorted(generator.sample(range(len(sources)), config.max_sentences))
        sources, labels = [sources[i] for i in chosen], [labels[i] for i in chosen]
    numbers = range(len(controller.names))
    targets = [generator.choice([n for n in numbers if n != label]) for label in labels]
    sampling = config.decoding
    try:
        latent = controller.encode(sources, config.batch_size)
    except ValueError as error:  # a sentence is too long
        raise ValueError(f"{path}: {error}") from error
    noise = torch.randn(latent.shape, generator=torch.Generator().manual_seed(config.seed))
    with torch.no_grad():
        made = controller.model.make_latent(noise.to(latent))
    return Outputs(
        whole - len(sources),
        cut,
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


def read_test(
    path: Path, names: Sequence[str], max_words: int | None = None
) -> tuple[list[str], list[int], int]:
    """Sentences that are not blank or too long, their class numbers, and how many are not blank."""
    labels, texts = read_labeled(path)
    unknown = sorted(set(labels) - {*names, ""})
    if unknown:
        raise ValueError(f"{path} has the label {unknown[0]!r}; known are {', '.join(names)}")
    every = [(label, text) for label, text in zip(labels, texts, strict=True) if text.split()]
    kept = [one for one in every if max_words is None or len(one[1].split()) <= max_words]
    if not kept:
        most = "" if max_words is None else f" of at most {max_words} words"
        raise ValueError(f"{path} holds no sentence{most}")
    return [text.strip() for _, text in kept], [names.index(label) for label, _ in kept], len(every)


def train_judge(path: Path, names: Sequence[str]) -> NgramJudge:
    """A judge apart from the model: logistic regression on the training text's n-grams."""
    texts, labels, _ = read_test(path, names)
    return NgramJudge(texts, labels)


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
