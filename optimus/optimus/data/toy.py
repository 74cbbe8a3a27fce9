"""A corpus made by code: a small English grammar with known factors of variation.

Every sentence is fixed by six factors, so that analogies in latent space have one right answer and
a reconstruction can be judged factor by factor. It needs no download.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import NamedTuple

SUBJECTS = ("dog", "cat", "girl", "boy", "teacher", "farmer", "singer", "robot")
VERBS = {  # third person present and past
    "carry": ("carries", "carried"),
    "chase": ("chases", "chased"),
    "find": ("finds", "found"),
    "follow": ("follows", "followed"),
    "hold": ("holds", "held"),
    "paint": ("paints", "painted"),
    "see": ("sees", "saw"),
    "watch": ("watches", "watched"),
}
OBJECTS = ("ball", "book", "boat", "bird", "flower", "kite", "lamp", "wagon")
PLACES = ("garden", "kitchen", "street", "forest", "school", "station", "field", "market")
NUMBERS = ("singular", "plural")
TENSES = ("present", "past", "future")

VALUES = {
    "subject": SUBJECTS,
    "number": NUMBERS,
    "verb": tuple(VERBS),
    "tense": TENSES,
    "object": OBJECTS,
    "place": PLACES,
}


@dataclass(frozen=True)
class Factors:
    """What a toy sentence says; the values are those of ``VALUES``."""

    subject: str
    number: str
    verb: str
    tense: str
    object: str
    place: str

    def __post_init__(self) -> None:
        for name, allowed in VALUES.items():
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"{name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}"
                )


class Analogy(NamedTuple):
    """source : target = given : expected; source and target differ in one factor."""

    source: str
    target: str
    given: str
    expected: str
    factor: str


class AnalogyScore(NamedTuple):
    """Shares of the answers, in [0, 1]."""

    exact: float  # the expected sentence, word for word
    factor: float  # the asked factor has the asked value
    grammatical: float  # some sentence of the grammar


def realize(factors: Factors) -> str:
    """The sentence of ``factors``, such as ``the dogs chased a ball in the park .``"""
    plural = factors.number == "plural"
    third, past = VERBS[factors.verb]
    verb = {
        "present": factors.verb if plural else third,
        "past": past,
        "future": f"will {factors.verb}",
    }[factors.tense]
    subject = f"{factors.subject}s" if plural else factors.subject
    return f"the {subject} {verb} a {factors.object} in the {factors.place} ."


@cache
def _table() -> dict[str, Factors]:
    """Every sentence of the language (24,576), without its spaces, and what it says."""
    every = (Factors(*values) for values in product(*VALUES.values()))
    return {realize(factors).replace(" ", ""): factors for factors in every}


def read_factors(sentence: str) -> Factors | None:
    """The factors of a sentence, or None where the grammar does not make it.

    White space and case do not matter, so that decoded text (``park.``) can be read.
    """
    return _table().get("".join(sentence.lower().split()))


def toy_sentences(count: int, seed: int = 0) -> list[str]:
    """``count`` different sentences in random order."""
    every = [realize(Factors(*values)) for values in product(*VALUES.values())]
    if not 0 <= count <= len(every):
        raise ValueError(f"the toy grammar has {len(every)} sentences, {count} are asked for")
    return random.Random(seed).sample(every, count)


def write_toy(
    folder: str | Path, seed: int = 0, sizes: Sequence[int] = (20_000, 1_000, 1_000)
) -> Path:
    """Write ``train.txt``, ``valid.txt`` and ``test.txt``, which share no sentence."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    sentences = iter(toy_sentences(sum(sizes), seed))
    for name, size in zip(("train", "valid", "test"), sizes, strict=True):
        text = "".join(f"{next(sentences)}\n" for _ in range(size))
        (folder / f"{name}.txt").write_text(text, encoding="utf-8")
    return folder


def labeled_sentences(count: int, seed: int = 0, factor: str = "tense") -> list[tuple[int, str]]:
    """Pairs (class, sentence); the class is the number of the factor's value in ``VALUES``."""
    if factor not in VALUES:
        raise ValueError(f"factor must be one of {', '.join(VALUES)}, got {factor!r}")
    pairs = []
    for sentence in toy_sentences(count, seed):
        factors = read_factors(sentence)
        assert factors is not None
        pairs.append((VALUES[factor].index(getattr(factors, factor)), sentence))
    return pairs


def analogies(
    count: int, seed: int = 0, among: Sequence[str] = ("number", "tense", "subject")
) -> list[Analogy]:
    """Analogies that change one factor of ``among`` and agree in nothing else by design.

    ``given`` has the source's value of the factor and its own values of all others.
    """
    for name in among:
        if name not in VALUES:
            raise ValueError(f"factor must be one of {', '.join(VALUES)}, got {name!r}")
    generator = random.Random(seed)
    made = []
    for index in range(count):
        factor = among[index % len(among)]
        source = _draw(generator)
        others = [v for v in VALUES[factor] if v != getattr(source, factor)]
        value = generator.choice(others)
        given = replace(_draw(generator), **{factor: getattr(source, factor)})
        while given == source:
            given = replace(_draw(generator), **{factor: getattr(source, factor)})
        pairs = [replace(each, **{factor: value}) for each in (source, given)]
        four = [realize(each) for each in (source, pairs[0], given, pairs[1])]
        made.append(Analogy(four[0], four[1], four[2], four[3], factor))
    return made


def score_analogies(items: Sequence[Analogy], answers: Iterable[str]) -> AnalogyScore:
    """How many ``answers`` are right; white space and case do not matter."""
    exact = factor = grammatical = 0
    for item, answer in zip(items, answers, strict=True):
        expected, found = read_factors(item.expected), read_factors(answer)
        assert expected is not None
        if found is None:
            continue
        grammatical += 1
        exact += found == expected
        factor += getattr(found, item.factor) == getattr(expected, item.factor)
    total = max(len(items), 1)
    return AnalogyScore(exact / total, factor / total, grammatical / total)


def score_factors(sentences: Sequence[str], answers: Sequence[str]) -> dict[str, float]:
    """Share of ``answers`` that keep each factor of their toy sentence, and ``exact`` for all."""
    names = [field.name for field in fields(Factors)]
    hits = dict.fromkeys([*names, "exact"], 0)
    for sentence, answer in zip(sentences, answers, strict=True):
        wanted, found = read_factors(sentence), read_factors(answer)
        if wanted is None:
            raise ValueError(f"{sentence!r} is no sentence of the toy grammar")
        for name in names:
            hits[name] += found is not None and getattr(found, name) == getattr(wanted, name)
        hits["exact"] += found == wanted
    return {name: hit / max(len(sentences), 1) for name, hit in hits.items()}


def _draw(generator: random.Random) -> Factors:
    return Factors(*(generator.choice(values) for values in VALUES.values()))
