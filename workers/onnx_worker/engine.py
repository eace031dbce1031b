"""``python -m workers.onnx_worker.engine FD``: the engine process, as the supervisor starts it."""

import traceback

from workers.onnx_worker.compiled.availability import code_for
from workers.onnx_worker.published.graphs import GRAPHS_FILE
from workers.runtime.artefact import ModelDescription
from workers.runtime.engine.backend import Backend
from workers.runtime.engine.messages import EngineConfig
from workers.runtime.engine.process import main


def load_backend(description: ModelDescription, config: EngineConfig) -> Backend:
    """The backend for an artefact: the compatible one for published graphs, a fast one for our own.

    Each is imported when it is needed: compiled functions do without ONNX Runtime, which takes 50 MiB.
    """
    if (config.folder / GRAPHS_FILE).is_file():
        from workers.onnx_worker.published.backend import PublishedBackend  # noqa: PLC0415

        return PublishedBackend(description, config)
    return _compiled(description, config) or _in_onnxruntime(description, config)


def _compiled(description: ModelDescription, config: EngineConfig) -> Backend | None:
    try:
        if (code := code_for(config.folder)) is None:
            return None
        from workers.onnx_worker.compiled.backend import CompiledBackend  # noqa: PLC0415

        return CompiledBackend(description, config, code)
    except (OSError, ValueError, KeyError):
        traceback.print_exc()  # a system that lets nobody bring code of their own, or a damaged file
        return None


def _in_onnxruntime(description: ModelDescription, config: EngineConfig) -> Backend:
    from workers.onnx_worker.backend import OnnxBackend  # noqa: PLC0415

    return OnnxBackend(description, config)


if __name__ == "__main__":
    main(load_backend)
