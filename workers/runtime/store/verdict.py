"""What is said when no source delivered what the catalogue names."""

from __future__ import annotations

from diplex.errors import DigestMismatch, SourceUnavailable
from workers.runtime.catalogue import FolderSource, Source
from workers.runtime.store.sources.delivery import SourceFailed, WrongBytes


def verdict(
    name: str, sha256: str | None, failures: list[tuple[Source | FolderSource, SourceFailed]]
) -> DigestMismatch | SourceUnavailable:
    """The error that says how all sources failed.

    Args:
        name: The artefact.
        sha256: Its digest, if known.
        failures: Each source and its reason.
    """
    reasons = [f"{source.location}: {failure}" for source, failure in failures]
    wrong = [source for source, failure in failures if isinstance(failure, WrongBytes)]
    if len(wrong) == len(failures) or any(not source.unverified for source in wrong):
        return DigestMismatch(
            f"{name} is not what the catalogue names, and was not kept.\n"
            + "".join(f"  {reason}\n" for reason in reasons)
            + "If a source has changed on purpose, its digest in the catalogue has to follow.",
            metadata={"sha256": sha256 or ""},
        )
    return unavailable(name, reasons)


def unavailable(name: str, reasons: list[str]) -> SourceUnavailable:
    """The error that says that no source could deliver, with each one's reason."""
    return SourceUnavailable(
        f"{name} could not be had from any source.\n"
        + "".join(f"  {reason}\n" for reason in reasons)
        + "Check the network and pip's configuration (`pip config list`) and try again, or name a copy "
        "on this machine in a catalogue of your own (DIPLEX_MODELS), as sources = "
        '[{ file = "…" }], or [{ folder = "…" }] for a folder.',
    )
