"""Functions are compiled once, for this session and the next: pytest's cache keeps their machine code."""

from __future__ import annotations

import shutil
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.unit.onnx_worker.compiled.models import Artefacts
from workers.onnx_worker.compiled import availability, machine_code
from workers.onnx_worker.processor import runs_compiled


def pytest_configure():
    """What tests call by themselves is compiled in this process, for the same processor as machine code."""
    if find_spec("numba"):
        import_module("workers.onnx_worker.compiled.functions.__main__")


@pytest.fixture(scope="session")
def instructions() -> None:
    """What the tests need that run compiled functions."""
    if not runs_compiled():
        pytest.skip("the processor has no AVX-512 VNNI")


@pytest.fixture(scope="session")
def code(instructions, request) -> Path:
    """The functions' machine code."""
    found = machine_code.ensure(request.config.cache.mkdir("compiled"))
    if found is None:
        pytest.skip("numba isn't installed")
    return found


@pytest.fixture(scope="session")
def artefacts(tmp_path_factory) -> Artefacts:
    """Prepared models by their names in ``models``, each converted when it is first asked for."""
    return Artefacts(tmp_path_factory.mktemp("compiled"))


@pytest.fixture
def package(monkeypatch, tmp_path):
    """A copy of the functions."""
    folder = tmp_path / "package"
    shutil.copytree(machine_code._HERE / "functions", folder / "functions")
    shutil.copy(machine_code._HERE / "shapes.py", folder)
    monkeypatch.setattr(machine_code, "_HERE", folder)
    return folder


@pytest.fixture
def compiler(monkeypatch, tmp_path):
    """A process that runs the given lines with the path ``new`` in the place of the compiler."""

    def take_its_place(lines):
        script = "import sys, pathlib\nnew = pathlib.Path(sys.argv[1])\n" + lines
        (tmp_path / "compiler_in_its_place.py").write_text(script, encoding="utf-8")
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        monkeypatch.setattr(machine_code, "_COMPILER", "compiler_in_its_place")
        for module in (availability, machine_code):
            monkeypatch.setattr(module, "find_spec", lambda name: name == "numba")

    return take_its_place
