"""From an HTTP request to a call of the core: who asks, until when, what is asked, and what goes wrong."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Final

import grpc
import structlog
from opentelemetry.context import get_current
from starlette.types import Receive, Scope, Send

from diplex import errors, status
from diplex.access import Account, accounted
from diplex.caller import CLIENT_KEY, is_client_name
from diplex.errors import DiplexError, InvalidRequest
from diplex.running import Running
from diplex.telemetry import REQUEST_ID_KEY, request_id_of
from gateway.caller import Caller
from gateway.http.departure import ClientGone, unless_gone
from gateway.http.hosts import AnyHost, KnownHosts
from gateway.http.problem import in_json_names
from gateway.http.reply import Reply
from gateway.security.authentication import Authenticator

TIMEOUT: Final = "x-request-timeout"
"""Header with the seconds that the client gives the request: its deadline."""
CERTIFICATE: Final = "diplex.certificate"
"""Key of the scope's extensions with the names in a client's verified certificate."""
_TIMEOUTS: Final = (0.001, 86400.0)
"""Seconds, least and most."""

_LOG: Final = structlog.get_logger()


class Request:
    """What a client sent."""

    def __init__(self, scope: Scope, headers: Mapping[str, str], body: bytes) -> None:
        self.path: Mapping[str, str] = scope.get("path_params", {})
        """Parts of the path that the route names."""
        self.headers = headers
        """By their names in lower case."""
        self.body = body


Serve = Callable[[Request, Caller, Reply], Awaitable[None]]
"""Answers a request, or raises a ``DiplexError``."""


class Edge:
    """What all endpoints of one server share.

    Args:
        authenticator: Knows callers by their headers.
        hosts: Knows the names by which requests may come in.
        running: Counts the requests under way.
        max_body_bytes: Policy limit on a request's body.
    """

    def __init__(
        self,
        authenticator: Authenticator,
        hosts: AnyHost | KnownHosts,
        running: Running,
        max_body_bytes: int,
    ) -> None:
        self._authenticator = authenticator
        self._hosts = hosts
        self._max_body_bytes = max_body_bytes
        self.running = running

    async def caller(
        self, scope: Scope, headers: Mapping[str, str], request_id: str, account: Account
    ) -> Caller:
        """Who sends a request, and until when the answer is wanted.

        Raises:
            DiplexError: It isn't let in.
        """
        self._hosts.check(headers.get("host", ""))
        certificate = scope.get("extensions", {}).get(CERTIFICATE, ())
        principal = await self._authenticator.authenticate(headers, certificate)
        if principal.name:
            structlog.contextvars.bind_contextvars(principal=principal.name)
        client = headers.get(CLIENT_KEY, "")
        if not is_client_name(client):
            client = scope["client"][0] if scope.get("client") else "unix"
        caller = Caller.within(_timeout_of(headers), request_id, principal.name or client, principal)
        return replace(caller, trace=get_current(), account=account)

    async def body(self, headers: Mapping[str, str], receive: Receive) -> bytes:
        """The body of a request, read to its end.

        Raises:
            MessageTooLarge: It is over the policy limit.
            InvalidRequest: It says that it isn't JSON.
            ClientGone: The client went away in the midst of it.
        """
        declared = headers.get("content-length", "")
        self._check_size(int(declared) if declared.isdigit() else 0)
        chunks, size = [], 0
        while (message := await receive())["type"] == "http.request":
            chunks.append(message.get("body", b""))
            size += len(chunks[-1])
            self._check_size(size)
            if not message.get("more_body", False):
                # What browsers send across sites without asking the server first never says that it is JSON.
                kind = headers.get("content-type", "").partition(";")[0].strip().lower()
                if size and kind != "application/json":
                    raise InvalidRequest.of_field(
                        "content-type", "send the header `content-type: application/json`"
                    )
                return b"".join(chunks)
        raise ClientGone

    def _check_size(self, size: int) -> None:
        if size > self._max_body_bytes:
            raise errors.MessageTooLarge(
                f"the request has {size} bytes or more and this server takes {self._max_body_bytes}",
                metadata={"bytes": str(size), "limit": str(self._max_body_bytes)},
            )


class Endpoint:
    """An ASGI application that serves one path. A client that goes away ends its request at once.

    Args:
        method: The HTTP method.
        path: As its route has it.
        edge: Shared with others.
        serve: Answers requests.
    """

    def __init__(self, method: str, path: str, edge: Edge, serve: Serve) -> None:
        self._name = f"{method} {path}"
        self._attributes = {"http.request.method": method, "http.route": path}
        self._edge = edge
        self._serve = serve

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        request_id = request_id_of([(REQUEST_ID_KEY, headers.get(REQUEST_ID_KEY, ""))])
        if not request_id.isascii():
            request_id = request_id_of(())
        structlog.contextvars.bind_contextvars(request_id=request_id)
        reply = Reply(send, request_id)
        with (
            self._edge.running.counted(),
            accounted(self._name, request_id, headers.items(), self._attributes) as account,
        ):
            try:
                with self._edge.running.endable():
                    caller = await self._edge.caller(scope, headers, request_id, account)
                    request = Request(scope, headers, await self._edge.body(headers, receive))
                    await unless_gone(receive, self._within_deadline(request, caller, reply))
                account.code = grpc.StatusCode.OK
            except ClientGone:
                pass
            except asyncio.CancelledError:
                # Nobody cancels this task but the server, when it can't wait any longer.
                await self._fail(reply, errors.Draining("the server stops; send the request again"), account)
            except Exception as error:  # noqa: BLE001  # the boundary: everything is mapped
                await self._fail(reply, error, account)

    async def _within_deadline(self, request: Request, caller: Caller, reply: Reply) -> None:
        try:
            async with asyncio.timeout_at(caller.deadline):
                await self._serve(request, caller, reply)
        except TimeoutError as error:
            raise errors.DeadlineExceeded("the caller's deadline passed") from error

    async def _fail(self, reply: Reply, error: Exception, account: Account) -> None:
        known = self._known(error, reply.request_id)
        known.metadata["request_id"] = reply.request_id
        account.code, account.reason = status.status_of(known).code, known.reason
        await reply.fail(known)

    def _known(self, error: Exception, request_id: str) -> DiplexError:
        """The error as it is told: with the names of this edge."""
        if isinstance(error, InvalidRequest):
            return in_json_names(error)
        if isinstance(error, DiplexError):
            return error
        _LOG.error("defect", rpc=self._name, request_id=request_id, exc_info=error)
        return errors.InternalError(f"a defect in the server; its log names request {request_id}")


def _timeout_of(headers: Mapping[str, str]) -> float | None:
    text = headers.get(TIMEOUT)
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    least, most = _TIMEOUTS
    if not least <= seconds <= most:
        raise InvalidRequest.of_field(TIMEOUT, f"is not a number of seconds in [{least:g}, {most:g}]")
    return seconds
