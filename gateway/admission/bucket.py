"""Token buckets: how much may be used at once, and from then on at an even pace. Pure.

A bucket holds what a rate allows, and fills evenly to that. What a request turns out to have used beyond what
was taken for it is taken too, and may make a debt.
"""

from __future__ import annotations

from dataclasses import dataclass

from gateway.security.principal import Rate


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket at one moment."""

    rate: Rate
    level: float
    """What is in it; negative for a debt."""
    at: float
    """When that was so, in seconds."""

    @classmethod
    def full(cls, rate: Rate, now: float) -> Bucket:
        """A new one."""
        return cls(rate, float(rate.amount), now)

    def filled(self, now: float) -> Bucket:
        """The same a while later; a clock that was set back fills nothing."""
        gained = max(0.0, now - self.at) * self.rate.amount / self.rate.seconds
        return Bucket(self.rate, min(float(self.rate.amount), self.level + gained), now)

    def taken(self, amount: float) -> Bucket:
        """The same with so much less; a negative amount is given back."""
        return Bucket(self.rate, min(float(self.rate.amount), self.level - amount), self.at)

    def wait(self, amount: float) -> float:
        """Seconds until so much can be taken; of what is more than the whole, until the bucket is full."""
        missing = min(amount, self.rate.amount) - self.level
        return max(0.0, missing * self.rate.seconds / self.rate.amount)
