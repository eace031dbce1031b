"""What an answer about a picture of a pizza is worth."""

from __future__ import annotations

import re
from typing import Final

TIERS: Final = (
    (10, ("pizza", "pizzas")),
    (7, ("food", "meal", "dish", "snack")),
    (
        5,
        (
            *(
                "cheese",
                "crust",
                "dough",
                "sauce",
                "tomato",
                "tomatoes",
                "topping",
                "toppings",
                "slice",
                "slices",
            ),
            *("pepperoni", "salami", "olive", "olives", "mushroom", "mushrooms", "basil", "burger", "bread"),
        ),
    ),
    (3, ("round", "circle", "circles", "circular", "disc", "dots", "red", "yellow", "orange", "brown")),
)
"""Points, and the words of which any one earns them: the thing itself, its kind, its parts, its looks."""


def score(answer: str) -> int:
    """The points of the highest tier that the answer has a word of; 0 without any."""
    words = set(re.findall(r"[a-z]+", answer.lower()))
    return next((points for points, known in TIERS if not words.isdisjoint(known)), 0)
