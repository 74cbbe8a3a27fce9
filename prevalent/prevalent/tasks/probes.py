"""``prevalent probe --run-dir RUN``: what a pre-trained encoder has learned to read and to see.

Its two tasks are repeated with instructions or views taken away or exchanged, so that a guess from
one of the two can be told from reading with sight. In toy houses a reader by rule says how far the
targets are determined, and linear probes say what an agent finds in the encoder's states.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from ..data.features import FeatureStore
from ..data.tokenizers import WordPieceTokenizer
from ..data.toy_reader import ToyReader
from ..data.toy_texts import LANDMARKS
from ..data.triplets import STOP, TripletBatch, TripletTable, mask_words
from ..models.prevalent import IGNORE, PrevalentForPretraining, PrevalentModel
from ..old_runs import upgrade
from ..released.checkpoints import load_model
from ..runtime.checkpoint import read_part
from ..runtime.command import parse
from ..runtime.distributed import World, start
from ..runtime.evaluation import Provenance, write_evaluation
from ..runtime.files import write_atomically
from ..runtime.run_folder import read_run
from ..simulator.graph import Graphs
from .pretraining import (
    TASK,
    Corpus,
    PretrainConfig,
    build_batches,
    build_corpus,
    build_model,
    forward,
)

TOY_SCAN = "toy"  # how the names of toy houses begin
RIDGE = 0.01  # of the linear probes, in units of the number of examples

Change = Callable[[TripletBatch], TripletBatch]


@dataclass(frozen=True)
class ProbeConfig:
    """Ask a pre-trained encoder what it reads and what it sees."""

    run_dir: Path = Path("runs/pretrain/demo")
    """Folder of a finished ``prevalent pretrain``; ``probe.md`` and ``probe.json`` go there."""
    step: int | None = None
    """The checkpoint of this step; by default the newest weights."""
    held_out: tuple[str, ...] = ()
    """Sources as in ``prevalent pretrain``; by default those of the run. Linear probes are fitted
    on the first and tested on the last."""
    batch_size: int = 50
    """Triplets of one forward pass."""
    batches: int = 40
    """Batches of every source."""
    device: str = "auto"
    """``auto``, ``cpu`` or ``cuda``."""

    def __post_init__(self) -> None:
        for name in ("batch_size", "batches"):
            if getattr(self, name) < 1:
                option = name.replace("_", "-")
                raise ValueError(f"--{option} must be at least 1, got {getattr(self, name)}")


def main(argv: Sequence[str]) -> None:
    """Run ``prevalent probe --run-dir runs/pretrain/demo``."""
    config = parse(ProbeConfig, argv, "prevalent probe")
    found = probe(config)
    text = describe(found)
    about = Provenance(
        "probe", " ".join(config.held_out) or "the run's own", config.batches * config.batch_size,
        step=config.step, settings={"batches": config.batches, "batch_size": config.batch_size},
    )  # fmt: skip
    write_evaluation(config.run_dir / "probe.json", found, about)
    write_atomically(config.run_dir / "probe.md", text)
    print(text, end="")


def probe(config: ProbeConfig) -> dict[str, dict[str, dict[str, float]]]:
    """Accuracies by table, row and column.

    ``tasks SOURCE``: both tasks of pre-training under every condition of `conditions`.
    ``reader SOURCE`` (toy houses): the reader by rule on whole and on masked instructions.
    ``states`` (toy houses, two sources): linear probes of the encoder before and after its
    pre-training, with and without the views, and on texts as agents encode them.
    """
    with start(config.device, seed=0) as world:
        found_run = read_run(config.run_dir, {TASK.kind: PretrainConfig}, upgrade)
        run = in_its_world(found_run.config, config.run_dir)
        run = replace(
            run,
            batch_size=config.batch_size,
            held_out=config.held_out or run.held_out,
            device="cpu",
            precision="fp32",  # of the features: nothing is cast here
        )
        corpus = build_corpus(run, world)
        model = load_model(config.run_dir / "model").to(world.device).eval()
        if config.step is not None:
            model.load_state_dict(read_part(config.run_dir, "model", config.step)[0])
        tokenizer = None
        if corpus.vocabulary is not None:
            tokenizer = WordPieceTokenizer(config.run_dir / "model" / "vocab.txt")
        found = {}
        for name, table in corpus.held_out.items():
            changes = conditions(run, corpus, tokenizer)
            found[f"tasks {name}"] = score_tasks(config, run, corpus, table, model, changes, world)
        toy = None if tokenizer is None else _open_toy(run, corpus, tokenizer)
        if toy is None:
            return found
        for name, table in corpus.held_out.items():
            found[f"reader {name}"] = score_reader(config, corpus, table, toy)
        if len(corpus.held_out) > 1:
            with torch.random.fork_rng(devices=[]):
                before = build_model(run, corpus, world)[0].eval()
            found["states"] = score_states(config, corpus, toy, before.bert, model.bert)
        return found


# --- both tasks under conditions


def in_its_world(run: PretrainConfig, run_dir: Path) -> PretrainConfig:
    """``run`` with the places of the toy world that its folder holds, where it has one."""
    if run.world != "toy":
        return run
    return replace(
        run,
        data_dir=run_dir / "world",
        vocabulary=Path("wordpiece.txt"),
        features=Path("features.npy"),
    )


def conditions(
    run: PretrainConfig, corpus: Corpus, tokenizer: WordPieceTokenizer | None
) -> dict[str, Change]:
    """What can be done to a batch, by name; a run without views or vocabulary has fewer."""
    changes: dict[str, Change] = {"as pre-trained": lambda batch: batch}
    changes["another instruction"] = lambda batch: with_texts(
        batch, *(part.roll(1, dims=0) for part in (batch.tokens, batch.mask, batch.labels))
    )
    changes["no instruction"] = lambda batch: with_texts(
        batch, batch.tokens[:, :1], batch.mask[:, :1], torch.full_like(batch.labels[:, :1], IGNORE)
    )
    if corpus.features is not None:
        width, size = corpus.features.image_width, run.angle_size
        changes["another panorama"] = lambda batch: with_images(
            batch, lambda images: images.roll(1, dims=0)
        )
        changes["views without images"] = lambda batch: with_images(
            batch, lambda images: torch.cat([0 * images[..., :width], images[..., width:]], dim=-1)
        )
        order = [*range(width), *(width + (i % 4) * (size // 4) for i in range(size))]
        changes["angles as agents' default"] = lambda batch: with_images(
            batch, lambda images: images[..., order]
        )
    if tokenizer is not None:
        sep = tokenizer.sep
        changes["text as agents encode it"] = lambda batch: without_separators(batch, sep)
    return changes


def with_images(batch: TripletBatch, change: Callable[[Tensor], Tensor]) -> TripletBatch:
    """``batch`` with other views."""
    assert batch.images is not None
    return batch._replace(images=change(batch.images))


def with_texts(batch: TripletBatch, tokens: Tensor, mask: Tensor, labels: Tensor) -> TripletBatch:
    """``batch`` with other words (B, T), their mask and their labels."""
    return batch._replace(
        tokens=tokens,
        mask=mask,
        labels=labels,
        positions=(labels.flatten() != IGNORE).nonzero().squeeze(1),
        word_positions=mask.flatten().nonzero().squeeze(1),
    )


def without_separators(batch: TripletBatch, sep: int) -> TripletBatch:
    """``batch`` with one [SEP] at the end of a text, where pre-training has one a sentence."""
    is_sep = batch.tokens == sep
    later = is_sep.flip(1).cumsum(dim=1).flip(1) - is_sep.long()  # separators behind each place
    dropped = is_sep & (later > 0)
    order = dropped.long().argsort(dim=1, stable=True)
    gone = dropped.gather(1, order)
    tokens, mask, labels = (
        part.gather(1, order).masked_fill(gone, blank)
        for part, blank in ((batch.tokens, 0), (batch.mask, 0), (batch.labels, IGNORE))
    )
    # What was dropped stands behind the padding now, so the words are still in front.
    return with_texts(batch, tokens, mask, labels)


def score_tasks(
    config: ProbeConfig,
    run: PretrainConfig,
    corpus: Corpus,
    table: TripletTable,
    model: PrevalentForPretraining,
    changes: Mapping[str, Change],
    world: World,
) -> dict[str, dict[str, float]]:
    """Accuracy of masked words and of the action under every condition, and by the prior alone."""
    hits = {name: torch.zeros(4, device=world.device) for name in ("chance", *changes)}
    for batch in _some_batches(config, run, corpus, table, world):
        for name, change in changes.items():
            with torch.no_grad():
                output = forward(model, changed := change(batch), run.predict_action)
            hits[name] += _count(output.word_logits.argmax(dim=-1), output.word_labels)
            hits[name] += _count(output.action_log_probs.argmax(dim=-1), changed.actions).roll(2)
        words = batch.labels[batch.labels != IGNORE]
        hits["chance"] += _count(corpus.word_prior.argmax().expand_as(words), words)
        actions = corpus.action_prior.argmax().expand_as(batch.actions)
        hits["chance"] += _count(actions, batch.actions).roll(2)
    scores = {}
    for name, (right, words, done, actions) in hits.items():
        scores[name] = {"masked words": (right / words).item()} if words else {}
        if run.predict_action:
            scores[name]["action"] = (done / actions).item()
    return scores


def _count(found: Tensor, labels: Tensor) -> Tensor:
    """(4,) hits and number of ``labels``, then zeros."""
    right = (found.to(labels.device) == labels).sum()
    return torch.stack([right, right.new_tensor(len(labels)), *right.new_zeros(2)]).float()


def _some_batches(
    config: ProbeConfig, run: PretrainConfig, corpus: Corpus, table: TripletTable, world: World
):
    """The first batches of ``table``, at most one pass; the same at every call."""
    batches = build_batches(run, corpus, table, world, seed=1000)
    for _ in range(min(config.batches, math.ceil(batches.batches_per_epoch))):
        yield next(batches)


# --- toy houses: what the words determine, and what an agent finds in the states


class Toy(NamedTuple):
    reader: ToyReader
    pieces: Sequence[str]  # the vocabulary
    sep: int


def _open_toy(run: PretrainConfig, corpus: Corpus, tokenizer: WordPieceTokenizer) -> Toy | None:
    """The reader of the houses of ``corpus``, or None where they are no toy houses."""
    scans = sorted({scan for table in corpus.held_out.values() for scan, _ in table.places})
    if corpus.vocabulary is None or not all(scan.startswith(TOY_SCAN) for scan in scans):
        return None
    graphs = Graphs.load(run.data_dir / "connectivity", scans)
    reader = ToyReader(graphs, FeatureStore.open(run.data_dir / "features.npy"))
    return Toy(reader, corpus.vocabulary.decode().split("\n"), tokenizer.sep)


def nodes_of(graphs: Graphs, table: TripletTable) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(N,) node of every time step, and the node that its action leads to (-1: cut off there)."""
    known = graphs.nodes([scan for scan, _ in table.places], [name for _, name in table.places])
    node = np.asarray(known)[table.place].astype(np.int64)
    following = np.append(node[1:], -1)
    following[table.first[1:] - 1] = -1
    return node, np.where(table.action == STOP, node, following)


