"""``--processes N``: several gateways on one port, kept running by this process, which serves nobody itself.

The kernel gives each connection to one of them (SO_REUSEPORT). They share files for what has to be true of
all together: quotas, the secrets of resumption tokens, and metrics.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import socket
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Final

import structlog
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

from diplex.cli.processes import Command, Supervisor
from diplex.metrics import metrics_server
from gateway.config import GatewayConfig

_METRICS_VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"
_STOP_SECONDS: Final = 10.0
"""Beyond its time to drain, what a process may take to end before it is killed."""
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")

_LOG: Final = structlog.get_logger()


async def serve(config: GatewayConfig, arguments: Sequence[str]) -> None:
    """Runs the processes until SIGTERM or SIGINT, which they then get; a second one too.

    Args:
        config: Of each of them, but for what they share.
        arguments: The command line that made it.

    Raises:
        OSError: The address can't be bound, or is one that can't be shared.
        ChildFailed: A process doesn't start, or dies again and again.
    """
    signals: asyncio.Queue[int] = asyncio.Queue()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, signals.put_nowait, number)
    with (
        tempfile.TemporaryDirectory(prefix="diplex-gateway-") as made,
        reserved(config.listen) as listen,
        reserved(config.http.listen) if config.http.listen else nullcontext("") as http,
    ):
        folder = Path(made)
        settings = {"listen": listen, "http.listen": http, **_shared(config, folder)}
        metrics = folder / "metrics"
        metrics.mkdir()
        os.environ[_METRICS_VARIABLE] = str(metrics)  # of the children
        listening: set[str] = set()
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def take_line(name: str, line: str) -> None:
            sys.stderr.write(f"{line}\n")
            if "listening" in line:
                listening.add(name)
                if len(listening) == config.processes and not ready.done():
                    ready.set_result(None)

        def restarted(name: str, code: int, pause: float) -> None:
            _LOG.warning("process died", process=name, code=code, again_in=round(pause, 2))
            _forget_dead(metrics)

        supervisor = Supervisor(
            [_command(index, arguments, config, settings) for index in range(config.processes)],
            on_line=take_line,
            on_restart=restarted,
            stop_seconds=config.drain_seconds + _STOP_SECONDS,
        )
        registry = CollectorRegistry()
        MultiProcessCollector(registry, str(metrics))  # type: ignore[no-untyped-call]  # as it is shipped
        registry.register(ProcessMemory(supervisor))
        with metrics_server(config.metrics.listen, registry):
            await _supervise(supervisor, signals, ready, listen)


def _forget_dead(metrics: Path) -> None:
    """Removes what processes that have died had under way."""
    for path in metrics.glob("gauge_live*_*.db"):
        pid = int(path.stem.rpartition("_")[2])
        if not Path(f"/proc/{pid}").exists():
            mark_process_dead(pid, str(metrics))  # type: ignore[no-untyped-call]  # as it is shipped


async def _supervise(
    supervisor: Supervisor, signals: asyncio.Queue[int], ready: asyncio.Future[None], listen: str
) -> None:
    wanted = asyncio.create_task(signals.get())
    running = asyncio.create_task(_run(supervisor, ready, listen))
    try:
        await asyncio.wait((wanted, running), return_when=asyncio.FIRST_COMPLETED)
    finally:
        running.cancel()
        stopping = asyncio.create_task(supervisor.stop_together())
        again = asyncio.create_task(signals.get())
        await asyncio.wait((stopping, again), return_when=asyncio.FIRST_COMPLETED)
        if again.done():
            supervisor.terminate()
        await stopping
        again.cancel()
        wanted.cancel()
    with suppress(asyncio.CancelledError):
        await running


async def _run(supervisor: Supervisor, ready: asyncio.Future[None], listen: str) -> None:
    await supervisor.start(ready)
    _LOG.info("all processes listen", address=listen, pids=list(supervisor.pids.values()))
    await supervisor.watch()


@contextmanager
def reserved(listen: str) -> Iterator[str]:
    """Holds a TCP address for the processes while it is open; yields it with its real port.

    The socket that holds it never listens, so the kernel gives it no connections.

    Raises:
        OSError: Somebody else has it, or it is a unix socket, which only one process can have.
    """
    host, _, port = listen.rpartition(":")
    if listen.startswith("unix:") or not port.isdigit():
        raise OSError(f"{listen} can't be shared by processes: listen on host:port, or take processes = 1")
    family, kind, _, _, where = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)[0]
    try:
        with socket.socket(family, kind) as probe:  # would share it with strangers if it asked as we do below
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(where)
        with socket.socket(family, kind) as holder:
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            holder.bind(where)
            yield f"{host}:{holder.getsockname()[1]}"
    except OSError as error:
        raise OSError(f"can't listen on {listen}: {error.strerror or error}") from error


def _shared(config: GatewayConfig, folder: Path) -> dict[str, str]:
    """Files for what the processes share and the configuration has no file for."""
    settings: dict[str, str] = {}
    if not config.admission.state_file:
        settings["admission.state_file"] = str(folder / "admission.db")
    if not config.resilience.resumption_keys_file:
        keys = folder / "resumption-keys"
        keys.touch(mode=0o600)
        keys.write_text(f"{secrets.token_hex(32)}\n", encoding="ascii")
        settings["resilience.resumption_keys_file"] = str(keys)
    return settings


def _command(
    index: int, arguments: Sequence[str], config: GatewayConfig, settings: dict[str, str]
) -> Command:
    own = {"processes": "1", "reuse_port": "true", "metrics.listen": ""}
    if config.admin.listen:
        own["admin.listen"] = _beside(config.admin.listen, index)
    if config.health.listen:
        own["health.listen"] = _beside(config.health.listen, index)
    assignments = [f"--set={key}={value}" for key, value in {**settings, **own}.items()]
    return Command(f"gateway-{index}", [sys.executable, "-m", "gateway", *arguments, *assignments])


def _beside(listen: str, index: int) -> str:
    """An address of its own for each process: the next ports, or paths with a number."""
    host, _, port = listen.rpartition(":")
    if listen.startswith("unix:"):
        return f"{listen}.{index}" if index else listen
    return f"{host}:{int(port) + index}" if int(port) else listen


class ProcessMemory(Collector):
    """Resident memory of the processes, for one scrape after another."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """One scrape."""
        told = GaugeMetricFamily(
            "diplex_process_resident_bytes", "Resident memory of a gateway process.", labels=("process",)
        )
        for name, pid in self._supervisor.pids.items():
            with suppress(OSError):
                pages = Path(f"/proc/{pid}/statm").read_text("ascii").split()[1]
                told.add_metric((name,), int(pages) * _PAGE_BYTES)
        yield told
