"""Models that come and go, as an operator and a client see it at the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.e2e import services
from workers.onnx_worker.footprint import predict
from workers.runtime.artefact import ModelDescription
from workers.runtime.catalogue import Catalogue
from workers.runtime.engine.messages import EngineConfig
from workers.runtime.store import Store, default_home


@pytest.fixture(scope="module")
def tiny(tiny_home, tiny_catalogue, tmp_path_factory):
    own = ("--home", tiny_home, "--catalogue", tiny_catalogue, "--slots", "2")
    with services.stack(tmp_path_factory.mktemp("stack"), "--model", "tiny-llama/fp32", *own) as both:
        yield both


@pytest.fixture
def diplex(tiny):
    def run(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "diplex.cli", *arguments, "--address", tiny.address],
            env=services.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    return run


def deployments(diplex):
    """Precision -> what `diplex models --json` says of the tiny model."""
    [model] = [
        it for it in json.loads(diplex("models", "--json").stdout)["models"] if it["name"] == "tiny-llama"
    ]
    return {it["precision"]: it for it in model["deployments"]}


def test_load_use_unload_and_use_again(tiny, diplex):
    before = deployments(diplex)
    assert {precision: it["state"] for precision, it in before.items()} == {
        "fp32": "ready",
        "int8": "unloaded",
    }
    assert before["fp32"]["loaded_bytes"] > 0

    loaded = diplex("load", "tiny-llama/int8")
    assert loaded.returncode == 0, loaded.stderr
    assert "tiny-llama/int8 is ready on" in loaded.stderr
    both = deployments(diplex)
    assert both["int8"]["state"] == "ready"
    assert both["int8"]["digest"].startswith("sha256:")
    assert abs(both["int8"]["predicted_bytes"] / both["int8"]["loaded_bytes"] - 1) < 0.1
    assert "MiB" in loaded.stderr

    assert diplex("unload", "tiny-llama/int8").returncode == 0
    with tiny.client() as client:
        answer = client.generate("Hi", model="tiny-llama/int8", max_tokens=4, timeout=60)
        assert answer.receipt.precision == "int8"
        # Who names no precision gets what is loaded.
        assert client.generate("Hi", model="tiny-llama", max_tokens=4).receipt.precision == "fp32"
    assert diplex("unload", "tiny-llama").returncode == 0
    assert {it["state"] for it in deployments(diplex).values()} == {"unloaded"}
    again = diplex("unload", "tiny-llama")
    assert again.returncode == 2
    assert "is not loaded on any worker" in again.stderr
    # With nothing loaded the gateway still serves.
    assert diplex("health").returncode == 0
    assert diplex("generate", "Hi", "--model", "tiny-llama", "--max-tokens", "4").returncode == 0


def test_the_default_models_memory_is_predicted_from_its_files(stack):
    entry = Catalogue.load().find(services.DEFAULT_MODEL).entry
    artefact = Store(default_home(os.environ)).find(entry, "onnx")
    assert artefact is not None
    config = EngineConfig(artefact.folder)
    predicted = predict(artefact.folder, ModelDescription.load(artefact.folder), config)
    assert predicted.loaded == pytest.approx(stack.deployment().loaded_bytes, rel=0.1)
