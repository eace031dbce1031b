"""What a stream has brought so far: the state that both clients' streams share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NoReturn

from diplex import errors
from diplex.client import conversion
from diplex.client.inputs import ToolCall
from diplex.client.replies import (
    Accepted,
    Choice,
    Delta,
    FinishReason,
    Generation,
    Receipt,
    TokenLogprob,
    ToolCallDelta,
)
from diplex.v1 import generation_pb2 as pb


class Transcript:
    """Takes the events of one stream in their order and keeps what they come to."""

    def __init__(self) -> None:
        self._accepted: Accepted | None = None
        self._receipt: Receipt | None = None
        self._deltas: list[Delta] = []
        self._finished: dict[int, tuple[FinishReason, str | int | None]] = {}  # choice -> how it ended
        self._text = ""
        self._joined = 0  # deltas whose text stands in _text

    def take(self, event: pb.GenerateStreamResponse) -> Delta | None:
        """Keeps an event; returns the delta if it is one."""
        if event.HasField("delta"):
            delta = conversion.delta(event.delta)
            self._deltas.append(delta)
            return delta
        if event.HasField("accepted"):
            self._accepted = conversion.accepted(event.accepted)
        elif event.HasField("finished"):
            end = event.finished
            self._finished[end.choice] = (
                conversion.finish_reason(end.reason),
                conversion.stop_match(end.stop_match),
            )
        elif event.HasField("receipt"):
            self._receipt = conversion.receipt(event.receipt)
        return None

    @property
    def begun(self) -> bool:
        """Whether any event but progress has come."""
        return self._accepted is not None

    @property
    def complete(self) -> bool:
        """Whether the receipt has come, behind which there is nothing."""
        return self._receipt is not None

    def end(self) -> None:
        """Says that the peer has ended the stream.

        Raises:
            InternalError: It did so without a receipt.
        """
        if self._receipt is None:
            raise errors.InternalError("the gateway ended the stream without a receipt")

    @property
    def text(self) -> str:
        """Text of the first choice so far."""
        fresh = self._deltas[self._joined :]
        self._joined = len(self._deltas)
        self._text += "".join(delta.text for delta in fresh if delta.choice == 0)
        return self._text

    @property
    def accepted(self) -> Accepted:
        """What serves the request.

        Raises:
            RuntimeError: Nothing has come yet.
        """
        return self._accepted or _too_early("nothing has been received yet: read the stream first")

    @property
    def receipt(self) -> Receipt:
        """What the request cost.

        Raises:
            RuntimeError: The stream has not ended.
        """
        return self._receipt or _too_early("the receipt comes at the end: read the whole stream first")

    def generation(self) -> Generation:
        """Everything, as the unary call would have returned it.

        Raises:
            RuntimeError: The stream has not ended.
        """
        receipt = self.receipt
        return Generation(
            tuple(self._choice(index) for index in sorted(self._finished)), self.accepted, receipt
        )

    def _choice(self, index: int) -> Choice:
        reason, match = self._finished[index]
        deltas = [delta for delta in self._deltas if delta.choice == index]
        ids: list[int] = []
        logprobs: list[TokenLogprob] = []
        for delta in deltas:
            ids.extend(delta.token_ids)
            logprobs.extend(delta.logprobs)
        text = "".join(delta.text for delta in deltas)
        calls = tuple(_calls(deltas))
        return Choice(index, text, reason, match, tuple(ids), tuple(logprobs), calls)


def _calls(deltas: Iterable[Delta]) -> Iterator[ToolCall]:
    """The calls that a choice's deltas come to, in their order."""
    pieces: dict[int, list[ToolCallDelta]] = {}
    for delta in deltas:
        for piece in delta.tool_calls:
            pieces.setdefault(piece.index, []).append(piece)
    for _, call in sorted(pieces.items()):
        yield ToolCall(
            *("".join(parts) for parts in zip(*((p.id, p.name, p.arguments) for p in call), strict=True))
        )


def _too_early(message: str) -> NoReturn:
    raise RuntimeError(message)
