"""Drawings of six kinds of things, made from random numbers: what the small seeing model learns from.

A drawing is a function of its number alone. Numbers below :data:`HELD_OUT` are for training; those from there
on are never trained on.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from PIL import Image, ImageDraw

HELD_OUT: Final = 1_000_000
"""The first number that no training uses."""
KINDS: Final = ("pizza", "burger", "apple", "car", "house", "cat")
FOOD: Final = frozenset({"pizza", "burger", "apple"})

Colour = tuple[int, int, int]
Box = tuple[float, float, float, float]

BACKGROUNDS: Final = {
    "white": (245, 245, 242),
    "blue": (120, 170, 225),
    "green": (140, 195, 130),
    "gray": (170, 170, 172),
    "purple": (175, 145, 205),
    "brown": (150, 115, 85),
}
PAINTS: Final = {
    "red": (205, 45, 40),
    "blue": (45, 80, 190),
    "green": (60, 150, 60),
    "yellow": (235, 205, 60),
    "white": (238, 236, 230),
    "black": (45, 45, 48),
}
FURS: Final = {"black": (45, 43, 45), "orange": (225, 140, 60), "gray": (130, 130, 135)}
APPLES: Final = {"red": (200, 35, 40), "green": (125, 185, 60), "yellow": (232, 205, 70)}
_SCALE: Final = 2  # drawn so much larger, then made smaller, which smooths the edges


@dataclass(frozen=True, slots=True)
class Drawing:
    """A picture and what is true of it."""

    image: Image.Image
    kind: str
    """One of :data:`KINDS`."""
    phrase: str
    """What is drawn, as ``red car``."""
    background: str
    """The colour's name."""

    @property
    def article(self) -> str:
        """What stands before the phrase at the beginning of a sentence."""
        return "An" if self.phrase[0] in "aeiou" else "A"

    @property
    def caption(self) -> str:
        """A sentence about it."""
        return f"{self.article} {self.phrase} on a {self.background} background."


def draw(number: int, kind: str | None = None, *, square: bool = False) -> Drawing:
    """The drawing of a number.

    Args:
        number: Any; the same gives the same picture.
        kind: What to draw; by default it follows from the number.
        square: Whether width and height are to be the same.
    """
    rng = random.Random(f"drawing {number}")
    kind = kind or KINDS[number % len(KINDS)]
    width = rng.randint(160, 320)
    height = width if square else max(140, min(340, int(width * rng.uniform(0.75, 1.33))))
    background = rng.choice(sorted(BACKGROUNDS))
    canvas = Image.new("RGB", (width * _SCALE, height * _SCALE), _varied(rng, BACKGROUNDS[background], 14))
    pen = ImageDraw.Draw(canvas)
    if rng.random() < 0.35:
        _ground(rng, pen, canvas.size, BACKGROUNDS[background])
    side = min(canvas.size) * rng.uniform(0.5, 0.9)
    left = rng.uniform(0, canvas.width - side)
    top = rng.uniform(0, canvas.height - side)
    phrase = _PAINTERS[kind](rng, _Frame(pen, left, top, side))
    return Drawing(canvas.resize((width, height), Image.Resampling.LANCZOS), kind, phrase, background)


@dataclass(frozen=True, slots=True)
class _Frame:
    """A square of the canvas in which things are drawn in coordinates from 0 to 1."""

    pen: ImageDraw.ImageDraw
    left: float
    top: float
    side: float

    def at(self, x: float, y: float) -> tuple[float, float]:
        return self.left + x * self.side, self.top + y * self.side

    def box(self, x0: float, y0: float, x1: float, y1: float) -> Box:
        return (*self.at(min(x0, x1), min(y0, y1)), *self.at(max(x0, x1), max(y0, y1)))

    def disc(self, x: float, y: float, radius: float, fill: Colour) -> None:
        self.pen.ellipse(self.box(x - radius, y - radius, x + radius, y + radius), fill=fill)

    def polygon(self, points: list[tuple[float, float]], fill: Colour) -> None:
        self.pen.polygon([self.at(x, y) for x, y in points], fill=fill)

    def line(self, points: list[tuple[float, float]], fill: Colour, width: float) -> None:
        self.pen.line([self.at(x, y) for x, y in points], fill=fill, width=max(1, int(width * self.side)))

    def rectangle(self, x0: float, y0: float, x1: float, y1: float, fill: Colour) -> None:
        self.pen.rectangle(self.box(x0, y0, x1, y1), fill=fill)

    def rounded(self, corners: Box, radius: float, fill: Colour) -> None:
        self.pen.rounded_rectangle(self.box(*corners), radius=radius * self.side, fill=fill)


