"""Templated instructions and dialogs of the toy houses."""

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

Style = Literal["full", "landmarks", "mixed"]
STYLES: tuple[Style, ...] = ("full", "landmarks", "mixed")
"""How a step is told: by turn and landmark, by landmark, or by landmark or turn."""

STRAIGHT, AROUND = math.radians(30), math.radians(150)
STAIRS = 0.8  # meters of climb


class Step(NamedTuple):
    """One step of a walk."""

    turn: float  # radians to the right of the direction before, in (-pi, pi]
    climb: float  # meters
    landmark: str  # at the viewpoint that the step leads to


def direction(step: Step) -> str:
    """The words for a turn or a climb."""
    if abs(step.climb) > STAIRS:
        return "go up the stairs" if step.climb > 0 else "go down the stairs"
    if abs(step.turn) < STRAIGHT:
        return "go straight"
    if abs(step.turn) > AROUND:
        return "turn around"
    return "turn right" if step.turn > 0 else "turn left"


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
    text = _begin(sentences[0])
    for sentence in sentences[1:]:
        text += f". {_begin(sentence)}" if rng.random() < 0.7 else f", then {sentence}"
    return text + "."


def tell_question(seen: Sequence[str], rng: np.random.Generator) -> str:
    """What a navigator asks who sees the landmarks ``seen``."""
    if len(seen) > 1 and rng.random() < 0.5:
        return f"Should I go to the {seen[0]} or the {seen[1]}?"
    return f"I see the {seen[0]}. Where should I go?"


def tell_answer(steps: Sequence[Step], rng: np.random.Generator) -> str:
    """What the oracle answers who knows the next steps."""
    sentences = [tell_step(step, "mixed", rng) for step in steps]
    return _begin(", then ".join(sentences)) + "."


def _begin(sentence: str) -> str:
    return sentence[0].upper() + sentence[1:]


def _pick(rng: np.random.Generator, *choices: str) -> str:
    return choices[rng.integers(len(choices))]
