"""Functions are compiled once, for this session and the next: pytest's cache keeps their machine code."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.unit.onnx_worker.compiled.models import MACHINE_CODE, Artefacts
from workers.onnx_worker.compiled.availability import keep_machine_code
from workers.onnx_worker.processor import runs_compiled

collect_ignore = [] if find_spec("numba") else ["test_attention.py", "test_numbers.py", "test_products.py"]
"""These import it themselves."""


def pytest_configure(config):
    """Where machine code goes is settled when a function is decorated, before a fixture could say it."""
    if find_spec("numba") is None:
        return
    store = config.cache.mkdir("compiled")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(MACHINE_CODE, "")  # which is put back
        patch.delenv(MACHINE_CODE)
        keep_machine_code(store / "prepared" / "any" / "artefact")
        import_module("workers.onnx_worker.compiled.step")


@pytest.fixture(scope="session")
def instructions() -> None:
    """What the tests need that run compiled functions."""
    if find_spec("numba") is None:
        pytest.skip("numba isn't installed")
    if not runs_compiled():
        pytest.skip("the processor has no AVX-512 VNNI")


@pytest.fixture(scope="session")
def machine_code(instructions) -> Path:
    """Where the session's compiled functions are."""
    from workers.onnx_worker.compiled.step import run  # noqa: PLC0415  # needs numba

    return Path(run.stats.cache_path).parent


@pytest.fixture(scope="session")
def artefacts(tmp_path_factory) -> Artefacts:
    """Prepared models by their names in ``models``, each converted when it is first asked for."""
    return Artefacts(tmp_path_factory.mktemp("compiled"))
