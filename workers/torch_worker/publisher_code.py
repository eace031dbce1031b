"""Code that publishers put beside their weights. It runs only where the operator allows it by name.

The store admits Python files to a checkpoint's folder, and to what is prepared of it, only if that is so; an
engine asks again, since what was allowed once may not be now.
"""

from __future__ import annotations

from pathlib import Path

from transformers import CONFIG_MAPPING

from diplex.errors import UnsupportedModel
from workers.runtime.checkpoint import CheckpointFolder


def needs_code(folder: Path) -> bool:
    """Whether only code beside the weights knows a checkpoint's architecture.

    Where transformers knows it too, as with Phi-3, its own classes are used.
    """
    checkpoint = CheckpointFolder(folder)
    return "auto_map" in checkpoint.config.keys and checkpoint.model_type not in CONFIG_MAPPING


def require_permission(folder: Path, *, allowed: bool) -> None:
    """Refuses a checkpoint that needs code which may not run.

    Raises:
        UnsupportedModel: It does.
    """
    if needs_code(folder) and not allowed:
        raise UnsupportedModel(
            f"{folder.name} ({CheckpointFolder(folder).model_type}) needs code of its publisher (auto_map in "
            "config.json), which runs only where the operator allows it by the model's name: "
            "--allow-remote-code NAME, or DIPLEX_ALLOW_REMOTE_CODE"
        )


def code_files(folder: Path) -> list[Path]:
    """The Python files of a checkpoint; none where they may not run."""
    return sorted(folder.glob("*.py"))
