"""What the ONNX worker is, for its command line."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from diplex.errors import InvalidRequest
from workers.onnx_worker.compiled.availability import allowed
from workers.onnx_worker.footprint import converting, expect, predict
from workers.onnx_worker.formats import OnnxFormats
from workers.onnx_worker.installed import onnxruntime_version
from workers.onnx_worker.prepare import ToOnnx
from workers.runtime.command import WorkerKind
from workers.runtime.fidelity.certificate import Certificate
from workers.runtime.progress import Report
from workers.runtime.supervisor.artefacts import BackendMemory

_CONDITIONS: Final = f"onnxruntime {onnxruntime_version()}" + (", compiled" if allowed() else "")
"""What a measured footprint depends on besides the model."""


def _certify(folder: Path, source: Path, report: Report) -> Certificate:
    from workers.onnx_worker.convert.certification import certify  # noqa: PLC0415  # heavy, and only for this

    return certify(folder, source, report)


def _check_device(device: str) -> None:
    if device not in {"auto", "cpu"}:
        raise InvalidRequest(
            f"--device {device}: the ONNX worker computes on the CPU; the torch worker has more"
        )


KIND: Final = WorkerKind(
    backend=OnnxFormats.backend,
    package="workers.onnx_worker",
    help="The ONNX Runtime worker.",
    models=("SmolLM2-135M-Instruct",),
    converter=ToOnnx(),
    formats=OnnxFormats(),
    memory=BackendMemory(_CONDITIONS, predict, converting, expect),
    certify=_certify,
    check_device=_check_device,
)
