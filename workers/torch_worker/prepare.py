"""The store's converter of the torch backend."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Final

from workers.runtime.progress import Report

_TOOLS: Final = ("safetensors", "tokenizers", "torch", "transformers")


class CheckpointToTorch:
    """Makes prepared artefacts from published checkpoints; a :class:`workers.runtime.store.Prepare`."""

    version: Final = "3"
    """Raised whenever the same files would give other tensors or other names."""

    def __call__(self, source: Path, target: Path, *, profile: str, report: Report) -> Mapping[str, str]:
        """Converts; see :func:`workers.torch_worker.convert.convert_checkpoint`."""
        # Imported here, so that a worker whose models are prepared never loads torch.
        from workers.torch_worker.convert import convert_checkpoint  # noqa: PLC0415

        convert_checkpoint(source, target, profile=profile, report=report)
        return {tool: version(tool) for tool in _TOOLS}
