"""``bundle`` and ``unbundle``: a store's models as one file, for machines without a network."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from diplex.errors import InvalidRequest
from workers.runtime.command.options import Home
from workers.runtime.progress_display import displayed
from workers.runtime.store import default_home
from workers.runtime.store.bundle import pack, unpack
from workers.runtime.store.manifest import Manifest

File = Annotated[Path | None, typer.Argument(help="A tar.", show_default="standard input or output")]


def bundle(file: File = None, home: Home = None) -> None:
    """Write all that is prepared into one tar, which `unbundle` takes into another machine's store.

    Example: python -m workers.onnx_worker bundle models.tar
    """
    console = Console(stderr=True)
    if file is None and sys.stdout.isatty():
        raise InvalidRequest("a tar would go to this terminal; name a file")
    with file.open("wb") if file else sys.stdout.buffer as stream:
        for manifest in pack(_root(home), stream):
            _print(console, manifest)


def unbundle(file: File = None, home: Home = None) -> None:
    """Take a bundle's models into the store, once each file has the digest that it should have.

    Example: python -m workers.onnx_worker unbundle models.tar
    """
    console = Console(stderr=True)
    with displayed(console) as report, file.open("rb") if file else sys.stdin.buffer as stream:
        for manifest in unpack(_root(home), stream, report):
            _print(console, manifest)


def _root(home: Path | None) -> Path:
    return home or default_home(os.environ)


def _print(console: Console, manifest: Manifest) -> None:
    megabytes = sum(file.size for file in manifest.files) / 1e6
    name = f"{manifest.model}/{manifest.profile} for {manifest.backend}"
    console.print(f"{name}: {megabytes:.0f} MB, sha256:{manifest.digest[:12]}", highlight=False)
