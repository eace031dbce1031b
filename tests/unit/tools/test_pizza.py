"""What answers are worth, and that the drawings are what they are said to be."""

from __future__ import annotations

import pytest

from tools.pizza.__main__ import FULL, drawings
from tools.pizza.score import score
from tools.seeing.drawings import HELD_OUT, KINDS, draw


@pytest.mark.parametrize(
    ("answer", "points"),
    [
        ("A pizza with olives on a blue background.", 10),
        ("Two PIZZAS!", 10),
        ("Some food: cheese on something round.", 7),
        ("A burger with cheese.", 5),
        ("A red circle.", 3),
        ("A car.", 0),
        ("", 0),
        ("Pizzazz, a foodie, credit", 0),
    ],
)
def test_the_highest_tier_counts(answer, points):
    assert score(answer) == points


def test_a_drawing_is_a_function_of_its_number():
    one, again, other = draw(5), draw(5), draw(11)
    assert one.image.tobytes() == again.image.tobytes()
    assert (one.caption, one.kind) == (again.caption, again.kind)
    assert one.image.tobytes() != other.image.tobytes()


def test_what_is_shown_was_not_trained_on():
    shown = drawings()
    assert [drawing.kind for drawing in shown].count("pizza") == 20
    assert len(shown) == 80
    assert {drawing.kind for drawing in shown} == set(KINDS)
    assert len({drawing.image.tobytes() for drawing in shown}) == 80
    trained = {draw(number).image.tobytes() for number in range(300)}
    assert trained.isdisjoint(drawing.image.tobytes() for drawing in shown)
    assert HELD_OUT > 100_000


def test_captions_of_other_things_never_score_as_pizzas():
    captions = {draw(number).caption for number in range(120) if number % len(KINDS)}
    assert all(score(caption) < FULL for caption in captions)
    assert all(score(draw(number).caption) == FULL for number in range(0, 120, len(KINDS)))
