"""The public events in what a worker sends."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc

from diplex.v1 import generation_pb2 as pb
from diplex.worker.v1 import worker_pb2


class Events:
    """A call of a worker's ``Generate``, read as a client of the gateway would.

    Args:
        call: The call.
    """

    def __init__(
        self, call: grpc.aio.UnaryStreamCall[worker_pb2.GenerateRequest, worker_pb2.GenerateResponse]
    ) -> None:
        self.call = call
        self.responses: list[worker_pb2.GenerateResponse] = []
        """All that the worker has sent, message by message."""
        self._following: list[worker_pb2.GenerateResponse] = []

    async def read(self):
        """The next event; ``grpc.aio.EOF`` behind the last one."""
        if self._following:
            return pb.GenerateStreamResponse.FromString(self._following.pop(0).event)
        response = await self.call.read()
        if not isinstance(response, worker_pb2.GenerateResponse):
            return response
        self.responses.append(response)
        self._following.extend(response.following)
        return pb.GenerateStreamResponse.FromString(response.event)

    async def __aiter__(self) -> AsyncIterator[pb.GenerateStreamResponse]:
        while (event := await self.read()) is not grpc.aio.EOF:
            yield event

    def cancel(self) -> None:
        """Ends the call."""
        self.call.cancel()

    async def initial_metadata(self):
        """Comes once the request is admitted."""
        return await self.call.initial_metadata()
