"""Whether an artefact can be computed by the compiled functions here."""

from __future__ import annotations

import os
import subprocess
import traceback
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from workers.onnx_worker.compiled import machine_code
from workers.onnx_worker.compiled.tensors import TENSORS_FILE, Tensors, fit, sizes_of
from workers.onnx_worker.processor import runs_compiled

SWITCH: Final = "DIPLEX_COMPILED"
"""An environment variable: ``off`` leaves everything to ONNX Runtime."""


def allowed() -> bool:
    """Whether this processor runs compiled functions and nobody has switched them off."""
    return os.environ.get(SWITCH, "").lower() != "off" and runs_compiled()


def can_be_compiled(folder: Path) -> bool:
    """Whether an artefact is one for compiled functions, and this machine one that has and runs them."""
    return (
        (folder / TENSORS_FILE).is_file()
        and allowed()
        and fit(sizes_of(Tensors(folder)))
        and (find_spec("numba") is not None or machine_code.find(_home(folder)) is not None)
    )


def code_for(folder: Path) -> Path | None:
    """Machine code for an artefact, compiled if need be; ``None`` where ONNX Runtime has to compute it."""
    if not can_be_compiled(folder):
        return None
    try:
        return machine_code.ensure(_home(folder))
    except (OSError, ValueError, subprocess.CalledProcessError):
        traceback.print_exc()  # into the log: everything works, and slower
        return None


def _home(folder: Path) -> Path:
    """The store that an artefact lies in, else the user's."""
    model = folder.absolute().parent
    if model.parent.name == "prepared":
        return model.parent.parent
    from workers.runtime.store.home import default_home  # noqa: PLC0415  # brings the whole store in

    return default_home(os.environ)
