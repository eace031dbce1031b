"""Who may call a worker: its gateways, by the name in their certificate or by a shared secret."""

from __future__ import annotations

import hmac
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from diplex.certificates import ServerTls
from diplex.errors import PermissionDenied, Unauthenticated
from diplex.exposure import require_protection
from diplex.rpc import Call
from diplex.tls import Stamp, stamp

_REMEDY = (
    "Give --gateway-token-file, or --tls-client-ca-file with a certificate, or listen on 127.0.0.1 or a unix "
    "socket; on a network that only gateways reach, give --allow-unauthenticated"
)


@dataclass(frozen=True, slots=True)
class GatewayCheck:
    """What a worker asks of those who call it.

    Raises:
        ValueError: The settings contradict each other.
    """

    tls: ServerTls | None = None
    """``None``: bytes go as they are."""
    names: Collection[str] = ()
    """Names one of which a caller's certificate must have; none: any that the authorities signed will do."""
    token_file: str = ""
    """File with the secret that a caller must send; empty: none."""
    allow_unauthenticated: bool = False
    """Let everybody in on a public address too."""

    def __post_init__(self) -> None:
        if self.names and not (self.tls and self.tls.client_ca_file):
            raise ValueError("--gateway-name needs --tls-client-ca-file: names are those of certificates")

    def check_listen(self, listen: str) -> None:
        """Refuses to open a public address to everybody.

        Raises:
            TooOpen: Says what to set.
        """
        protected = bool(self.token_file or (self.tls and self.tls.client_ca_file))
        require_protection(listen, protected=protected, allowed=self.allow_unauthenticated, remedy=_REMEDY)


class GatewayGuard:
    """Lets in what a check allows; the secret is read again when its file changes.

    Raises:
        OSError: On construction, when the secret can't be read.
        ValueError: On construction, when it is empty.
    """

    def __init__(self, check: GatewayCheck) -> None:
        self._names = frozenset(check.names)
        self._file = check.token_file
        self._stamp: Stamp = ()
        self._token = b""
        if self._file:
            self._read()

    async def __call__(self, call: Call, /) -> None:
        """Nothing.

        Raises:
            Unauthenticated: The caller sends no or another secret.
            PermissionDenied: Its certificate has another name.
        """
        if self._file:
            self._check_token(call.headers.get("authorization", ""))
        if self._names and self._names.isdisjoint(call.certificate):
            raise PermissionDenied(
                "this worker takes calls of its gateways only, and the certificate names none"
            )

    def _check_token(self, header: str) -> None:
        sent = header.removeprefix("Bearer ").encode()
        if not hmac.compare_digest(sent, self._token) and not self._is_new(sent):
            raise Unauthenticated(
                "this worker takes calls of its gateways only, and the secret is not theirs"
            )

    def _is_new(self, sent: bytes) -> bool:
        """Whether it is what the file holds by now; a file that can't be read leaves the former secret."""
        with suppress(OSError, ValueError):
            if stamp([self._file]) != self._stamp:
                self._read()
                return hmac.compare_digest(sent, self._token)
        return False

    def _read(self) -> None:
        self._stamp = stamp([self._file])
        self._token = read_token(self._file).encode()


def read_token(file: str) -> str:
    """The secret in a file, without the white space around it.

    Raises:
        OSError: It can't be read.
        ValueError: It is empty, or no printable ASCII.
    """
    token = Path(file).read_text("utf-8").strip()
    if not (token and token.isascii() and token.isprintable()):
        raise ValueError(f"{file} must hold a secret of printable ASCII characters")
    return token
