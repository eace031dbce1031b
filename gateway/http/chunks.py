"""The events of a generation as server-sent events with OpenAI's chunks in them.

A chunk comes a token and stream, so nothing is built that can be laid ready.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod

from diplex.v1 import generation_pb2 as pb
from gateway.http.facts import encode, extension, usage


class Chunks(ABC):
    """Makes the chunks of one stream.

    Args:
        choices: How many there will be.
        include_usage: Whether one more chunk, without choices, tells the usage.
    """

    prefix: str
    """Of ids."""
    kind: str
    """What a chunk calls itself."""
    end = b"data: [DONE]\n\n"
    """What follows the last chunk."""

    def __init__(self, choices: int, *, include_usage: bool) -> None:
        self._choices = choices
        self._include_usage = include_usage
        self._head = ""  # of a chunk, up to its choices
        self._tail = ',"usage":null}\n\n' if include_usage else "}\n\n"
        self._held = ""  # the last choice that has ended; the receipt rides on its chunk
        self._accepted = pb.Accepted()
        self._reasons: dict[int, int] = {}  # choice -> why it ended

    def take(self, data: bytes) -> bytes:
        """The chunks of the next event, ready to be sent; empty if it says nothing.

        Args:
            data: A ``GenerateStreamResponse``.
        """
        event = pb.GenerateStreamResponse.FromString(data)
        match event.WhichOneof("event"):
            case "delta":
                return self._release(self._delta(event.delta))
            case "accepted":
                return self._begin(event.accepted)
            case "finished":
                released = self._release("")
                self._held = self._finished(event.finished)
                self._reasons[event.finished.choice] = event.finished.reason
                return released
            case "receipt":
                return self._end(event.receipt)
        return b""

    @abstractmethod
    def _first(self, choice: int) -> str:
        """What a choice begins with; may be empty."""

    @abstractmethod
    def _delta(self, delta: pb.Delta) -> str:
        """A piece of a choice; empty if it shows nothing."""

    @abstractmethod
    def _finished(self, finished: pb.ChoiceFinished) -> str:
        """The end of a choice."""

    def _begin(self, accepted: pb.Accepted) -> bytes:
        self._accepted = accepted
        self._head = (
            f'data: {{"id":{encode(self.prefix + accepted.request_id)},"object":"{self.kind}",'
            f'"created":{int(time.time())},"model":{encode(accepted.model)},"choices":['
        )
        ids = list(accepted.prompt_token_ids)
        beside = f',"prompt_token_ids":{ids}' if ids else ""
        firsts = map(self._first, range(self._choices))
        return b"".join(self._chunk(first, beside) for first in firsts if first)

    def _release(self, choice: str) -> bytes:
        """The chunk that was held, if there is one, and one with this choice, if it isn't empty."""
        held, self._held = self._held, ""
        if not held:
            return self._chunk(choice) if choice else b""
        return self._chunk(held) + (self._chunk(choice) if choice else b"")

    def _chunk(self, choice: str, beside: str = "") -> bytes:
        return f"{self._head}{choice}]{beside}{self._tail}".encode()

    def _end(self, receipt: pb.Receipt) -> bytes:
        reasons = [self._reasons[choice] for choice in sorted(self._reasons)]
        told = encode(extension(self._accepted, receipt, reasons))
        if not self._include_usage:
            return f'{self._head}{self._held}],"diplex":{told}}}\n\n'.encode()
        last = f'{self._head}],"usage":{encode(usage(receipt))},"diplex":{told}}}\n\n'
        return self._release("") + last.encode()
