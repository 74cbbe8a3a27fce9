"""Measure what the latent space of a run gives: paths between sentences, and analogies.

    python evidence/guided_generation.py --run-dir runs/tatoeba_0.50 --text data/tatoeba/test.txt \\
        --train data/tatoeba/train.txt --judge weights/smollm2-135m

Paths (Sec. 4.2) lead from every second test sentence to the next one. They are smooth if
neighbours on a path are more alike than the same sentences in another order, and if the order
leads from the first to the last; they stay in the language if a plain language model, which never
saw the VAE, finds the sentences between as likely as those at the ends. Analogies are the paper's
arithmetic of latents, z_B - z_A + z_C, for four relations with three pairs (A, B) each; a learned
direction is the difference of the means of training sentences on both sides of a relation. A
relation counts as reached by a rule on the words; what reconstruction alone reaches is chance.
The first paths and analogies are printed as they come.
"""

from __future__ import annotations

import argparse
import re
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import fmean, stdev
from typing import NamedTuple

import torch
from scipy.stats import spearmanr
from torch import Tensor

from optimus import SentenceVAE
from optimus.decoding import analogy, interpolate
from optimus.metrics.text import words_of
from optimus.runtime.files import json_text
from optimus.runtime.text_files import read_texts

STEPS = 8  # of a path, between its ends
SHOWN = 3  # paths and analogies of each relation that are printed
LEARNED = 300  # training sentences on each side of a learned direction
NOT = re.compile(r"\b(not|never|no|nothing|nobody|cannot)\b|n't\b", re.IGNORECASE)
NOW = re.compile(r"\b(is|are|am|i'm|(you|we|they)'re|(he|she|it|that)'s)\b", re.IGNORECASE)
OUTSIDE = re.compile(r"\b(outside|outdoors)\b")
RUNS = re.compile(r"\brun(s|ning)?\b")
STAYS = re.compile(r"\b(sit|stand)(s|ting|ing)?\b")
PAST = re.compile(r"\b(was|were|did|didn't|had)\b", re.IGNORECASE)


class Relation(NamedTuple):
    """What an analogy asks for, and how one sees that it was done."""

    pairs: tuple[tuple[str, str], ...]
    has: Callable[[str], bool]  # what B has
    lacks: Callable[[str], bool]  # what A and the queries have


TATOEBA = {
    "he to she": Relation(
        (
            ("He is a doctor.", "She is a doctor."),
            ("He likes music.", "She likes music."),
            ("He went home.", "She went home."),
        ),
        lambda text: text.startswith("She "),
        lambda text: text.startswith("He "),
    ),
    "negation": Relation(
        (
            ("I like music.", "I don't like music."),
            ("She is here.", "She isn't here."),
            ("We know him.", "We don't know him."),
        ),
        lambda text: bool(NOT.search(text)) and text.endswith("."),
        lambda text: not NOT.search(text) and text.endswith("."),
    ),
    "question": Relation(
        (
            ("You are late.", "Are you late?"),
            ("He is here.", "Is he here?"),
            ("You like music.", "Do you like music?"),
        ),
        lambda text: text.endswith("?"),
        lambda text: text.endswith("."),
    ),
    "past": Relation(
        (
            ("Tom is here.", "Tom was here."),
            ("She is happy.", "She was happy."),
            ("They are late.", "They were late."),
        ),
        lambda text: bool(PAST.search(text)),
        lambda text: bool(NOW.search(text)) and not PAST.search(text),
    ),
}
SNLI = {
    "man to woman": Relation(
        (
            ("a man is cooking.", "a woman is cooking."),
            ("a man is outside.", "a woman is outside."),
            ("the man plays guitar.", "the woman plays guitar."),
        ),
        lambda text: bool(re.match(r"(a|the) (\w+ )?woman\b", text)),
        lambda text: bool(re.match(r"(a|the) (\w+ )?man\b", text)),
    ),
    "one to two": Relation(
        (
            ("a man is sitting.", "two men are sitting."),
            ("a dog is running.", "two dogs are running."),
            ("a girl is playing.", "two girls are playing."),
        ),
        lambda text: text.startswith("two "),
        lambda text: text.startswith("a ") and not text.startswith("a group"),
    ),
    "sitting to running": Relation(
        (
            ("a man is sitting.", "a man is running."),
            ("the girl sits outside.", "the girl runs outside."),
            ("two people are sitting.", "two people are running."),
        ),
        lambda text: bool(RUNS.search(text)),
        lambda text: bool(STAYS.search(text)) and not RUNS.search(text),
    ),
    "outside": Relation(
        (
            ("a man is sleeping.", "a man is sleeping outside."),
            ("a woman is reading.", "a woman is reading outside."),
            ("the children are playing.", "the children are playing outside."),
        ),
        lambda text: bool(OUTSIDE.search(text)),
        lambda text: not OUTSIDE.search(text),
    ),
}
RELATIONS = {"tatoeba": TATOEBA, "snli": SNLI}
"""By the style of the sentences."""


