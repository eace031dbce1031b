"""Diplex as its users reach it: the gateway, over gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence

import grpc

from benchmarks.servers.process_tree import ProcessTree
from benchmarks.servers.server import Sizing, StreamFailed
from benchmarks.stack import Stack
from diplex.v1 import generation_pb2 as pb

_METHOD = "/diplex.v1.GenerationService/GenerateStream"
_READY_SECONDS = 60


class Diplex:
    """Gateway and ONNX worker on unix sockets.

    Args:
        model: Name in the catalogue, optionally with a profile behind a slash.
        worker_options: Further options of the worker's ``serve``.
        name: How tables call it.
    """

    def __init__(self, model: str, worker_options: Sequence[str] = (), name: str = "diplex") -> None:
        self.name = name
        self.tree = ProcessTree()
        self._model = model
        self._options = worker_options
        self._stack: Stack | None = None
        self._channel: grpc.aio.Channel | None = None

    async def start(self, sizing: Sizing) -> None:
        """See :class:`~benchmarks.servers.server.Server`."""
        options = ["--slots", str(sizing.clients), "--max-length", str(sizing.max_length), *self._options]
        stack = Stack(models=[self._model], worker_options=options)
        stack.__enter__()  # in this thread, to which its processes are tied
        self._stack = stack
        self.tree = ProcessTree(stack.pids)
        self._channel = grpc.aio.insecure_channel(stack.address)
        await asyncio.wait_for(self._channel.channel_ready(), _READY_SECONDS)

    async def generate(self, prompt: Sequence[int], tokens: int) -> AsyncGenerator[int]:
        """See :class:`~benchmarks.servers.server.Server`."""
        request = pb.GenerateRequest(tokens=pb.TokenInput(ids=prompt))
        request.sampling.temperature = 0
        request.stopping.max_tokens = request.stopping.min_tokens = tokens
        assert self._channel is not None  # noqa: S101  # started
        call = self._channel.unary_stream(_METHOD)(request.SerializeToString())
        parse = pb.GenerateStreamResponse.FromString
        try:
            while (data := await call.read()) is not grpc.aio.EOF:
                event = parse(data)
                if event.HasField("delta"):
                    yield event.delta.tokens
        except grpc.RpcError as error:
            raise StreamFailed(f"{error.code()}: {error.details()}") from error
        finally:
            call.cancel()

    @property
    def http_socket(self) -> str:
        """Path of the socket on which the gateway speaks HTTP."""
        assert self._stack is not None  # noqa: S101  # started
        return self._stack.http_address.removeprefix("unix:")

    async def stop(self) -> None:
        """See :class:`~benchmarks.servers.server.Server`."""
        if self._channel is not None:
            await self._channel.close()
        if self._stack is not None:
            self._stack.__exit__(None, None, None)
        self._stack = self._channel = None
