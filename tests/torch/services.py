"""Torch workers as processes, in front of them a gateway; and catalogues of tiny checkpoints."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.e2e.services import READY_SECONDS, ROOT, Service, Stack, environment, gateway

_ENTRY = """
[[model]]
name = "{name}"
architecture = "any"
licence = "Apache-2.0"
capabilities = [{capabilities}]
context_length = 256

[model.torch]
default_profile = "fp32"

[model.torch.artefact]
format = "safetensors"
sources = [{{ folder = "{folder}" }}]

[model.torch.profiles.fp32]
[model.torch.profiles.int8]
[model.torch.profiles.bf16]
[model.torch.profiles.int4]
"""


def write_catalogue(
    file: Path, checkpoints: Mapping[str, Path], capabilities: tuple[str, ...] = ("text", "chat")
):
    """A catalogue file with one entry a checkpoint folder."""
    named = ", ".join(f'"{each}"' for each in capabilities)
    entries = [
        _ENTRY.format(name=name, folder=folder, capabilities=named) for name, folder in checkpoints.items()
    ]
    file.write_text("".join(entries), encoding="utf-8")
    return file


def worker(listen: str, *options: str | Path, **how) -> Service:
    """A torch worker."""
    return Service(
        [sys.executable, "-m", "workers.torch_worker", "serve", "--listen", listen, *options], **how
    )


@contextmanager
def stack(folder: Path, *options: str | Path) -> Iterator[Stack]:
    """A torch worker and a gateway, once a model answers."""
    socket = f"unix:{folder / 'torch.sock'}"
    with worker(socket, *options) as behind, gateway(socket) as front:
        both = Stack(behind, front)
        with both.client() as client:
            client.wait_until_ready(READY_SECONDS)
        yield both


def pull(*options: str | Path) -> subprocess.Popen[bytes]:
    """A process that prepares a model."""
    argv = [sys.executable, "-m", "workers.torch_worker", "pull", *(str(each) for each in options)]
    return subprocess.Popen(argv, env=environment(), cwd=ROOT, stderr=subprocess.DEVNULL)
