"""Which backend computes an artefact."""

import os
import shutil
import subprocess
import sys

import pytest

from tests.fixtures.tiny_family import write_tiny
from tests.unit.onnx_worker.compiled.models import UNFIT, config
from workers.onnx_worker.backend import OnnxBackend
from workers.onnx_worker.compiled import availability, machine_code
from workers.onnx_worker.compiled.availability import SWITCH, can_be_compiled, code_for
from workers.onnx_worker.compiled.backend import CompiledBackend
from workers.onnx_worker.compiled.shapes import Sizes
from workers.onnx_worker.compiled.tensors import TENSORS_FILE, fit
from workers.onnx_worker.convert import convert_gguf
from workers.onnx_worker.engine import load_backend
from workers.runtime.artefact import ModelDescription
from workers.runtime.progress import silent

FITTING = Sizes(
    layers=1, hidden=64, feed_forward=96, heads=6, kv_heads=1, head_dim=16, vocabulary=320, mixed=32
)
ENGINE = """
import sys
from pathlib import Path
from workers.onnx_worker.engine import load_backend
from workers.runtime.artefact import ModelDescription
from workers.runtime.engine.messages import EngineConfig

folder = Path(sys.argv[1])
backend = load_backend(ModelDescription.load(folder), EngineConfig(folder, slots=1, max_length=16))
print(type(backend).__name__, *({"numba", "llvmlite", "onnxruntime", "onnx"} & set(sys.modules)))
"""


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path):
    """The user's store, which is empty, for somebody who sets nothing."""
    monkeypatch.delenv(SWITCH, raising=False)
    monkeypatch.setenv("DIPLEX_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def folder(artefacts):
    return artefacts["llama"]


@pytest.fixture
def processor(monkeypatch):
    """One that has the instructions, whether this one does or not; for tests that don't run them."""
    monkeypatch.setattr(availability, "runs_compiled", lambda: True)


@pytest.fixture
def set_compiler(monkeypatch):
    """Whether numba is installed."""

    def install(installed):
        for module in (availability, machine_code):
            monkeypatch.setattr(module, "find_spec", lambda name: name if installed else None)

    return install


def settings(folder):
    return ModelDescription.load(folder), config(folder, slots=2, threads=1, max_length=64)


def put(code, store):
    """Machine code in a folder, as the package looks for it."""
    kept = store / "machine-code" / f"{machine_code._digest()}.o"
    kept.parent.mkdir(parents=True)
    return shutil.copy(code, kept)


def assert_left_to_onnx(folder):
    assert not can_be_compiled(folder)
    assert code_for(folder) is None
    assert isinstance(load_backend(*settings(folder)), OnnxBackend)


def test_integer_rows_are_compiled(folder, code, home):
    kept = put(code, home)
    assert can_be_compiled(folder)
    assert code_for(folder) == kept
    assert isinstance(load_backend(*settings(folder)), CompiledBackend)


@pytest.mark.parametrize("value", ["off", "OFF"])
def test_it_can_be_switched_off(folder, monkeypatch, value):
    monkeypatch.setenv(SWITCH, value)
    assert_left_to_onnx(folder)


def test_a_processor_without_the_instructions_leaves_it(folder, monkeypatch):
    monkeypatch.setattr(availability, "runs_compiled", lambda: False)
    assert_left_to_onnx(folder)


@pytest.mark.usefixtures("processor")
def test_without_a_compiler_and_code_it_is_left(folder, home, set_compiler):
    set_compiler(False)
    assert_left_to_onnx(folder)
    assert not home.exists()


@pytest.fixture(params=["home", "package"])
def place(request):
    """Where there may be code."""
    return request.getfixturevalue(request.param)


def test_code_does_without_a_compiler(folder, code, place, set_compiler):
    set_compiler(False)
    kept = put(code, place)
    assert can_be_compiled(folder)
    assert code_for(folder) == kept
    assert isinstance(load_backend(*settings(folder)), CompiledBackend)


@pytest.mark.usefixtures("processor")
def test_a_compiler_is_enough_to_be_compiled(folder, home, set_compiler):
    set_compiler(True)
    assert can_be_compiled(folder)  # which doesn't compile
    assert not home.exists()


@pytest.mark.usefixtures("processor")
def test_an_artefact_has_code_in_its_own_store(folder, code, home, set_compiler, tmp_path):
    set_compiler(False)
    prepared = shutil.copytree(folder, tmp_path / "own" / "prepared" / "model" / "onnx-int8")
    users, own = put(code, home), put(code, tmp_path / "own")
    assert code_for(prepared) == own
    assert code_for(folder) == users
    own.unlink()
    assert not can_be_compiled(prepared)
    assert code_for(prepared) is None


def test_an_artefact_without_a_list_of_tensors_is_left(folder, tmp_path):
    older = shutil.copytree(folder, tmp_path / "older")
    (older / TENSORS_FILE).unlink()
    assert_left_to_onnx(older)


@pytest.mark.parametrize(("family", "precision"), [("llama", "fp32"), ("gemma3", "int8")])
def test_what_is_not_known_has_no_list_of_tensors(family, precision, tmp_path):
    target = tmp_path / "prepared"
    target.mkdir()
    convert_gguf(write_tiny(tmp_path / "tiny.gguf", family), target, precision=precision, report=silent)
    assert not (target / TENSORS_FILE).exists()
    assert_left_to_onnx(target)


def test_sizes_that_dont_fit_are_left(artefacts):
    assert (artefacts[UNFIT] / TENSORS_FILE).is_file()
    assert_left_to_onnx(artefacts[UNFIT])


@pytest.mark.parametrize(
    "sizes",
    [
        {"hidden": 80},
        {"feed_forward": 112, "mixed": 16},
        {"head_dim": 24, "heads": 4, "kv_heads": 2},
        {"heads": 5, "kv_heads": 1},  # 80 queries
        {"feed_forward": 96, "mixed": 8},
    ],
)
def test_sizes_have_to_be_multiples(sizes):
    assert fit(FITTING)
    assert not fit(FITTING._replace(**sizes))


@pytest.mark.usefixtures("processor")
def test_a_compiler_that_fails_leaves_it_to_onnx_and_is_heard(folder, home, compiler, capsys):
    compiler("new.write_bytes(b'half')\nraise SystemExit(3)")
    assert code_for(folder) is None
    assert "CalledProcessError" in capsys.readouterr().err
    assert isinstance(load_backend(*settings(folder)), OnnxBackend)
    assert not list(home.rglob("*.o"))


@pytest.mark.usefixtures("processor")
def test_a_store_that_cannot_be_written_leaves_it_to_onnx_and_is_heard(folder, home, capsys, set_compiler):
    set_compiler(True)
    home.write_text("", encoding="utf-8")
    assert code_for(folder) is None
    assert str(home) in capsys.readouterr().err
    assert isinstance(load_backend(*settings(folder)), OnnxBackend)


def test_an_engine_imports_no_compiler_and_no_onnx(folder, code, tmp_path):
    prepared = shutil.copytree(folder, tmp_path / "own" / "prepared" / "model" / "onnx-int8")
    kept = put(code, tmp_path / "own")
    environment = {"PATH": os.environ["PATH"], "DIPLEX_HOME": str(tmp_path / "elsewhere")}
    told = subprocess.run(
        [sys.executable, "-c", ENGINE, prepared], env=environment, capture_output=True, text=True, check=True
    )
    assert told.stdout.split() == ["CompiledBackend"]
    assert list(kept.parent.iterdir()) == [kept]
    assert not (tmp_path / "elsewhere").exists()
