"""``python -m workers.torch_worker``: serve models of transformers' architectures, and prepare them."""

from __future__ import annotations

from diplex.polling import poll_without_event_engine

poll_without_event_engine()  # before the imports below bring in grpc

import sys
from importlib.metadata import version
from importlib.util import find_spec

from workers.runtime import command
from workers.runtime.supervisor.artefacts import BackendMemory
from workers.torch_worker.device_names import check_device
from workers.torch_worker.footprint import converting, expect, predict
from workers.torch_worker.formats import TorchFormats
from workers.torch_worker.prepare import CheckpointToTorch

_NEEDED = ("torch", "transformers", "accelerate", "safetensors")

if missing := [name for name in _NEEDED if find_spec(name) is None]:
    sys.exit(f"the torch worker needs {', '.join(missing)}: pip install 'diplex[torch]', or make setup-torch")

app = command.application(
    command.WorkerKind(
        backend="torch",
        package="workers.torch_worker",
        help="The PyTorch worker.",
        models=(),
        converter=CheckpointToTorch(),
        formats=TorchFormats(),
        memory=BackendMemory(
            f"torch {version('torch')}, transformers {version('transformers')}", predict, converting, expect
        ),
        certify=None,
        check_device=check_device,
        spare_engine=True,
    )
)


def main() -> None:
    """Runs a command; an error of ours is one line and exit code 1."""
    command.main(app)


if __name__ == "__main__":
    main()
