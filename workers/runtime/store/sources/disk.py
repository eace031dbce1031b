"""Source artefacts that lie on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from workers.runtime.catalogue import DiskSource
from workers.runtime.store.sources.delivery import Delivery, SourceFailed


@contextmanager
def deliver(source: DiskSource) -> Iterator[Delivery]:
    """Open the file.

    Raises:
        SourceFailed: It isn't there, or can't be read.
    """
    try:
        stream = source.path.open("rb")
    except OSError as error:
        raise SourceFailed(error.strerror or str(error)) from error
    with stream:
        yield Delivery(source.location, stream, source.path)
