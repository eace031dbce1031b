"""Diplex and its peers, by name: where each is installed and how it is started."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.servers.diplex import Diplex
from benchmarks.servers.driven import Driven
from benchmarks.servers.llama_server import LlamaServer
from benchmarks.servers.server import Server
from benchmarks.weights import Weights

PEERS = Path(__file__).parents[1] / ".venv-peers"
"""Where ``make bench-peers`` installs."""
DIPLEX = "diplex"
DEFAULT = (DIPLEX, "llama-server", "openvino-genai", "onnxruntime-genai")
NAMES = (*DEFAULT, "onnxruntime-genai-int8")


@dataclass(frozen=True, slots=True)
class Lineup:
    """Makes servers.

    Args:
        weights: What they serve.
        model: Diplex's model, optionally with a profile behind a slash.
        worker_options: Further options of Diplex's worker.
    """

    weights: Weights
    model: str
    worker_options: Sequence[str] = ()

    def server(self, name: str) -> Server:
        """A server that can be started.

        Raises:
            ValueError: There is none of that name.
            FileNotFoundError: It isn't installed.
        """
        makers: dict[str, Callable[[], Server]] = {
            DIPLEX: self._diplex,
            "llama-server": self._llama_server,
            "openvino-genai": self._openvino,
            "onnxruntime-genai": lambda: self._onnxruntime("onnxruntime-genai", "int4"),
            "onnxruntime-genai-int8": lambda: self._onnxruntime("onnxruntime-genai-int8", "int8"),
        }
        if name not in makers:
            raise ValueError(f"no server is called {name!r}; there are {', '.join(makers)}")
        return makers[name]()

    def _diplex(self) -> Diplex:
        return Diplex(self.model, self.worker_options)

    def _llama_server(self) -> LlamaServer:
        binary = _installed(PEERS / "llama-server" / "bin" / "llama-server")
        return LlamaServer(binary, self.weights.gguf, threads())

    def _openvino(self) -> Driven:
        python = _installed(PEERS / "openvino-genai" / "bin" / "python")
        config = {"gguf": str(self.weights.gguf), "threads": threads()}
        return Driven("openvino-genai", python, "benchmarks.servers.openvino_genai_driver", config)

    def _onnxruntime(self, name: str, precision: str) -> Driven:
        python = _installed(PEERS / "onnxruntime-genai" / "bin" / "python")
        folder = _installed(PEERS / "onnxruntime-genai" / "models" / precision)
        config = {"folder": str(folder), "threads": threads()}
        return Driven(name, python, "benchmarks.servers.onnxruntime_genai_driver", config)


def threads() -> int:
    """Cores that may be used; every server computes on all of them."""
    return len(os.sched_getaffinity(0))


def _installed(path: Path) -> Path:
    if not path.exists():
        raise FileNotFoundError(f"{path} isn't there: run 'make bench-peers'")
    return path
