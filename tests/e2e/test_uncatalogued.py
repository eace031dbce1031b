"""A model that no catalogue knows, from its path to its answers; and a second one while the worker runs."""

from __future__ import annotations

import subprocess
import sys

import pytest

from diplex.errors import ModelNotFound
from tests.e2e import services
from tests.fixtures.tiny_checkpoint import write_checkpoint
from tests.fixtures.tiny_llama import write_tiny_llama


def test_a_path_is_all_that_a_worker_needs(tmp_path):
    folder = write_checkpoint(tmp_path / "my-model", "llama", kind="BF16", shards=2)
    home = tmp_path / "home"
    with (
        services.stack(tmp_path, "--model", f"{folder}/fp32", "--home", home) as both,
        both.client() as client,
    ):
        answer = client.generate("The user", max_tokens=8, temperature=0, timeout=60)
        assert answer.receipt.model == "local:my-model"
        assert answer.text == client.generate("The user", model=str(folder), max_tokens=8, temperature=0).text
        with pytest.raises(ModelNotFound, match="run `diplex pull hf:owner/name` where the worker runs"):
            client.generate("The user", model="hf:owner/name", max_tokens=8)

        file = write_tiny_llama(tmp_path / "later.gguf")
        pull = [sys.executable, "-m", "workers.onnx_worker", "pull", f"{file}", "--home", home]
        subprocess.run(pull, check=True, timeout=60, env=services.environment(), cwd=services.ROOT)
        while "local:later" not in {model.name for model in client.list_models(timeout=10)}:
            pass  # the worker looks at the store's records every second
        assert (
            client.generate("Hi", model="local:later", max_tokens=4, timeout=60).receipt.precision == "int8"
        )
