"""``python -m workers.onnx_worker.engine FD``: the engine process, as the supervisor starts it."""

from workers.onnx_worker.backend import OnnxBackend
from workers.runtime.engine.process import main

if __name__ == "__main__":
    main(OnnxBackend)
