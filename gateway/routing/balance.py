"""The order of workers that could serve a request equally well. Pure: chance comes in as an argument."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from gateway.routing.load import Standing


def ordered(
    standings: Iterable[Standing],
    *,
    homes: Collection[str],
    affinity_yield: float,
    mean_tokens: float,
    random: Callable[[], float],
) -> list[Standing]:
    """The one to take first, then those to turn to when it fails.

    First comes the worker that holds the prompt's beginning, unless its load forbids. All other places are
    drawn: two at random, the less loaded of them (Mitzenmacher, "The Power of Two Choices in Randomized Load
    Balancing", 1996). Several gateways with the same old reports then don't all turn to one worker, as they
    would to the least loaded.

    Args:
        standings: The workers.
        homes: Addresses of workers that hold the beginning of the prompt.
        affinity_yield: See :class:`gateway.routing.config.RoutingConfig`.
        mean_tokens: About what a request comes to.
        random: Draws from [0, 1).
    """
    left = list(standings)
    order: list[Standing] = []
    home = min((it for it in left if it.address in homes), key=_lighter, default=None)
    if home and not _yields(home, left, affinity_yield, mean_tokens):
        left.remove(home)
        order.append(home)
    while left:
        order.append(left.pop(_of_two(left, random)))
    return order


def _yields(home: Standing, among: Iterable[Standing], times: float, mean_tokens: float) -> bool:
    """Whether another is better in spite of the cache: it can begin at once, or is far lighter."""
    if home.free:
        return False
    return any(it.free or home.weight > times * it.weight + mean_tokens for it in among)


def _of_two(left: list[Standing], random: Callable[[], float]) -> int:
    """Draws two different ones; the index of the lighter, of equals the one that was taken longer ago.

    Of those that were never taken it is the one that was configured first.
    """
    first = int(random() * len(left))
    if len(left) == 1:
        return first
    second = (first + 1 + int(random() * (len(left) - 1))) % len(left)
    return min(first, second, key=lambda index: (*_lighter(left[index]), index))


def _lighter(it: Standing) -> tuple[float, int]:
    return it.weight, it.turn