def score_reader(
    config: ProbeConfig, corpus: Corpus, table: TripletTable, toy: Toy
) -> dict[str, dict[str, float]]:
    """How often the reader by rule finds the action, ties drawn by lot."""
    node, following = nodes_of(toy.reader.graphs, table)
    steps = _some_steps(config, following)
    tokens = torch.from_numpy(table.tokens[table.owner[steps]]).long()
    masked = mask_words(tokens, corpus.codes, generator=torch.Generator().manual_seed(0)).tokens
    scores = {}
    for name, texts in (("whole instruction", tokens), ("masked instruction", masked)):
        chances = []
        for step, text in zip(steps.tolist(), texts.tolist(), strict=True):
            words = [toy.pieces[number] for number in text]
            found = toy.reader.next_nodes(words, int(node[step]), int(table.view[step]))
            chances.append((following[step] in found) / len(found))
        scores[name] = {"action": float(np.mean(chances))}
    return scores


def _some_steps(config: ProbeConfig, following: NDArray[np.int64]) -> NDArray[np.int64]:
    """Time steps that were not cut off, in a random order that is always the same."""
    steps = np.flatnonzero(following >= 0)
    return np.random.default_rng(0).permutation(steps)[: config.batches * config.batch_size]


class States(NamedTuple):
    """What an encoder makes of N time steps, and what comes next in them."""

    pooled: Tensor  # (N, d)
    words: Tensor  # (N, T, d), zeros at padding
    mask: Tensor  # (N, T) True for words
    landmark: Tensor  # (N,) landmark of the node that comes next; the last class is a stop
    named: Tensor  # (N, T) True where the text names that landmark
    tokens: Tensor  # (N, T) the words themselves


