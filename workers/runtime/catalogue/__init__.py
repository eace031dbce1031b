"""The catalogue of models: what is known by name, and where its weights come from."""

from workers.runtime.catalogue.catalogue import CURATED, Catalogue, Match, overlay_paths
from workers.runtime.catalogue.entries import (
    BackendEntry,
    Capability,
    ModelEntry,
    Profile,
    SamplingDefaults,
    ServingWishes,
    Terms,
)
from workers.runtime.catalogue.sources import (
    Artefact,
    DiskFolder,
    DiskSource,
    FolderSource,
    HubFolder,
    HubSource,
    IndexSource,
    PartsSource,
    Source,
    SourceArtefact,
    SourceFile,
    SourceFolder,
)

__all__ = [
    "CURATED",
    "Artefact",
    "BackendEntry",
    "Capability",
    "Catalogue",
    "DiskFolder",
    "DiskSource",
    "FolderSource",
    "HubFolder",
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
    "SourceFile",
    "SourceFolder",
    "Terms",
    "overlay_paths",
]
