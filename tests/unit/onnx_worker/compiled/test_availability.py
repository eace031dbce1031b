"""Which backend computes an artefact."""

import os
import shutil
import subprocess
import sys

import pytest

from tests.fixtures.tiny_family import write_tiny
from tests.unit.onnx_worker.compiled.models import MACHINE_CODE, UNFIT, config
from workers.onnx_worker.backend import OnnxBackend
from workers.onnx_worker.compiled import availability
from workers.onnx_worker.compiled.availability import SWITCH, can_compile, compiled_backend, keep_machine_code
from workers.onnx_worker.compiled.shapes import Sizes
from workers.onnx_worker.compiled.tensors import TENSORS_FILE, fit
from workers.onnx_worker.convert import convert_gguf
from workers.onnx_worker.engine import load_backend
from workers.runtime.artefact import ModelDescription
from workers.runtime.progress import silent

FITTING = Sizes(
    layers=1, hidden=64, feed_forward=96, heads=6, kv_heads=1, head_dim=16, vocabulary=320, mixed=32
)
STEP = """
import sys
from pathlib import Path
from workers.onnx_worker.engine import load_backend
from workers.runtime.artefact import ModelDescription
from workers.runtime.engine.messages import EngineConfig

folder = Path(sys.argv[1])
backend = load_backend(ModelDescription.load(folder), EngineConfig(folder, slots=1, max_length=16))
from workers.onnx_worker.compiled.step import run
print(type(backend).__name__, run.stats.cache_path, sum(run.stats.cache_hits.values()))
print("onnxruntime" in sys.modules, "onnx" in sys.modules)
"""


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """As it is for somebody who sets nothing; what is set while a backend is loaded is gone afterwards."""
    for name in (SWITCH, MACHINE_CODE):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


@pytest.fixture
def folder(artefacts):
    return artefacts["llama"]


def settings(folder):
    return ModelDescription.load(folder), config(folder, slots=2, threads=1, max_length=64)


def assert_left_to_onnx(folder):
    assert not can_compile(folder)
    assert compiled_backend(*settings(folder)) is None
    assert isinstance(load_backend(*settings(folder)), OnnxBackend)


@pytest.mark.usefixtures("instructions")
def test_integer_rows_are_compiled(folder):
    from workers.onnx_worker.compiled.backend import CompiledBackend  # noqa: PLC0415  # needs numba

    assert can_compile(folder)
    assert isinstance(load_backend(*settings(folder)), CompiledBackend)


@pytest.mark.parametrize("value", ["off", "OFF"])
def test_it_can_be_switched_off(folder, monkeypatch, value):
    monkeypatch.setenv(SWITCH, value)
    assert_left_to_onnx(folder)


def test_a_processor_without_the_instructions_leaves_it(folder, monkeypatch):
    monkeypatch.setattr(availability, "runs_compiled", lambda: False)
    assert_left_to_onnx(folder)


def test_it_does_without_a_compiler(folder, monkeypatch):
    monkeypatch.setattr(availability, "find_spec", {}.get)
    assert_left_to_onnx(folder)


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


@pytest.mark.usefixtures("instructions")
def test_a_compiler_that_fails_leaves_it_to_onnx_and_is_heard(folder, monkeypatch, capsys):
    from workers.onnx_worker.compiled import team  # noqa: PLC0415  # needs numba

    def broken(*arguments):
        raise RuntimeError("the compiler has failed")

    monkeypatch.setattr(team, "run", broken)
    assert compiled_backend(*settings(folder)) is None
    assert "the compiler has failed" in capsys.readouterr().err
    assert isinstance(load_backend(*settings(folder)), OnnxBackend)


@pytest.mark.usefixtures("instructions")
def test_machine_code_lies_in_the_store_of_the_artefact(folder, machine_code, tmp_path):
    load_backend(*settings(folder))  # so that there is some
    prepared = shutil.copytree(folder, tmp_path / "prepared" / "model" / "onnx-int8")
    kept = shutil.copytree(machine_code, tmp_path / "machine-code" / machine_code.name)
    before = sorted(kept.rglob("*"))
    environment = {"PATH": os.environ["PATH"], "DIPLEX_HOME": str(tmp_path / "elsewhere")}
    told = subprocess.run(
        [sys.executable, "-c", STEP, prepared], env=environment, capture_output=True, text=True, check=True
    ).stdout.split()
    assert told[0] == "CompiledBackend"
    assert told[1].startswith(f"{kept}{os.sep}")
    assert told[2] == "1"
    assert told[3:] == ["False", "False"]
    assert sorted(kept.rglob("*")) == before
    assert not (tmp_path / "elsewhere").exists()


def test_machine_code_of_other_artefacts_lies_in_the_users_store(folder, monkeypatch, tmp_path):
    monkeypatch.setenv("DIPLEX_HOME", str(tmp_path))
    keep_machine_code(folder)
    assert os.environ[MACHINE_CODE].startswith(str(tmp_path / "machine-code"))


def test_the_folder_of_machine_code_can_be_chosen(folder, monkeypatch, tmp_path):
    monkeypatch.setenv(MACHINE_CODE, str(tmp_path))
    keep_machine_code(folder)
    assert os.environ[MACHINE_CODE] == str(tmp_path)