def read_states(
    config: ProbeConfig,
    corpus: Corpus,
    table: TripletTable,
    toy: Toy,
    bert: PrevalentModel,
    *,
    see: bool,
    separated: bool,
) -> States:
    """Encode time steps of ``table`` with whole texts, with their views where ``see``.

    ``separated`` texts have a [SEP] behind every sentence, as in pre-training, others one at the
    end, as agents encode them by default.
    """
    device = bert.embeddings.word_embeddings.weight.device
    node, following = nodes_of(toy.reader.graphs, table)
    steps = _some_steps(config, following)
    marks = np.where(following == node, len(LANDMARKS), toy.reader.landmarks[following])[steps]
    codes = torch.tensor(
        [toy.pieces.index(one) if one in toy.pieces else -1 for one in LANDMARKS] + [-1]
    )
    tokens = torch.from_numpy(table.tokens[table.owner[steps]]).long()
    labels = torch.full_like(tokens, IGNORE)
    blank = torch.zeros(0, dtype=torch.long)
    batch = TripletBatch(
        tokens, (tokens != 0).long(), labels, blank, blank, 0.0, None, torch.from_numpy(marks)
    )
    if not separated:
        batch = without_separators(batch, toy.sep)
    pooled, words = [], []
    for part in torch.arange(len(steps)).split(config.batch_size):
        images = None
        if see and corpus.features is not None and corpus.feature_rows is not None:
            rows = table.rows(corpus.feature_rows)[table.place[steps[part]]]
            images = corpus.features.panorama(rows, table.view[steps[part]].astype(np.int64))
        with torch.no_grad():
            encoded = bert(batch.tokens[part].to(device), batch.mask[part].to(device), images)
        pooled.append(encoded.pooled.cpu())
        words.append((encoded.sequence * batch.mask[part].to(device).unsqueeze(-1)).cpu())
    named = batch.tokens == codes[batch.actions].unsqueeze(1)
    mask = batch.mask.bool()
    return States(torch.cat(pooled), torch.cat(words), mask, batch.actions, named, batch.tokens)


