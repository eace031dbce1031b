"""How far a stream has come: what the next attempt has to say to go on behind it."""

from __future__ import annotations

from diplex.client import wire
from diplex.v1 import generation_pb2 as pb


class Course:
    """One stream over all its attempts.

    Args:
        request: As the caller made it; not changed.
        limit: Bytes that a request may have.
        resumable: Whether it is to be gone on with when its connection breaks.

    Raises:
        MessageTooLarge: The request has more bytes.
    """

    def __init__(self, request: pb.GenerateRequest, *, limit: int, resumable: bool) -> None:
        if resumable and not request.resumable:
            given, request = request, pb.GenerateRequest()
            request.CopyFrom(given)
            request.resumable = True
        self._request = request
        self._begun = wire.serialized(request, limit=limit)
        self._tokens: list[str] = [request.resume.resumption_token]
        self._sealed = resumable
        self.after = request.resume.after_sequence
        """Sequence number of the last event."""

    @property
    def data(self) -> bytes:
        """The next attempt's request."""
        if self.after == self._request.resume.after_sequence:
            return self._begun
        request = pb.GenerateRequest()
        request.CopyFrom(self._request)
        request.resume.after_sequence = self.after
        request.resume.resumption_token = "".join(self._tokens)
        return request.SerializeToString()

    @property
    def can_go_on(self) -> bool:
        """Whether another attempt can, without anything missing or coming twice."""
        return self._sealed

    def take(self, event: pb.GenerateStreamResponse) -> None:
        """Notes an event."""
        if event.HasField("progress"):
            return
        self.after = event.sequence
        token = event.resumption_token
        if token:
            self._tokens.append(token)
        elif not event.HasField("receipt"):
            self._sealed = False