def _pizza(rng: random.Random, frame: _Frame) -> str:
    crust, sauce, cheese = (
        _varied(rng, colour, 14) for colour in ((200, 140, 75), (190, 60, 35), (245, 205, 100))
    )
    frame.disc(0.5, 0.5, 0.5, crust)
    frame.disc(0.5, 0.5, rng.uniform(0.42, 0.45), sauce)
    frame.disc(0.5, 0.5, rng.uniform(0.38, 0.41), cheese)
    topping = rng.choice(("pepperoni", "olives", "mushrooms"))
    for x, y in _scattered(rng, rng.randint(6, 11), 0.33):
        _topping(rng, frame, topping, x, y)
    slices = rng.choice((0, 3, 4))
    turn = rng.uniform(0, math.pi)
    for i in range(slices):
        x, y = math.cos(turn + i * math.pi / slices) / 2, math.sin(turn + i * math.pi / slices) / 2
        frame.line([(0.5 - x, 0.5 - y), (0.5 + x, 0.5 + y)], _darker(crust), 0.012)
    return f"pizza with {topping}"


def _topping(rng: random.Random, frame: _Frame, topping: str, x: float, y: float) -> None:
    size = rng.uniform(0.045, 0.065)
    if topping == "pepperoni":
        frame.disc(x, y, size, (165, 40, 30))
        frame.disc(x, y, size * 0.75, (195, 60, 45))
    elif topping == "olives":
        frame.disc(x, y, size * 0.85, (45, 45, 40))
        frame.disc(x, y, size * 0.35, (235, 200, 110))
    else:
        frame.disc(x, y - size * 0.2, size, (235, 225, 210))
        frame.rectangle(x - size * 0.35, y, x + size * 0.35, y + size, (215, 200, 180))


def _burger(rng: random.Random, frame: _Frame) -> str:
    bun, meat = _varied(rng, (205, 140, 70), 14), _varied(rng, (95, 55, 35), 10)
    frame.pen.pieslice(frame.box(0.05, 0.12, 0.95, 0.82), 180, 360, fill=bun)
    for _ in range(rng.randint(5, 10)):
        x, y = rng.uniform(0.25, 0.75), rng.uniform(0.2, 0.38)
        frame.pen.ellipse(frame.box(x, y, x + 0.04, y + 0.022), fill=(245, 230, 190))
    filling = rng.choice(("cheese", "lettuce"))
    colour = (245, 195, 60) if filling == "cheese" else (110, 180, 65)
    edge = [(i / 12, 0.5 + (0.05 if i % 2 else 0.0)) for i in range(13)]
    frame.polygon([(0.0, 0.45), *edge, (1.0, 0.45)], colour)
    frame.rounded((0.04, 0.55, 0.96, 0.70), 0.06, meat)
    if rng.random() < 0.5:
        frame.rectangle(0.06, 0.68, 0.94, 0.72, (205, 50, 40))
    frame.rounded((0.06, 0.72, 0.94, 0.88), 0.07, bun)
    return f"burger with {filling}"


def _apple(rng: random.Random, frame: _Frame) -> str:
    name = rng.choice(sorted(APPLES))
    skin = _varied(rng, APPLES[name], 12)
    frame.pen.ellipse(frame.box(0.08, 0.22, 0.60, 0.94), fill=skin)
    frame.pen.ellipse(frame.box(0.40, 0.22, 0.92, 0.94), fill=skin)
    frame.pen.ellipse(frame.box(0.25, 0.35, 0.75, 0.98), fill=skin)
    frame.line([(0.5, 0.3), (0.5 + rng.uniform(-0.06, 0.06), 0.08)], (95, 65, 40), 0.035)
    leaf = 0.25 if rng.random() < 0.5 else -0.25
    frame.pen.ellipse(frame.box(0.52, 0.1, 0.52 + leaf, 0.2), fill=(70, 140, 55))
    if rng.random() < 0.7:
        frame.pen.ellipse(frame.box(0.2, 0.34, 0.3, 0.5), fill=_lighter(skin))
    return f"{name} apple"


def _car(rng: random.Random, frame: _Frame) -> str:
    name = rng.choice(sorted(PAINTS))
    paint = _varied(rng, PAINTS[name], 12)
    roof = rng.uniform(0.26, 0.34)
    front, back = rng.uniform(0.14, 0.26), rng.uniform(0.74, 0.86)
    frame.polygon([(front, 0.5), (0.34, roof), (0.68, roof), (back, 0.5)], paint)
    glass = (190, 220, 235)
    frame.polygon([(front + 0.07, 0.49), (0.37, roof + 0.04), (0.49, roof + 0.04), (0.49, 0.49)], glass)
    frame.polygon([(0.53, 0.49), (0.53, roof + 0.04), (0.65, roof + 0.04), (back - 0.07, 0.49)], glass)
    frame.rounded((0.0, 0.47, 1.0, 0.70), 0.06, paint)
    for x in (0.23, 0.77):
        frame.disc(x, 0.7, 0.115, (30, 30, 32))
        frame.disc(x, 0.7, 0.055, (175, 178, 182))
    frame.disc(0.96, 0.55, 0.03, (250, 235, 150))
    return f"{name} car"