def score_states(
    config: ProbeConfig,
    corpus: Corpus,
    toy: Toy,
    before: PrevalentModel,
    after: PrevalentModel,
) -> dict[str, dict[str, float]]:
    """Linear probes, fitted on the first source and tested on the last.

    Columns: accuracy of the landmark that comes next (or a stop) from the pooled state and from the
    mean of the words' states; how often a linear score of each word's state is highest at a word
    that names the landmark that comes next; which word a state is of; mean norm of the words'
    states; and their mean cosine with those before pre-training.
    """
    tables = list(corpus.held_out.values())
    rows = {}
    encodings = {"": (False, True)}
    if corpus.features is not None:
        encodings = {", no views": (False, True), "": (True, True), ", agents' text": (True, False)}
    for label, (see, separated) in encodings.items():
        first: Tensor | None = None
        for name, bert in (("before", before), ("after", after)):
            fit, test = (
                read_states(config, corpus, table, toy, bert, see=see, separated=separated)
                for table in (tables[0], tables[-1])
            )
            valid = test.words[test.mask]
            first = valid if first is None else first
            rows[f"{name} pre-training{label}"] = {
                "landmark from [CLS]": linear_probe(
                    fit.pooled, fit.landmark, test.pooled, test.landmark
                ),
                "landmark from mean word": linear_probe(
                    _mean_word(fit), fit.landmark, _mean_word(test), test.landmark
                ),
                "word that names it": pointer_probe(fit, test),
                "the word itself": linear_probe(
                    fit.words[fit.mask], fit.tokens[fit.mask], valid, test.tokens[test.mask]
                ),
                "norm of a word": valid.norm(dim=-1).mean().item(),
                "cosine with before": F.cosine_similarity(valid, first, dim=-1).mean().item(),
            }
    return rows


