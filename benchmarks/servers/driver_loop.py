"""Makes an in-process library look like a server: one thread that takes requests and steps the pipeline.

Runs in the library's own environment, so it imports nothing but the standard library. The other end is
:mod:`benchmarks.servers.driven`. Both speak lines of JSON over a socket pair:

* to the driver: ``{"id": 1, "prompt": [...], "tokens": 64}`` and ``{"cancel": 1}``;
* from it: ``[]`` once it is ready, then one list of ``[id, tokens]`` a step.
"""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Callable
from typing import Protocol


class Pipeline(Protocol):
    """What a library's adapter offers."""

    gather_seconds: float
    """How long to wait for more requests behind the first: a static batch can't be joined later."""

    @property
    def busy(self) -> bool:
        """Whether :meth:`step` has work."""

    def submit(self, request_id: int, prompt: list[int], tokens: int) -> None:
        """Takes a request."""

    def cancel(self, request_id: int) -> None:
        """Ends a request that nobody waits for."""

    def step(self) -> list[tuple[int, int]]:
        """Runs one step; says how many tokens each request got."""


def serve(pipeline: Pipeline, channel: socket.socket) -> None:
    """Serves until the other end closes the socket."""
    say(channel, [])
    pending = b""
    while True:
        channel.settimeout(0 if pipeline.busy else None)
        try:
            while True:
                data = channel.recv(1 << 20)
                if not data:
                    return
                *lines, pending = (pending + data).split(b"\n")
                for line in lines:
                    take(pipeline, json.loads(line))
                if pipeline.busy:
                    channel.settimeout(pipeline.gather_seconds)
        except (BlockingIOError, TimeoutError):
            pass
        channel.settimeout(None)
        if tokens := pipeline.step():
            say(channel, tokens)


def take(pipeline: Pipeline, message: dict[str, object]) -> None:
    """Hands a message from the other end to the pipeline."""
    if "cancel" in message:
        pipeline.cancel(message["cancel"])
    else:
        pipeline.submit(message["id"], message["prompt"], message["tokens"])


def say(channel: socket.socket, message: object) -> None:
    """Sends a message to the other end."""
    channel.sendall(json.dumps(message).encode() + b"\n")


def main(open_pipeline: Callable[[dict[str, object]], Pipeline]) -> None:
    """Runs a driver: its arguments are the descriptor of its socket, and its configuration as JSON."""
    with socket.socket(fileno=int(sys.argv[1])) as channel:
        serve(open_pipeline(json.loads(sys.argv[2])), channel)
