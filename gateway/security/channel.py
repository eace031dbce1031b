"""Channels to workers: TLS, the gateway's own certificate, and the secret that workers ask for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, cast

import grpc

from diplex.tls import Stamp, Tls, stamp
from gateway.security.config import SecurityConfig

_Arguments = Sequence[tuple[str, int | str]]


class WorkerChannels:
    """Opens channels to one worker, each with the files as they are then.

    Args:
        address: ``host:port`` or ``unix:/path``; TLS is for the former alone.
        config: What workers ask of gateways.
        arguments: Of the channels.
        host: The name under which an IP address was found, which the worker's certificate has.
    """

    def __init__(self, address: str, config: SecurityConfig, arguments: _Arguments, host: str = "") -> None:
        self._address = address
        self._tls = None if address.startswith("unix:") else config.to_workers
        self._token_file = config.worker_token_file
        self._arguments = arguments
        self._host = host
        self._stamp: Stamp | None = None

    @property
    def secured(self) -> bool:
        """Whether there are files that may change."""
        return bool(self._files)

    @property
    def outdated(self) -> bool:
        """Whether files have changed since the last channel was opened."""
        try:
            return stamp(self._files) != self._stamp
        except OSError:
            return False  # in the midst of being replaced

    def open(self) -> grpc.aio.Channel:
        """A new channel, which sends the secret with every call if there is one.

        Raises:
            OSError: A certificate or the secret can't be used; names the file.
        """
        self._stamp = stamp(self._files)
        channel = _channel(self._address, self._tls, self._arguments, self._host)
        if not self._token_file:
            return channel
        return cast("grpc.aio.Channel", _Authorised(channel, self._token_file))

    @property
    def _files(self) -> tuple[str, ...]:
        files = self._tls.files if self._tls else ()
        return (*files, self._token_file) if self._token_file else files


def _channel(address: str, tls: Tls | None, arguments: _Arguments, host: str) -> grpc.aio.Channel:
    if tls is None:
        return grpc.aio.insecure_channel(address, arguments)
    return grpc.aio.secure_channel(address, tls.credentials(), [*arguments, *tls.options(host)])


class _Authorised:
    """A channel whose calls carry a secret. gRPC's own call credentials are for TLS only."""

    def __init__(self, channel: grpc.aio.Channel, token_file: str) -> None:
        self._channel = channel
        self._metadata: Final = (("authorization", f"Bearer {_secret(token_file)}"),)

    def unary_unary(self, *arguments: Any, **options: Any) -> Callable[..., Any]:
        return self._with_secret(self._channel.unary_unary(*arguments, **options))

    def unary_stream(self, *arguments: Any, **options: Any) -> Callable[..., Any]:
        return self._with_secret(self._channel.unary_stream(*arguments, **options))

    def stream_stream(self, *arguments: Any, **options: Any) -> Callable[..., Any]:
        return self._with_secret(self._channel.stream_stream(*arguments, **options))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._channel, name)

    def _with_secret(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(request: Any, *, metadata: Sequence[tuple[str, str]] = (), **options: Any) -> Any:
            return method(request, metadata=(*metadata, *self._metadata), **options)

        return call


def _secret(file: str) -> str:
    secret = Path(file).read_text("utf-8").strip()
    if not (secret and secret.isascii() and secret.isprintable()):
        raise OSError(f"{file} must hold a secret of printable ASCII characters")
    return secret
