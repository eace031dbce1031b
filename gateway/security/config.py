"""What a gateway asks of its callers, and how it proves itself to its workers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import structlog

from diplex.certificates import ServerTls
from diplex.exposure import is_public, require_protection
from diplex.tls import Tls

_LOG: Final = structlog.get_logger()
_REMEDY: Final = (
    "Set security.keys_file, security.jwt_jwks or security.client_ca_file, or listen on 127.0.0.1 or a unix "
    "socket; behind something else that asks who calls, set security.allow_unauthenticated"
)


@dataclass(frozen=True, slots=True)
class SecurityConfig:
    """TLS, keys and tokens. All certificate files are PEM, and read again when they change."""

    certificate_file: str = ""
    """The gateway's certificate, and behind it those that lead to its authority. Empty: no TLS."""
    key_file: str = ""
    """The certificate's private key, not encrypted."""
    client_ca_file: str = ""
    """Authorities one of which must have signed a client's certificate, which every client then needs."""
    keys_file: str = ""
    """TOML or JSON file with API keys and roles; see `docs/security.md`. Read again when it changes."""
    jwt_jwks: str = ""
    """Public keys of those who issue tokens: a JWKS file, or its https URL. Empty: tokens are not taken."""
    jwt_issuer: str = ""
    """The `iss` that a token must have."""
    jwt_audience: str = ""
    """The `aud` that a token must have."""
    jwt_algorithms: tuple[str, ...] = ("RS256", "ES256", "EdDSA")
    """Signatures that are accepted; none of those with a shared secret."""
    jwt_name_claim: str = "sub"
    """The claim that names the caller."""
    jwt_roles_claim: str = "roles"
    """The claim with the caller's role, or a list of roles of which the first that is known counts."""
    jwt_leeway_seconds: float = 30.0
    """By how much the issuer's clock may differ."""
    jwks_refresh_seconds: float = 300.0
    """After which public keys are fetched again; an unknown one is looked for at once."""
    allow_unauthenticated: bool = False
    """Let everybody in on a public address too. For gateways behind something that asks who calls."""
    worker_tls: bool = False
    """Talk TLS to workers that aren't on unix sockets; set by itself by the files below."""
    worker_ca_file: str = ""
    """Authorities one of which must have signed a worker's certificate. Empty: those that gRPC brings."""
    worker_certificate_file: str = ""
    """The certificate that the gateway shows to workers."""
    worker_key_file: str = ""
    """Its private key, not encrypted."""
    worker_server_name: str = ""
    """The name in the workers' certificates. Empty: the host of each worker's address."""
    worker_token_file: str = ""
    """File with the secret that workers were started with (`--gateway-token-file`)."""

    def __post_init__(self) -> None:
        if bool(self.certificate_file) != bool(self.key_file):
            raise ValueError("certificate_file and key_file go together; one of them is missing")
        if self.client_ca_file and not self.certificate_file:
            raise ValueError(
                "client_ca_file needs certificate_file and key_file: client certificates are part of TLS"
            )
        if bool(self.worker_certificate_file) != bool(self.worker_key_file):
            raise ValueError(
                "worker_certificate_file and worker_key_file go together; one of them is missing"
            )
        if self.jwt_jwks and not (self.jwt_issuer and self.jwt_audience):
            raise ValueError(
                "jwt_jwks needs jwt_issuer and jwt_audience, or tokens made for others would be taken"
            )
        shared = [
            name for name in self.jwt_algorithms if name.upper().startswith("HS") or name.lower() == "none"
        ]
        if shared or not self.jwt_algorithms:
            raise ValueError(
                f"jwt_algorithms: {shared or 'none'} can't be used; name some with public keys, as RS256"
            )
        if self.jwt_jwks.startswith("http://") and not _is_loopback(self.jwt_jwks):
            raise ValueError(
                "jwt_jwks must be a file or an https URL: who can change the keys can make any token"
            )

    @property
    def authenticates(self) -> bool:
        """Whether callers have to prove who they are."""
        return bool(self.keys_file or self.jwt_jwks or self.client_ca_file)

    @property
    def tls(self) -> ServerTls | None:
        """Of the public port."""
        return ServerTls.of(self.certificate_file, self.key_file, self.client_ca_file)

    @property
    def to_workers(self) -> Tls | None:
        """TLS of the links to workers."""
        if not (self.worker_tls or self.worker_ca_file or self.worker_certificate_file):
            return None
        return Tls(
            self.worker_ca_file, self.worker_certificate_file, self.worker_key_file, self.worker_server_name
        )

    def check_listen(self, listen: str) -> None:
        """Refuses to open a public address to everybody.

        Raises:
            TooOpen: Says what to set.
        """
        require_protection(
            listen, protected=self.authenticates, allowed=self.allow_unauthenticated, remedy=_REMEDY
        )
        if is_public(listen) and self.authenticates and self.tls is None:
            _LOG.warning("keys are taken without TLS", listen=listen)


def _is_loopback(url: str) -> bool:
    host = url.removeprefix("http://").partition("/")[0].rpartition(":")[0].strip("[]")
    return host in {"127.0.0.1", "localhost", "::1"}
