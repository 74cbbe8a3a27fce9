"""Dialog responses in a fused latent space (Sec. 4.2): options, data, training and scores.

A line of a file is ``context TAB response``; a context is its utterances joined by [SEP]. Batches
are drawn from the responses with ``Batches`` or ``evaluation_batches``; ``Dialogs.contexts_of``
gives the other side. Responses are scored by DialogWAE's protocol.
"""

from __future__ import annotations

import hashlib
import logging
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .. import loop
from ..api import SentenceVAE
from ..config import (
    Device,
    LoopOptions,
    ModelOptions,
    OptimizerOptions,
    rows_per_process,
    unused_options,
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
from ..decoding import Sampling, check_used, generate
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
from ..models.spacefusion import SpaceFusion, StyleSentences, towards_style
from ..models.vae import OptimusModel
from ..old_runs import upgrade
from ..runs import find_weights, open_run, step_of
from ..runtime.command import parse, parse_preset
from ..runtime.distributed import World, choose_device, wrap
from ..runtime.evaluation import Provenance
from ..runtime.files import json_text, write_atomically
from ..runtime.options import at_least, require
from ..runtime.precision import MixedPrecision
from ..runtime.run_folder import CONFIG, RunFolder
from ..runtime.text_files import read_lines, read_texts
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

logger = logging.getLogger(__name__)
RESPONSES_FILE = "eval_text_generation_results.txt"  # its name and form are the authors'
RESPONSES = 10  # to a context in the paper
JUDGE_TEXTS = 20_000  # texts of each side that the n-gram judge of styles learns from


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
        at_least(self, "fusion", context_layers=1, frozen_layers=0, weight=0, style_weight=0)


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
        at_least(self, "data", batch_size=1)
        require(
            4 <= self.max_tokens <= 512,
            f"--data.max-tokens must be in 4..512 (BERT's positions), got {self.max_tokens}",
        )


@dataclass(frozen=True)
class DialogConfig(LoopOptions):
    """Train dialog responses in a fused latent space."""

    run_dir: Path = Path("runs/dialog/dailydialog")
    """Folder of the run: config, checkpoints, logs and the model."""
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
        f"dailydialog-{beta:.1f}": (f"{place}, DailyDialog, beta {beta:.1f}", _dailydialog(beta))
        for beta, place in ((1.0, "Sec. 4.2"), (2.0, "Table 4"), (30.0, "Sec. 4.2"))
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
        "Table 5, styled responses, an extension",
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


@dataclass(frozen=True)
class Dialogs:
    """N contexts (WordPiece ids) and their responses (tokenised on both sides)."""

    contexts: list[np.ndarray]
    responses: Sentences

    def __len__(self) -> int:
        return len(self.responses)

    @property
    def digest(self) -> str:
        """Of the contexts."""
        content = json_text([context.tolist() for context in self.contexts])
        return hashlib.sha256(content.encode()).hexdigest()

    def contexts_of(self, responses: Batch, pad_id: int) -> Tensor:
        """Ids (B, C) of the contexts of a batch that was drawn from ``self.responses``."""
        rows = [self.contexts[i] for i in responses.index.tolist()]
        return pad_rows(rows, pad_id)[0].to(responses.index.device)


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
    for line in read_lines(path):
        if not line.text.strip():
            continue
        if "__eou__" in line.text:
            raise line.complaint(
                "the context has no separator [SEP], its utterances are marked by __eou__; convert "
                "the file with `optimus prepare dailydialog --source FOLDER`"
            )
        context, _, response = (part.strip() for part in line.text.partition("\t"))
        if not context or not response or "\t" in response:
            raise line.complaint("it is not `context TAB response`")
        yield context, response


def load_dialogs(path: str | Path, tokenizers: Tokenizers, *, max_tokens: int = 512) -> Dialogs:
    """Tokenise ``path``; a context keeps its last ``max_tokens`` tokens, a response its first.

    Deviation: the authors keep the last tokens of both sides and lose [CLS] in this.
    A literal `` EOS `` between utterances, which other dialog corpora have, counts as [SEP].
    """
    turns = list(read_turns(path))
    if not turns:
        raise ValueError(f"{path} holds no dialog turn")
    if not any(mark in context for context, _ in turns for mark in ("[SEP]", " EOS ")):
        logger.warning("no context of %s has the separator [SEP]: all are one utterance", path)
    contexts = tokenizers.encode_encoder([c.replace(" EOS ", SEPARATOR) for c, _ in turns])
    texts = [response for _, response in turns]
    encoded = tokenizers.encode_encoder(texts)
    for turn, context, response in zip(turns, contexts, encoded, strict=True):
        if min(len(context), len(response)) <= 2:  # [CLS] and [SEP]
            raise ValueError(
                f"{path}: the turn {' / '.join(turn)!r} has a side of which BERT's normalisation "
                "leaves nothing, such as soft hyphens alone; remove the line"
            )
    sides = zip(encoded, tokenizers.encode_decoder(texts), strict=True)
    rows = [
        (cut_tokens(left, max_tokens), cut_tokens(right, max_tokens), len(text.split()), number)
        for number, (text, (left, right)) in enumerate(zip(texts, sides, strict=True))
    ]
    recent = [
        np.array(ids if len(ids) <= max_tokens else [ids[0], *ids[1 - max_tokens :]])
        for ids in contexts
    ]
    return Dialogs(recent, build_sentences(rows))


def train_command(argv: Sequence[str]) -> None:
    """Run ``optimus train-dialog dailydialog-2.0 --data.batch-size 8``."""
    train(parse_preset(PRESETS, argv, "optimus train-dialog", unused))


def unused(config: DialogConfig) -> dict[str, str]:
    """`unused_options`, and the weight of a branch that is not there."""
    found = unused_options(config)
    if config.fusion.style is None:
        found["--fusion.style-weight"] = "there is no style; give --fusion.style, or drop it"
    return found


def train(config: DialogConfig) -> SpaceFusion:
    """Run ``config`` to its last step, continuing from the newest checkpoint in ``run_dir``.

    Leaves ``checkpoints/``, logs and ``model/``, the whole module with both vocabularies, there.
    Errors are those of ``loop.train``.
    """
    return loop.train(TASK, config).model  # type: ignore[attr-defined]


class TurnBatch(NamedTuple):
    """What a step needs of a batch of turns."""

    contexts: Tensor  # (B, C)
    encoder_ids: Tensor  # (B, S) of the responses
    decoder_ids: Tensor  # (B, T)
    targets: Tensor  # see `Known`
    padded: bool


class DialogTraining(AdamWTraining):
    """The fused latent space, its dialogues and, if there are any, sentences of a style."""

    def __init__(self, config: DialogConfig, world: World, folder: RunFolder) -> None:
        tokenizers = build_tokenizers(config.model, lambda: _train_lines(config), folder)
        self.padding = Padding(tokenizers.pad_id, tokenizers.encoder_pad_id)
        self.dialogs = load_dialogs(
            config.data.folder / config.data.train_file,
            tokenizers,
            max_tokens=config.data.max_tokens,
        )
        responses, beside = self.dialogs.responses, self.dialogs.digest
        self.batches = _batches(config, responses, self.padding, world, beside)
        self.style_batches: Batches | None = None
        if config.fusion.style is not None:
            limit = config.data.max_tokens
            options = TextOptions(
                max_encoder_tokens=limit, max_decoder_tokens=limit, overlong="truncate"
            )
            styles = load_sentences(config.fusion.style, tokenizers, options)
            self.style_batches = _batches(config, styles, self.padding, world)
        self.ahead = ReadAhead(Prepared(self.batches, self._prepare), world.device)
        self.style_ahead: ReadAhead[Any] | None = None
        if self.style_batches is not None:
            prepared = Prepared(self.style_batches, self._prepare_style)
            self.style_ahead = ReadAhead(prepared, world.device)
        self.held_out: Dialogs | None = None
        if config.eval_every:
            path = config.data.folder / "valid.txt"
            self.held_out = load_dialogs(path, tokenizers, max_tokens=config.data.max_tokens)
        model = build_fusion(config, tokenizers, folder).to(world.device)
        self._check_lengths(model.vae)
        optimizer = build_optimizer(config.optimizer, model)
        amp = MixedPrecision(config.precision, world.device)
        self.model, optimizer = amp.prepare(model, optimizer)
        super().__init__(
            config,
            world,
            amp,
            optimizer,
            names=("loss", "rec", "reg", "pull", "push", "style"),
            total_steps=config.steps(self.batches.batches_per_epoch),
        )
        self.tokenizers, self.network = tokenizers, wrap(self.model, world)
        self.parts = {"model": self.model, "optimizer": optimizer, "amp": amp}
        self.parts |= {"data": self.ahead, "means": self.means}
        if self.style_ahead is not None:
            self.parts["style"] = self.style_ahead

    def _check_lengths(self, vae: OptimusModel) -> None:
        """Refuse contexts and responses that a network has no positions for."""
        assert vae.encoder is not None
        every = [self.dialogs, *([self.held_out] if self.held_out else [])]
        check_lengths(vae, [one.responses for one in every], "--data.max-tokens")
        longest = max(len(ids) for one in every for ids in one.contexts)
        limit = vae.encoder.num_positions
        require(
            longest <= limit,
            f"a context has {longest} tokens and the encoder {limit} positions; give "
            f"--data.max-tokens {limit}",
        )

    def _prepare(self, turns: Batch) -> TurnBatch:
        contexts = self.dialogs.contexts_of(turns, self.padding.encoder)
        known = Known.of(turns, self.padding.decoder)
        return TurnBatch(contexts, turns.encoder_ids, turns.decoder_ids, *known)

    def _prepare_style(self, batch: Batch) -> StyleSentences:
        known = Known.of(batch, self.padding.decoder)
        return StyleSentences(batch.encoder_ids, batch.decoder_ids, *known)

    def step(self) -> None:
        self.begin_step()
        fusion, turns = self.config.fusion, next(self.ahead)
        style = None if self.style_ahead is None else next(self.style_ahead)
        with self.amp.autocast():
            losses = self.network(
                turns.contexts,
                turns.encoder_ids,
                turns.decoder_ids,
                targets=turns.targets,
                padded=turns.padded,
                weight=fusion.weight,
                style=style,
                style_weight=fusion.style_weight,
            )
            self.amp.backward(losses.total.mean(), self.optimizer)
        self.means.add(
            {
                "loss": losses.total,
                "rec": losses.reconstruction,
                "reg": losses.regulariser,
                "pull": losses.pull,
                "push": losses.push,
                "style": losses.style,
            }
        )
        self.end_step(self.model.parameters())

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """The mean reconstruction term of the validation turns, in nats; alike on every rank."""
        if self.held_out is None:
            return {}
        torch.manual_seed(self.config.seed)
        self.model.eval()
        rows = []
        size = self.config.data.batch_size
        for batch in evaluation_batches(self.held_out.responses, size, self.padding):
            turns = batch.to(self.world.device)
            contexts = self.held_out.contexts_of(turns, self.padding.encoder)
            with self.amp.autocast():
                losses = self.model(contexts, turns.encoder_ids, turns.decoder_ids)
            rows.append(losses.reconstruction.double().cpu())
        self.model.train()
        return {"eval_rec": float(torch.cat(rows).mean())}

    def goals(self, scores: Mapping[str, float]) -> dict[str, float]:
        return {"best": -scores["eval_rec"]} if scores else {}

    def export(self, run_dir: Path, name: str) -> None:
        with exporting(run_dir / ("model" if name == "last" else name)) as folder:
            self.model.save_pretrained(folder)
            self.tokenizers.save(folder / "tokenizers")


TASK = loop.Task(
    kind="dialog",
    config=DialogConfig,
    open=DialogTraining,
    fixed=(
        *FIXED,
        *(f"fusion.{name}" for name in ("context_layers", "frozen_layers", "push")),
        *("fusion.context_mask", "fusion.speakers", "data.train_file", "data.max_tokens"),
    ),
    upgrade=upgrade,
    unused=unused,
)


def build_fusion(
    config: DialogConfig, tokenizers: Tokenizers, folder: RunFolder | None = None
) -> SpaceFusion:
    """The module with its initial weights, in training mode; see ``build_model`` for ``folder``.

    Raises:
        ValueError: the networks are not BERT and GPT-2, which contexts get copies of, or the
            encoder has fewer layers than are to be copied or frozen.
    """
    options = config.fusion
    require_whole(config.model)
    vae = build_model(config.model, tokenizers, folder)
    require(
        vae.config.gpt2 is not None,
        "dialog copies layers of BERT, with its pooler, for contexts and decodes by GPT-2, and "
        "--model.init gives other networks; `optimus train` takes any",
    )
    return SpaceFusion(
        vae,
        options.context_layers,
        options.frozen_layers,
        sep_id=tokenizers.sep_id,
        include_self=options.push == "constant",
        mask_padding=options.context_mask == "padding",
        speaker_rule=options.speakers,
    ).train()


def _batches(
    config: DialogConfig, rows: Sentences, padding: Padding, world: World, beside: str = ""
) -> Batches:
    return Batches(
        rows,
        rows_per_process(config.data.batch_size, world.size),
        padding,
        seed=config.seed,
        rank=world.rank,
        world_size=world.size,
        beside=beside,
    )


def _train_lines(config: DialogConfig) -> Iterator[str]:
    """Every utterance, for vocabularies of one's own."""
    for context, response in read_turns(config.data.folder / config.data.train_file):
        yield context.rpartition("[SEP]")[2].strip()
        yield response


DECODING = Sampling("sample", top_p=0.9, max_new_tokens=60)


@dataclass(frozen=True)
class EvaluateDialogConfig:
    """Answer every context several times and score the answers, or score a file of answers."""

    run_dir: Path = Path("runs/dialog/dailydialog")
    """Folder of the run; results are written into it."""
    step: int | None = None
    """Step of the checkpoint to use; by default the newest weights of the run."""
    data: Path | None = None
    """Folder of the dialogues; by default that of the run."""
    split: Literal["train", "valid", "test"] = "test"
    """Which contexts to answer."""
    responses: int = RESPONSES
    """Responses per context."""
    max_contexts: int = 0
    """Only the first contexts; 0 is all."""
    decoding: Sampling = DECODING
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
        at_least(self, responses=1, batch_size=1, glove_width=1, latents=0, max_contexts=0)
        check_used(self.decoding, DECODING)
        require(
            math.isfinite(self.style_degree),
            f"--style-degree must be finite, got {self.style_degree}",
        )
        require(
            self.style is not None or (self.style_degree == 0 and self.style_classifier is None),
            "--style-degree and --style-classifier need --style, a file of style sentences",
        )
        require(
            self.generated is None or self.baseline == "none",
            "--generated and --baseline exclude each other; give one of them",
        )
        require(
            self.own_answers or (self.step is None and not self.latents),
            "--step and --latents belong to the model's answers; leave them out beside --generated "
            "and --baseline",
        )

    @property
    def own_answers(self) -> bool:
        """Whether the model answers."""
        return self.generated is None and self.baseline == "none"


def evaluate_command(argv: Sequence[str]) -> None:
    """Run ``optimus evaluate-dialog --run-dir runs/dialog/x`` and print the scores."""
    print_results(evaluate(parse(EvaluateDialogConfig, argv, "optimus evaluate-dialog")))


def evaluate(config: EvaluateDialogConfig) -> Results:
    """Answer and score what ``config`` says; the responses and scores are written and returned.

    Raises:
        FileNotFoundError: a model, dialogues, word vectors or references are missing.
        ValueError: a file has another format, the word vectors another width, or the run is of
            another kind.
    """
    if (config.run_dir / CONFIG).is_file():
        open_run(config.run_dir, TASK.kind)
    torch.manual_seed(config.seed)
    turns = answer(config)
    missing = 0
    if config.references is not None:
        turns, missing = with_references(turns, config.references)
    vectors: WordVectors | None = None
    if config.glove is None:
        logger.info("--glove is not given: the bag-of-words scores are left out")
    else:
        texts = (text for turn in turns for text in (*turn.references, *turn.responses))
        words = {word for text in texts for word in text.split()}
        vectors = read_glove(config.glove, width=config.glove_width, words=words)
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
    if not config.own_answers:
        name += "_generated" if config.generated is not None else f"_{config.baseline}"
    if config.step is not None:
        name += f"_step_{config.step}"
    settings: dict[str, Any] = {}
    if config.generated is None:
        settings["responses"] = config.responses
    if config.own_answers:
        settings["decoding"] = asdict(config.decoding)
    about = Provenance(
        kind=TASK.kind,
        data=str(config.generated or f"{config.data or config.run_dir}, {config.split}"),
        items=len(turns),
        left_out=missing,
        trial=config.max_contexts > 0
        or (config.generated is None and config.responses < RESPONSES),
        step=step_of(config.run_dir, config.step) if config.own_answers else None,
        seed=config.seed,
        settings=settings,
    )
    write_results(config.output_dir or config.run_dir, name, results, about)
    return results


def answer(config: EvaluateDialogConfig) -> list[Turn]:
    """The turns to score: read, of a baseline, or said by the model, which are written down."""
    if config.generated is not None:
        return read_generated(config.generated)
    if config.baseline != "none":
        return answer_by_baseline(config)
    weights, state = find_weights(config.run_dir, TASK.kind, step=config.step)
    model = SpaceFusion.from_pretrained(weights)
    tokenizers = load_tokenizers(weights / "tokenizers")
    if state is not None:
        model.load_state_dict(state)
    model.to(choose_device(config.device))
    data = open_run(config.run_dir, TASK.kind).config.data
    path = (config.data or data.folder) / f"{config.split}.txt"
    dialogs = load_dialogs(path, tokenizers, max_tokens=data.max_tokens)
    texts = list(read_turns(path))[: config.max_contexts or None]
    style: Tensor | None = None  # posterior means (M, Z)
    if config.style is not None and config.style_degree:
        style = SentenceVAE(model.vae, tokenizers).encode(_read_style(config.style))
    turns = []
    for first, latents in context_latents(config, model, dialogs, len(texts)):
        if style is not None:
            latents = towards_style(latents, style.to(latents), config.style_degree)
        ids = generate(model.vae, latents, config.decoding, batch_size=len(latents))
        # a tab or a line break would end a field of the file
        said = [
            " ".join(text.split()) for text in tokenizers.decode_batch(ids, config.decoding.clean)
        ]
        for row in range(0, len(said), config.responses):
            context, reference = texts[first + row // config.responses]
            turns.append(Turn(context, (reference,), tuple(said[row : row + config.responses])))
    folder = config.output_dir or config.run_dir
    folder.mkdir(parents=True, exist_ok=True)
    rows = ["\t".join((t.context, t.references[0], said)) for t in turns for said in t.responses]
    write_atomically(folder / RESPONSES_FILE, "".join(f"{row}\n" for row in rows))
    if config.latents:
        dump_latents(config, model, dialogs, tokenizers, folder / "latents.npz")
    return turns


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


def answer_by_baseline(config: EvaluateDialogConfig) -> list[Turn]:
    """``random``: responses of other training turns; ``human``: the reference."""
    folder, name = config.data, "train.txt"
    if folder is None:
        data = open_run(config.run_dir, TASK.kind).config.data
        folder, name = data.folder, data.train_file
    texts = list(read_turns(folder / f"{config.split}.txt"))[: config.max_contexts or None]
    if config.baseline == "human":
        return [Turn(context, (said,), (said,) * config.responses) for context, said in texts]
    pool = [response for _, response in read_turns(folder / name)]
    if len(pool) < config.responses:
        raise ValueError(f"{folder / name} has {len(pool)} responses, --responses asks for more")
    generator = random.Random(config.seed)
    return [
        Turn(context, (said,), tuple(generator.sample(pool, config.responses)))
        for context, said in texts
    ]


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
        turns = batch.to(model.vae.device)
        responses.append(model.vae.encode(turns.encoder_ids).mean.cpu())
        given = dialogs.contexts_of(turns, padding.encoder)
        contexts.append(model.context_posterior(given).mean.cpu())
    latents = torch.cat([torch.cat(rows)[:count] for rows in (responses, contexts)]).numpy()
    labels = np.repeat(np.arange(2), count)
    np.savez(path, features=latents, labels=labels, names=np.array(["response", "context"]))
    logger.info("%d latents are in %s", len(latents), path)


def _read_style(path: Path) -> list[str]:
    if not path.is_file():
        raise FileNotFoundError(f"--style {path} does not exist; it has one sentence a line")
    return [line.strip() for line in read_texts(path) if line.strip()]
