"""``python -m workers.onnx_worker.preparation``: a preparing process, as the supervisor starts it."""

from workers.onnx_worker.prepare import ToOnnx
from workers.runtime.supervisor.preparing_process import main

if __name__ == "__main__":
    main("onnx", ToOnnx())
