"""TLS of a server: its certificate, whose certificates it asks for, and new files without a restart."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self, cast

import grpc
import structlog

from diplex.tls import check_pair, content, stamp

_LOG: Final = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class ServerTls:
    """What a server shows, and whom it lets connect. All files are PEM.

    Raises:
        ValueError: The certificate or its key is missing.
    """

    certificate_file: str
    """The server's certificate, and behind it those that lead to its authority."""
    key_file: str
    """The certificate's private key, not encrypted."""
    client_ca_file: str = ""
    """Authorities one of which must have signed a client's certificate; empty: clients need none."""

    @classmethod
    def of(cls, certificate_file: str, key_file: str, client_ca_file: str) -> Self | None:
        """The same, or nothing if no file is named."""
        named = certificate_file or key_file or client_ca_file
        return cls(certificate_file, key_file, client_ca_file) if named else None

    def __post_init__(self) -> None:
        if not (self.certificate_file and self.key_file):
            raise ValueError("TLS takes a certificate file and a key file; one of them is missing")

    @property
    def files(self) -> tuple[str, ...]:
        """All of them."""
        return tuple(filter(None, (self.certificate_file, self.key_file, self.client_ca_file)))


class ServerCertificates:
    """A server's certificates, read again for the first connection after one of the files has changed.

    Files that don't fit together, as in the midst of being exchanged, leave the former ones in use.

    Raises:
        OSError: On construction, when the files can't be used.
    """

    def __init__(self, tls: ServerTls) -> None:
        self._tls = tls
        self._lock = threading.Lock()
        self._stamp = stamp(tls.files)
        self._initial = self._read()
        self._told = ""  # the last failure that was logged

    def credentials(self) -> grpc.ServerCredentials:
        """For the server's port."""
        return grpc.dynamic_ssl_server_credentials(
            self._initial,
            cast("Callable[[], grpc.ServerCertificateConfiguration]", self._renewed),  # None is documented
            require_client_authentication=bool(self._tls.client_ca_file),
        )

    def _renewed(self) -> grpc.ServerCertificateConfiguration | None:
        """Called by gRPC, in a thread of its own, before each handshake; ``None``: no change."""
        with self._lock:
            try:
                now = stamp(self._tls.files)
                if now == self._stamp:
                    return None
                renewed = self._read()
            except OSError as error:
                if str(error) != self._told:
                    self._told = str(error)
                    _LOG.error("certificates not renewed", error=self._told)  # told in full
                return None
            self._stamp, self._told = now, ""
            _LOG.info("certificates renewed", certificate=self._tls.certificate_file)
            return renewed

    def _read(self) -> grpc.ServerCertificateConfiguration:
        tls = self._tls
        check_pair(tls.certificate_file, tls.key_file)
        pair = (Path(tls.key_file).read_bytes(), Path(tls.certificate_file).read_bytes())
        return grpc.ssl_server_certificate_configuration([pair], content(tls.client_ca_file))
