"""How bytes that a source delivered come into the store: linked if possible, else copied, and hashed."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from workers.runtime.progress import Report
from workers.runtime.store.hashing import chunks, file_sha256
from workers.runtime.store.manifest import FileRecord
from workers.runtime.store.sources.delivery import Delivery, WrongBytes


def admit(delivery: Delivery, target: Path, size: int | None, report: Report) -> FileRecord:
    """Link or copy what was delivered, hashing every byte on its way.

    Raises:
        WrongBytes: It is longer than it should be; the rest isn't read.
    """
    if delivery.file is not None and _linked(delivery.file, target):
        return FileRecord(target.name, target.stat().st_size, file_sha256(target, report))
    digest, done = hashlib.sha256(), 0
    with target.open("wb") as output:
        for chunk in chunks(delivery.stream, size, target.name, report):
            done += len(chunk)
            if size is not None and done > size:
                raise WrongBytes(f"it is longer than {size} bytes")
            digest.update(chunk)
            output.write(chunk)
    return FileRecord(target.name, done, digest.hexdigest())


def _linked(file: Path, target: Path) -> bool:
    try:
        os.link(file.resolve(), target)
    except OSError:  # another disk, or a system or owner that forbids it
        return False
    return True
