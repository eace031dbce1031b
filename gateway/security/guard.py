"""The gateway's guard on the gRPC side: hands what a call brings to the authenticator."""

from __future__ import annotations

import structlog

from diplex.rpc import Call
from gateway.security.authentication import Authenticator
from gateway.security.principal import Principal


class GatewayGuard:
    """Knows callers; what they may do is asked where it is done.

    Args:
        authenticator: Knows them by their headers.
    """

    def __init__(self, authenticator: Authenticator) -> None:
        self._authenticator = authenticator

    async def __call__(self, call: Call, /) -> Principal:
        """Who calls; named in the logs from here on.

        Raises:
            DiplexError: See :meth:`Authenticator.authenticate`.
        """
        principal = await self._authenticator.authenticate(call.headers, call.certificate)
        if principal.name:
            structlog.contextvars.bind_contextvars(principal=principal.name)
        return principal
