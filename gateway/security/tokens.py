"""Tokens of OpenID providers and the like: JWTs whose signature, issuer, audience and times are checked."""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Final

import jwt

from diplex.errors import PermissionDenied, Unauthenticated
from gateway.security.config import SecurityConfig
from gateway.security.jwks import Jwks
from gateway.security.principal import Principal
from gateway.security.roles import WatchedRoles

_MOST_REMEMBERED: Final = 4096
"""Tokens whose signature needn't be checked again."""
_REMEMBER_SECONDS: Final = 60.0
"""For so long at most, so that a key that its issuer withdraws soon counts no more."""
_LONGEST: Final = 16 * 1024
_NAME_LENGTH: Final = 100


@dataclass(frozen=True, slots=True)
class _Verified:
    claims: dict[str, Any]
    until: float  # on the wall's clock


class Tokens:
    """Checks tokens and says who bears them.

    Args:
        config: Issuer, audience and so on.
        roles: What the roles that tokens name have a right to.
    """

    def __init__(self, config: SecurityConfig, roles: WatchedRoles) -> None:
        self._config = config
        self._roles = roles
        self._jwks = Jwks(config.jwt_jwks, config.jwks_refresh_seconds)
        self._verified: OrderedDict[bytes, _Verified] = OrderedDict()  # SHA-256 of a token -> claims

    async def principal(self, token: str) -> Principal:
        """Who bears a token.

        Raises:
            Unauthenticated: The token doesn't hold; says why.
            PermissionDenied: It holds, and names no role that is known here.
            Unavailable: The issuer's keys are not to be had.
        """
        claims = await self._claims(token)
        name = claims.get(self._config.jwt_name_claim)
        if not (isinstance(name, str) and 0 < len(name) <= _NAME_LENGTH):
            raise Unauthenticated(f"the token has no usable claim {self._config.jwt_name_claim!r}")
        told = claims.get(self._config.jwt_roles_claim, ())
        roles = [told] if isinstance(told, str) else [it for it in told if isinstance(it, str)]
        rights = self._roles.current.rights_of(roles)
        if rights is None:
            raise PermissionDenied(f"none of the roles of {name} is known here", metadata={"principal": name})
        return Principal(name, "token", rights)

    async def _claims(self, token: str) -> dict[str, Any]:
        if len(token) > _LONGEST:
            raise Unauthenticated(f"the token has more than {_LONGEST} characters")
        digest = hashlib.sha256(token.encode()).digest()
        known = self._verified.get(digest)
        if known is not None and time.time() < known.until:
            return known.claims
        claims = await self._verify(token)
        expires = float(claims["exp"]) + self._config.jwt_leeway_seconds
        self._verified[digest] = _Verified(claims, min(expires, time.time() + _REMEMBER_SECONDS))
        if len(self._verified) > _MOST_REMEMBERED:
            self._verified.popitem(last=False)
        return claims

    async def _verify(self, token: str) -> dict[str, Any]:
        config = self._config
        try:
            header = jwt.get_unverified_header(token)
            key = await self._jwks.find(header.get("kid"))
            if key is None:
                raise Unauthenticated("the token is signed with a key that its issuer doesn't publish")
            claims: dict[str, Any] = jwt.decode(
                token,
                key.key,
                algorithms=config.jwt_algorithms,
                audience=config.jwt_audience,
                issuer=config.jwt_issuer,
                leeway=config.jwt_leeway_seconds,
                options={"require": ["exp", "iss", "aud"]},
            )
        except jwt.ExpiredSignatureError as error:
            raise Unauthenticated("the token has expired") from error
        except (jwt.PyJWTError, TypeError, ValueError) as error:
            # What the library says names claims and algorithms, never the token.
            raise Unauthenticated(f"the token doesn't hold: {error}") from None
        return claims
