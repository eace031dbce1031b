"""The store's converter of the ONNX backend."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Final

from workers.runtime.progress import Report

_TOOLS: Final = ("gguf", "numpy", "onnx", "tokenizers")


class GgufToOnnx:
    """Makes in-place ONNX graphs from GGUF files; a :class:`workers.runtime.store.Prepare`."""

    version: Final = "4"
    """Raised whenever the same file would give another graph or other weights."""

    def __call__(self, source: Path, target: Path, *, profile: str, report: Report) -> Mapping[str, str]:
        """Converts; see :func:`workers.onnx_worker.convert.convert_gguf`."""
        # Imported here, so that a worker whose models are prepared never loads onnx and gguf.
        from workers.onnx_worker.convert import convert_gguf  # noqa: PLC0415

        convert_gguf(source, target, precision=profile, report=report)
        return {tool: version(tool) for tool in _TOOLS}
