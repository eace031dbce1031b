"""Real processes for whole-path tests, and the figures that these measure on the way."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.e2e import services
from tests.fixtures.tiny_llama import write_tiny_llama

_FIGURES = pytest.StashKey[dict[str, str]]()

_TINY_CATALOGUE = """
[[model]]
name = "tiny-llama"
architecture = "llama"
licence = "CC0-1.0"
capabilities = ["text", "chat"]
context_length = 512

[model.onnx]
default_profile = "fp32"

[model.onnx.artefact]
file = "tiny-llama.gguf"
format = "gguf"
sources = [{ file = "tiny-llama.gguf" }]

[model.onnx.profiles.fp32]

[model.onnx.profiles.int8]
"""


@pytest.fixture
def figure(request):
    """Takes a measured figure's name and value; they are shown at the end, and nothing is asserted of them."""
    figures = request.config.stash.setdefault(_FIGURES, {})
    return figures.__setitem__


def pytest_terminal_summary(terminalreporter, config):
    figures = config.stash.get(_FIGURES, {})
    if figures:
        terminalreporter.section("measured")
        for name, value in figures.items():
            terminalreporter.write_line(f"{name}: {value}")


@pytest.fixture(scope="session")
def default_model():
    """The name of the default model, which is in the user's store once this returns."""
    subprocess.run(
        [sys.executable, "-m", "workers.onnx_worker", "pull", services.DEFAULT_MODEL],
        check=True,
        timeout=600,
        env=services.environment(),
        cwd=services.ROOT,
    )
    return services.DEFAULT_MODEL


@pytest.fixture(scope="session")
def stack(default_model, tmp_path_factory):
    """Gateway and worker with the default model. Tests leave them as they found them."""
    with services.stack(tmp_path_factory.mktemp("stack"), "--model", default_model) as both:
        yield both


@pytest.fixture(scope="session")
def tiny_stack(tmp_path_factory):
    """Gateway and worker with the tiny fixture model at full precision."""
    folder = tmp_path_factory.mktemp("tiny")
    write_tiny_llama(folder / "tiny-llama.gguf")
    (folder / "models.toml").write_text(_TINY_CATALOGUE)
    own = ("--home", folder / "home", "--catalogue", folder / "models.toml")
    with services.stack(folder, "--model", "tiny-llama/fp32", *own) as both:
        yield both
