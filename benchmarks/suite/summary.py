"""Medians, extremes and ratios of records. Pure functions."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.suite.runner import Record


@dataclass(frozen=True, slots=True)
class Spread:
    """A median and what lies around it."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread | None:
        """Of any number of values; ``None`` if there are none."""
        return cls(statistics.median(values), min(values), max(values)) if values else None


class Summary:
    """Records by cell, server and round.

    Args:
        records: Of one file.
    """

    def __init__(self, records: Iterable[Record]) -> None:
        self._figures: dict[tuple[str, str], dict[int, Mapping[str, float]]] = {}
        self.cells: list[str] = []
        """In the order in which they were measured."""
        self.servers: list[str] = []
        """In the order in which they took turns."""
        self.errors: list[Record] = []
        """Rounds without figures."""
        for record in records:
            if record.cell not in self.cells:
                self.cells.append(record.cell)
            if record.server not in self.servers:
                self.servers.append(record.server)
            if record.error:
                self.errors.append(record)
            else:
                self._figures.setdefault((record.cell, record.server), {})[record.round] = record.figures

    def value(self, cell: str, server: str, figure: str) -> Spread | None:
        """A figure over the rounds."""
        rounds = self._figures.get((cell, server), {}).values()
        return Spread.of([figures[figure] for figures in rounds if figure in figures])

    def ratio(self, cell: str, server: str, peer: str, figure: str) -> Spread | None:
        """``server`` over ``peer``, round by round."""
        ours, theirs = (self._figures.get((cell, name), {}) for name in (server, peer))
        return Spread.of(
            [
                ours[number][figure] / theirs[number][figure]
                for number in sorted(ours.keys() & theirs.keys())
                if figure in ours[number] and theirs[number].get(figure)
            ]
        )
