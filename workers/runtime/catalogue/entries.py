"""What the catalogue says about a model: plain values, without any reading or checking of files."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from diplex.errors import ModelNotFound, UnsupportedModel
from workers.runtime.catalogue.sources import Artefact, SourceFolder
from workers.runtime.fidelity.certificate import Certificate


class Capability(Enum):
    """What can be asked of a model."""

    TEXT = "text"
    CHAT = "chat"
    IMAGES = "images"
    TOOLS = "tools"


@dataclass(frozen=True, slots=True)
class SamplingDefaults:
    """Sampling values for requests that leave a field unset; ``None`` where the model has no wish."""

    temperature: float | None = None
    """At least 0; 0 is greedy."""
    top_k: int | None = None
    """At least 1."""
    top_p: float | None = None
    """Over 0, at most 1."""
    min_p: float | None = None
    """From 0 to 1."""
    repetition_penalty: float | None = None
    """Over 0; 1 changes nothing."""


@dataclass(frozen=True, slots=True)
class ServingWishes:
    """How a model is to be served, where that differs from what holds for all."""

    pinned: bool = False
    """Once loaded it stays: it is unloaded neither for another model nor after a time."""
    keep_alive: float | None = None
    """Seconds without requests after which it is unloaded; ``None`` for what the worker does."""
    threads: int | None = None
    """Threads that compute; ``None`` for what the worker does."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What has to be agreed to before a model is downloaded for the first time."""

    name: str
    """What agreeing is by: models under the same terms have the same name here."""
    title: str
    """For people."""
    url: str
    """Where the terms are published."""
    text: str
    """The terms themselves."""


@dataclass(frozen=True, slots=True)
class Profile:
    """One form in which a backend holds a model's weights."""

    name: str
    """As requests name it: ``int8``, ``fp32``."""
    digest: str | None = None
    """Digest of the prepared artefact that the certificate belongs to; ``None`` while none is recorded."""
    certificate: Certificate | None = None
    """The fidelity measured; never there without a digest."""


@dataclass(frozen=True, slots=True)
class BackendEntry:
    """What one backend needs to serve a model."""

    backend: str
    """As requests name it: ``onnx``."""
    artefact: Artefact
    """What the backend converts from."""
    profiles: tuple[Profile, ...]
    """At least one, each name once."""
    default_profile: str
    """Name of the profile for requests that name none."""
    unsupported: str | None = None
    """Why the backend can't serve the model yet; ``None`` if it can."""

    @property
    def refusal(self) -> str | None:
        """Why the backend doesn't serve the model here, if it doesn't."""
        if self.unsupported is not None:
            return self.unsupported
        artefact = self.artefact
        if isinstance(artefact, SourceFolder) and artefact.needs_code and not artefact.code_allowed:
            return (
                f"it needs code of its publisher ({artefact.name}), which runs only where the operator "
                "allows it by the model's name: --allow-remote-code NAME, or DIPLEX_ALLOW_REMOTE_CODE"
            )
        return None

    def profile(self, name: str | None = None) -> Profile:
        """The profile of that name in any case, or the default.

        Raises:
            ModelNotFound: The backend has no such profile.
        """
        wanted = (name or self.default_profile).lower()
        for profile in self.profiles:
            if profile.name.lower() == wanted:
                return profile
        known = ", ".join(profile.name for profile in self.profiles)
        raise ModelNotFound(f"backend {self.backend} has no profile {name!r} of this model; it has {known}")


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """One model of the catalogue."""

    name: str
    """Unique in any case; letters, digits, dots, dashes and underscores."""
    aliases: tuple[str, ...]
    """Other names that find it."""
    architecture: str
    """As the source artefact names it: ``llama``."""
    licence: str
    """SPDX identifier, or the name of the terms."""
    capabilities: frozenset[Capability]
    """What can be asked of it; the rest is refused."""
    context_length: int
    """Tokens, prompt and answer together."""
    sampling: SamplingDefaults
    """For fields that a request leaves unset."""
    backends: tuple[BackendEntry, ...]
    """At least one, each backend once."""
    origin: Path
    """The catalogue file that holds this entry."""
    terms: Terms | None = None
    """What must be agreed to before the first download; ``None`` if nothing."""
    serving: ServingWishes = field(default_factory=ServingWishes)
    """How it is to be served."""
    parameters: int | None = None
    """About how many weights it has."""
    chat_template: str | None = None
    """For a checkpoint that has no chat template of its own: one, in Jinja."""

    @property
    def code_allowed(self) -> bool:
        """Whether code of its publisher may run."""
        artefacts = [entry.artefact for entry in self.backends]
        return any(isinstance(each, SourceFolder) and each.code_allowed for each in artefacts)

    def backend(self, name: str) -> BackendEntry:
        """What that backend needs.

        Raises:
            UnsupportedModel: The catalogue has nothing for that backend.
        """
        for entry in self.backends:
            if entry.backend == name:
                return entry
        known = ", ".join(entry.backend for entry in self.backends)
        raise UnsupportedModel(f"{self.name} has no artefact for backend {name!r}; it has {known}")
