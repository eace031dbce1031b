"""One HTTP connection: uvicorn's, with a limit on headers, and with who the client's certificate names."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway.http.endpoint import CERTIFICATE

_MOST_HEADER_BYTES: Final = 32 * 1024


class Connection(HttpToolsProtocol):
    """Speaks HTTP/1.1 with one client."""

    _certificate: tuple[str, ...] = ()
    _header_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Begins."""
        super().connection_made(transport)
        self._certificate = names_of(transport.get_extra_info("peercert") or {})

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._header_bytes = 0
        extensions: dict[str, Any] = {CERTIFICATE: self._certificate}
        self.scope["extensions"] = extensions

    def on_url(self, url: bytes) -> None:
        """A piece of the request's target has come."""
        self._count(url)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header has come."""
        self._count(name, value)
        super().on_header(name, value)

    def _count(self, *pieces: bytes) -> None:
        self._header_bytes += sum(map(len, pieces))
        if self._header_bytes > _MOST_HEADER_BYTES:
            raise ValueError("the headers are too long")  # httptools makes it an error of the request


def names_of(certificate: Mapping[str, Any]) -> tuple[str, ...]:
    """The names in a certificate as the standard library has it, the alternative ones first."""
    alternative = [name for _, name in certificate.get("subjectAltName", ())]
    subject = [value for part in certificate.get("subject", ()) for key, value in part if key == "commonName"]
    return tuple(dict.fromkeys((*alternative, *subject)))
