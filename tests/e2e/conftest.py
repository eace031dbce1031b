"""Real processes for whole-path tests, and the figures that these measure on the way."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.e2e import services

_FIGURES = pytest.StashKey[dict[str, str]]()

_SECONDS = 660
"""For one test with its fixtures: the first may have to download and convert the model."""


def pytest_collection_modifyitems(items):
    for item in items:
        if services.ROOT / "tests" / "e2e" in item.path.parents and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(_SECONDS))


@pytest.fixture
def figure(request):
    """Takes a measured figure's name and value, which are shown at the end; nothing is asserted of them."""
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
def tiny_stack(tiny_home, tiny_catalogue, tmp_path_factory):
    """Gateway and worker with the tiny fixture model at full precision."""
    own = ("--home", tiny_home, "--catalogue", tiny_catalogue)
    with services.stack(tmp_path_factory.mktemp("stack"), "--model", "tiny-llama/fp32", *own) as both:
        yield both