def _house(rng: random.Random, frame: _Frame) -> str:
    name = rng.choice(sorted(PAINTS))
    wall = _varied(rng, PAINTS[name], 12)
    top = rng.uniform(0.38, 0.46)
    roof = _varied(rng, rng.choice(((150, 60, 45), (95, 75, 65), (80, 85, 100))), 10)
    if rng.random() < 0.5:
        frame.rectangle(0.68, 0.1, 0.78, top, (130, 80, 65))
    frame.rectangle(0.1, top, 0.9, 0.98, wall)
    frame.polygon([(0.02, top), (0.5, 0.04), (0.98, top)], roof)
    door = rng.uniform(0.4, 0.5)
    frame.rectangle(door, 0.68, door + 0.16, 0.98, (105, 70, 45))
    for x in (0.18, 0.7):
        frame.rectangle(x, top + 0.12, x + 0.14, top + 0.27, (200, 225, 240))
        frame.line([(x + 0.07, top + 0.12), (x + 0.07, top + 0.27)], (110, 110, 110), 0.012)
    return f"{name} house"


def _cat(rng: random.Random, frame: _Frame) -> str:
    name = rng.choice(sorted(FURS))
    fur = _varied(rng, FURS[name], 10)
    inner, eyes = (235, 170, 170), rng.choice(((120, 190, 70), (235, 200, 70)))
    frame.pen.ellipse(frame.box(0.2, 0.5, 0.8, 1.0), fill=fur)
    for x, way in ((0.22, 1), (0.78, -1)):
        frame.polygon([(x - way * 0.04, 0.04), (x - way * 0.02, 0.34), (x + way * 0.22, 0.18)], fur)
        frame.polygon([(x, 0.11), (x + way * 0.01, 0.27), (x + way * 0.13, 0.19)], inner)
    frame.disc(0.5, 0.4, 0.3, fur)
    for x in (0.38, 0.62):
        frame.pen.ellipse(frame.box(x - 0.06, 0.31, x + 0.06, 0.41), fill=eyes)
        frame.pen.ellipse(frame.box(x - 0.018, 0.315, x + 0.018, 0.405), fill=(15, 15, 15))
    frame.polygon([(0.46, 0.46), (0.54, 0.46), (0.5, 0.51)], inner)
    for y in (0.47, 0.52):
        for way in (1, -1):
            frame.line([(0.5 + way * 0.08, 0.5), (0.5 + way * 0.36, y)], (235, 235, 235), 0.008)
    return f"{name} cat"


_PAINTERS: Final[dict[str, Callable[[random.Random, _Frame], str]]] = {
    "pizza": _pizza,
    "burger": _burger,
    "apple": _apple,
    "car": _car,
    "house": _house,
    "cat": _cat,
}


def _ground(rng: random.Random, pen: ImageDraw.ImageDraw, size: tuple[int, int], colour: Colour) -> None:
    """A darker lower part, such as a table or a meadow."""
    height = int(size[1] * rng.uniform(0.6, 0.85))
    pen.rectangle((0, height, *size), fill=_darker(colour, 0.9))


def _scattered(rng: random.Random, count: int, reach: float) -> list[tuple[float, float]]:
    """Places around the middle that aren't too near to one another."""
    places: list[tuple[float, float]] = []
    for _ in range(count * 12):
        angle, distance = rng.uniform(0, 2 * math.pi), reach * math.sqrt(rng.random())
        x, y = 0.5 + distance * math.cos(angle), 0.5 + distance * math.sin(angle)
        if len(places) < count and all(math.hypot(x - a, y - b) > 0.12 for a, b in places):
            places.append((x, y))
    return places


def _varied(rng: random.Random, colour: Colour, by: int) -> Colour:
    red, green, blue = (min(255, max(0, value + rng.randint(-by, by))) for value in colour)
    return red, green, blue


def _darker(colour: Colour, factor: float = 0.7) -> Colour:
    red, green, blue = (int(value * factor) for value in colour)
    return red, green, blue


def _lighter(colour: Colour) -> Colour:
    red, green, blue = (value + (255 - value) // 2 for value in colour)
    return red, green, blue
