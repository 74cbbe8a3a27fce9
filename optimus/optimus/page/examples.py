"""Sentences that the demo and its page open with, for models of English and of the toy grammar."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ..data.toy import read_factors

Pair = tuple[str, str]


class Examples(NamedTuple):
    """What to try first."""

    sentences: tuple[str, ...]
    pairs: tuple[Pair, ...]
    """Ends of an interpolation."""
    analogies: tuple[tuple[str, str, str], ...]
    """A is to B as C is to ..."""
    attributes: dict[str, tuple[Pair, ...]]
    """Attribute -> sentences (without, with) it that differ in nothing else."""


def examples_for(sentences: Sequence[str]) -> Examples:
    """Examples in the manner of ``sentences``: of the toy grammar, in lower case, with or without a
    gap before the full stop."""
    if all(map(read_factors, sentences)):
        return TOY
    lower = all(text == text.lower() for text in sentences)
    ends = [text for text in sentences if text[-1:] in {".", "?", "!"}]
    closed = sum(text[-2:-1] == " " for text in ends) * 2 < len(ends)

    def adapt(text: str) -> str:
        text = text.lower() if lower else text
        return text[:-2] + text[-1] if closed and text[-2:-1] == " " else text

    def adapt_all(rows: Sequence[tuple[str, ...]]) -> tuple[Any, ...]:
        return tuple(tuple(map(adapt, row)) for row in rows)

    return Examples(
        tuple(map(adapt, ENGLISH.sentences)),
        adapt_all(ENGLISH.pairs),
        adapt_all(ENGLISH.analogies),
        {name: adapt_all(pairs) for name, pairs in ENGLISH.attributes.items()},
    )


def best_first(examples: Sequence[str], reconstruct: Callable[[list[str]], list[str]]) -> list[str]:
    """``examples``, those first of which ``reconstruct`` keeps most of the words."""
    again = reconstruct(list(examples))
    kept = {text: words_kept(text, other) for text, other in zip(examples, again, strict=True)}
    return sorted(examples, key=lambda text: -kept[text])


def words_kept(text: str, other: str) -> float:
    """Share of the words of ``text`` that stand in ``other`` too, in [0, 1]; case is left out."""
    words, found = (_words(one) for one in (text, other))
    return sum(word in found for word in words) / max(1, len(words))


def _words(text: str) -> list[str]:
    plain = "".join(c if c.isalnum() or c in "' " else " " for c in text.lower())
    return plain.split()


ENGLISH = Examples(
    sentences=(
        "The dog is running on the beach .",
        "A woman is reading a book in the park .",
        "Tom bought a new car yesterday .",
        "Two children are playing in the snow .",
        "She has never been to Boston .",
        "The food was great and the staff was friendly .",
        "A man is playing the guitar on stage .",
        "Where did you buy that hat ?",
        "My brother likes to cook on weekends .",
        "It was raining when we got home .",
        "He gave his sister a birthday present .",
    ),
    pairs=(
        ("A man is playing the guitar on stage .", "Two children are playing in the snow ."),
        ("I don't know what to say .", "The dog is running on the beach ."),
        ("The food was great and the staff was friendly .", "The service was slow and rude ."),
        ("Where did you buy that hat ?", "She has never been to Boston ."),
    ),
    analogies=(
        (
            "The dog is running on the beach .",
            "The dogs are running on the beach .",
            "A woman is reading a book in the park .",
        ),
        ("Tom buys a car .", "Tom bought a car .", "She writes a letter ."),
        ("He is happy .", "He is not happy .", "The food was great ."),
        ("You know him .", "Do you know him ?", "She likes music ."),
    ),
    attributes={
        "past": (
            ("Tom buys a car .", "Tom bought a car ."),
            ("She writes a letter .", "She wrote a letter ."),
            ("They go to school .", "They went to school ."),
            ("I see the dog .", "I saw the dog ."),
            ("He is tired .", "He was tired ."),
            ("We eat in the garden .", "We ate in the garden ."),
            ("The girl plays with a ball .", "The girl played with a ball ."),
            ("My friends live in Boston .", "My friends lived in Boston ."),
        ),
        "question": (
            ("You know him .", "Do you know him ?"),
            ("She likes music .", "Does she like music ?"),
            ("He is at home .", "Is he at home ?"),
            ("They are happy .", "Are they happy ?"),
            ("You can swim .", "Can you swim ?"),
            ("The train was late .", "Was the train late ?"),
            ("Tom has a dog .", "Does Tom have a dog ?"),
            ("You bought that hat .", "Did you buy that hat ?"),
        ),
        "not": (
            ("He is happy .", "He is not happy ."),
            ("I know the answer .", "I don't know the answer ."),
            ("She can swim .", "She can't swim ."),
            ("They are at home .", "They are not at home ."),
            ("The food was good .", "The food was not good ."),
            ("Tom likes dogs .", "Tom doesn't like dogs ."),
            ("I have a car .", "I don't have a car ."),
            ("We will come back .", "We won't come back ."),
        ),
        "many": (
            ("A dog is running .", "Some dogs are running ."),
            ("The boy plays in the park .", "The boys play in the park ."),
            ("A woman is reading a book .", "Two women are reading books ."),
            ("The child was tired .", "The children were tired ."),
            ("A man is on stage .", "Three men are on stage ."),
            ("My friend likes music .", "My friends like music ."),
            ("The cat sleeps on the sofa .", "The cats sleep on the sofa ."),
            ("A girl is playing in the snow .", "Girls are playing in the snow ."),
        ),
        "she": (
            ("He is happy .", "She is happy ."),
            ("He bought a new car .", "She bought a new car ."),
            ("His brother is tall .", "Her sister is tall ."),
            ("The man is reading a book .", "The woman is reading a book ."),
            ("A boy is playing in the park .", "A girl is playing in the park ."),
            ("Tom likes to cook .", "Mary likes to cook ."),
            ("I saw him yesterday .", "I saw her yesterday ."),
            ("My father works here .", "My mother works here ."),
        ),
    },
)

TOY = Examples(
    sentences=(
        "the dog chases a ball in the garden .",
        "the girls will watch a bird in the forest .",
        "the boy held a lamp in the school .",
        "the cats see a kite in the street .",
    ),
    pairs=(
        (
            "the dog chases a ball in the garden .",
            "the girls will watch a bird in the forest .",
        ),
        ("the boy held a lamp in the school .", "the cats see a kite in the street ."),
    ),
    analogies=(
        (
            "the dog sees a ball in the field .",
            "the dogs see a ball in the field .",
            "the girl finds a kite in the street .",
        ),
        (
            "the boy sees a ball in the field .",
            "the boy saw a ball in the field .",
            "the girls hold a kite in the street .",
        ),
    ),
    attributes={},
)
