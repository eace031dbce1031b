"""A worker without a model, as cheap as gRPC lets it be: ``python -m benchmarks.relay.backend ADDRESS``.

It answers at once, with as many deltas as ``max_tokens`` says, made beforehand. It serves the worker's API,
for the gateway, and the public one, for direct calls and for proxies, which know nothing of workers.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator
from typing import Any

import grpc

from diplex import multiplexing
from diplex.v1 import generation_pb2 as pb
from diplex.v1 import models_pb2
from diplex.worker.v1 import worker_pb2

MODEL = "echo"

_STATE = worker_pb2.WatchResponse(
    worker="backend",
    backend=pb.BACKEND_ONNX,
    ready=True,
    multiplexes=True,
    models=[
        models_pb2.Model(
            name=MODEL,
            capabilities=models_pb2.ModelCapabilities(chat=True, context_length=8192),
            deployments=[
                models_pb2.ModelDeployment(
                    state=models_pb2.MODEL_STATE_READY,
                    precision=pb.PRECISION_INT8,
                    slots=models_pb2.SlotUse(total=64),
                )
            ],
        )
    ],
).SerializeToString()

_ACCEPTED = pb.Accepted(request_id="r", model=MODEL, worker="backend", prompt_tokens=8)
_RECEIPT = pb.Receipt(request_id="r", model=MODEL, worker="backend", attempts=1)
_FINISHED = pb.ChoiceFinished(reason=pb.FINISH_REASON_MAX_TOKENS)


def _event(**event: Any) -> bytes:
    return pb.GenerateStreamResponse(sequence=1000, **event).SerializeToString()


_FIRST = _event(accepted=_ACCEPTED)
_DELTA = _event(delta=pb.Delta(text=" token", tokens=1))
_LAST = (_event(finished=_FINISHED), _event(receipt=_RECEIPT))
_WHOLE = pb.GenerateResponse(
    choices=[pb.Choice(text=" token", finish_reason=pb.FINISH_REASON_MAX_TOKENS)],
    accepted=_ACCEPTED,
    receipt=_RECEIPT,
).SerializeToString()


def _enveloped(
    event: bytes, kind: worker_pb2.EventKind.ValueType, **more: Any
) -> worker_pb2.GenerateResponse:
    return worker_pb2.GenerateResponse(event=event, kind=kind, **more)


_ENVELOPED = {
    _FIRST: _enveloped(_FIRST, worker_pb2.EVENT_KIND_ACCEPTED),
    _DELTA: _enveloped(_DELTA, worker_pb2.EVENT_KIND_DELTA, token_ids=[4711], characters=6),
    _LAST[0]: _enveloped(_LAST[0], worker_pb2.EVENT_KIND_FINISHED, completion_tokens=1),
    _LAST[1]: _enveloped(_LAST[1], worker_pb2.EVENT_KIND_RECEIPT),
}  # a public event -> the same as a worker sends it
_REST = worker_pb2.GenerateResponse()
_REST.CopyFrom(_ENVELOPED[_DELTA])
_REST.following.extend(_ENVELOPED[it] for it in _LAST)


async def _stream(tokens: int) -> AsyncGenerator[bytes]:
    yield _FIRST
    for _ in range(tokens):
        yield _DELTA
    for event in _LAST:
        yield event


async def _generate(_: bytes, __: object) -> bytes:
    return _WHOLE


async def _generate_stream(data: bytes, _: object) -> AsyncGenerator[bytes]:
    async for event in _stream(pb.GenerateRequest.FromString(data).stopping.max_tokens):
        yield event


async def _worker_generate(data: bytes, context: multiplexing.Context) -> None:
    message = worker_pb2.GenerateRequest.FromString(data)
    if message.whole:
        await context.write(_ENVELOPED[_FIRST])
        await context.write(_REST)
        return
    async for event in _stream(message.request.stopping.max_tokens):
        await context.write(_ENVELOPED[event])


async def _multiplex(_: object, context: multiplexing.Context) -> None:
    await multiplexing.serve(_worker_generate, context, worker_pb2.MultiplexRequest.FromString)


async def _watch(_: bytes, __: object) -> AsyncGenerator[bytes]:
    yield _STATE
    await asyncio.Event().wait()


# Otherwise gRPC breaks the connection of a gateway, which asks more often than its default allows.
_ASKED_FOR_LIFE = [("grpc.keepalive_permit_without_calls", 1), ("grpc.http2.max_ping_strikes", 0)]


async def _serve(address: str) -> None:
    server = grpc.aio.server(options=_ASKED_FOR_LIFE)
    unary, stream = grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler
    public = {"Generate": unary(_generate), "GenerateStream": stream(_generate_stream)}
    internal = {"Multiplex": grpc.stream_stream_rpc_method_handler(_multiplex), "Watch": stream(_watch)}
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler("diplex.v1.GenerationService", public),
            grpc.method_handlers_generic_handler("diplex.worker.v1.WorkerService", internal),
        )
    )
    server.add_insecure_port(address)
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1]))
