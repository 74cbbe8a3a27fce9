"""What is said in toy houses: landmarks, turns and walks in words.

A plain walk names the landmark of every step, so that an agent only has to look for what is named.
The forms of `FORMS` make a world in which reading matters: there one has to know other words for
the same thing, or to understand what a sentence rules out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

LANDMARKS: tuple[str, ...] = (
    *("sofa", "lamp", "table", "piano", "fireplace", "sink", "bed", "desk"),
    *("mirror", "plant", "clock", "painting", "statue", "bookcase", "bathtub", "rug"),
    *("fridge", "oven", "television", "chair", "window", "vase", "globe", "aquarium"),
    *("drum", "easel", "barrel", "bench", "cradle", "wardrobe", "guitar", "ladder"),
)
THINGS: tuple[str, ...] = (
    *("cup", "book", "towel", "pillow", "basket", "candle", "radio", "bottle"),
    *("teapot", "shoe", "umbrella", "kettle", "camera", "broom", "violin", "helmet"),
)
"""Objects of the toy form of REVERIE; each place has some of them."""
SYNONYMS: tuple[str, ...] = (
    *("couch", "lantern", "counter", "spinet", "hearth", "basin", "cot", "bureau"),
    *("glass", "fern", "timepiece", "picture", "sculpture", "shelves", "tub", "carpet"),
    *("refrigerator", "stove", "screen", "seat", "pane", "urn", "sphere", "fishbowl"),
    *("tambour", "trestle", "cask", "pew", "crib", "closet", "banjo", "steps"),
)
"""Another word for each landmark."""
ROOMS: dict[str, tuple[str, ...]] = {
    "lounge": ("sofa", "piano", "fireplace", "rug", "television", "aquarium", "guitar", "drum"),
    "kitchen": ("table", "sink", "fridge", "oven", "chair", "barrel", "bench", "window"),
    "bedroom": ("bed", "lamp", "mirror", "bathtub", "cradle", "wardrobe"),
    "study": ("desk", "clock", "bookcase", "globe", "ladder"),
    "gallery": ("plant", "painting", "statue", "vase", "easel"),
}
"""The landmarks of each room; each landmark belongs to one."""
COLORS: tuple[str, ...] = ("red", "green", "blue", "white")
ORDINALS: tuple[str, ...] = ("first", "second", "third")

Style = Literal["full", "landmarks", "mixed"]
STYLES: tuple[Style, ...] = ("full", "landmarks", "mixed")
"""How a step is told: by turn and landmark, by landmark, or by landmark or turn."""

Form = Literal["synonyms", "rooms", "ordinals", "negations", "distractors"]
FORMS: tuple[Form, ...] = ("synonyms", "rooms", "ordinals", "negations", "distractors")
"""What instructions may do besides naming the landmark of a step: use another word for it, name the
room it belongs to, count the ways on one side, say which way not to take, and mention a landmark in
sight that does not matter."""

STRAIGHT, AROUND = math.radians(30), math.radians(150)
STAIRS = 0.8  # meters of climb


class Step(NamedTuple):
    """One step of a walk."""

    turn: float  # radians to the right of the direction before, in (-pi, pi]
    climb: float  # meters
    landmark: str  # at the viewpoint that the step leads to
    color: str = ""  # of the landmark, where landmarks have colors
    others: tuple[Step, ...] = ()  # the other ways from there, without the way back


def direction(step: Step) -> str:
    """The words for a turn or a climb."""
    if abs(step.climb) > STAIRS:
        return "go up the stairs" if step.climb > 0 else "go down the stairs"
    if abs(step.turn) < STRAIGHT:
        return "go straight"
    if abs(step.turn) > AROUND:
        return "turn around"
    return "turn right" if step.turn > 0 else "turn left"


def side(step: Step) -> str:
    """``left`` or ``right``; nothing for ways straight on, back or on stairs."""
    word = direction(step).split()[-1]
    return word if word in ("left", "right") else ""


def rank(step: Step, others: Sequence[Step]) -> int:
    """Place of ``step``, from 0, among the ways on its side, the least turn first."""
    return sum(side(one) == side(step) and abs(one.turn) < abs(step.turn) for one in others)


def room_of(landmark: str) -> str:
    """The room that a landmark belongs to."""
    return next(room for room, landmarks in ROOMS.items() if landmark in landmarks)


# --- plain instructions


def tell_step(step: Step, style: Style, rng: np.random.Generator) -> str:
    """One sentence without its full stop."""
    if style == "mixed":
        style = "landmarks" if rng.random() < 0.7 else "full"
        if style == "full" and rng.random() < 0.5:
            return direction(step)
    if style == "landmarks":
        return f"{_pick(rng, 'walk to', 'go past', 'head for', 'go to')} the {step.landmark}"
    link = _pick(rng, "and walk to", "towards", "and go to")
    return f"{direction(step)} {link} the {step.landmark}"


def tell_walk(steps: Sequence[Step], style: Style, rng: np.random.Generator) -> str:
    """An instruction for a walk that ends at the landmark of the last step."""
    sentences = [tell_step(step, style, rng) for step in steps]
    ending = _pick(rng, "stop at", "wait by", "stop next to")
    sentences.append(f"{ending} the {steps[-1].landmark}")
    return _join(sentences, rng)


def tell_fetch(steps: Sequence[Step], thing: str, rng: np.random.Generator) -> str:
    """REVERIE's kind of task: a walk by its landmarks, and an object at its end."""
    sentences = [tell_step(step, "landmarks", rng) for step in steps]
    sentences.append(f"{_pick(rng, 'bring me', 'touch', 'pick up')} the {thing}")
    return _join(sentences, rng)


