"""What the suite asks of everything that it measures."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Protocol

from benchmarks.servers.process_tree import ProcessTree


@dataclass(frozen=True, slots=True)
class Sizing:
    """What a server is started for. Each gets the room that the cell needs, and no more."""

    clients: int
    """Requests at the same time."""
    max_length: int
    """Tokens of the longest request, prompt and answer together."""


class StreamFailed(Exception):
    """A server answered with an error, or closed the connection."""


class Server(Protocol):
    """A generation server under test. Started and stopped any number of times."""

    name: str
    """How tables call it."""
    tree: ProcessTree
    """Its processes, while it runs."""

    async def start(self, sizing: Sizing) -> None:
        """Starts it and returns as soon as a request can be sent.

        Raises:
            RuntimeError: It can't be started; says what to do.
        """

    def generate(self, prompt: Sequence[int], tokens: int) -> AsyncGenerator[int]:
        """Continues a prompt greedily; yields how many tokens each message brought, as messages come.

        Closing the generator early cancels the request. A server that can't ignore the end-of-sequence token
        may bring fewer than ``tokens``.

        Raises:
            StreamFailed: The server failed.
        """

    async def stop(self) -> None:
        """Ends all its processes and waits until they are gone."""
