"""The client for ordinary code: a real synchronous channel, no event loop. Safe to share among threads."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Final, Self, TypeVar, Unpack

import grpc
from google.protobuf.message import Message as Protobuf

from diplex import errors
from diplex.client import conversion, inputs, requests, wire
from diplex.client.connection import Connection
from diplex.client.course import Course
from diplex.client.failures import Failures
from diplex.client.images import ImageLike
from diplex.client.models import Candidate, Health, LoadProgress, Model, ModelList
from diplex.client.replies import BatchResult, Generation, TokenCount
from diplex.client.retrying import DEFAULT_PATIENCE, Retrying
from diplex.client.streams import Attempts, Stream, StreamCall
from diplex.tls import Tls
from diplex.v1 import models_pb2 as models_pb

_Reply = TypeVar("_Reply", bound=Protobuf)

_READ_IN_CALLER: Final = ("SingleThreadedUnaryStream", 1)
"""The thread that iterates over a stream also reads it, which halves the CPU time of a delta: without a hop
between threads it is 50 µs instead of 100. As in ``grpc.experimental.ChannelOptions``."""

_PAUSE: Final = 0.1
"""Seconds between two attempts to learn a gateway's health."""


class Client:
    """Talks to a Diplex gateway.

    All methods raise errors of :mod:`diplex.errors` and nothing of gRPC's:
    :class:`~diplex.errors.Unavailable` when no gateway answers,
    :class:`~diplex.errors.DeadlineExceeded` when ``timeout`` seconds have passed.

    Args:
        address: ``host:port`` or ``unix:/path``. Default: ``$DIPLEX_ADDRESS``, else ``127.0.0.1:50051``.
        max_message_bytes: Largest request that is sent; a larger one raises
            :class:`~diplex.errors.MessageTooLarge`. The server's own limit has the same default.
        client_id: Names the client, so that it gets a share of the work of its own. Default:
            ``$DIPLEX_CLIENT``, else the server goes by the host that the client calls from.
        api_key: API key or token, which tells the server who calls. Default: ``$DIPLEX_API_KEY``, else none.
        tls: Whom to trust and what to show, or ``True`` for TLS with the authorities that gRPC brings.
            Default: as ``$DIPLEX_TLS``, ``$DIPLEX_CA_FILE`` and so on say, else none.
        patience: Seconds for which a call is tried again while no gateway answers it, and for which a stream
            whose connection broke is to be gone on with; 0 for a single attempt.

    Raises:
        InvalidRequest: One of the arguments can't be used; names it.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        max_message_bytes: int = wire.MAX_MESSAGE_BYTES,
        client_id: str | None = None,
        api_key: str | None = None,
        tls: Tls | bool | None = None,
        patience: float = DEFAULT_PATIENCE,
    ) -> None:
        self._connection = Connection.resolve(address=address, tls=tls, client_id=client_id, api_key=api_key)
        self.address = self._connection.address
        self._max_message_bytes = max_message_bytes
        self._patience = patience
        self._channel = self._connection.channel(_READ_IN_CALLER)

    def generate(
        self,
        source: inputs.Input,
        /,
        *,
        timeout: float | None = None,
        request_id: str | None = None,
        **options: Unpack[inputs.GenerateOptions],
    ) -> Generation:
        """Generates and returns everything at once.

        Args:
            source: A user's text, messages, a :class:`RawPrompt`, :class:`TokenIds`, or a ready-made
                protobuf request.
            timeout: Seconds that the whole call may take.
            request_id: Names the request in logs on every hop. Default: the server chooses.
            **options: See :class:`GenerateOptions`.

        Raises:
            DiplexError: See the class.
        """
        request = requests.generate_request(source, options)
        return conversion.generation(self._unary(wire.GENERATE, request, timeout, request_id))

    def stream(
        self,
        source: inputs.Input,
        /,
        *,
        timeout: float | None = None,
        request_id: str | None = None,
        **options: Unpack[inputs.GenerateOptions],
    ) -> Stream:
        """Generates and streams; takes what :meth:`generate` takes. The request is sent at once.

        Raises:
            DiplexError: The request can't be sent. What the gateway raises comes where the stream is read.
        """
        request = requests.generate_request(source, options)
        course = Course(request, limit=self._max_message_bytes, resumable=self._patience > 0)
        retrying = Retrying(self._patience, timeout)
        failures = Failures(self.address, timeout)
        return Stream(Attempts(self._begin, course, retrying, failures, request_id or ""))

    def batch(
        self,
        sources: Iterable[inputs.Input],
        /,
        *,
        timeout: float | None = None,
        request_id: str | None = None,
        **options: Unpack[inputs.GenerateOptions],
    ) -> Generator[BatchResult]:
        """Generates for many inputs in one call; gives each answer, or its error, as it comes.

        Requests without a priority give way to everybody else's. Closing the generator ends those that run.

        Args:
            sources: Inputs as :meth:`generate` takes them; at most 4,096.
            timeout: Seconds that all may take together.
            request_id: Names the call in logs on every hop; each request's own has its index behind it.
            **options: For all of them; see :class:`GenerateOptions`.

        Raises:
            DiplexError: The call as a whole failed; see the class.
        """
        request = requests.batch_request(sources, options)
        data = wire.serialized(request, limit=self._max_message_bytes)
        call = self._channel.unary_stream(wire.BATCH.path, wire.as_it_is, wire.BATCH.parse)(
            data, timeout=timeout, metadata=self._connection.metadata(request_id)
        )
        try:
            with Failures(self.address, timeout).translated():
                for response in call:
                    yield conversion.batch_result(response)
        finally:
            call.cancel()

    def plan(
        self,
        source: inputs.Input,
        /,
        *,
        timeout: float | None = None,
        request_id: str | None = None,
        **options: Unpack[inputs.GenerateOptions],
    ) -> tuple[Candidate, ...]:
        """Asks who would serve a request, best first, and why the others would not; runs nothing.

        Takes what :meth:`generate` takes.

        Raises:
            DiplexError: See the class.
        """
        request = requests.generate_request(source, options)
        return conversion.plan(self._unary(wire.PLAN, request, timeout, request_id))

    def count_tokens(
        self,
        source: inputs.Countable,
        /,
        *,
        model: str | None = None,
        system: str | None = None,
        backend: inputs.Backend | str | None = None,
        precision: inputs.Precision | str | None = None,
        token_ids: bool = False,
        images: Sequence[ImageLike | bytes | str] | None = None,
        split_images: bool | None = None,
        longest_edge: int | None = None,
        timeout: float | None = None,
        request_id: str | None = None,
    ) -> TokenCount:
        """Counts the tokens that an input comes to, exactly as :meth:`generate` would use them.

        Raises:
            DiplexError: See the class.
        """
        request = requests.count_request(
            source,
            model=model,
            system=system,
            backend=backend,
            precision=precision,
            token_ids=token_ids,
            images=images,
            split_images=split_images,
            longest_edge=longest_edge,
        )
        return conversion.token_count(self._unary(wire.COUNT, request, timeout, request_id))

    def list_models(self, *, timeout: float | None = None) -> ModelList:
        """All models that the gateway's workers advertise.

        Raises:
            DiplexError: See the class.
        """
        return conversion.model_list(self._unary(wire.LIST_MODELS, models_pb.ListModelsRequest(), timeout))

    def get_model(self, name: str, /, *, timeout: float | None = None) -> Model:
        """One model, by name or alias.

        Raises:
            ModelNotFound: No worker knows it.
        """
        request = models_pb.GetModelRequest(model=name)
        return conversion.model(self._unary(wire.GET_MODEL, request, timeout).model)

    def load_model(
        self,
        name: str,
        /,
        *,
        progress: Callable[[LoadProgress], None] | None = None,
        timeout: float | None = None,
    ) -> Model:
        """Loads a model on the worker that would serve it; returns once it is ready.

        Leaving earlier doesn't end the loading; :meth:`unload_model` does.

        Args:
            name: Name or alias, optionally with a precision behind a slash.
            progress: Called with how far it is.
            timeout: Seconds.

        Raises:
            ModelNotFound: No worker knows it.
            InsufficientMemory: It doesn't fit beside what has to stay.
            DiplexError: Why it can't be loaded.
        """
        request = wire.serialized(models_pb.LoadModelRequest(model=name), limit=self._max_message_bytes)
        call = self._channel.unary_stream(wire.LOAD_MODEL.path, wire.as_it_is, wire.LOAD_MODEL.parse)(
            request, timeout=timeout, metadata=self._connection.metadata(None)
        )
        with Failures(self.address, timeout).translated():
            for event in call:
                if event.HasField("model"):
                    return conversion.model(event.model)
                if progress is not None:
                    progress(conversion.load_progress(event.progress))
        raise errors.InternalError("the gateway ended a load without a model")

    def unload_model(self, name: str, /, *, timeout: float | None = None) -> None:
        """Unloads a model, or ends its being loaded, wherever it is; returns once its memory is free.

        Raises:
            ModelNotFound: It is not loaded.
        """
        self._unary(wire.UNLOAD_MODEL, models_pb.UnloadModelRequest(model=name), timeout, patience=0)

    def health(self, service: str = "", *, timeout: float | None = None) -> Health:
        """Health of a service by its full name, or of the gateway as a whole.

        Raises:
            Unavailable: No gateway answers.
        """
        try:
            reply = self._unary(wire.HEALTH_CHECK, wire.health_request(service), timeout, patience=0)
        except errors.ModelNotFound:  # the code is NOT_FOUND, and what was not found is a service
            return Health.SERVICE_UNKNOWN
        return wire.health(reply)

    def wait_until_ready(self, seconds: float, *, service: str = "") -> None:
        """Returns as soon as the gateway serves.

        Raises:
            DeadlineExceeded: It did not within ``seconds``; the message has the last that was seen.
        """
        failures = Failures(self.address)
        deadline = time.monotonic() + seconds
        last = "no answer"
        while (left := deadline - time.monotonic()) > 0:
            try:
                for health in self._watch(service, left):
                    if health is Health.SERVING:
                        return
                    last = f"health is {health}"
            except grpc.RpcError as error:
                if error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
                    last = failures.of(error).message
            time.sleep(max(0.0, min(_PAUSE, deadline - time.monotonic())))
        raise failures.not_ready(seconds, last)

    def close(self) -> None:
        """Ends all calls and the connection."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _begin(self, data: bytes, timeout: float | None, request_id: str) -> StreamCall:
        begin = self._channel.unary_stream(wire.STREAM.path, wire.as_it_is, wire.STREAM.parse)
        return begin(data, timeout=timeout, metadata=self._connection.metadata(request_id or None))

    def _unary(
        self,
        method: wire.Method[_Reply],
        request: Protobuf,
        timeout: float | None,
        request_id: str | None = None,
        *,
        patience: float | None = None,
    ) -> _Reply:
        data = wire.serialized(request, limit=self._max_message_bytes)
        retrying = Retrying(self._patience if patience is None else patience, timeout)
        failures = Failures(self.address, timeout)
        call = self._channel.unary_unary(method.path, wire.as_it_is, method.parse)
        while True:
            try:
                reply: _Reply = call(
                    data, timeout=retrying.timeout, metadata=self._connection.metadata(request_id)
                )
            except grpc.RpcError as error:
                time.sleep(retrying.pause(error, failures.of(error)))
            else:
                return reply

    def _watch(self, service: str, timeout: float) -> Iterator[Health]:
        call = self._channel.unary_stream(wire.HEALTH_WATCH.path, wire.as_it_is, wire.HEALTH_WATCH.parse)(
            wire.health_request(service).SerializeToString(), timeout=timeout, wait_for_ready=True
        )
        try:
            yield from map(wire.health, call)
        finally:
            call.cancel()
