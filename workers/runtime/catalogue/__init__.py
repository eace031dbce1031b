"""The catalogue of models: what is known by name, and where its weights come from."""

from workers.runtime.catalogue.catalogue import CURATED, Catalogue, Match, overlay_paths
from workers.runtime.catalogue.entries import (
    BackendEntry,
    Capability,
    DiskSource,
    HubSource,
    IndexSource,
    ModelEntry,
    PartsSource,
    Profile,
    SamplingDefaults,
    ServingWishes,
    Source,
    SourceArtefact,
    Terms,
)

__all__ = [
    "CURATED",
    "BackendEntry",
    "Capability",
    "Catalogue",
    "DiskSource",
    "HubSource",
    "IndexSource",
    "Match",
    "ModelEntry",
    "PartsSource",
    "Profile",
    "SamplingDefaults",
    "ServingWishes",
    "Source",
    "SourceArtefact",
    "Terms",
    "overlay_paths",
]