def main(argv: Sequence[str] | None = None) -> None:
    """Print the first paths and analogies, then all measures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run-dir", type=Path, required=True)
    parser.add_argument("--text", type=Path, required=True, help="test sentences, one a line")
    parser.add_argument("--train", type=Path, help="for learned directions")
    parser.add_argument("--relations", choices=RELATIONS, default="tatoeba")
    parser.add_argument("--judge", type=Path, help="folder of a plain language model")
    parser.add_argument("--paths", type=int, default=50)
    parser.add_argument("--queries", type=int, default=50, help="of each relation")
    options = parser.parse_args(argv)
    if min(options.paths, options.queries) < 1:
        parser.error("--paths and --queries must be at least 1")
    texts = sentences(options.text)
    if len(texts) < 2:
        parser.error(f"--text {options.text} needs two sentences at least")
    train = sentences(options.train) if options.train else []
    vae = SentenceVAE.from_pretrained(options.run_dir)
    number = 2 * min(options.paths, len(texts) // 2)
    scores = {"paths": paths(vae, texts[:number], options.judge)}
    for name, relation in RELATIONS[options.relations].items():
        queries = [text for text in texts if relation.lacks(text)][: options.queries]
        scores[name] = relate(vae, name, relation, queries, train) if queries else {"queries": 0}
    print(json_text(scores, indent=2))


def sentences(path: Path) -> list[str]:
    """The lines of a file that are not empty."""
    return [line.strip() for line in read_texts(path) if line.strip()]


def paths(vae: SentenceVAE, texts: Sequence[str], judge: Path | None) -> dict[str, float]:
    """Measures of the paths between each second sentence and the next, as means over paths."""
    ends = vae.encode(texts)
    ways = [interpolate(first, last, STEPS) for first, last in ends.view(-1, 2, ends.shape[1])]
    made = vae.decode(torch.cat(ways))
    size = len(made) // len(ways)
    rows = [made[start : start + size] for start in range(0, len(made), size)]
    for number, row in enumerate(rows[:SHOWN]):
        print(*texts[2 * number : 2 * number + 2], sep="  ->  ")
        print(*(f"  {text}" for text in row), sep="\n")
    draws = torch.Generator().manual_seed(0)
    neighbours, mixed, jumps, orders, different = [], [], [], [], []
    for row in rows:
        near = [alike(*pair) for pair in pairwise(row)]
        shuffled = [row[place] for place in torch.randperm(size, generator=draws)]
        neighbours.append(fmean(near))
        mixed.append(fmean(alike(*pair) for pair in pairwise(shuffled)))
        jumps.append(1 - min(near))
        different.append(len(set(row)))
        if alike(row[0], row[-1]) < 1:
            towards = [alike(text, row[-1]) - alike(text, row[0]) for text in row]
            orders.append(spearmanr(range(size), towards).statistic)
    scores = {
        "paths": len(rows),
        "sentences of a path": size,
        "different sentences": fmean(different),
        "alike, neighbours": fmean(neighbours),
        "alike, another order": fmean(mixed),
        "alike, the two ends": fmean(alike(row[0], row[-1]) for row in rows),
        "largest jump": fmean(jumps),
        "order": fmean(orders or [0.0]),  # of paths whose ends differ
    }
    if judge:
        between = [text for row in rows for text in row[1:-1]]
        groups = {"between": between, "ends": [row[place] for row in rows for place in (0, -1)]}
        groups |= {"test sentences": list(texts), "words in another order": mix(texts, draws)}
        read = LanguageModel(judge)
        scores |= {f"nats a word, {name}": read(group) for name, group in groups.items()}
    return scores


def relate(
    vae: SentenceVAE, name: str, relation: Relation, queries: list[str], train: Sequence[str]
) -> dict[str, float]:
    """Shares reached and words kept, by reconstruction, arithmetic and a learned direction."""
    latents = vae.encode(queries)
    plain = vae.decode(latents)
    scores = {"queries": len(queries), **judged("reconstruction", relation, queries, plain)}
    moved = []
    for source, target in relation.pairs:
        first, last = vae.encode([source, target])
        moved.append(vae.decode(analogy(first, last, latents)))
        print(f"\n{name}: {source} : {target}")
        print(
            *(f"  {a} -> {b}" for a, b in zip(queries[:SHOWN], moved[-1], strict=False)), sep="\n"
        )
    each = [judged("analogy", relation, queries, texts) for texts in moved]
    for measure in each[0]:
        values = [row[measure] for row in each]
        scores |= {measure: fmean(values), f"{measure}, deviation": stdev(values)}
    having = [text for text in train if relation.has(text)][:LEARNED]
    lacking = [text for text in train if relation.lacks(text)][:LEARNED]
    if having and lacking:
        direction = vae.direction(having, lacking)
        for strength in (1.0, 2.0):
            texts = vae.decode(direction.move(latents, strength))
            scores |= judged(f"direction x {strength:g}", relation, queries, texts)
    return scores


def judged(
    name: str, relation: Relation, queries: Sequence[str], made: Sequence[str]
) -> dict[str, float]:
    """Per cent of ``made`` that have the relation, and of the queries' words that they keep."""
    kept = [alike(*pair) for pair in zip(queries, made, strict=True)]
    return {
        f"{name}, reached": 100 * fmean(map(relation.has, made)),
        f"{name}, alike": fmean(kept),
    }


