"""Prepared tiny models, converted once."""

from pathlib import Path

import pytest

from tests.fixtures.tiny_llama import write_tiny_llama
from workers.onnx_worker.convert import convert_gguf
from workers.runtime.progress import silent


@pytest.fixture(scope="session")
def tiny_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llama(tmp_path_factory.mktemp("tiny") / "tiny.gguf")


@pytest.fixture(scope="session", params=["fp32", "int8"])
def prepared(
    request: pytest.FixtureRequest, tiny_gguf: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    convert_gguf(tiny_gguf, folder, precision=request.param, report=silent)
    return folder


@pytest.fixture(scope="session")
def prepared_fp32(tiny_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("only_fp32")
    convert_gguf(tiny_gguf, folder, precision="fp32", report=silent)
    return folder
