"""Dialog responses in a fused latent space (Sec. 4.2): options, data, training and scores.

A line of a file is ``context TAB response``; a context is its utterances joined by [SEP]. Batches
are drawn from the responses with ``Batches`` or ``evaluation_batches``; ``Dialogs.with_contexts``
adds the other side. Responses are scored by DialogWAE's protocol.
"""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..api import SentenceVAE
from ..config import (
    DecodingOptions,
    Device,
    LoopOptions,
    ModelOptions,
    OptimizerOptions,
    require,
    require_positive,
    rows_per_process,
)
from ..data.text import (
    Batch,
    Batches,
    Padding,
    Sentences,
    TextOptions,
    build_sentences,
    cut_tokens,
    evaluation_batches,
    load_sentences,
    pad_rows,
)
from ..data.tokenizers import SEPARATOR, Tokenizers, load_tokenizers
from ..decoding import Sampling, generate
from ..metrics.classification import NgramJudge
from ..metrics.dialog import (
    Turn,
    WordVectors,
    ngram_entropy,
    read_generated,
    read_glove,
    score_turns,
    with_references,
)
from ..models.spacefusion import SpaceFusion, towards_style
from ..objectives import learning_rate_at
from ..optimizer import RunningMeans, norm_to_check
from ..runtime.checkpoint import Checkpoint, Progress
from ..runtime.command import parse, parse_preset
from ..runtime.distributed import World, barrier, choose_device, start, wrap
from ..runtime.files import write_atomically
from ..runtime.logs import Logs
from ..runtime.precision import MixedPrecision, check_finite
from ..runtime.published import markdown_table
from ..runtime.rundir import open_run, read_config
from ..runtime.signals import StopSignal
from .classifier import Judge
from .initialize import build_model, build_optimizer, build_tokenizers


@dataclass(frozen=True)
class FusionOptions:
    """The fused latent space (Sec. 4.2)."""

    context_layers: int = 2
    """Layers of BERT, from the last, of which contexts have their own copy."""
    frozen_layers: int = 10
    """Layers of BERT, from the first, that are not trained."""
    weight: float = 1.0
    """Weight beta of (pull - 2 push) / sqrt(latent dim)."""
    push: Literal["others", "constant"] = "others"
    """others: distance to the nearest other row; constant: the authors' term, in which a row is its
    own nearest neighbour."""
    context_mask: Literal["padding", "released"] = "padding"
    """released adds 1 to the attention scores of tokens in the copied layers and hides nothing."""
    speakers: Literal["row", "last-row"] = "row"
    """row: the last utterance of each context is the other speaker's; last-row: the authors' rule,
    decided by the last context of a batch."""
    style: Path | None = None
    """Extension: file of sentences of a style, one a line, for a third branch."""
    style_weight: float = 1.0
    """Weight of that branch."""

    def __post_init__(self) -> None:
        require_positive(self, "context_layers", prefix="fusion.")
        for name in ("frozen_layers", "weight", "style_weight"):
            value, option = getattr(self, name), name.replace("_", "-")
            require(value >= 0, f"--fusion.{option} must not be negative, got {value}")


@dataclass(frozen=True)
class DialogData:
    """The dialogues; ``optimus prepare dailydialog`` writes the folder."""

    folder: Path = Path("data/dailydialog")
    """Folder with train.txt and test.txt of `context TAB response` lines."""
    train_file: str = "train.txt"
    """File of the folder to train on."""
    max_tokens: int = 512
    """A context keeps its last tokens, a response its first."""
    batch_size: int = 8
    """Turns per optimizer step, over all processes together."""

    def __post_init__(self) -> None:
        require_positive(self, "batch_size", prefix="data.")
        require(
            4 <= self.max_tokens <= 512,
            f"--data.max-tokens must be in 4..512 (BERT's positions), got {self.max_tokens}",
        )


@dataclass(frozen=True)
class DialogConfig(LoopOptions):
    """Train dialog responses in a fused latent space."""

    run_dir: Path = Path("runs/dialog/dailydialog")
    """Folder of the run: config, checkpoints, logs and the final model."""
    model: ModelOptions = field(default_factory=ModelOptions)
    fusion: FusionOptions = field(default_factory=FusionOptions)
    data: DialogData = field(default_factory=DialogData)
    optimizer: OptimizerOptions = field(default_factory=OptimizerOptions)

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.model.inject != "none", "--model.inject none has no latent to fuse")
        require(
            self.optimizer.accumulate == 1,
            "--optimizer.accumulate must be 1: distances are taken within one batch",
        )


