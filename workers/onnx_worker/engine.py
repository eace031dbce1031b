"""``python -m workers.onnx_worker.engine FD``: the engine process, as the supervisor starts it."""

from workers.onnx_worker.backend import OnnxBackend
from workers.onnx_worker.published.backend import PublishedBackend
from workers.onnx_worker.published.graphs import GRAPHS_FILE
from workers.runtime.artefact import ModelDescription
from workers.runtime.engine.backend import Backend
from workers.runtime.engine.messages import EngineConfig
from workers.runtime.engine.process import main


def load_backend(description: ModelDescription, config: EngineConfig) -> Backend:
    """The backend for an artefact: the fast one for our own graphs, the compatible one for published ones."""
    published = (config.folder / GRAPHS_FILE).is_file()
    return PublishedBackend(description, config) if published else OnnxBackend(description, config)


if __name__ == "__main__":
    main(load_backend)
