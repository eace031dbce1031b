"""Source artefacts in model hub repositories.

huggingface_hub answers what only it can know: endpoint, token, proxy, offline mode, the user's own
cache, and what the errors mean. The bytes are read here, because the library's download starts again
after a kill, and this one goes on where it stopped.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import NoReturn

from workers.runtime.catalogue import HubSource, SourceArtefact
from workers.runtime.progress import Phase, Progress, Report
from workers.runtime.store import space
from workers.runtime.store.sources.delivery import Delivery, SourceFailed, WrongBytes

FRUITLESS_ATTEMPTS = 3
"""Connections in a row that may break without a single new byte."""

_REFUSALS = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)

TIMEOUT = 30.0
"""Seconds without a byte after which a connection counts as broken."""


@contextmanager
def deliver(source: HubSource, artefact: SourceArtefact, folder: Path, report: Report) -> Iterator[Delivery]:
    """Take the file from the hub library's cache, or download it; go on with what an earlier run left.

    Args:
        source: Repository, path and revision.
        artefact: What is wanted, for its name and size.
        folder: Keeps what the next attempt can go on from.
        report: Told the bytes fetched, in the DOWNLOAD phase.

    Raises:
        SourceFailed: The hub can't be reached or refuses.
        WrongBytes: The hub's file has another length than the catalogue says.
        InsufficientStorage: The disk has no room for the artefact.
    """
    fetched = fetch(source, artefact, folder, report)
    with fetched.file.open("rb") as stream:
        yield Delivery(fetched.location, stream, fetched.file)


@dataclass(frozen=True, slots=True)
class Fetched:
    """A file of the hub that lies on this machine."""

    file: Path
    location: str
    """Where it was had, with the commit."""
    sha256: str | None = None
    """The digest that the hub names, if it does: it names those of large files."""


def fetch(source: HubSource, artefact: SourceArtefact, folder: Path, report: Report) -> Fetched:
    """The file, for :func:`deliver` and for folders; arguments and errors are those of the former."""
    cached = _cached(source)
    return _download(source, artefact, folder, report) if cached is None else Fetched(cached, source.location)


def _cached(source: HubSource) -> Path | None:
    from huggingface_hub import try_to_load_from_cache  # noqa: PLC0415 - slow to import, and mostly not needed

    if source.revision is None:
        return None
    found = try_to_load_from_cache(source.repository, source.path, revision=source.revision)
    return Path(found).resolve() if isinstance(found, str) else None


def _download(source: HubSource, artefact: SourceArtefact, folder: Path, report: Report) -> Fetched:
    from huggingface_hub import get_hf_file_metadata, hf_hub_url  # noqa: PLC0415 - as above

    try:
        facts = get_hf_file_metadata(hf_hub_url(source.repository, source.path, revision=source.revision))
    except Exception as error:  # noqa: BLE001 - the library has changed its HTTP library, and its errors, more than once
        fail(error)
    revision = facts.commit_hash or source.revision
    if artefact.size is not None and facts.size is not None and facts.size != artefact.size:
        raise WrongBytes(f"the file there has {facts.size} bytes and not {artefact.size}")
    partial = _partial(folder, facts.etag)
    total = artefact.size or facts.size
    if total is not None:
        space.require(folder, total - _length(partial), f"download {artefact.file}")
    url = hf_hub_url(source.repository, source.path, revision=revision)
    _read_to_end(url, partial, total, artefact.file, report)
    found = f"@{revision}" if revision else ""
    sha256 = facts.etag if facts.etag and re.fullmatch("[0-9a-f]{64}", facts.etag) else None
    return Fetched(partial, f"hf:{source.repository}{found}/{source.path}", sha256)


def _partial(folder: Path, etag: str | None) -> Path:
    """The file that the download grows in; a new one unless the hub still has what the old one began with."""
    name = f"hub-{re.sub('[^0-9A-Za-z]', '', etag or '')[:80]}.part"
    for old in folder.glob("hub-*.part"):
        if old.name != name or not etag:
            old.unlink()
    return folder / name


def _read_to_end(url: str, partial: Path, total: int | None, detail: str, report: Report) -> None:
    fruitless = 0
    problem: Exception
    while total is None or _length(partial) != total:
        before = _length(partial)
        try:
            _read_on(url, partial, total, detail, report)
        except Exception as error:
            if space.is_full(error):
                raise
            problem = error
        else:
            if total is None or _length(partial) == total:
                return
            problem = SourceFailed(f"sent {_length(partial)} bytes of {total}")
        fruitless = fruitless + 1 if _length(partial) <= before else 0
        if fruitless >= FRUITLESS_ATTEMPTS:
            fail(problem)


def _read_on(url: str, partial: Path, total: int | None, detail: str, report: Report) -> None:
    """Append what the server has beyond the bytes already here; from the start if it knows no ranges."""
    from huggingface_hub import get_session, hf_raise_for_status  # noqa: PLC0415 - as above
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]  # noqa: PLC0415 - documented, if not in __all__

    have = _length(partial)
    headers = build_hf_headers() | {"Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    with get_session().stream(
        "GET", url, headers=headers, follow_redirects=True, timeout=TIMEOUT
    ) as response:
        if response.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            partial.unlink()
            raise SourceFailed(f"has nothing beyond {have} bytes")
        hf_raise_for_status(response)
        resumed = response.status_code == HTTPStatus.PARTIAL_CONTENT
        done = have if resumed else 0
        with partial.open("ab" if resumed else "wb") as file:
            report(Progress(Phase.DOWNLOAD, done, total, detail))
            for (
                chunk
            ) in response.iter_bytes():  # as they come: whole blocks would lose the begun one at a break
                file.write(chunk)
                file.flush()
                done += len(chunk)
                report(Progress(Phase.DOWNLOAD, done, total, detail))


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def fail(error: Exception) -> NoReturn:
    """Say what the hub's library said, in a line."""
    if isinstance(error, SourceFailed):
        raise error
    lines = [line for line in str(error).splitlines() if line.strip()]
    said = f"{type(error).__name__}: {' '.join(lines[:2])}"
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in _REFUSALS:
        said = f"{_advice(status)} The hub's answer: {said}"
    raise SourceFailed(said) from error


def _advice(status: int) -> str:
    from huggingface_hub import get_token  # noqa: PLC0415 - as above

    if get_token() is None:
        return (
            f"the hub refuses it to strangers ({status}): open its page on the hub, agree to its terms "
            "there, and set HF_TOKEN to a token of that account (or `hf auth login`)."
        )
    return (
        f"the hub refuses it to the account of the token that is set ({status}): agree to its terms on its "
        "page on the hub with that account, and look whether the token may read gated repositories."
    )
