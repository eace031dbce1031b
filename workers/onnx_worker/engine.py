"""``python -m workers.onnx_worker.engine FD``: the engine process, as the supervisor starts it."""

from workers.onnx_worker.compiled.availability import compiled_backend
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
    if (compiled := compiled_backend(description, config)) is not None:
        return compiled
    from workers.onnx_worker.backend import OnnxBackend  # noqa: PLC0415

    return OnnxBackend(description, config)


if __name__ == "__main__":
    main(load_backend)
