"""Which ONNX Runtime is installed, without importing it."""

from __future__ import annotations

from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version


def onnxruntime_version() -> str:
    """Of the build that is there: the one with CUDA is a package of its own."""
    for package in ("onnxruntime", "onnxruntime-gpu"):
        with suppress(PackageNotFoundError):
            return version(package)
    return "unknown"
