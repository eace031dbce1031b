"""The model store: downloads and prepared artefacts, whole or not at all."""

from workers.runtime.store.home import default_home
from workers.runtime.store.manifest import FileRecord, Manifest, SourceRecord
from workers.runtime.store.prepared import Prepare, PreparedArtefact
from workers.runtime.store.store import Store

__all__ = [
    "FileRecord",
    "Manifest",
    "Prepare",
    "PreparedArtefact",
    "SourceRecord",
    "Store",
    "default_home",
]
