"""Which models, at which profiles, names mean to one backend."""

from __future__ import annotations

from collections.abc import Sequence

from diplex.errors import InvalidRequest
from workers.runtime.catalogue import Catalogue, ModelEntry


class Names:
    """A catalogue as one backend sees it.

    Args:
        catalogue: The models.
        backend: As ``onnx``.
    """

    def __init__(self, catalogue: Catalogue, backend: str) -> None:
        self._catalogue = catalogue
        self._backend = backend

    @property
    def known(self) -> Sequence[tuple[ModelEntry, str]]:
        """Every model and profile of the backend, in the catalogue's order; the default profile first."""
        return [
            (entry, profile)
            for entry in self._catalogue.entries
            if any(each.backend == self._backend for each in entry.backends)
            for profile in self._profiles(entry)
        ]

    @property
    def unserved(self) -> Sequence[ModelEntry]:
        """Models that the catalogue has for other backends only."""
        return [
            entry
            for entry in self._catalogue.entries
            if all(each.backend != self._backend for each in entry.backends)
        ]

    def resolve(self, name: str, profile: str | None) -> tuple[ModelEntry, str | None]:
        """The entry, and the profile that was asked for beside the name or in it.

        Raises:
            ModelNotFound: The catalogue doesn't have it, or not at that profile.
            UnsupportedModel: The catalogue has it for other backends only.
            InvalidRequest: Name and profile contradict each other.
        """
        match = self._catalogue.find(name)
        wanted = profile or match.profile
        if profile and match.profile and profile.lower() != match.profile.lower():
            raise InvalidRequest.of_field("precision", f"is {profile}; the name says {match.profile}")
        known = match.entry.backend(self._backend).profile(wanted)
        return match.entry, known.name if wanted else None

    def default(self, entry: ModelEntry) -> str:
        """The profile of requests that name none."""
        return entry.backend(self._backend).default_profile

    def is_current(self, entry: ModelEntry) -> bool:
        """Whether the catalogue still has the entry as it is."""
        return entry in self._catalogue.entries

    def _profiles(self, entry: ModelEntry) -> Sequence[str]:
        section = entry.backend(self._backend)
        others = [each.name for each in section.profiles if each.name != section.default_profile]
        return (section.default_profile, *others)
