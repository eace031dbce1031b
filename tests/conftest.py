"""The tiny model, in a store and a catalogue of its own, for every test that needs a real worker."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fixtures.tiny_llama import write_tiny_llama

collect_ignore = ["browser", "clients", "docs", "helm"]
"""They have targets of their own: ``make test-browser``, ``test-openai``, ``test-docs`` and ``helm-test``."""

_CATALOGUE = """
[[model]]
name = "tiny-llama"
aliases = ["fixtures/tiny"]
architecture = "llama"
licence = "Apache-2.0"
capabilities = ["text", "chat"]
context_length = 512

[model.onnx]
default_profile = "fp32"

[model.onnx.artefact]
file = "tiny.gguf"
format = "gguf"
sources = [{ file = "tiny.gguf" }]

[model.onnx.profiles.fp32]

[model.onnx.profiles.int8]
"""


@pytest.fixture(scope="session")
def tiny_catalogue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalogue file with the model ``tiny-llama``, profiles ``fp32`` (the default) and ``int8``.

    A value for ``DIPLEX_MODELS``, or for ``--catalogue``.
    """
    folder = tmp_path_factory.mktemp("catalogue")
    write_tiny_llama(folder / "tiny.gguf")
    file = folder / "models.toml"
    file.write_text(_CATALOGUE, encoding="utf-8")
    return file


@pytest.fixture(scope="session")
def tiny_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model store, shared by the session: a value for ``DIPLEX_HOME``, or for ``--home``.

    What is prepared in it once is there for all tests, so none may damage it.
    """
    return tmp_path_factory.mktemp("home")
