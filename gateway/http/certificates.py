"""TLS of the HTTP port, from the same files as that of gRPC."""

from __future__ import annotations

import ssl
from typing import Final

import structlog

from diplex.certificates import ServerTls
from diplex.tls import check_pair, stamp

_LOG: Final = structlog.get_logger()


class HttpCertificates:
    """Makes the server's context, which has new files for the first connection after they have changed.

    Files that don't fit together, as in the midst of being exchanged, leave the former ones in use.

    Raises:
        OSError: On construction, when the files can't be used.
    """

    def __init__(self, tls: ServerTls) -> None:
        self._tls = tls
        self._stamp = stamp(tls.files)
        self._told = ""  # the last failure that was logged
        self._current = self._loaded()
        self.context = self._loaded()
        # Called in the midst of every handshake; certificate and authorities are taken behind it.
        self.context.sni_callback = self._choose

    def _choose(self, connection: ssl.SSLObject, _: str | None, __: ssl.SSLContext) -> None:
        self._renew()
        connection.context = self._current

    def _renew(self) -> None:
        try:
            now = stamp(self._tls.files)
            if now == self._stamp:
                return
            self._current = self._loaded()
        except OSError as error:
            if str(error) != self._told:
                self._told = str(error)
                _LOG.error("certificates not renewed", error=self._told)  # told in full
            return
        self._stamp, self._told = now, ""
        _LOG.info("certificates renewed", certificate=self._tls.certificate_file)

    def _loaded(self) -> ssl.SSLContext:
        tls = self._tls
        check_pair(tls.certificate_file, tls.key_file)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        context.load_cert_chain(tls.certificate_file, tls.key_file)
        if tls.client_ca_file:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(tls.client_ca_file)
        return context
