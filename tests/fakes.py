"""A worker without a model: a real gRPC server in this process that does what a test's script says.

A script is a list of steps. A generation walks through them; it is admitted, with an ``accepted`` event,
just before the first text, or at an explicit ``Admit``. Behind the last step come ``finished`` and
``receipt``. Nothing here sleeps: a step that waits does so for an event that the test sets.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from diplex.certificates import ServerTls
from diplex.errors import DiplexError
from diplex.rpc import Call, Guard
from diplex.serving import Server, ServerConfig
from diplex.v1 import generation_pb2, models_pb2
from diplex.worker.v1 import worker_pb2


@dataclass(frozen=True, slots=True)
class Admit:
    """Sends ``accepted`` now."""


@dataclass(frozen=True, slots=True)
class Load:
    """Sends one event of progress."""

    detail: str


@dataclass(frozen=True, slots=True)
class Say:
    """Streams one delta that stands for one token."""

    text: str


@dataclass(frozen=True, slots=True)
class Send:
    """Streams a delta as it is."""

    delta: generation_pb2.Delta


@dataclass(frozen=True, slots=True)
class End:
    """Says why the choice will have ended, behind the last step."""

    reason: generation_pb2.FinishReason.ValueType


@dataclass(frozen=True, slots=True)
class Hold:
    """Waits until the event is set."""

    gate: asyncio.Event


@dataclass(frozen=True, slots=True)
class Fail:
    """Ends the generation with an error."""

    error: DiplexError


@dataclass(frozen=True, slots=True)
class Crash:
    """Ends the whole worker: every connection breaks."""


@dataclass(frozen=True, slots=True)
class Vanish:
    """Ends the stream in good order, but without ``finished`` and ``receipt``."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Waits so many seconds, for people and pages that look on."""

    seconds: float


Step = Admit | Load | Say | Send | End | Hold | Fail | Crash | Vanish | Pause
Script = Sequence[Step] | Callable[[worker_pb2.GenerateRequest], Sequence[Step]]
"""Steps, or what finds them for a request."""


def two_words(gates: Mapping[str, asyncio.Event]) -> Script:
    """A script that says the prompt with a 1 behind it, waits for the prompt's gate, and says it with a 2."""

    def script(message: worker_pb2.GenerateRequest) -> Sequence[Step]:
        prompt = message.request.prompt
        return [Say(f"{prompt}1"), Hold(gates[prompt]), Say(f"{prompt}2")]

    return script


