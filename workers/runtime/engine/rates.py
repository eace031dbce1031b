"""How fast an engine has been lately."""

from __future__ import annotations

from dataclasses import dataclass

_HALF_LIFE = 5.0
"""Seconds of work after which a measurement counts half."""


@dataclass(slots=True)
class Rate:
    """Tokens a second, averaged over recent work with exponential decay. Idle time doesn't count."""

    _tokens: float = 0.0
    _seconds: float = 0.0

    def add(self, tokens: float, seconds: float) -> None:
        """Takes in one step's work."""
        keep = 0.5 ** (seconds / _HALF_LIFE)
        self._tokens = self._tokens * keep + tokens
        self._seconds = self._seconds * keep + seconds

    @property
    def per_second(self) -> float:
        """Tokens a second; 0 before there has been any work."""
        return self._tokens / self._seconds if self._seconds > 0 else 0.0
