"""The real thing: containers of the images, started by Compose, and ways to harm them."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest

ROOT = Path(__file__).parents[2]
MODEL = "Seeing-2M-Drawings"
TORCH_MODEL = "Seeing-Torch"
FILES = ("docker-compose.yml", "tests/compose/compose.yml")

_Found = TypeVar("_Found")


def docker(*arguments: str, check: bool = True, **options: Any) -> subprocess.CompletedProcess[str]:
    """Runs `docker`."""
    command = ["docker", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, **options)
    assert done.returncode == 0 or not check, f"{shlex.join(command)}: {done.stderr}"
    return done


def image(name: str) -> str:
    """The full name of one of the images."""
    prefix, version = os.environ.get("DIPLEX_IMAGE_PREFIX"), os.environ.get("DIPLEX_VERSION")
    return f"{prefix or 'diplex'}/{name}:{version or 'latest'}"


def has_image(name: str) -> bool:
    """Whether it is built."""
    return docker("image", "inspect", image(name), check=False).returncode == 0


def eventually(look: Callable[[], _Found], seconds: float = 60.0) -> _Found:
    """What a look finds once it finds something: an engine tells nobody when things change."""
    until = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < until, f"not within {seconds:.0f} s"
        time.sleep(0.1)
    return found


class Stack:
    """One project of Compose.

    Args:
        name: The project's.
        environment: Variables that the files are filled in with.
        files: What is laid over one another, below the repository's root.
    """

    def __init__(self, name: str, environment: Mapping[str, str], files: Sequence[str] = FILES) -> None:
        self.name = name
        self._command = [*shlex.split(os.environ["COMPOSE"]), "--project-name", name]
        for file in files:
            self._command += ["-f", file]
        self._environment = os.environ | {
            "DIPLEX_MODEL": MODEL,
            "DIPLEX_MODELS": "/models/torch.toml",
            "DIPLEX_PORT": "",
            "DIPLEX_HTTP_PORT": "",
            "DIPLEX_DISCOVERY_INTERVAL_SECONDS": "0.5",
            "ONNX_WORKER_THREADS": "1",
            "ONNX_WORKER_MEMORY": "1g",
            **environment,
        }

    def compose(
        self, *arguments: str, check: bool = True, seconds: float = 240, **options: Any
    ) -> subprocess.CompletedProcess[Any]:
        """Runs Compose."""
        options = {"capture_output": True, "text": True, **options}
        done = subprocess.run(
            [*self._command, *arguments],
            cwd=ROOT,
            env=self._environment,
            timeout=seconds,
            check=False,
            **options,
        )
        assert done.returncode == 0 or not check, f"compose {shlex.join(arguments)}: {done.stderr}"
        return done

    def up(self, *arguments: str) -> None:
        """Starts what isn't running; returns once what others depend on is healthy."""
        self.compose("up", "--detach", "--no-build", *arguments)

    def down(self) -> None:
        """Removes everything, the volumes too."""
        self.compose("--profile", "torch", "down", "--volumes", "--timeout", "1", check=False)

    def containers(self, service: str) -> list[str]:
        """The ids of a service's running containers."""
        filters = [
            f"label=com.docker.compose.{key}" for key in (f"project={self.name}", f"service={service}")
        ]
        filters.append("label=com.docker.compose.oneoff=False")
        return docker("ps", "--quiet", "--no-trunc", *(f"--filter={each}" for each in filters)).stdout.split()

    def container(self, service: str) -> str:
        """The id of its only one."""
        (found,) = self.containers(service)
        return found

    def healthy(self, service: str, count: int = 1) -> bool:
        """Whether so many run, and all are healthy."""
        found = [inspect(each) for each in self.containers(service)]
        return len(found) == count and all(it["State"]["Health"]["Status"] == "healthy" for it in found)

    def address(self, port: int = 50051) -> str:
        """Where a port of the gateway is published."""
        return self.compose("port", "gateway", str(port)).stdout.strip()

    @property
    def network(self) -> str:
        """The name of the private network."""
        return f"{self.name}_diplex"

    def logs(self) -> str:
        """What all have logged."""
        done = self.compose("logs", "--no-color", "--tail", "60", check=False)
        return f"{done.stdout}{done.stderr}"


def inspect(container: str) -> dict[str, Any]:
    """What the engine knows of a container."""
    (found,) = json.loads(docker("inspect", container).stdout)
    return found


def kill(container: str) -> None:
    """`kill -9` of its first process, as if it had crashed: the engine wasn't asked, and starts it again."""
    pid = inspect(container)["State"]["Pid"]
    try:
        os.kill(pid, signal.SIGKILL)
    except (PermissionError, ProcessLookupError):
        # The engine runs on another machine, or we aren't root on this one.
        docker("kill", "--signal", "KILL", container)
        docker("start", container)


@contextmanager
def running(name: str, **environment: str) -> Iterator[Stack]:
    """A stack of gateway and one ONNX worker that answers; shows the logs if the block fails."""
    if shutil.which("docker") is None or "COMPOSE" not in os.environ:
        pytest.fail("run `make compose-test`: it finds an engine and builds the images")
    stack = Stack(f"{name}-{os.getpid()}", environment)
    try:
        stack.up()
        eventually(lambda: stack.healthy("gateway"))
        yield stack
    except BaseException:
        print(stack.logs())  # noqa: T201  # pytest shows it with the failure
        raise
    finally:
        stack.down()
