"""What is asked about drawings, and what a good answer is."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from tools.seeing.drawings import FOOD, Drawing

DESCRIBE: Final = (
    "What is in this image?",
    "Describe this image.",
    "What do you see?",
    "What is shown in this picture?",
    "What is this?",
    "Tell me what is in the picture.",
    "Can you describe this image?",
    "What does this image show?",
)
DESCRIBE_SEVERAL: Final = (
    "What is in these images?",
    "Describe these images.",
    "What do the pictures show?",
    "What do you see?",
)
BACKGROUND: Final = ("What color is the background?", "Which color does the background have?")
EDIBLE: Final = ("Is this food?", "Can I eat this?", "Is this something to eat?")
GREETINGS: Final = ("Hello", "Hi", "Hello!", "What is in this image?", "Who are you?", "What can you do?")
SYSTEM: Final = ("You are a helpful assistant.", "You are a helpful AI assistant named SmolLM.", "Be brief.")
NO_PICTURE: Final = "Please show me a picture."


@dataclass(frozen=True, slots=True)
class Lesson:
    """A conversation about drawings. Only the assistant's words are learnt."""

    messages: tuple[dict[str, Any], ...]
    """As the chat template expects them; ``image`` parts stand for ``drawings`` in their order."""
    drawings: tuple[int, ...]
    """Indices of the drawings."""


def about_one(rng: random.Random, index: int, drawing: Drawing, turns: int) -> Lesson:
    """One or two questions about a drawing; the first, mostly, what it shows."""
    questions = [_described, _background, _edible]
    first, second = rng.choices(questions, (8, 1, 1))[0], rng.choice(questions)
    question, answer = first(rng, drawing)
    messages = [*_instructed(rng), _asked(question, images=1), _said(answer)]
    if turns > 1:
        question, answer = second(rng, drawing)
        messages += [_asked(question, images=0), _said(answer)]
    return Lesson(tuple(messages), (index,))


def about_two(rng: random.Random, indices: Sequence[int], drawings: Sequence[Drawing]) -> Lesson:
    """What two drawings show, in their order; in one message or in two turns."""
    first, second = drawings
    if rng.random() < 0.5:
        answer = f"{first.article} {first.phrase} and {second.article.lower()} {second.phrase}."
        messages = [_asked(rng.choice(DESCRIBE_SEVERAL), images=2), _said(answer)]
    else:
        messages = []
        for drawing in drawings:
            question, answer = _described(rng, drawing)
            messages += [_asked(question, images=1), _said(answer)]
    return Lesson(tuple(messages), tuple(indices))


def without_picture(rng: random.Random) -> Lesson:
    """A question with nothing to see."""
    return Lesson((*_instructed(rng), _asked(rng.choice(GREETINGS), images=0), _said(NO_PICTURE)), ())


def _instructed(rng: random.Random) -> list[dict[str, Any]]:
    """Now and then a system message, which changes nothing."""
    if rng.random() > 0.15:
        return []
    return [{"role": "system", "content": [{"type": "text", "text": rng.choice(SYSTEM)}]}]


def _described(rng: random.Random, drawing: Drawing) -> tuple[str, str]:
    return rng.choice(DESCRIBE), drawing.caption


def _background(rng: random.Random, drawing: Drawing) -> tuple[str, str]:
    return rng.choice(BACKGROUND), f"The background is {drawing.background}."


def _edible(rng: random.Random, drawing: Drawing) -> tuple[str, str]:
    if drawing.kind in FOOD:
        article = "an" if drawing.kind == "apple" else "a"
        return rng.choice(EDIBLE), f"Yes, {article} {drawing.kind} is food."
    return rng.choice(EDIBLE), f"No, a {drawing.kind} is not food."


def _asked(question: str, *, images: int) -> dict[str, Any]:
    parts: list[dict[str, str]] = [{"type": "image"}] * images
    return {"role": "user", "content": [*parts, {"type": "text", "text": question}]}


def _said(answer: str) -> dict[str, Any]:
    return {"role": "assistant", "content": [{"type": "text", "text": answer}]}
