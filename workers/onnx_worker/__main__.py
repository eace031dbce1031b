"""``python -m workers.onnx_worker``: serve models, prepare and verify them."""

from __future__ import annotations

from diplex.polling import poll_without_event_engine

poll_without_event_engine()  # before the imports below bring in grpc

from importlib.metadata import version
from pathlib import Path

from diplex.errors import InvalidRequest
from workers.onnx_worker.footprint import converting, predict
from workers.onnx_worker.prepare import ToOnnx
from workers.runtime import command
from workers.runtime.fidelity.certificate import Certificate
from workers.runtime.progress import Report
from workers.runtime.supervisor.artefacts import BackendMemory


def _certify(folder: Path, source: Path, report: Report) -> Certificate:
    from workers.onnx_worker.convert.certification import certify  # noqa: PLC0415  # heavy, and only for this

    return certify(folder, source, report)


def _check_device(device: str) -> None:
    if device not in {"auto", "cpu"}:
        raise InvalidRequest(
            f"--device {device}: the ONNX worker computes on the CPU; the torch worker has more"
        )


app = command.application(
    command.WorkerKind(
        backend="onnx",
        package="workers.onnx_worker",
        help="The ONNX Runtime worker.",
        models=("SmolLM2-135M-Instruct",),
        converter=ToOnnx(),
        memory=BackendMemory(f"onnxruntime {version('onnxruntime')}", predict, converting),
        certify=_certify,
        check_device=_check_device,
    )
)


def main() -> None:
    """Runs a command; an error of ours is one line and exit code 1."""
    command.main(app)


if __name__ == "__main__":
    main()
