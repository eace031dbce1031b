"""Generations as clients hold on to them: plain, with resumption tokens, or recorded under a key."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import Protocol

from diplex.errors import ResumptionLost
from diplex.v1 import generation_pb2 as pb
from diplex.worker.v1 import worker_pb2
from gateway.caller import Caller
from gateway.resilience.config import ResilienceConfig
from gateway.resilience.recordings import Name, Recording, Recordings, Source
from gateway.resilience.relayed import Relayed, seed_of
from gateway.resilience.tokens import Seal, Tokens, secrets_of


class Runs(Protocol):
    """What runs generations: :class:`Attempts`, or what stands before them."""

    def run(
        self, request: pb.GenerateRequest, caller: Caller, relayed: Relayed, *, whole: bool = False
    ) -> AsyncGenerator[worker_pb2.GenerateResponse]:
        """See :meth:`gateway.resilience.attempts.Attempts.run`."""
        ...


class Streams:
    """Begins generations and takes them up again; ``close`` ends those that go on without a client.

    Args:
        attempts: Runs them.
        config: Bounds, and where the secrets of resumption tokens are.

    Raises:
        OSError: The file of secrets can't be read.
        ValueError: It has no good ones.
    """

    def __init__(self, attempts: Runs, config: ResilienceConfig) -> None:
        self._attempts = attempts
        self._linger = config.linger_seconds
        self._tokens = Tokens(secrets_of(config.resumption_keys_file))
        self._recordings = Recordings(config)

    def events(
        self, request: pb.GenerateRequest, caller: Caller, *, whole: bool = False
    ) -> AsyncGenerator[bytes]:
        """A generation's events, from the first one or from where the request says.

        Args:
            request: A checked one, as the client sent it.
            caller: On whose behalf.
            whole: Nobody reads along; the deltas may come at the end.

        Raises:
            IdempotencyKeyReused: The key names the generation of another request.
            InvalidRequest: The tokens aren't of a stream of this request.
            ResumptionLost: The stream isn't held here, and there are no tokens.
        """
        if not (request.idempotency_key or request.resumable or request.HasField("resume")):
            return self._plain(request, caller, whole=whole)
        digest = _digest(request)
        name = Name(caller.principal.subject, caller.client, request.idempotency_key)
        if recording := self._recorded(request, name, digest):
            return recording.read(request.resume.after_sequence)
        relayed, seal = self._taken_up(request, digest + caller.principal.subject.encode())
        begun = relayed.sequence

        def source() -> Source:
            return self._numbered(request, self._lasting(caller), relayed, seal, whole=whole)

        if request.idempotency_key and (recording := self._recordings.begin(name, digest, begun, source)):
            return recording.read(begun)
        return self._sealed(request, caller, relayed, seal, whole=whole)

    async def close(self) -> None:
        """Ends the generations that go on without a client."""
        await self._recordings.close()

    def _recorded(self, request: pb.GenerateRequest, name: Name, digest: bytes) -> Recording | None:
        """The recording that the request means, if it has all that is asked for."""
        recording = self._recordings.find(name, digest) if request.idempotency_key else None
        return recording if recording and recording.holds(request.resume.after_sequence) else None

    def _taken_up(self, request: pb.GenerateRequest, owner: bytes) -> tuple[Relayed, Seal]:
        """What the client has already, and what seals the events behind that."""
        if not request.resume.after_sequence:
            return Relayed(seed_of(request)), self._tokens.seal(owner)
        if not request.resume.resumption_token:
            raise ResumptionLost(
                "this gateway doesn't hold the stream, and the request brings no tokens of it"
            )
        return self._tokens.opened(request.resume, owner)

    def _lasting(self, caller: Caller) -> Caller:
        """Who a generation is for that may go on without its client."""
        return caller if caller.deadline is None else replace(caller, deadline=caller.deadline + self._linger)

    async def _plain(
        self, request: pb.GenerateRequest, caller: Caller, *, whole: bool
    ) -> AsyncGenerator[bytes]:
        responses = self._attempts.run(request, caller, Relayed(seed_of(request)), whole=whole)
        async with aclosing(responses):
            async for response in responses:
                yield response.event

    async def _sealed(
        self, request: pb.GenerateRequest, caller: Caller, relayed: Relayed, seal: Seal, *, whole: bool
    ) -> AsyncGenerator[bytes]:
        responses = self._attempts.run(request, caller, relayed, whole=whole)
        async with aclosing(responses):
            async for response in responses:
                yield seal.event(response, relayed)

    async def _numbered(
        self, request: pb.GenerateRequest, caller: Caller, relayed: Relayed, seal: Seal, *, whole: bool
    ) -> AsyncGenerator[tuple[int, bytes]]:
        events = self._sealed(request, caller, relayed, seal, whole=whole)
        async with aclosing(events):
            async for event in events:
                yield relayed.sequence, event


def _digest(request: pb.GenerateRequest) -> bytes:
    """What tells a request apart from others, however it is taken up."""
    if request.HasField("resume"):
        whole, request = request, pb.GenerateRequest()
        request.CopyFrom(whole)
        request.ClearField("resume")
    return hashlib.sha256(request.SerializeToString(deterministic=True)).digest()
