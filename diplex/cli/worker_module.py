"""The workers' own commands, run beside this process; ``verify`` is the ONNX one's."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from diplex import errors
from diplex.cli.lifeline import tied

MODULE = "workers.onnx_worker"
TORCH_MODULE = "workers.torch_worker"
_NEEDED = ("workers", "onnxruntime", "tokenizers", "numpy", "onnx", "gguf")
_TORCH_NEEDED = ("workers", "torch", "transformers", "accelerate", "safetensors")


def require() -> None:
    """Makes sure that the ONNX worker is installed.

    Raises:
        DiplexError: It isn't; says what to install.
    """
    if any(find_spec(name) is None for name in _NEEDED):
        raise errors.DiplexError("this needs the ONNX worker: pip install 'diplex[onnx]'")


def require_torch(python: str) -> None:
    """Makes sure that the torch worker can be run.

    Args:
        python: The interpreter that is to run it.

    Raises:
        DiplexError: It can't; says what to do.
    """
    own = Path(python).absolute() == Path(sys.executable).absolute()
    if not Path(python).is_file() or (own and any(find_spec(name) is None for name in _TORCH_NEEDED)):
        raise errors.DiplexError(
            "this needs the torch worker: pip install 'diplex[torch]' here, or into an environment of its "
            "own (make setup-torch) whose interpreter --torch-python or DIPLEX_TORCH_PYTHON names"
        )


def run(*arguments: str, torch_python: str | None = None) -> int:
    """Runs a command of a worker in the foreground.

    Args:
        arguments: The command and its options.
        torch_python: The interpreter of the torch worker, if it is this one's command.

    Returns:
        Its exit code; 128 + n for a signal n.

    Raises:
        DiplexError: The worker isn't installed.
    """
    if torch_python is not None:
        require_torch(torch_python)
        return foreground([torch_python, "-m", TORCH_MODULE, *arguments])
    require()
    return foreground([sys.executable, "-m", MODULE, *arguments])


def foreground(argv: Sequence[str]) -> int:
    """Runs a command with our terminal; Ctrl-C is left to it, SIGTERM is passed on."""
    with subprocess.Popen(tied(argv)) as child:  # noqa: S603  # our own interpreter and module
        # The terminal sends Ctrl-C to the child too: it ends in its own way, and then so do we.
        previous = {
            signal.SIGINT: signal.signal(signal.SIGINT, lambda *_: None),
            signal.SIGTERM: signal.signal(signal.SIGTERM, lambda *_: child.terminate()),
        }
        try:
            code = child.wait()
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
    return code if code >= 0 else 128 - code
