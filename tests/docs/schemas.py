"""What TOML in the documents is held against."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path

from gateway.config import GatewayConfig
from gateway.configuration.loading import load
from gateway.security.roles import Roles
from workers.runtime.catalogue.parsing import read_entries

_MODEL = """
[[model]]
name = "a"
architecture = "llama"
licence = "MIT"
capabilities = ["text"]
context_length = 1

{}

[model.onnx.artefact]
file = "a.gguf"
format = "gguf"
sources = [{{ file = "a.gguf" }}]

[model.onnx.profiles.int8]
"""


def _gateway(file: Path) -> None:
    load(GatewayConfig, file=file, environment={})


def _keys(file: Path) -> None:
    Roles.read(str(file))


def _catalogue(file: Path) -> None:
    assert read_entries(file)


KINDS: dict[str, tuple[Callable[[Path], None], str]] = {
    "gateway": (_gateway, "{}"),
    "keys": (_keys, "{}"),
    "of a role": (_keys, "[roles.a]\n{}"),
    "catalogue": (_catalogue, "{}"),
    "of a model": (_catalogue, _MODEL),
}
"""Kind -> who reads such a file and raises if it is wrong, and what stands around the block in it."""


def check(text: str, kind: str, folder: Path) -> None:
    """Reads a block as the product would.

    Raises:
        Exception: It is wrong; says how.
    """
    read, around = KINDS[kind]
    whole = around.format(text)
    tomllib.loads(whole)
    file = folder / "block.toml"
    file.write_text(whole, "utf-8")
    read(file)