def tell_question(seen: Sequence[str], rng: np.random.Generator) -> str:
    """What a navigator asks who sees the landmarks ``seen``."""
    if len(seen) > 1 and rng.random() < 0.5:
        return f"Should I go to the {seen[0]} or the {seen[1]}?"
    return f"I see the {seen[0]}. Where should I go?"


def tell_answer(steps: Sequence[Step], rng: np.random.Generator) -> str:
    """What the oracle answers who knows the next steps."""
    sentences = [tell_step(step, "mixed", rng) for step in steps]
    return _begin(", then ".join(sentences)) + "."


# --- instructions that have to be read


def tell_hard_walk(steps: Sequence[Step], forms: Sequence[Form], rng: np.random.Generator) -> str:
    """An instruction that uses ``forms``, and colors where landmarks have them."""
    sentences = [sentence for step in steps for sentence in tell_hard_step(step, forms, rng)]
    ending = _pick(rng, "stop at", "wait by", "stop next to")
    sentences.append(f"{ending} {_name(steps[-1], (), forms, rng)}")
    return _join(sentences, rng)


def tell_hard_step(step: Step, forms: Sequence[Form], rng: np.random.Generator) -> list[str]:
    """A sentence for ``step`` without its full stop, and perhaps one before it that tells nothing.

    Half of the steps are told by name, the others in one of the ways that ``forms`` and the place
    allow; each of them says which way is meant.
    """
    hard = _hard_sentences(step, forms, rng)
    verb = _pick(rng, "walk to", "go past", "head for", "go to")
    told = [f"{verb} {_name(step, step.others, forms, rng)}"]
    if hard and rng.random() < 0.5:
        told = [_pick(rng, *hard)]
    if "distractors" in forms and step.others and rng.random() < 0.3:
        aside = step.others[rng.integers(len(step.others))]
        told.insert(0, f"you can see {_name(aside, (step,), forms, rng)}")
    return told


def _hard_sentences(step: Step, forms: Sequence[Form], rng: np.random.Generator) -> list[str]:
    sentences = []
    room = room_of(step.landmark)
    if "rooms" in forms and room not in {room_of(one.landmark) for one in step.others}:
        sentences.append(f"enter the {room}")
    place = rank(step, step.others)
    if "ordinals" in forms and side(step) and place < len(ORDINALS):
        sentences.append(f"take the {ORDINALS[place]} way on the {side(step)}")
    if "negations" in forms and step.others:
        other = step.others[rng.integers(len(step.others))]
        wrong, right = (
            _name(one, (another,), forms, rng) for one, another in ((other, step), (step, other))
        )
        sentences.append(f"go not to {wrong} but to {right}")
        if len(step.others) == 1:
            sentences.append(f"do not go to {wrong}")
            if side(step) and side(other) not in ("", side(step)):
                sentences.append(f"do not turn {side(other)}")
    return sentences


def _name(
    step: Step, others: Sequence[Step], forms: Sequence[Form], rng: np.random.Generator
) -> str:
    """A landmark with its article; its color where ``others`` has its like, and sometimes else."""
    word = step.landmark
    if "synonyms" in forms and rng.random() < 0.5:
        word = SYNONYMS[LANDMARKS.index(word)]
    needed = step.landmark in {one.landmark for one in others}
    if step.color and (needed or rng.random() < 0.3):
        word = f"{step.color} {word}"
    return f"the {word}"


def _join(sentences: Sequence[str], rng: np.random.Generator) -> str:
    text = _begin(sentences[0])
    for sentence in sentences[1:]:
        text += f". {_begin(sentence)}" if rng.random() < 0.7 else f", then {sentence}"
    return text + "."


def _begin(sentence: str) -> str:
    return sentence[0].upper() + sentence[1:]


def _pick(rng: np.random.Generator, *choices: str) -> str:
    return choices[rng.integers(len(choices))]
