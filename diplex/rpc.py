"""Where bytes become requests and errors become status: the handlers of every gRPC service of ours.

A service is written as a plain class whose methods have the RPCs' names in snake case; each takes a parsed
request and the call's context, and returns a response or iterates over responses, which may be bytes
already. This module parses the
bytes (so that undecodable ones end in ``INVALID_ARGUMENT`` and not in gRPC's bare ``UNKNOWN``), applies the
policy limit on their size, and maps what a method raises by the one table in ``diplex.status``.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final, NoReturn, Protocol, cast

import grpc
import structlog
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from diplex import errors, multiplexing, status
from diplex.access import Account, accounted
from diplex.caller import client_of
from diplex.running import Running
from diplex.telemetry import REQUEST_ID_KEY, request_id_of

Context = grpc.aio.ServicerContext[Any, Any]

_LOG: Final = structlog.get_logger()

_LASTING: Final = frozenset({"Watch", "Multiplex"})
"""Calls that last as long as their callers like."""


@dataclass(frozen=True, slots=True)
class Call:
    """One RPC under way, as a service's method sees it."""

    request_id: str
    """Names the request in logs on every hop; from the caller's metadata, or fresh."""
    context: Context
    """gRPC's own view of the call."""
    account: Account
    """What operators are told of it; whoever serves it may add to that."""
    principal: object = None
    """Who calls, as the server's guard knows its callers; ``None`` without a guard."""

    @property
    def timeout(self) -> float | None:
        """Seconds until the caller's deadline; ``None`` without one."""
        return self.context.time_remaining()

    @property
    def client(self) -> str:
        """Who calls: the name that it gives itself, else its host."""
        return client_of(self.context.invocation_metadata(), self.context.peer())

    @property
    def headers(self) -> Mapping[str, str]:
        """The call's metadata, but for what is binary."""
        metadata = self.context.invocation_metadata() or ()
        return {key: value for key, value in metadata if isinstance(value, str)}

    @property
    def certificate(self) -> tuple[str, ...]:
        """The names in the caller's verified certificate, the alternative ones first; none without one."""
        known = self.context.auth_context()
        names = (*known.get("x509_subject_alternative_name", ()), *known.get("x509_common_name", ()))
        return tuple(dict.fromkeys(name.decode(errors="replace") for name in names))


class Guard(Protocol):
    """Knows who calls a server, and lets in whom it likes."""

    async def __call__(self, call: Call, /) -> object:
        """Who calls, for :attr:`Call.principal`; before a byte of the request is read.

        Raises:
            DiplexError: The caller is not let in.
        """


def handlers_of(
    service: ServiceDescriptor,
    implementation: object,
    *,
    max_message_bytes: int,
    running: Running | None = None,
    guard: Guard | None = None,
) -> grpc.GenericRpcHandler:
    """All of a service's RPCs, served by an object's methods.

    RPCs without a method are answered with ``UNIMPLEMENTED`` and the reason ``NOT_SERVED``. ``Multiplex``
    needs none: what it carries are calls of ``Generate``.

    Args:
        service: Descriptor of the service, from its generated module.
        implementation: Has a method in snake case for each RPC that it serves.
        max_message_bytes: Policy limit on a request's size, below the transport's own.
        running: Keeps the calls under way, but for ``Watch`` and ``Multiplex``: those last as long as their
            callers like, and no drain waits for them.
        guard: Lets callers in, or not; ``None``: everybody.
    """
    running = running or Running()
    handlers = {
        method.name: _handler(method, implementation, max_message_bytes, running, guard)
        for method in service.methods
    }
    return grpc.method_handlers_generic_handler(service.full_name, handlers)


def _handler(
    method: MethodDescriptor,
    implementation: object,
    max_message_bytes: int,
    running: Running,
    guard: Guard | None,
) -> grpc.RpcMethodHandler[Any, Any]:
    lasting = method.name in _LASTING
    edge = _Edge(method, max_message_bytes, Running() if lasting else running, guard)
    if method.client_streaming:
        carried = method.containing_service.methods_by_name["Generate"]
        # Who opened the call that carries it has been let in.
        inner = _Edge(carried, max_message_bytes, running, guard=None).streaming(
            _serving(carried, implementation)
        )
        return grpc.stream_stream_rpc_method_handler(edge.multiplexing(inner))
    serve = _serving(method, implementation)
    if method.server_streaming:
        return grpc.unary_stream_rpc_method_handler(edge.streaming(serve), response_serializer=_serialize)
    return grpc.unary_unary_rpc_method_handler(edge.unary(serve), response_serializer=_serialize)


def _serving(method: MethodDescriptor, implementation: object) -> Callable[[Any, Call], Any]:
    return getattr(implementation, _snake(method.name), _not_served(method))