def alike(first: str, second: str) -> float:
    """F1 of the words of two sentences, in [0, 1]; the order of the words does not count."""
    one, other = (Counter(words_of(text.lower())) for text in (first, second))
    both = (one + other).total()
    return 2 * (one & other).total() / both if both else 1.0


def mix(texts: Sequence[str], draws: torch.Generator) -> list[str]:
    """The words of each sentence in another order: what a language model must find unlikely."""
    rows = [text.split() for text in texts]
    return [
        " ".join(row[place] for place in torch.randperm(len(row), generator=draws)) for row in rows
    ]


class LanguageModel:
    """Nats a word of sentences under a causal language model from a local folder."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModelForCausalLM.from_pretrained(folder).eval()

    @torch.inference_mode()
    def __call__(self, texts: Sequence[str]) -> float:
        texts = [text for text in texts if text.strip()]
        nats = sum(float(self._nats(text)) for text in texts)
        return nats / max(sum(len(text.split()) for text in texts), 1)

    def _nats(self, text: str) -> Tensor:
        start = self.tokenizer.bos_token_id  # may be 0
        start = self.tokenizer.eos_token_id if start is None else start
        ids = torch.tensor([[start, *self.tokenizer(text)["input_ids"]]])
        logits = self.model(ids[:, :-1]).logits
        return torch.nn.functional.cross_entropy(logits[0].float(), ids[0, 1:], reduction="sum")


if __name__ == "__main__":
    main()
