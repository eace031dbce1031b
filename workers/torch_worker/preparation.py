"""``python -m workers.torch_worker.preparation``: a preparing process, as the supervisor starts it."""

from workers.runtime.supervisor.preparing_process import main
from workers.torch_worker.prepare import CheckpointToTorch

if __name__ == "__main__":
    main("torch", CheckpointToTorch())
