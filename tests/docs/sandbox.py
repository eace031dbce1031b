"""A network and a home of their own, where commands run as the documents have them, usual ports too."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.e2e.services import DEFAULT_MODEL, ROOT, Service, environment

BIN = Path(sys.executable).parent
_SECONDS = 180
_SIOCSIFFLAGS = 0x8914
_UP_LOOPBACK_RUNNING = 0x49
_HOLD = f"""
import fcntl, socket, struct
flags = struct.pack("16sh14x", b"lo", {_UP_LOOPBACK_RUNNING})
fcntl.ioctl(socket.socket(), {_SIOCSIFFLAGS}, flags)
print("up", flush=True)
input()
"""
"""What keeps a network there until a line comes."""


@contextmanager
def network() -> Iterator[tuple[str, ...]]:
    """A network namespace with a loopback only; yields the words that run a command in it."""
    mapped = () if os.geteuid() == 0 else ("--user", "--map-root-user")
    with subprocess.Popen(
        [shutil.which("unshare") or "unshare", *mapped, "--net", sys.executable, "-c", _HOLD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        if holder.stdout.readline() != "up\n":
            raise RuntimeError("no network namespace can be made here: the tests of the documents need one")
        joined = ("--user", "--preserve-credentials") if mapped else ()
        try:
            yield ("nsenter", f"--target={holder.pid}", *joined, "--net")
        finally:
            holder.communicate("\n")


@dataclass
class Sandbox:
    """Where commands run."""

    enter: Sequence[str]
    """The words that run a command in its network."""
    home: Path
    folder: Path
    """Working folder; the caller may enter another one."""
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        kept = environment(
            HOME=str(self.home),
            DIPLEX_HOME=str(self.home / "store"),
            PATH=f"{BIN}:{os.environ['PATH']}",
            PYTHONUNBUFFERED="1",
            **self.variables,
        )
        return {name: value for name, value in kept.items() if not name.lower().endswith("_proxy")}

    def run(self, *argv: str | Path) -> subprocess.CompletedProcess:
        """Runs a program to its end; its output has its errors among it."""
        return subprocess.run(
            [*self.enter, *argv],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self.folder,
            env=self.environment,
            timeout=_SECONDS,
            check=False,
        )

    def shell(self, command: str) -> subprocess.CompletedProcess:
        return self.run("bash", "-uo", "pipefail", "-c", command)

    def start(self, command: str) -> Service:
        """Starts what stays; the caller ends it."""
        return Service([*self.enter, "bash", "-c", command], env=self.environment, cwd=self.folder)


def link_store(target: Path) -> None:
    """Puts the default model into a new store by hard links, or by copying from another file system."""
    subprocess.run(
        [sys.executable, "-m", "workers.onnx_worker", "pull", DEFAULT_MODEL],
        check=True,
        timeout=600,
        env=environment(),
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
    )
    source = Path(os.environ.get("DIPLEX_HOME") or Path.home() / ".cache" / "diplex")
    for part in ("blobs", f"prepared/{DEFAULT_MODEL}"):
        shutil.copytree(source / part, target / part, copy_function=_link)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
