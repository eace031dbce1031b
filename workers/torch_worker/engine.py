"""``python -m workers.torch_worker.engine FD``: the engine process, as the supervisor starts it."""

from workers.runtime.engine.process import main
from workers.torch_worker.backend import TorchBackend

if __name__ == "__main__":
    main(TorchBackend)
