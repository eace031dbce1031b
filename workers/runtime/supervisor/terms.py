"""On what terms models are served: how a worker's memory and cores are shared, and which models stay."""

from __future__ import annotations

from dataclasses import dataclass, replace

from workers.runtime.catalogue import ModelEntry
from workers.runtime.engine.messages import EngineConfig


@dataclass(frozen=True, slots=True)
class ServingConfig:
    """How the models of a worker share the machine."""

    memory_budget: int | None = None
    """Bytes that all processes of the worker may take together; ``None`` for no limit."""
    residents: int = 2
    """Models that the budget is to hold at the same time: each gets such a share for all that it takes."""
    on_demand: bool = True
    """Whether a request for a model that isn't loaded loads it."""
    keep_alive: float | None = None
    """Seconds without requests after which a model is unloaded; ``None`` for never."""
    starts_empty: bool = False
    """Nothing is loaded at the start, so nothing has to be ready before requests are taken."""
    pinned: tuple[str, ...] = ()
    """Names, aliases or ``name/profile`` of models that stay."""

    def share(self, own: int) -> int | None:
        """Bytes that one model should make do with, if the worker's own process takes ``own``."""
        if self.memory_budget is None:
            return None
        return max(self.memory_budget - own, 0) // self.residents

    def pins(self, entry: ModelEntry, profile: str) -> bool:
        """Whether a model is named among those that stay."""
        names = {name.lower() for name in (entry.name, *entry.aliases)}
        names |= {f"{name}/{profile}".lower() for name in names}
        return any(name.lower() in names for name in self.pinned)


@dataclass(frozen=True, slots=True)
class Terms:
    """How one model is served."""

    config: EngineConfig
    """How its engines run; the artefact's folder is filled in."""
    share: int | None = None
    """Bytes of memory that it should make do with; ``None`` for no such limit."""
    pinned: bool = False
    """It isn't unloaded for another model, nor after a time."""
    keep_alive: float | None = None
    """Seconds without requests after which it is unloaded; ``None`` for never."""
    lasting: bool = False
    """It was asked for by itself: it is loaded also when nobody waits, and what it failed with is kept."""


def terms_of(
    entry: ModelEntry, profile: str, serving: ServingConfig, config: EngineConfig, share: int | None
) -> Terms:
    """A model's terms: the catalogue's wishes over what holds for all.

    Args:
        entry: The model.
        profile: Its precision profile.
        serving: What holds for all models of the worker.
        config: How engines run.
        share: Bytes that one model should make do with.
    """
    wishes = entry.serving
    config = replace(config, chat_template=entry.chat_template, code_allowed=entry.code_allowed)
    if wishes.threads is not None:
        config = replace(config, threads=wishes.threads)
    return Terms(
        config,
        share,
        pinned=wishes.pinned or serving.pins(entry, profile),
        keep_alive=serving.keep_alive if wishes.keep_alive is None else wishes.keep_alive,
    )
