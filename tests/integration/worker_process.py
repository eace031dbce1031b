"""A whole worker as a process, with several tiny models, seen from outside: its service and its memory."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import grpc
import psutil

from diplex.v1 import generation_pb2 as pb
from diplex.v1 import models_pb2
from diplex.worker.v1 import worker_pb2, worker_pb2_grpc
from tests.fixtures.tiny_llama import write_tiny_llama
from tests.worker_events import Events
from workers.runtime.catalogue import Catalogue

ENGINE = "workers.onnx_worker.engine"
PREPARATION = "workers.onnx_worker.preparation"
CURATED_NAMES = frozenset(entry.name for entry in Catalogue.load().entries)
LONG = 490
"""Tokens that nearly fill a tiny model's context."""

_ENTRY = """
[[model]]
name = "{name}"
architecture = "llama"
licence = "Apache-2.0"
capabilities = ["text", "chat"]
context_length = 512
[model.onnx]
default_profile = "fp32"
[model.onnx.artefact]
file = "{name}.gguf"
format = "gguf"
sources = [{{ file = "{name}.gguf" }}]
[model.onnx.profiles.fp32]
[model.onnx.profiles.int8]
"""


def write_catalogue(folder: Path, *names: str) -> Path:
    """A catalogue of tiny models, each with weights of its own, which are written too."""
    for seed, name in enumerate(names):
        if not (folder / f"{name}.gguf").exists():
            write_tiny_llama(folder / f"{name}.gguf", seed=seed)
    file = folder / "models.toml"
    file.write_text("".join(_ENTRY.format(name=name) for name in names), encoding="utf-8")
    return file


async def rest(call) -> list:
    """What a stream still has to say."""
    events = []
    while (event := await call.read()) is not grpc.aio.EOF:
        events.append(event)
    return events


class Worker:
    """A running worker."""

    def __init__(self, process: asyncio.subprocess.Process, channel: grpc.aio.Channel) -> None:
        self.process = process
        self.stub = worker_pb2_grpc.WorkerServiceStub(channel)

    def children(self, module: str = "workers.") -> list[psutil.Process]:
        """Its child processes that run a module."""
        with_module = []
        for child in psutil.Process(self.process.pid).children(recursive=True):
            try:
                if any(part.startswith(module) for part in child.cmdline()):
                    with_module.append(child)
            except psutil.Error:  # it has just ended
                continue
        return with_module

    def resident_bytes(self) -> int:
        """Resident memory of its whole process tree."""
        total = 0
        worker = psutil.Process(self.process.pid)
        for process in (worker, *worker.children(recursive=True)):
            try:
                total += process.memory_info().rss
            except psutil.Error:
                continue
        return total

    def generate(self, model: str, *, max_tokens: int = 8, progress: bool = False):
        """A greedy generation's call."""
        request = pb.GenerateRequest(
            model=model,
            prompt="Hi",
            sampling=pb.SamplingOptions(temperature=0),
            stopping=pb.StoppingOptions(max_tokens=max_tokens),
            output=pb.OutputOptions(progress=progress),
        )
        return Events(self.stub.Generate(worker_pb2.GenerateRequest(request=request), timeout=60))

    def load(self, model: str):
        """A load's call."""
        return self.stub.LoadModel(worker_pb2.LoadModelRequest(model=model), timeout=60)

    async def loaded(self, model: str) -> models_pb2.ModelDeployment:
        """Loads a model to the end."""
        events = await rest(self.load(model))
        return events[-1].model.deployments[0]

    async def unload(self, model: str) -> None:
        """Unloads a model."""
        await self.stub.UnloadModel(worker_pb2.UnloadModelRequest(model=model), timeout=60)

    async def states(self) -> dict[str, models_pb2.ModelDeployment]:
        """``name/precision`` -> deployment, of all models but the curated ones."""
        return await self.until(lambda _: True)

    async def until(
        self, holds: Callable[[dict[str, models_pb2.ModelDeployment]], bool]
    ) -> dict[str, models_pb2.ModelDeployment]:
        """The first states for which a condition holds."""
        watch = self.stub.Watch(worker_pb2.WatchRequest(min_interval_ms=1), timeout=60, wait_for_ready=True)
        async for state in watch:
            found = {
                f"{model.name}/{pb.Precision.Name(it.precision).removeprefix('PRECISION_').lower()}": it
                for model in state.models
                for it in model.deployments
                if model.name not in CURATED_NAMES
            }
            if holds(found):
                watch.cancel()
                return found
        raise AssertionError("the watch ended")

    async def child(self, module: str) -> psutil.Process:
        """A child process that runs a module, in the moment in which there is one."""
        async with asyncio.timeout(30):
            while not (found := self.children(module)):  # noqa: ASYNC110  # nothing tells when one begins
                await asyncio.sleep(0.001)
        return found[0]


@asynccontextmanager
async def worker(folder: Path, home: Path, catalogue: Path, *options: str) -> AsyncIterator[Worker]:
    """Starts a worker; ends it, and with it its engines, when the block is left."""
    listen = f"unix:{folder}/w.sock"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-m", "workers.onnx_worker", "serve", "--listen", listen),
        *("--home", str(home), "--catalogue", str(catalogue), "--threads", "1", *options),
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with grpc.aio.insecure_channel(listen) as channel:
            yield Worker(process, channel)
    finally:
        if process.returncode is None:
            children = psutil.Process(process.pid).children(recursive=True)
            process.kill()
            await process.wait()
            await asyncio.to_thread(psutil.wait_procs, children, timeout=10)


@contextmanager
def watched_memory(worker: Worker) -> Iterator[list[int]]:
    """Looks at the process tree's memory again and again; the list has what was seen."""
    seen = [worker.resident_bytes()]
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.005):
            seen.append(worker.resident_bytes())

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()
