"""Catalogue files that are read again when they have changed."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import structlog

from diplex.errors import InvalidCatalogue
from workers.runtime.catalogue.catalogue import CURATED, Catalogue

DEFAULT_SECONDS: Final = 1.0
"""Between two looks."""

_LOG: Final = structlog.get_logger()


class CatalogueFiles:
    """The curated file and the overlays, with what they were when they were last looked at.

    They are compared by content, of which there is little: times of change lie where files are replaced
    within a second, restored or mounted.

    Args:
        overlays: Files above the curated one, in their order.
        curated: The curated file.
        adopted: A folder of files that come and go, which are read before the overlays.
    """

    def __init__(
        self, overlays: Sequence[Path] = (), *, curated: Path = CURATED, adopted: Path | None = None
    ) -> None:
        self._own = tuple(overlays)
        self._adopted = adopted
        self._curated = curated
        self._seen = self._digest()

    def load(self) -> Catalogue:
        """Reads them.

        Raises:
            InvalidCatalogue: A file can't be read or breaks a rule.
        """
        return Catalogue.load(self._overlays(), curated=self._curated)

    def changed(self) -> Catalogue | None:
        """The new catalogue if a file has changed since the last look.

        Raises:
            InvalidCatalogue: A file has changed, and can't be read or breaks a rule; raised once a change.
        """
        digest = self._digest()
        if digest == self._seen:
            return None
        self._seen = digest
        return self.load()

    def _overlays(self) -> Sequence[Path]:
        found = sorted(self._adopted.glob("[!.]*.json")) if self._adopted is not None else []
        return (*found, *self._own)

    def _digest(self) -> bytes:
        digest = hashlib.sha256()
        for file in (self._curated, *self._overlays()):
            try:
                content = file.read_bytes()
            except OSError as error:
                content = str(error.errno).encode()
            digest.update(hashlib.sha256(content).digest())
        return digest.digest()


async def watch(
    files: CatalogueFiles, take: Callable[[Catalogue], None], seconds: float = DEFAULT_SECONDS
) -> None:
    """Gives ``take`` each new catalogue; a broken one is logged, and the last good one stays. Never ends."""
    while True:
        await asyncio.sleep(seconds)
        try:
            catalogue = files.changed()
        except InvalidCatalogue as error:
            _LOG.error("catalogue not taken", error=error.message)
            continue
        if catalogue is not None:
            take(catalogue)
            _LOG.info("catalogue taken", models=len(catalogue.entries))
