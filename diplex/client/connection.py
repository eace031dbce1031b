"""How a client reaches a gateway and says who it is: from its arguments, else from the environment."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Final, Self

import grpc

from diplex import errors
from diplex.caller import CLIENT_KEY, LONGEST_CLIENT, is_client_name
from diplex.client.tracing import trace_headers
from diplex.request_id import REQUEST_ID_KEY
from diplex.tls import Tls

DEFAULT_ADDRESS: Final = "127.0.0.1:50051"
"""Where ``diplex up`` listens."""

ADDRESS_VARIABLE: Final = "DIPLEX_ADDRESS"
"""Environment variable that names the gateway when the caller doesn't."""

CLIENT_VARIABLE: Final = "DIPLEX_CLIENT"
"""Environment variable that names the client when the caller doesn't."""

KEY_VARIABLE: Final = "DIPLEX_API_KEY"
"""Environment variable with the API key or token when the caller gives none."""

TLS_VARIABLE: Final = "DIPLEX_TLS"
"""Environment variable that turns TLS on (1) or off (0) when the caller doesn't."""

FILE_VARIABLES: Final = {
    "ca_file": "DIPLEX_CA_FILE",
    "certificate_file": "DIPLEX_CERTIFICATE_FILE",
    "key_file": "DIPLEX_KEY_FILE",
    "server_name": "DIPLEX_SERVER_NAME",
}
"""Environment variables for the fields of :class:`~diplex.tls.Tls`; any of them turns TLS on."""

_LONGEST_RECONNECT_MS: Final = 2_000
"""A restarted gateway is found again after this at most; gRPC's own default is two minutes."""


@dataclass(frozen=True, slots=True)
class Connection:
    """Where a gateway is, and as whom a client calls it."""

    address: str
    tls: Tls | None
    client_id: str
    api_key: str = field(repr=False)

    @classmethod
    def resolve(
        cls,
        *,
        address: str | None = None,
        tls: Tls | bool | None = None,
        client_id: str | None = None,
        api_key: str | None = None,
    ) -> Self:
        """From a client's arguments; what is ``None`` comes from the environment.

        Raises:
            InvalidRequest: Something is wrong with one of them; names it.
        """
        name = client_id or os.environ.get(CLIENT_VARIABLE) or ""
        if name and not is_client_name(name):
            raise errors.InvalidRequest.of_field(
                "client_id", f"must be 1 to {LONGEST_CLIENT} printable ASCII characters"
            )
        key = api_key or os.environ.get(KEY_VARIABLE) or ""
        if not (key.isascii() and key.isprintable()):
            raise errors.InvalidRequest.of_field("api_key", "must be printable ASCII characters")
        return cls(address or os.environ.get(ADDRESS_VARIABLE) or DEFAULT_ADDRESS, _tls(given=tls), name, key)

    def metadata(self, request_id: str | None) -> tuple[tuple[str, str], ...]:
        """A call's metadata."""
        given = (
            (REQUEST_ID_KEY, request_id or ""),
            (CLIENT_KEY, self.client_id),
            ("authorization", f"Bearer {self.api_key}" if self.api_key else ""),
        )
        return (*((key, value) for key, value in given if value), *trace_headers())

    def channel(self, *options: tuple[str, int]) -> grpc.Channel:
        """A channel for ordinary code.

        Raises:
            InvalidRequest: A certificate can't be used.
        """
        arguments = [*self._options, *options]
        if self.tls is None:
            return grpc.insecure_channel(self.address, arguments)
        return grpc.secure_channel(self.address, self._credentials(), [*arguments, *self.tls.options()])

    def async_channel(self) -> grpc.aio.Channel:
        """A channel for asyncio, of the event loop that runs.

        Raises:
            InvalidRequest: A certificate can't be used.
        """
        if self.tls is None:
            return grpc.aio.insecure_channel(self.address, self._options)
        arguments = [*self._options, *self.tls.options()]
        return grpc.aio.secure_channel(self.address, self._credentials(), arguments)

    def _credentials(self) -> grpc.ChannelCredentials:
        try:
            return (self.tls or Tls()).credentials()
        except OSError as error:
            raise errors.InvalidRequest.of_field("tls", str(error)) from error

    @property
    def _options(self) -> list[tuple[str, int]]:
        options = [
            ("grpc.max_send_message_length", -1),  # wire.serialized() checks, and says it better
            ("grpc.max_receive_message_length", -1),
            ("grpc.min_reconnect_backoff_ms", 100),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", _LONGEST_RECONNECT_MS),
            # A gateway that vanished without a word is noticed while a call waits for it.
            ("grpc.keepalive_time_ms", 30_000),
            ("grpc.keepalive_timeout_ms", 10_000),
            ("grpc.http2.ping_timeout_ms", 10_000),
            ("grpc.http2.max_pings_without_data", 0),
        ]
        if self.address.startswith(("127.", "localhost:", "[::1]")):
            # gRPC honours $http_proxy, and no proxy reaches this machine's own loopback.
            options.append(("grpc.enable_http_proxy", 0))
        return options


def _tls(*, given: Tls | bool | None) -> Tls | None:
    if isinstance(given, Tls):
        return given
    told = {name: os.environ.get(variable, "") for name, variable in FILE_VARIABLES.items()}
    wanted = os.environ.get(TLS_VARIABLE, "1" if any(told.values()) else "0") if given is None else given
    if wanted in {False, "0", "", "false"}:
        return None
    try:
        return Tls(**told)
    except ValueError as error:
        raise errors.InvalidRequest.of_field("tls", str(error)) from error
