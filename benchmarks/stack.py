"""Gateway and worker as processes of their own, for as long as a benchmark takes.

They die with the thread that has started them.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from diplex.cli.lifeline import tied
from diplex.v1 import generation_pb2_grpc

_START_SECONDS = 120


class Stack:
    """Starts both on unix sockets and waits until a model answers; stops them at the end.

    Args:
        models: What the worker loads.
        worker_options: Further options of ``serve``.
        worker: The worker's module.
        python: What runs the worker; ``None`` for what runs this.
        http_listen: Where the gateway serves HTTP; empty: on a unix socket too.
    """

    def __init__(
        self,
        *,
        models: Sequence[str],
        worker_options: Sequence[str] = (),
        worker: str = "workers.onnx_worker",
        python: Path | None = None,
        http_listen: str = "",
    ) -> None:
        self._python = str(python or sys.executable)
        self._http_listen = http_listen
        self._worker = worker
        self._models = models
        self._worker_options = worker_options
        self._exit = ExitStack()
        self.pids: list[int] = []
        """Worker and gateway, while they run."""

    def __enter__(self) -> Self:
        folder = Path(self._exit.enter_context(tempfile.TemporaryDirectory(prefix="diplex-")))
        worker, gateway, http = (f"unix:{folder / name}.sock" for name in ("worker", "gateway", "http"))
        named = [part for model in self._models for part in ("--model", model)]
        options = ("--listen", worker, *named, *self._worker_options)
        self._start(self._python, self._worker, "serve", *options)
        http = self._http_listen or http
        self._start(
            sys.executable, "gateway", "--listen", gateway, "--http-listen", http, "--workers", worker
        )
        self.address, self.http_address = gateway, http
        channel = self._exit.enter_context(grpc.insecure_channel(gateway))
        self.stub = generation_pb2_grpc.GenerationServiceStub(channel)
        self._wait(channel)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exit.close()

    def _start(self, python: str, module: str, *arguments: str) -> None:
        process = subprocess.Popen(  # noqa: S603  # our own modules
            tied([python, "-m", module, *arguments]), stderr=subprocess.DEVNULL
        )
        self.pids.append(process.pid)
        self._exit.callback(process.wait)
        self._exit.callback(process.terminate)

    def _wait(self, channel: grpc.Channel) -> None:
        grpc.channel_ready_future(channel).result(timeout=_START_SECONDS)
        stub = health_pb2_grpc.HealthStub(channel)
        for status in stub.Watch(health_pb2.HealthCheckRequest(), timeout=_START_SECONDS):
            if status.status == health_pb2.HealthCheckResponse.SERVING:
                return
