"""The public keys of those who issue tokens: fetched, kept, and fetched again."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.request
from pathlib import Path
from typing import Final

import jwt
import structlog

from diplex.errors import Unavailable

_PAUSE_SECONDS: Final = 5.0
"""Between two fetches for the sake of unknown keys or after a failure, whatever callers send."""
_FETCH_SECONDS: Final = 5.0
_MOST_BYTES: Final = 1024 * 1024
_LOG: Final = structlog.get_logger()


class Jwks:
    """Public keys by their ids, from a JWKS file or URL.

    Args:
        source: The file's path or the URL.
        refresh_seconds: After which the keys are fetched again.
    """

    def __init__(self, source: str, refresh_seconds: float) -> None:
        self._source = source
        self._refresh_seconds = refresh_seconds
        self._keys: dict[str | None, jwt.PyJWK] = {}
        self._fetched = -float("inf")  # time of the last fetch that succeeded
        self._tried = -float("inf")
        self._fetching = asyncio.Lock()

    async def find(self, key_id: str | None) -> jwt.PyJWK | None:
        """The key of an id, or the only one there is if a token names none; ``None`` if there is no such.

        Raises:
            Unavailable: The keys couldn't be fetched, and none are known from before.
        """
        key = self._known(key_id)
        if key is None or time.monotonic() - self._fetched > self._refresh_seconds:
            await self._refresh()
            key = self._known(key_id)
        if key is None and not self._keys:
            raise Unavailable(
                "tokens can't be checked now: their issuer's keys are not to be had", retry_after=5.0
            )
        return key

    def _known(self, key_id: str | None) -> jwt.PyJWK | None:
        if key_id is None and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        return self._keys.get(key_id)

    async def _refresh(self) -> None:
        async with self._fetching:  # whoever comes meanwhile waits for the same fetch
            if time.monotonic() - self._tried < _PAUSE_SECONDS:
                return
            self._tried = time.monotonic()
            try:
                self._keys = await asyncio.to_thread(self._fetch)
            except (OSError, ValueError, jwt.PyJWTError) as error:
                _LOG.error("token keys not renewed", source=self._source, error=str(error))
                return
            self._fetched = time.monotonic()

    def _fetch(self) -> dict[str | None, jwt.PyJWK]:
        if self._source.startswith(("https://", "http://")):
            with urllib.request.urlopen(self._source, timeout=_FETCH_SECONDS) as reply:  # noqa: S310  # as checked
                data = reply.read(_MOST_BYTES)
        else:
            data = Path(self._source).read_bytes()
        return {key.key_id: key for key in jwt.PyJWKSet.from_dict(json.loads(data)).keys}