class _Edge:
    """Parsing, limits and error mapping of one RPC."""

    def __init__(
        self, method: MethodDescriptor, max_message_bytes: int, running: Running, guard: Guard | None
    ) -> None:
        self._name = method.full_name
        self._request_type = GetMessageClass(method.input_type)
        self._max_message_bytes = max_message_bytes
        self._running = running
        self._guard = guard

    def unary(
        self, serve: Callable[[Any, Call], Awaitable[Message]]
    ) -> Callable[[bytes, Context], Awaitable[Message]]:
        async def handle(data: bytes, context: Context) -> Message:
            async with self._served(context) as call:
                return await serve(self._parse(data), call)

        return handle

    def streaming(
        self, serve: Callable[[Any, Call], AsyncGenerator[Message | bytes]]
    ) -> Callable[[bytes, Context], Awaitable[None]]:
        # A coroutine that writes, not a generator that gRPC iterates over: a cancellation that arrives
        # during a write then still ends in this frame, which closes the method's generator at once.
        async def handle(data: bytes, context: Context) -> None:
            async with (
                self._served(context) as call,
                aclosing(serve(self._parse(data), call)) as responses,
            ):
                async for response in responses:
                    try:
                        await context.write(response)
                    except grpc.aio.InternalError as error:  # the caller has gone
                        raise asyncio.CancelledError from error

        return handle

    def multiplexing(self, inner: multiplexing.Handler) -> Callable[[object, Context], Awaitable[None]]:
        async def handle(_: object, context: Context) -> None:
            async with self._served(context):
                await multiplexing.serve(inner, context, cast("multiplexing.Parse", self._parse))

        return handle

    @asynccontextmanager
    async def _served(self, context: Context) -> AsyncGenerator[Call]:
        """A call of somebody who was let in; what is raised through it is told the caller."""
        with self._running.counted(), self._begun(context) as call:
            try:
                with self._running.endable():
                    yield await self._let_in(call)
            except Exception as error:  # noqa: BLE001  # the boundary: everything is mapped
                await self._abort(call, error)

    @contextmanager
    def _begun(self, context: Context) -> Iterator[Call]:
        metadata = context.invocation_metadata()
        request_id = request_id_of(metadata)
        structlog.contextvars.bind_contextvars(request_id=request_id)
        context.set_trailing_metadata(((REQUEST_ID_KEY, request_id),))
        with accounted(self._name, request_id, metadata) as account:
            try:
                yield Call(request_id, context, account)
                account.code = grpc.StatusCode.OK
            except asyncio.CancelledError:
                left = context.time_remaining()
                late = left is not None and left <= 0
                account.code = grpc.StatusCode.DEADLINE_EXCEEDED if late else grpc.StatusCode.CANCELLED
                raise

    async def _let_in(self, call: Call) -> Call:
        return call if self._guard is None else replace(call, principal=await self._guard(call))

    def _parse(self, data: bytes) -> Message:
        if len(data) > self._max_message_bytes:
            raise errors.MessageTooLarge(
                f"the request has {len(data)} bytes and this server takes {self._max_message_bytes}",
                metadata={"bytes": str(len(data)), "limit": str(self._max_message_bytes)},
            )
        try:
            return self._request_type.FromString(data)
        except DecodeError as error:
            raise errors.MalformedMessage(
                f"the request is no {self._request_type.DESCRIPTOR.full_name}: {error}"
            ) from error

    async def _abort(self, call: Call, error: Exception) -> NoReturn:
        if isinstance(error, grpc.aio.AbortError):
            raise error
        known = self._known(error, call)
        known.metadata["request_id"] = call.request_id
        call.account.code, call.account.reason = status.status_of(known).code, known.reason
        details = status.to_rpc_status(known)
        await call.context.abort(
            status.status_of(known).code,
            details.message,
            trailing_metadata=((REQUEST_ID_KEY, call.request_id), status.trailing_metadata(details)),
        )

    def _known(self, error: Exception, call: Call) -> errors.DiplexError:
        if isinstance(error, errors.DiplexError):
            return error
        _LOG.error("defect", rpc=self._name, request_id=call.request_id, exc_info=error)
        return errors.InternalError(
            f"a defect in the server; its log names request {call.request_id}",
        )


def _not_served(method: MethodDescriptor) -> Callable[[Any, Call], Any]:
    async def unary(_: Message, __: Call) -> Message:
        raise errors.NotServed(f"{method.full_name} is part of the contract and not served by this version")

    async def streaming(request: Message, call: Call) -> AsyncGenerator[Message]:
        yield await unary(request, call)

    return streaming if method.server_streaming else unary


def _serialize(message: Message | bytes) -> bytes:
    return message if isinstance(message, bytes) else message.SerializeToString()


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
