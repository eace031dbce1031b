"""From what a call brings to who calls: keys, tokens and client certificates. No transport of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from diplex import api_key
from diplex.errors import PermissionDenied, Unauthenticated
from gateway.security.config import SecurityConfig
from gateway.security.principal import ANYBODY, Principal
from gateway.security.roles import WatchedRoles
from gateway.security.tokens import Tokens

AUTHORIZATION: Final = "authorization"
"""Header with ``Bearer`` and a key or token."""
API_KEY: Final = "x-api-key"
"""Header with a key."""

_NO_DIGEST: Final = "0" * 64
_HOW: Final = "send `authorization: Bearer KEY` (SDK: api_key or $DIPLEX_API_KEY)"


class Authenticator:
    """Knows callers by what they send.

    Args:
        config: What is asked for; if nothing is, everybody is let in.

    Raises:
        InvalidKeysFile: On construction, when there is a keys file that can't be used.
    """

    def __init__(self, config: SecurityConfig) -> None:
        self._asks = config.authenticates
        self._roles = WatchedRoles(config.keys_file)
        self._tokens = Tokens(config, self._roles) if config.jwt_jwks else None

    async def authenticate(self, headers: Mapping[str, str], certificate: Sequence[str] = ()) -> Principal:
        """Who sends a call.

        Args:
            headers: Of the call, or its metadata; names in lower case.
            certificate: The names in the client's certificate, if it showed one that was verified.

        Raises:
            Unauthenticated: It brings nothing that holds.
            PermissionDenied: Who it is is known, and has no role here.
            Unavailable: It can't be found out now.
        """
        if not self._asks:
            return ANYBODY
        scheme, _, bearer = headers.get(AUTHORIZATION, "").partition(" ")
        credential = headers.get(API_KEY) or (bearer.strip() if scheme.lower() == "bearer" else "")
        if credential:
            return await self._bearer(credential)
        if certificate:
            return self._holder(certificate)
        raise Unauthenticated(f"the call brings no key and no token: {_HOW}")

    async def _bearer(self, credential: str) -> Principal:
        identity = api_key.id_of(credential)
        if identity is not None or self._tokens is None:
            return self._key(credential, identity or "")
        return await self._tokens.principal(credential)

    def _key(self, key: str, identity: str) -> Principal:
        roles = self._roles.current
        entry = roles.keys.get(identity)
        # Compared also if there is no entry, so that time doesn't tell which ids there are.
        if not api_key.matches(key, entry.sha256 if entry else _NO_DIGEST) or entry is None:
            raise Unauthenticated("the API key is not known")
        if entry.expires is not None and entry.expires <= datetime.now(UTC):
            raise Unauthenticated(f"the API key of {entry.name} has expired")
        return Principal(entry.name, "key", roles.rights_of_key(entry))

    def _holder(self, names: Sequence[str]) -> Principal:
        roles = self._roles.current
        rights = roles.rights_of([roles.certificates[name] for name in names if name in roles.certificates])
        if rights is None:
            raise PermissionDenied(f"no role is given to the certificate of {names[0]}")
        return Principal(names[0], "certificate", rights)