@dataclass(frozen=True)
class EvaluateDialogConfig:
    """Answer every context several times and score the answers, or score a file of answers."""

    run_dir: Path = Path("runs/dialog/dailydialog")
    """Folder of the run; results are written into it."""
    data: Path | None = None
    """Folder of the dialogues; by default that of the run."""
    split: Literal["train", "valid", "test"] = "test"
    """Which contexts to answer."""
    responses: int = 10
    """Responses per context."""
    max_contexts: int = 0
    """Only the first contexts; 0 is all."""
    decoding: DecodingOptions = field(
        default_factory=lambda: DecodingOptions("sample", top_p=0.9, max_new_tokens=60)
    )
    batch_size: int = 32
    """Contexts answered at once."""
    baseline: Literal["none", "random", "human"] = "none"
    """random: responses drawn from the training file; human: the reference itself."""
    generated: Path | None = None
    """Score this file of `context TAB reference TAB response` lines instead."""
    references: Path | None = None
    """File of `context TAB reference` lines with several references for a context."""
    glove: Path | None = None
    """GloVe text file for the bag-of-words scores; without it they are left out."""
    glove_width: int = 200
    """Numbers per word in it."""
    style: Path | None = None
    """Extension: file of style sentences towards which the latents move."""
    style_degree: float = 0.0
    """How far: 0 stays, 1 arrives at the nearest style sentences."""
    style_classifier: Path | None = None
    """Run of `optimus train-classifier` that tells the style (its last class) from other text."""
    latents: int = 0
    """Also write the latents of this many turns from both branches to latents.npz, to be drawn by
    `optimus plot-latents`."""
    output_dir: Path | None = None
    """Where to write, if not to the run."""
    seed: int = 42
    """Seed of sampling and of the random baseline."""
    device: Device = "auto"
    """Where to compute."""

    def __post_init__(self) -> None:
        require_positive(self, "responses", "batch_size", "glove_width")
        require(
            self.latents >= 0 and self.max_contexts >= 0,
            "--latents and --max-contexts must not be negative",
        )
        require(
            self.style_degree == 0 or self.style is not None,
            "--style-degree needs --style, a file of style sentences",
        )


WIKIPEDIA = ModelOptions(init=(Path("runs/pretrain/wikipedia_32/model"),))


def _dailydialog(beta: float) -> DialogConfig:
    return DialogConfig(
        run_dir=Path("runs", f"dialog/dailydialog_{beta:.1f}"),
        model=WIKIPEDIA,
        fusion=FusionOptions(weight=beta),
        save_every=2000,
    )


_SMALL = DialogConfig(
    run_dir=Path("runs/dialog/small_dailydialog"),
    model=ModelOptions(latent_dim=64, vocabulary="4000", layers=2, hidden=128),
    fusion=FusionOptions(context_layers=1, frozen_layers=0),
    data=DialogData(train_file="valid.txt", max_tokens=96, batch_size=32),
    optimizer=OptimizerOptions(lr=1e-3, warmup_steps=100),
    max_steps=1500,
    save_every=250,
    seed=1,
)
_SMOKE = replace(
    _SMALL,
    run_dir=Path("runs/dialog/smoke"),
    model=replace(_SMALL.model, latent_dim=8, vocabulary="400", layers=2, hidden=64),
    data=replace(_SMALL.data, train_file="train.txt", batch_size=4),
    max_steps=4,
    log_every=2,
    save_every=2,
)

PRESETS: dict[str, tuple[str, DialogConfig]] = {
    **{
        f"dailydialog-{beta:.1f}": (f"Sec. 4.2, DailyDialog, beta {beta:.1f}", _dailydialog(beta))
        for beta in (1.0, 2.0, 30.0)
    },
    "switchboard": (
        "Sec. 4.2, Switchboard, several references",
        replace(
            _dailydialog(1.0),
            run_dir=Path("runs/dialog/switchboard"),
            data=DialogData(Path("data/switchboard")),
            epochs=5.0,
        ),
    ),
    "stylized": (
        "styled responses, an extension",
        replace(
            _dailydialog(1.0),
            run_dir=Path("runs/stylized_response/holmes"),
            fusion=FusionOptions(style=Path("data/holmes/train.txt")),
            data=DialogData(Path("data/reddit")),
        ),
    ),
    "small-dailydialog": ("DailyDialog's validation dialogues from scratch, CPU", _SMALL),
    "smoke": ("a few steps", _SMOKE),
}


logger = logging.getLogger(__name__)


