"""Whether an artefact can be computed by the compiled functions here. Imports numba only if it can."""

from __future__ import annotations

import hashlib
import os
import traceback
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from workers.onnx_worker.compiled.tensors import TENSORS_FILE, Tensors, fit, sizes_of
from workers.onnx_worker.processor import runs_compiled
from workers.runtime.artefact import ModelDescription
from workers.runtime.engine.backend import Backend
from workers.runtime.engine.messages import EngineConfig

SWITCH: Final = "DIPLEX_COMPILED"
"""An environment variable: ``off`` leaves everything to ONNX Runtime."""
_CACHE: Final = "NUMBA_CACHE_DIR"
_SHORT: Final = 16
"""Tokens of a slot of an engine that does nothing but compile."""


def can_compile(folder: Path) -> bool:
    """Whether an artefact is one for compiled functions, and this machine one that compiles and runs them."""
    return (
        (folder / TENSORS_FILE).is_file()
        and os.environ.get(SWITCH, "").lower() != "off"
        and runs_compiled()
        and find_spec("numba") is not None
        and fit(sizes_of(Tensors(folder)))
    )


def compiled_backend(description: ModelDescription, config: EngineConfig) -> Backend | None:
    """The backend of compiled functions; ``None`` where there can't be one: ONNX Runtime does it all then."""
    if not can_compile(config.folder):
        return None
    keep_machine_code(config.folder)
    try:
        from workers.onnx_worker.compiled.backend import CompiledBackend  # noqa: PLC0415

        return CompiledBackend(description, config)
    except Exception:  # noqa: BLE001  # a compiler can fail in many ways, and none is worth a model
        traceback.print_exc()
        return None


def compile_ahead(folder: Path) -> None:
    """Compile now what engines of an artefact will need; if it can't be done, engines find out."""
    if can_compile(folder):
        compiled_backend(ModelDescription.load(folder), EngineConfig(folder, slots=1, max_length=_SHORT))


def keep_machine_code(folder: Path) -> None:
    """Name the folder of compiled functions, unless the environment has: numba reads it when it is imported.

    It lies in the store that the artefact lies in, else in the user's, and has another name when any of the
    functions changes, since numba looks at the outermost one's file only.
    """
    sources = sorted(Path(__file__).parent.glob("*.py"))
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()
    os.environ.setdefault(_CACHE, str(_home(folder) / "machine-code" / digest[:16]))


def _home(folder: Path) -> Path:
    model = folder.absolute().parent
    if model.parent.name == "prepared":
        return model.parent.parent
    from workers.runtime.store.home import default_home  # noqa: PLC0415  # brings the whole store in

    return default_home(os.environ)
