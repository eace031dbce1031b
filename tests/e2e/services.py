"""Processes of ours, started as a user would start them, each with its log."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import grpc
import psutil

from diplex.client import Client, Deployment, ModelState
from diplex.v1 import models_pb2
from diplex.worker.v1 import worker_pb2, worker_pb2_grpc

ROOT = Path(__file__).parents[2]
DEFAULT_MODEL = "SmolLM2-135M-Instruct"
ENDLESS = "The history of the sea is a history of people who"
"""A raw prompt that the default model continues, greedily, for several hundred tokens."""

READY_SECONDS = 60
STOP_SECONDS = 45


def environment(**values: str) -> dict[str, str]:
    """This process's environment without Diplex's own variables, except for where the model store is."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("DIPLEX_") or name == "DIPLEX_HOME"
    }
    return kept | values


class Service:
    """A process and the JSON lines of its log. Leaving the ``with`` ends it, gently and then not."""

    def __init__(self, argv: Sequence[str | Path], *, env: dict[str, str] | None = None, cwd: Path = ROOT):
        self.lines: list[str] = []
        self._heard = threading.Condition()
        self._silent = False
        self.process = subprocess.Popen(
            [str(part) for part in argv],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",  # gRPC logs what it was sent
            env=env or environment(),
            cwd=cwd,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def log(self) -> str:
        return "".join(self.lines)

    def entry(self, event: str, *, nth: int = 1, timeout: float = READY_SECONDS) -> dict:
        """The n-th entry of its log with this event, once it is there."""
        return json.loads(self.line(lambda line: _event(line) == event, nth=nth, timeout=timeout))

    def line(self, wanted: Callable[[str], bool], *, nth: int = 1, timeout: float = READY_SECONDS) -> str:
        """The n-th line of its output that is wanted, once it is there."""

        def found() -> str | None:
            return next(islice((line for line in self.lines if wanted(line)), nth - 1, None), None)

        with self._heard:
            self._heard.wait_for(lambda: found() or self._silent, timeout)
            line = found()
        assert line is not None, f"{self.process.args} did not say it:\n{self.log}"
        return line

    @property
    def address(self) -> str:
        """Where it listens, once it does."""
        return self.entry("listening")["address"]

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    def wait(self, timeout: float = STOP_SECONDS) -> int:
        """Its exit code, once it has ended and its output has been read."""
        code = self.process.wait(timeout)
        self._reader.join(timeout)
        return code

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.send(signal.SIGTERM)
        try:
            self.wait()
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.wait()
            raise
        finally:
            self.process.stdout.close()

    def _read(self) -> None:
        for line in self.process.stdout:
            with self._heard:
                self.lines.append(line)
                self._heard.notify_all()
        with self._heard:
            self._silent = True
            self._heard.notify_all()


def _event(line: str) -> str | None:
    try:
        return json.loads(line).get("event")
    except (ValueError, AttributeError):
        return None


def worker(listen: str, *options: str | Path, python: str | Path = sys.executable, **how) -> Service:
    """An ONNX worker."""
    return Service([python, "-m", "workers.onnx_worker", "serve", "--listen", listen, *options], **how)


def gateway(
    workers: str, *options: str, python: str | Path = sys.executable, listen: str = "127.0.0.1:0", **how
) -> Service:
    """A gateway, on a free port of its own choice."""
    return Service([python, "-m", "gateway", "--listen", listen, "--workers", workers, *options], **how)


@dataclass(frozen=True)
class Stack:
    """A worker and a gateway in front of it, ready to answer."""

    worker: Service
    gateway: Service

    @property
    def address(self) -> str:
        return self.gateway.address

    def client(self) -> Client:
        return Client(self.address)

    def engine(self) -> psutil.Process:
        """The worker's one engine process."""
        children = psutil.Process(self.worker.pid).children()
        [engine] = [child for child in children if "workers.onnx_worker.engine" in child.cmdline()]
        return engine

    def deployment(self) -> Deployment:
        """The worker's one model that is loaded, as the gateway knows it."""
        with self.client() as client:
            models = client.list_models(timeout=10)
        known = [deployment for model in models for deployment in model.deployments]
        [deployment] = [each for each in known if each.state is not ModelState.UNLOADED]
        return deployment


@contextmanager
def stack(folder: Path, *options: str | Path, env: dict[str, str] | None = None) -> Iterator[Stack]:
    """Starts both and waits until a model answers; the worker's socket lies in ``folder``."""
    socket = f"unix:{folder / 'worker.sock'}"
    with worker(socket, *options, env=env) as behind, gateway(socket, env=env) as front:
        both = Stack(behind, front)
        with both.client() as client:
            client.wait_until_ready(READY_SECONDS)
        yield both


@contextmanager
def channel_to(address: str) -> Iterator[grpc.Channel]:
    """A plain channel that doesn't mind the size of messages."""
    options = [
        ("grpc.enable_http_proxy", 0),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_receive_message_length", -1),
    ]
    with grpc.insecure_channel(address, options) as channel:
        yield channel


class SlotWatch:
    """The slots of a worker's one model, as its ``Watch`` tells them."""

    def __init__(self, call: grpc.Call):
        self._call = call

    def until_busy(self, count: int) -> None:
        """Reads states until so many slots are busy, the watch's own deadline at most."""
        for state in self._call:
            known = [deployment for model in state.models for deployment in model.deployments]
            [deployment] = [each for each in known if each.state != models_pb2.MODEL_STATE_UNLOADED]
            if deployment.slots.busy == count:
                return
        raise AssertionError("the watch ended")


@contextmanager
def watching(worker_address: str) -> Iterator[SlotWatch]:
    """A watch of a worker, which has no busy slot when it begins."""
    with channel_to(worker_address) as channel:
        stub = worker_pb2_grpc.WorkerServiceStub(channel)
        call = stub.Watch(worker_pb2.WatchRequest(min_interval_ms=1), timeout=30)
        try:
            watch = SlotWatch(call)
            watch.until_busy(0)
            yield watch
        finally:
            call.cancel()