def _mean_word(states: States) -> Tensor:
    return states.words.sum(dim=1) / states.mask.sum(dim=1, keepdim=True)


def linear_probe(inputs: Tensor, labels: Tensor, test: Tensor, test_labels: Tensor) -> float:
    """Test accuracy of ridge regression from (N, d) onto the one-hot ``labels`` (N,)."""
    mean, scale = inputs.mean(dim=0), inputs.std(dim=0).clamp(min=1e-6)
    design, held_out = (F.pad((part - mean) / scale, (0, 1), value=1.0) for part in (inputs, test))
    targets = F.one_hot(labels, int(max(labels.max(), test_labels.max())) + 1).to(design)
    gram = design.T @ design + RIDGE * len(design) * torch.eye(design.shape[1])
    weights = torch.linalg.solve(gram, design.T @ targets)
    return ((held_out @ weights).argmax(dim=1) == test_labels).float().mean().item()


def pointer_probe(fit: States, test: States, *, steps: int = 60) -> float:
    """How often the best word, by a linear score of its state, names what comes next.

    It is what one query of an agent's attention could find. Time steps whose text does not name the
    landmark are left out.
    """
    query = torch.zeros(fit.words.shape[-1], requires_grad=True)
    optimizer = torch.optim.LBFGS([query], max_iter=steps, line_search_fn="strong_wolfe")
    use = fit.named.any(dim=1)
    words, mask, named = fit.words[use], fit.mask[use], fit.named[use]

    def loss() -> Tensor:
        optimizer.zero_grad()
        scores = (words @ query).masked_fill(~mask, -torch.inf)
        likelihood = scores.log_softmax(dim=1).masked_fill(~named, -torch.inf).logsumexp(dim=1)
        total = 1e-3 * query.square().sum() - likelihood.mean()
        total.backward()
        return total

    optimizer.step(loss)
    use = test.named.any(dim=1)
    with torch.no_grad():
        scores = (test.words[use] @ query).masked_fill(~test.mask[use], -torch.inf)
    best = scores.argmax(dim=1, keepdim=True)
    return test.named[use].gather(1, best).float().mean().item()


def describe(found: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """The tables as Markdown."""
    lines = []
    for title, rows in found.items():
        columns = list(dict.fromkeys(column for row in rows.values() for column in row))
        lines += [
            f"## {title}",
            "",
            f"| | {' | '.join(columns)} |",
            "|---" * (len(columns) + 1) + "|",
        ]
        for name, row in rows.items():
            cells = (f"{row[column]:.3f}" if column in row else "" for column in columns)
            lines.append(f"| {name} | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)
