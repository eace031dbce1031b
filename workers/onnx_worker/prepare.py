"""The store's converter of the ONNX backend."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Final

from workers.onnx_worker.compiled.availability import code_for
from workers.onnx_worker.installed import onnxruntime_version
from workers.runtime.progress import Phase, Progress, Report

_TOOLS: Final = ("gguf", "numpy", "onnx", "tokenizers")


class ToOnnx:
    """Makes in-place ONNX graphs of published models; a :class:`workers.runtime.store.Prepare`."""

    version: Final = "6"
    """Raised whenever the same file would give another graph or other weights."""

    def __call__(self, source: Path, target: Path, *, profile: str, report: Report) -> Mapping[str, str]:
        """Converts a file or a folder; see :mod:`workers.onnx_worker.convert.converter`."""
        # Imported here, so that a worker whose models are prepared never loads onnx and gguf.
        if _is_published(source):
            from workers.onnx_worker.published.prepare import prepare_published  # noqa: PLC0415

            prepare_published(source, target, precision=profile, report=report)
            return {"onnxruntime": onnxruntime_version(), "tokenizers": version("tokenizers")}
        from workers.onnx_worker.convert import convert_checkpoint, convert_gguf  # noqa: PLC0415

        convert = convert_checkpoint if source.is_dir() else convert_gguf
        convert(source, target, precision=profile, report=report)
        report(Progress(Phase.CONVERT, 1, 1, "machine code"))
        code_for(target)
        return {tool: version(tool) for tool in _TOOLS}


def _is_published(source: Path) -> bool:
    """Whether a folder holds graphs that somebody else has made."""
    return source.is_dir() and any(source.rglob("*.onnx"))