@dataclass(slots=True)
class SeenCall:
    """One generation as the worker saw it."""

    request: worker_pb2.GenerateRequest
    request_id: str
    """From the call's metadata."""
    timeout: float | None
    """Seconds that the caller left, on arrival."""
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the generation is over, however it ended."""
    cancelled: bool = False
    """Whether it ended because the caller went away; known once ``ended`` is set."""


def model(
    name: str = "tiny",
    *,
    aliases: Sequence[str] = (),
    state: models_pb2.ModelState.ValueType = models_pb2.MODEL_STATE_READY,
    precision: generation_pb2.Precision.ValueType = generation_pb2.PRECISION_INT8,
    images: bool = False,
    busy: int = 0,
    detail: str = "",
) -> models_pb2.Model:
    """A model as a worker advertises it, with four slots."""
    return models_pb2.Model(
        name=name,
        aliases=aliases,
        capabilities=models_pb2.ModelCapabilities(chat=True, images=images, context_length=2048),
        deployments=[
            models_pb2.ModelDeployment(
                state=state,
                precision=precision,
                slots=models_pb2.SlotUse(total=4, busy=busy),
                detail=detail,
            )
        ],
    )


def _said_before(script: Sequence[Step], request: worker_pb2.GenerateRequest) -> int:
    """How many of the words another worker has said, as far as the script has so many."""
    prior = sum(len(choice.token_ids) for choice in request.prior)
    return prior if prior <= sum(isinstance(step, Say) for step in script) else 0


def _steps_from(script: Sequence[Step], said: int) -> Sequence[Step]:
    """What comes behind so many words; ``accepted`` has to be sent all the same."""
    if not said:
        return script
    words = [index for index, step in enumerate(script) if isinstance(step, Say)]
    return [Admit(), *script[words[said - 1] + 1 :]]


def _delta(step: Say | Send, said: int) -> generation_pb2.Delta:
    if isinstance(step, Send):
        return step.delta
    return generation_pb2.Delta(text=step.text, token_ids=[said + 1], tokens=1)


def _reason(script: Sequence[Step]) -> generation_pb2.FinishReason.ValueType:
    """Why the choice ends: as the last ``End`` says."""
    told = [step.reason for step in script if isinstance(step, End)]
    return told[-1] if told else generation_pb2.FINISH_REASON_END_OF_SEQUENCE


def _ends(
    script: Sequence[Step], request: worker_pb2.GenerateRequest
) -> Iterator[generation_pb2.GenerateStreamResponse]:
    """The ends of all choices, unless another worker has told of them."""
    if not any(choice.finished for choice in request.prior):
        for choice in range(request.request.output.n or 1):
            finished = generation_pb2.ChoiceFinished(choice=choice, reason=_reason(script))
            yield generation_pb2.GenerateStreamResponse(finished=finished)


async def _wait(step: Hold | Pause) -> None:
    match step:
        case Hold(gate):
            await gate.wait()
        case Pause(seconds):
            await asyncio.sleep(seconds)


def enveloped(
    event: generation_pb2.GenerateStreamResponse, output: generation_pb2.OutputOptions
) -> worker_pb2.GenerateResponse:
    """An event as a worker sends it; its token ids are told to the client only if it wants them."""
    kind = event.WhichOneof("event")
    assert kind is not None
    response = worker_pb2.GenerateResponse(kind=worker_pb2.EventKind.Value(f"EVENT_KIND_{kind.upper()}"))
    if kind == "delta":
        response.choice, response.characters = event.delta.choice, len(event.delta.text)
        response.token_ids.extend(event.delta.token_ids)
        if not output.token_ids:
            event.delta.ClearField("token_ids")
    elif kind == "finished":
        response.choice = event.finished.choice
    response.event = event.SerializeToString()
    return response


class FakeWorker:
    """Serves while it is open (``async with``), or between :meth:`start` and :meth:`stop`.

    Args:
        name: Its identity.
        models: What it advertises.
        script: What its generations do; loading and counting fail as steps alone say.
        ready: Whether it says that it can answer by loading a model.
        listen: Where it serves; after the start ``address`` says where that is.
        guard: Whom it lets in; ``None``: everybody.
        tls: ``None``: none.
        multiplexes: Whether it takes many generations in one call.
    """

    def __init__(
        self,
        name: str = "fake",
        *,
        models: Sequence[models_pb2.Model] | None = None,
        script: Script = (Say("Hello"), Say(" world")),
        backend: generation_pb2.Backend.ValueType = generation_pb2.BACKEND_ONNX,
        listen: str = "127.0.0.1:0",
        ready: bool = False,
        guard: Guard | None = None,
        tls: ServerTls | None = None,
        multiplexes: bool = True,
    ) -> None:
        self.name = name
        self._guard = guard
        self._tls = tls
        self.script = script
        self.address = listen
        self.timings = (0.0, 0.0, 0.0)
        """Milliseconds of queue, prefill and decoding that receipts tell."""
        self.calls: list[SeenCall] = []
        """Generations in the order in which they came."""
        self.loads: list[tuple[str, int]] = []
        """Name and precision of every model that it was to load."""
        self.unloads: list[tuple[str, int]] = []
        """The same of those that it was to unload."""
        self._arrived: asyncio.Queue[SeenCall] = asyncio.Queue()
        self._state = worker_pb2.WatchResponse(
            worker=name,
            backend=backend,
            models=[model()] if models is None else models,
            version="fake",
            ready=ready,
            multiplexes=multiplexes,
        )
        self._changed = asyncio.Event()
        self._server: Server | None = None
        self._crashing: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Serves; after :meth:`stop`, at the same address again."""
        service = worker_pb2.DESCRIPTOR.services_by_name["WorkerService"]
        self._server = Server(ServerConfig(listen=self.address, tls=self._tls), {service: self}, self._guard)
        self.address = await self._server.start()

    async def stop(self) -> None:
        """Breaks every connection at once; nothing if it isn't serving."""
        if self._crashing:
            await self._crashing
        server, self._server = self._server, None
        if server:
            await server.stop()

    async def next_call(self) -> SeenCall:
        """Waits for the next generation to arrive."""
        return await self._arrived.get()

    def advertise(self, *models: models_pb2.Model) -> None:
        """Replaces what the worker advertises."""
        state = self._copy()
        state.ClearField("models")
        state.models.extend(models)
        self._replace(state)

    def lack(self, *unserved: worker_pb2.UnservedModel) -> None:
        """Tells watchers of models that it knows and can't serve."""
        state = self._copy()
        state.unserved.extend(unserved)
        self._replace(state)

    def drain(self) -> None:
        """Tells watchers that it drains."""
        state = self._copy()
        state.draining = True
        self._replace(state)

    async def watch(self, _: worker_pb2.WatchRequest, __: Call) -> AsyncGenerator[worker_pb2.WatchResponse]:
        """The RPC."""
        while True:
            changed, state = self._changed, self._copy()
            # Whatever it says that it is busy with came from others: it is busy with nothing.
            state.others.extend(sum(it.slots.busy for it in each.deployments) for each in state.models)
            yield state
            await changed.wait()

    async def count_tokens(
        self, request: worker_pb2.CountTokensRequest, _: Call
    ) -> worker_pb2.CountTokensResponse:
        """The RPC: a token a word, and a script that fails fails it too."""
        self._fail_if_told()
        words = len(request.request.prompt.split())
        ids = range(1, words + 1) if request.request.token_ids else ()
        return worker_pb2.CountTokensResponse(
            response=generation_pb2.CountTokensResponse(tokens=words, token_ids=ids, context_length=2048)
        )

    async def load_model(
        self, request: worker_pb2.LoadModelRequest, _: Call
    ) -> AsyncGenerator[worker_pb2.LoadModelResponse]:
        """The RPC: one event of progress, then the model; a script that fails fails it too."""
        self.loads.append((request.model, request.precision))
        progress = generation_pb2.LoadProgress(phase=generation_pb2.LOAD_PHASE_WARM)
        yield worker_pb2.LoadModelResponse(progress=progress)
        self._fail_if_told()
        yield worker_pb2.LoadModelResponse(model=model(request.model, precision=request.precision))

    async def unload_model(
        self, request: worker_pb2.UnloadModelRequest, _: Call
    ) -> worker_pb2.UnloadModelResponse:
        """The RPC."""
        self.unloads.append((request.model, request.precision))
        return worker_pb2.UnloadModelResponse()

    async def generate(
        self, request: worker_pb2.GenerateRequest, call: Call
    ) -> AsyncGenerator[worker_pb2.GenerateResponse]:
        """The RPC. What is prior is not said again, nor is anything done that stands before it."""
        seen = SeenCall(request, call.request_id, call.timeout)
        self.calls.append(seen)
        self._arrived.put_nowait(seen)
        sequence = request.after_sequence
        try:
            async for event in self._walk(request):
                first = event.HasField("accepted") and request.after_sequence
                if not (event.HasField("progress") or first):
                    sequence += 1
                    event.sequence = sequence
                yield enveloped(event, request.request.output)
        except (asyncio.CancelledError, GeneratorExit):
            seen.cancelled = True
            raise
        finally:
            seen.ended.set()

    async def _walk(
        self, request: worker_pb2.GenerateRequest
    ) -> AsyncGenerator[generation_pb2.GenerateStreamResponse]:
        script = self.script(request) if callable(self.script) else self.script
        accepted, said = False, _said_before(script, request)
        for step in _steps_from(script, said):
            if isinstance(step, Admit | Say | Send) and not accepted:
                accepted = True
                yield self._accepted(request)
            match step:
                case Load(detail):
                    progress = generation_pb2.LoadProgress(
                        phase=generation_pb2.LOAD_PHASE_LOAD, detail=detail
                    )
                    yield generation_pb2.GenerateStreamResponse(progress=progress)
                case Say() | Send():
                    delta = _delta(step, said)
                    said += delta.tokens
                    yield generation_pb2.GenerateStreamResponse(delta=delta)
                case Hold() | Pause():
                    await _wait(step)
                case Fail(error):
                    raise error
                case Crash():
                    await self._crash()
                case Vanish():
                    return
        for finished in _ends(script, request):
            yield finished
        yield generation_pb2.GenerateStreamResponse(receipt=self._receipt(request, said))

    def _accepted(self, request: worker_pb2.GenerateRequest) -> generation_pb2.GenerateStreamResponse:
        accepted = generation_pb2.Accepted(
            request_id=request.request_id,
            model=request.request.model,
            backend=self._state.backend,
            precision=request.request.precision,
            worker=self.name,
            prompt_tokens=3,
            prompt_token_ids=range(1, 4) if request.request.output.prompt_token_ids else (),
        )
        return generation_pb2.GenerateStreamResponse(accepted=accepted)

    def _receipt(self, request: worker_pb2.GenerateRequest, said: int) -> generation_pb2.Receipt:
        return generation_pb2.Receipt(
            request_id=request.request_id,
            model=request.request.model,
            worker=self.name,
            attempts=request.attempt,
            usage=generation_pb2.Usage(prompt_tokens=3, completion_tokens=said),
            seed=request.request.sampling.seed,
            timings=generation_pb2.Timings(
                queue_ms=self.timings[0], prefill_ms=self.timings[1], decode_ms=self.timings[2]
            ),
        )

    def _fail_if_told(self) -> None:
        for step in () if callable(self.script) else self.script:
            if isinstance(step, Fail):
                raise step.error

    async def _crash(self) -> None:
        server, self._server = self._server, None
        if server:
            # Stopping cancels the calls, this one among them, so another task must do it.
            self._crashing = asyncio.create_task(server.stop())
        await asyncio.Event().wait()

    def _copy(self) -> worker_pb2.WatchResponse:
        state = worker_pb2.WatchResponse()
        state.CopyFrom(self._state)
        return state

    def _replace(self, state: worker_pb2.WatchResponse) -> None:
        self._state = state
        self._changed.set()
        self._changed = asyncio.Event()
