"""A gateway without workers: real sockets, health and error mapping around a script of what to answer.

In a test's own event loop: ``async with FakeGateway().serving() as address``. Beside synchronous code:
``with FakeGateway().in_thread() as address``. As a process, to look at: ``python -m tests.fake_gateway``.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

from diplex import errors
from diplex.certificates import ServerTls
from diplex.rpc import Call
from diplex.serving import Server, ServerConfig
from diplex.telemetry import configure_logging
from diplex.v1 import generation_pb2 as pb
from diplex.v1 import models_pb2 as models_pb

MODEL = "Fake-1M"
BROKEN_MODEL = "Broken-7B"

_GENERATION = pb.DESCRIPTOR.services_by_name["GenerationService"]
_MODELS = models_pb.DESCRIPTOR.services_by_name["ModelService"]


@dataclass
class FakeGateway:
    """Answers every request with ``words``, one delta each, and keeps what it was asked."""

    words: list[str] = field(default_factory=lambda: ["Paris", " is", " the", " capital", "."])
    error: errors.DiplexError | None = None
    """Raised instead of an answer, behind ``error_after`` deltas."""
    error_after: int = 0
    hold_after: int | None = None
    """Deltas after which a stream waits until it is cancelled."""
    pause: float = 0.0
    """Seconds between deltas, for looking at."""
    with_receipt: bool = True
    requests: list[pb.GenerateRequest] = field(default_factory=list)
    request_ids: list[str] = field(default_factory=list)
    clients: list[str] = field(default_factory=list)
    authorizations: list[str | None] = field(default_factory=list)
    timeouts: list[float | None] = field(default_factory=list)
    cancelled: threading.Event = field(default_factory=threading.Event)
    """Set once a stream's caller has gone."""

    async def generate(self, request: pb.GenerateRequest, call: Call) -> pb.GenerateResponse:
        """The unary RPC."""
        self._note(request, call)
        if self.hold_after is not None:
            await self._wait_for_cancel()
        if self.error:
            raise self.error
        ids = range(1, len(self.words) + 1) if request.output.token_ids else ()
        choices = [
            pb.Choice(
                index=index,
                text="".join(self.words),
                token_ids=ids,
                finish_reason=pb.FINISH_REASON_STOP,
                stop_match=pb.StopMatch(text="\n"),
            )
            for index in range(request.output.n or 1)
        ]
        return pb.GenerateResponse(
            choices=choices, accepted=self._accepted(call), receipt=self._receipt(call)
        )

    async def plan(self, request: pb.GenerateRequest, _: Call) -> pb.PlanResponse:
        """One worker that could serve, and one that can't."""
        common = {"model": request.model or MODEL, "precision": pb.PRECISION_INT8}
        return pb.PlanResponse(
            candidates=[
                pb.PlanCandidate(
                    **common, backend=pb.BACKEND_ONNX, worker="one", reason="idle", can_serve=True
                ),
                pb.PlanCandidate(**common, backend=pb.BACKEND_TORCH, worker="two", reason="no memory"),
            ]
        )

    async def generate_stream(
        self, request: pb.GenerateRequest, call: Call
    ) -> AsyncIterator[pb.GenerateStreamResponse]:
        """The streaming RPC."""
        self._note(request, call)
        if self.error and not self.error_after:
            raise self.error
        yield pb.GenerateStreamResponse(accepted=self._accepted(call))
        choices = range(request.output.n or 1)
        for index, word in enumerate(self.words):
            if index == self.hold_after:
                await self._wait_for_cancel()
            if self.error and index == self.error_after:
                raise self.error
            if self.pause:
                await asyncio.sleep(self.pause)
            for choice in choices:
                ids = [index + 1] if request.output.token_ids else ()
                delta = pb.Delta(choice=choice, text=word, tokens=1, token_ids=ids)
                yield pb.GenerateStreamResponse(delta=delta)
        for choice in choices:
            finished = pb.ChoiceFinished(
                choice=choice, reason=pb.FINISH_REASON_STOP, stop_match=pb.StopMatch(text="\n")
            )
            yield pb.GenerateStreamResponse(finished=finished)
        if self.with_receipt:
            yield pb.GenerateStreamResponse(receipt=self._receipt(call))

    async def count_tokens(self, request: pb.CountTokensRequest, _: Call) -> pb.CountTokensResponse:
        """Counts words."""
        text = request.prompt or " ".join(p.text for m in request.chat.messages for p in m.parts)
        count = len(text.split())
        return pb.CountTokensResponse(
            tokens=count, token_ids=range(count) if request.token_ids else (), context_length=2048
        )

    async def list_models(self, _: models_pb.ListModelsRequest, __: Call) -> models_pb.ListModelsResponse:
        """One model, deployed twice, and one that failed."""
        return models_pb.ListModelsResponse(models=[self._model(), _broken_model()], default_model=MODEL)

    async def get_model(self, request: models_pb.GetModelRequest, _: Call) -> models_pb.GetModelResponse:
        """A model, by name or alias."""
        if request.model == BROKEN_MODEL:
            return models_pb.GetModelResponse(model=_broken_model())
        if request.model not in {MODEL, "fake"}:
            raise errors.ModelNotFound(
                f"no worker serves {request.model!r}; `diplex models` lists what is served"
            )
        return models_pb.GetModelResponse(model=self._model())

    async def load_model(
        self, request: models_pb.LoadModelRequest, _: Call
    ) -> AsyncIterator[models_pb.LoadModelResponse]:
        """Two steps, then the model."""
        if request.model != MODEL:
            raise errors.InsufficientMemory("there is no room", metadata={"needed_bytes": "7"})
        progress = pb.LoadProgress(phase=pb.LOAD_PHASE_CONVERT, done=1, total=4, detail="a tensor")
        yield models_pb.LoadModelResponse(progress=progress)
        progress = pb.LoadProgress(
            phase=pb.LOAD_PHASE_LOAD, done=50_000_000, total=200_000_000, detail="an artefact"
        )
        progress.eta.FromSeconds(3)
        yield models_pb.LoadModelResponse(progress=progress)
        yield models_pb.LoadModelResponse(model=self._model())

    async def unload_model(
        self, request: models_pb.UnloadModelRequest, _: Call
    ) -> models_pb.UnloadModelResponse:
        """Succeeds for the model."""
        if request.model != MODEL:
            raise errors.ModelNotFound(f"{request.model} is not loaded")
        return models_pb.UnloadModelResponse()

    @asynccontextmanager
    async def serving(
        self, listen: str = "127.0.0.1:0", *, ready: bool = True, tls: ServerTls | None = None
    ) -> AsyncIterator[str]:
        """Serves in the running event loop; gives the address."""
        server = Server(ServerConfig(listen=listen, tls=tls), {_GENERATION: self, _MODELS: self})
        address = await server.start()
        await server.set_serving(serving=ready)
        self.set_serving = server.set_serving
        try:
            yield address
        finally:
            await server.stop()

    @contextmanager
    def in_thread(
        self, listen: str = "127.0.0.1:0", *, ready: bool = True, tls: ServerTls | None = None
    ) -> Iterator[str]:
        """Serves in an event loop of its own; gives the address."""
        loop = asyncio.new_event_loop()
        stopping = asyncio.Event()
        addresses: list[str] = []
        started = threading.Event()

        async def serve() -> None:
            async with self.serving(listen, ready=ready, tls=tls) as address:
                addresses.append(address)
                started.set()
                await stopping.wait()

        thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
        thread.start()
        try:
            assert started.wait(10), "the fake gateway did not start"
            yield addresses[0]
        finally:
            loop.call_soon_threadsafe(stopping.set)
            thread.join()
            loop.close()

    def _note(self, request: pb.GenerateRequest, call: Call) -> None:
        self.requests.append(request)
        self.request_ids.append(call.request_id)
        self.clients.append(call.client)
        self.authorizations.append(call.headers.get("authorization"))
        self.timeouts.append(call.timeout)

    async def _wait_for_cancel(self) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()

    def _accepted(self, call: Call) -> pb.Accepted:
        return pb.Accepted(
            request_id=call.request_id,
            model=MODEL,
            backend=pb.BACKEND_ONNX,
            precision=pb.PRECISION_INT8,
            worker="onnx-1a2b",
            prompt_tokens=7,
        )

    def _receipt(self, call: Call) -> pb.Receipt:
        return pb.Receipt(
            request_id=call.request_id,
            model=MODEL,
            model_digest="sha256:" + "ab" * 32,
            backend=pb.BACKEND_ONNX,
            precision=pb.PRECISION_INT8,
            worker="onnx-1a2b",
            attempts=1,
            usage=pb.Usage(prompt_tokens=7, cached_prompt_tokens=3, completion_tokens=len(self.words)),
            timings=pb.Timings(queue_ms=0.5, prefill_ms=12.5, decode_ms=40.0),
            seed=42,
        )

    def _model(self) -> models_pb.Model:
        model = models_pb.Model(name=MODEL, aliases=["fake"], architecture="llama", licence="Apache-2.0")
        model.capabilities.chat = True
        model.capabilities.context_length = 2048
        model.capabilities.vocabulary_size = 49152
        model.deployments.add(
            worker="onnx-1a2b",
            backend=pb.BACKEND_ONNX,
            precision=pb.PRECISION_INT8,
            state=models_pb.MODEL_STATE_READY,
            digest="sha256:" + "ab" * 32,
            loaded_bytes=232 << 20,
            most_bytes=4059 << 20,
            slots=models_pb.SlotUse(total=8, busy=3, queued=1),
            rates=models_pb.Rates(decode_tokens_per_second=391.5),
            certificate=models_pb.Certificate(kl=0.0061, perplexity=21.4, top1_agreement=0.97, tokens=2048),
        )
        return model


def _broken_model() -> models_pb.Model:
    model = models_pb.Model(name=BROKEN_MODEL, architecture="llama")
    model.deployments.add(
        worker="onnx-1a2b",
        backend=pb.BACKEND_ONNX,
        state=models_pb.MODEL_STATE_FAILED,
        detail="no memory",
    )
    return model


async def _main(listen: str) -> None:
    text = "Paris is the capital of France. It stands on the Seine, and it has been there for a while.\n"
    words = [f"{word} " for word in text.split(" ")]
    configure_logging("fake", log_format="json")
    async with FakeGateway(words=words, pause=0.03).serving(listen) as address:
        print(address, flush=True)  # noqa: T201  # tells the caller where to connect
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:0"))
