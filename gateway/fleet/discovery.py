"""Finds workers behind DNS names: all addresses of a name, looked up again every few seconds.

gRPC would do this too, but only once a channel is in trouble: a healthy one never learns of new replicas.
"""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import structlog

from gateway.fleet.config import DiscoveryConfig
from gateway.fleet.endpoint import Endpoint, Name, parse

Resolve = Callable[[str], Awaitable[Sequence[str]]]
"""From a host's name to its IP addresses; raises ``OSError`` when that can't be told."""

_FAMILIES: Final = {"any": socket.AF_UNSPEC, "ipv4": socket.AF_INET, "ipv6": socket.AF_INET6}

_LOG: Final = structlog.get_logger()


def system_resolver(config: DiscoveryConfig) -> Resolve:
    """Asks the operating system, hosts file included."""

    async def resolve(host: str) -> Sequence[str]:
        found = await asyncio.get_running_loop().getaddrinfo(
            host, None, family=_FAMILIES[config.address_family], type=socket.SOCK_STREAM
        )
        return [str(address[0]) for *_, address in found]

    return resolve


class Discovery:
    """Follows the addresses of a gateway's workers between :meth:`open` and :meth:`close`.

    Args:
        workers: Addresses as users write them; see :func:`gateway.fleet.endpoint.parse`.
        config: How often, and which addresses.
        changed: Called after each change of :attr:`endpoints`.
        resolve: What looks names up; ``None`` for the operating system.
    """

    def __init__(
        self,
        workers: Sequence[str],
        config: DiscoveryConfig,
        changed: Callable[[], None],
        resolve: Resolve | None = None,
    ) -> None:
        self._config = config
        self._changed = changed
        self._resolve = resolve or system_resolver(config)
        self._found: dict[Endpoint | Name, tuple[Endpoint, ...]] = {}  # as configured -> found there last
        for worker in map(parse, workers):
            self._found[worker] = (worker,) if isinstance(worker, Endpoint) else ()
        self._following: list[asyncio.Task[None]] = []

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """All that are known now, each address once, in the configured order."""
        unique = {it.address: it for found in reversed(self._found.values()) for it in reversed(found)}
        return tuple(reversed(unique.values()))

    def open(self) -> None:
        """Begins to look names up."""
        names = [it for it in self._found if isinstance(it, Name)]
        self._following = [
            asyncio.create_task(self._follow(name), name=f"discover {name.host}") for name in names
        ]

    async def close(self) -> None:
        """Ends it."""
        for task in self._following:
            task.cancel()
        await asyncio.gather(*self._following, return_exceptions=True)

    async def _follow(self, name: Name) -> None:
        failing = False
        while True:
            try:
                ips = await self._resolve(name.host)
            except (OSError, UnicodeError) as error:  # the latter: what is no name at all
                # A name server that is down must not take the workers with it, so the last answer stands.
                (_LOG.debug if failing else _LOG.warning)(
                    "name not resolved", host=name.host, error=str(error), kept=len(self._found[name])
                )
                failing = True
            else:
                failing = False
                self._take(name, ips)
            # With jitter, lest all gateways ask the name server together.
            await asyncio.sleep(self._config.interval_seconds * random.uniform(0.9, 1.1))  # noqa: S311  # no secret

    def _take(self, name: Name, ips: Sequence[str]) -> None:
        found = tuple(name.endpoint(ip) for ip in sorted(set(ips)))
        if found and found != self._found[name]:
            self._found[name] = found
            _LOG.info("workers found", host=name.host, addresses=[it.address for it in found])
            self._changed()