class DialogBatch(NamedTuple):
    """B turns, padded on the right."""

    context_ids: Tensor  # (B, C) long, [CLS] utterance [SEP] ... utterance [SEP]
    context_mask: Tensor  # (B, C) bool, True on tokens
    response: Batch

    def to(self, device: torch.device | str) -> DialogBatch:
        """The same batch on ``device``."""
        ids, mask = (t.to(device, non_blocking=True) for t in self[:2])
        return DialogBatch(ids, mask, self.response.to(device))


@dataclass(frozen=True)
class Dialogs:
    """N contexts (WordPiece ids) and their responses (tokenised on both sides)."""

    contexts: list[np.ndarray]
    responses: Sentences

    def __len__(self) -> int:
        return len(self.responses)

    def with_contexts(self, responses: Batch, padding: Padding) -> DialogBatch:
        """Put the contexts beside a batch that was drawn from ``self.responses``."""
        rows = [self.contexts[i] for i in responses.index.tolist()]
        ids, lengths = pad_rows(rows, padding.encoder)
        mask = torch.arange(ids.shape[1]) < lengths[:, None]
        return DialogBatch(ids, mask, responses)


def read_turns(path: str | Path) -> Iterator[tuple[str, str]]:
    """Pairs (context, response) of a file; blank lines are left out.

    Raises:
        ValueError: a line has no tab or an empty side.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"no dialog file {path}; `optimus prepare dailydialog` writes one, with lines "
            f"`context TAB response`"
        )
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            if "__eou__" in line:
                raise ValueError(
                    f"line {number} of {path} has a context without the separator [SEP]: its "
                    "utterances are marked by __eou__; convert the file with `optimus prepare "
                    "dailydialog --source FOLDER`"
                )
            context, _, response = (part.strip() for part in line.partition("\t"))
            if not context or not response:
                raise ValueError(f"line {number} of {path} is not `context TAB response`")
            yield context, response


def load_dialogs(
    path: str | Path, tokenizers: Tokenizers, *, max_tokens: int = 512, keep_cls: bool = True
) -> Dialogs:
    """Tokenise ``path``; a context keeps its last ``max_tokens`` tokens, a response its first.

    Deviation: the authors keep the last tokens of both sides and lose [CLS] in this;
    ``keep_cls=False`` restores that.

    A literal `` EOS `` between utterances, which other dialog corpora have, counts as [SEP].
    """
    turns = list(read_turns(path))
    if not turns:
        raise ValueError(f"{path} holds no dialog turn")
    if not any(mark in context for context, _ in turns for mark in ("[SEP]", " EOS ")):
        logger.warning("no context of %s has the separator [SEP]: all are one utterance", path)
    contexts = tokenizers.encode_encoder([c.replace(" EOS ", SEPARATOR) for c, _ in turns])
    texts = [response for _, response in turns]
    rows = []
    for number, (left, right) in enumerate(
        zip(tokenizers.encode_encoder(texts), tokenizers.encode_decoder(texts), strict=True)
    ):
        if keep_cls:
            left, right = cut_tokens(left, max_tokens), cut_tokens(right, max_tokens)
        else:
            left, right = left[-max_tokens:], right[-max_tokens:]
        rows.append((left, right, len(texts[number].split()), number))
    kept = [np.array(_recent(ids, max_tokens, keep_cls)) for ids in contexts]
    return Dialogs(kept, build_sentences(rows))


def _recent(ids: Sequence[int], limit: int, keep_cls: bool) -> list[int]:
    if len(ids) <= limit:
        return list(ids)
    return [ids[0], *ids[1 - limit :]] if keep_cls else list(ids[-limit:])


MAX_NORM = 1.0  # of the gradient


def train_command(argv: Sequence[str]) -> None:
    """Run ``optimus train-dialog dailydialog-2.0 --data.batch-size 8``."""
    train(parse_preset(PRESETS, argv, "optimus train-dialog"))


def train(config: DialogConfig) -> SpaceFusion:
    """Run ``config`` to its last step, continuing from the newest checkpoint in ``run_dir``.

    Leaves ``checkpoints/``, logs and ``model/``, the whole module with both vocabularies, there.

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
        padding = Padding(tokenizers.pad_id, tokenizers.encoder_pad_id)
        dialogs = load_train_dialogs(config, tokenizers)
        batches = _batches(config, dialogs.responses, padding, world)
        styles = load_style(config, tokenizers)
        style_batches = _batches(config, styles, padding, world) if styles is not None else None
        total_steps = config.steps(batches.batches_per_epoch)
        model = build_fusion(config, tokenizers).to(world.device)
        optimizer = build_optimizer(config.optimizer, model)  # type: ignore[arg-type]
        amp = MixedPrecision(config.precision, world.device)
        model, optimizer = amp.prepare(model, optimizer)
        network, progress = wrap(model, world), Progress()
        means = RunningMeans(("loss", "rec", "reg", "pull", "push", "style"), world.device)
        state: dict[str, Any] = {"model": model, "optimizer": optimizer, "amp": amp}
        state |= {"data": batches, "progress": progress, "means": means}
        if style_batches is not None:
            state["style"] = style_batches
        checkpoint = Checkpoint(run_dir, keep=config.keep, **state)
        checkpoint.load_latest()

        with Logs(run_dir, total_steps, progress.step) as logs:
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
                turns = dialogs.with_contexts(next(batches), padding).to(world.device)
                with amp.autocast():
                    losses = network(
                        turns.context_ids,
                        turns.response.encoder_ids,
                        turns.response.decoder_ids,
                        weight=config.fusion.weight,
                        style=_next_style(style_batches, world),
                        style_weight=config.fusion.style_weight,
                    )
                    amp.backward(losses.total.mean(), optimizer)
                means.add(
                    loss=losses.total,
                    rec=losses.reconstruction,
                    reg=losses.regulariser,
                    pull=losses.pull,
                    push=losses.push,
                    style=losses.style,
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
                    checked = norm_to_check(norm, config.precision)
                    check_finite(progress.step, loss=means.sums[0], gradient_norm=checked)
                if logging_now:
                    logs.log(progress.step, lr=lr, gradient_norm=norm, **means.take())
                if saving:
                    checkpoint.save(progress.step)
                if stopping and not ended:
                    stop.leave(progress.step)
            if world.is_main:
                model.save_pretrained(run_dir / "model")
                tokenizers.save(run_dir / "model" / "tokenizers")
            barrier()
            logs.text(f"the model of step {progress.step} is in {run_dir / 'model'}")
    return model


def build_fusion(config: DialogConfig, tokenizers: Tokenizers) -> SpaceFusion:
    """The module with its initial weights, in training mode.

    Raises:
        ValueError: the encoder has fewer layers than are to be copied or frozen.
    """
    options = config.fusion
    return SpaceFusion(
        build_model(config.model, tokenizers),
        options.context_layers,
        options.frozen_layers,
        sep_id=tokenizers.sep_id,
        include_self=options.push == "constant",
        mask_padding=options.context_mask == "padding",
        speaker_rule=options.speakers,
    ).train()


def load_train_dialogs(config: DialogConfig, tokenizers: Tokenizers) -> Dialogs:
    """The training turns of ``config``."""
    path = config.data.folder / config.data.train_file
    return load_dialogs(path, tokenizers, max_tokens=config.data.max_tokens)


def load_style(config: DialogConfig, tokenizers: Tokenizers) -> Sentences | None:
    """The style sentences, or None."""
    if config.fusion.style is None:
        return None
    limit = config.data.max_tokens
    options = TextOptions(max_encoder_tokens=limit, max_decoder_tokens=limit, overlong="truncate")
    return load_sentences(config.fusion.style, tokenizers, options)


def _batches(config: DialogConfig, rows: Sentences, padding: Padding, world: World) -> Batches:
    size = rows_per_process(config.data.batch_size, world.size)
    return Batches(rows, size, padding, seed=config.seed, rank=world.rank, world_size=world.size)


def _next_style(batches: Batches | None, world: World) -> tuple[Tensor, Tensor] | None:
    if batches is None:
        return None
    batch = next(batches).to(world.device)
    return batch.encoder_ids, batch.decoder_ids


def _train_lines(config: DialogConfig) -> Iterator[str]:
    """Every utterance, for vocabularies of one's own."""
    for context, response in read_turns(config.data.folder / config.data.train_file):
        yield context.rpartition("[SEP]")[2].strip()
        yield response


Results = dict[str, float | int | str]
JUDGE_TEXTS = 20_000  # texts of each side that the n-gram judge of styles learns from


def evaluate_command(argv: Sequence[str]) -> None:
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
    for first, latents in context_latents(config, model, dialogs, len(texts)):
        if style is not None and config.style_degree:
            latents = towards_style(latents, style.to(latents), config.style_degree)
        said = respond(config, model, tokenizers, latents)
        for row in range(0, len(said), config.responses):
            context, reference = texts[first + row // config.responses]
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
    for first in range(0, count, config.batch_size):
        rows = dialogs.contexts[first : min(first + config.batch_size, count)]
        posterior = model.context_posterior(pad_rows(rows, pad)[0].to(device))
        shape = len(rows), config.responses, posterior.mean.shape[1]
        eps = torch.randn(shape, generator=generator).to(device)
        yield first, posterior.sample(eps).flatten(0, 1)


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
