"""``diplex.worker.v1.WorkerService``: the gRPC face of a supervisor, the same for every backend."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Final

from opentelemetry import trace

from diplex import tracing, validation
from diplex.observation import Observation, observed, request_attributes
from diplex.rpc import Call
from diplex.v1 import generation_pb2 as public
from diplex.worker.v1 import worker_pb2
from workers.runtime import spans, wire
from workers.runtime.engine.messages import Admitted
from workers.runtime.senders import Senders
from workers.runtime.supervisor.model import ServedModel
from workers.runtime.supervisor.supervisor import Supervisor

_WATCH_INTERVAL_MS: Final = 100
"""At most one state message in so many milliseconds, unless the watcher asks for another interval."""

_AT_ONCE: Final = frozenset({worker_pb2.EVENT_KIND_PROGRESS, worker_pb2.EVENT_KIND_ACCEPTED})
"""Events that nobody is left waiting for."""


class WorkerServicer:
    """Serves a supervisor's models to gateways.

    Args:
        supervisor: What does the work.
        worker: Identity of this worker in events and receipts.
        version: Version of the software, told to watchers.
    """

    def __init__(self, supervisor: Supervisor, *, worker: str, version: str) -> None:
        self._supervisor = supervisor
        self._worker = worker
        self._version = version
        self._senders = Senders(supervisor.changes.notify)

    async def generate(
        self, message: worker_pb2.GenerateRequest, call: Call
    ) -> AsyncGenerator[worker_pb2.GenerateResponse]:
        """Streams one generation. Only progress is sent before the engine has admitted the request."""
        span = trace.get_current_span()
        tracing.describe(span, lambda: request_attributes(message.request))
        with observed(span, call.account) as observation, self._senders.sent(message):
            async with aclosing(self._generate(message, call, observation)) as responses:
                async for response in _together(responses) if message.whole else responses:
                    yield response

    async def _generate(
        self, message: worker_pb2.GenerateRequest, call: Call, observation: Observation
    ) -> AsyncGenerator[worker_pb2.GenerateResponse]:
        request = message.request
        validation.check_generate(request)
        model = self._find(request.model, request.precision)
        observation.model = model.entry.name
        generation = wire.generation(message, model.entry, call.timeout)
        told = wire.Told(generation, with_ids=request.output.token_ids, after=message.after_sequence)
        accepted = public.Accepted()
        if request.output.progress:
            async with aclosing(model.loading()) as loading:
                async for progress in loading:
                    yield told.progress(progress)
        async with aclosing(model.generate(generation)) as events:
            async for event in events:
                if isinstance(event, Admitted):
                    accepted = self._accepted(message.request_id or call.request_id, model, event, request)
                    yield told.accepted(accepted)
                    for response in told.echo(event.text):
                        yield response
                    continue
                observation.text()
                for response in told.piece(event):
                    yield response
        receipt = wire.receipt(accepted, model, told.finishes, generation, attempt=message.attempt)
        observation.finished(receipt)
        spans.add_engine(told.finishes, receipt)
        yield told.receipt(receipt)

    async def watch(
        self, message: worker_pb2.WatchRequest, _: Call
    ) -> AsyncGenerator[worker_pb2.WatchResponse]:
        """Streams the worker's state, at once and after every change."""
        interval = (message.min_interval_ms or _WATCH_INTERVAL_MS) / 1000
        while True:
            seen = self._supervisor.changes.count
            yield self._state(message.gateway)
            await asyncio.sleep(interval)
            await self._supervisor.changes.after(seen)

    async def load_model(
        self, message: worker_pb2.LoadModelRequest, _: Call
    ) -> AsyncGenerator[worker_pb2.LoadModelResponse]:
        """Begins to load a model, if that isn't done or under way, and streams progress until it is ready."""
        model = self._supervisor.load(message.model, wire.profile(message.precision))
        async with aclosing(model.loading()) as events:
            async for progress in events:
                yield worker_pb2.LoadModelResponse(progress=wire.load_progress(progress))
        await model.ready()
        yield worker_pb2.LoadModelResponse(
            model=wire.model_state(model, self._worker, self._supervisor.backend)
        )

    async def unload_model(
        self, message: worker_pb2.UnloadModelRequest, _: Call
    ) -> worker_pb2.UnloadModelResponse:
        """Stops a model's engine, or its being loaded."""
        await self._supervisor.unload(message.model, wire.profile(message.precision))
        return worker_pb2.UnloadModelResponse()

    async def count_tokens(
        self, message: worker_pb2.CountTokensRequest, _: Call
    ) -> worker_pb2.CountTokensResponse:
        """Counts an input's tokens as a generation would."""
        request = message.request
        validation.check_count_tokens(request)
        model = self._find(request.model, request.precision)
        ids = await model.count(wire.model_input(request, model.entry))
        response = public.CountTokensResponse(
            tokens=len(ids),
            context_length=model.limits.max_length,
            image_tokens=_image_tokens(request, model, ids),
        )
        if request.token_ids:
            response.token_ids.extend(ids)
        return worker_pb2.CountTokensResponse(response=response)

    def _find(self, name: str, precision: public.Precision.ValueType) -> ServedModel:
        return self._supervisor.serving(name, wire.profile(precision))

    def _accepted(
        self, request_id: str, model: ServedModel, event: Admitted, request: public.GenerateRequest
    ) -> public.Accepted:
        return wire.accepted(
            request_id,
            model,
            self._worker,
            self._supervisor.backend,
            event,
            with_ids=request.output.prompt_token_ids,
        )

    def _state(self, gateway: str) -> worker_pb2.WatchResponse:
        backend = self._supervisor.backend
        models = [wire.model_state(model, self._worker, backend) for model in self._supervisor.offered]
        return worker_pb2.WatchResponse(
            worker=self._worker,
            backend=wire.BACKENDS[backend],
            draining=self._supervisor.draining,
            models=models,
            version=self._version,
            ready=self._supervisor.ready,
            memory_budget_bytes=self._supervisor.memory_budget or 0,
            unserved=[wire.unserved(entry, backend) for entry in self._supervisor.unserved],
            others=[self._senders.others(gateway, model) for model in models],
            multiplexes=True,
        )


async def _together(
    responses: AsyncGenerator[worker_pb2.GenerateResponse],
) -> AsyncGenerator[worker_pb2.GenerateResponse]:
    """The same with all that comes behind ``accepted`` in one message."""
    first: worker_pb2.GenerateResponse | None = None
    async for response in responses:
        if response.kind in _AT_ONCE:
            yield response
        elif first is None:
            first = response
        else:
            first.following.append(response)
    if first is not None:
        yield first


def _image_tokens(request: public.CountTokensRequest, model: ServedModel, ids: Sequence[int]) -> int:
    """Of the token ids of an input, how many stand for images."""
    vision = model.description.vision if model.description else None
    if vision is None or not request.HasField("chat"):
        return 0
    images = sum(part.HasField("image") for message in request.chat.messages for part in message.parts)
    return ids.count(vision.image_token_id) - images * vision.marks
