"""A torch worker behind a gateway, as users have it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from diplex import errors
from diplex.client import Backend, RawPrompt
from tests.e2e.services import ROOT, environment
from tests.fixtures.random_checkpoint import LLAMA, write_checkpoint
from tests.torch import services
from workers.runtime.store.manifest import NAME as MANIFEST_FILE

PROMPTS = ("the model is", "to the user of the assistant and", "a")
TOKENS = 24


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="module")
def options(checkpoint, tmp_path_factory):
    place = tmp_path_factory.mktemp("place")
    catalogue = services.write_catalogue(place / "models.toml", {"tiny": checkpoint})
    return ("--catalogue", catalogue, "--home", place / "home")


@pytest.fixture(scope="module")
def stack(options, tmp_path_factory):
    with services.stack(tmp_path_factory.mktemp("stack"), "--model", "tiny", *options) as both:
        yield both


def generated(checkpoint, prompt):
    """The token ids that plain ``generate`` gives, greedily."""
    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    ids = AutoTokenizer.from_pretrained(checkpoint)(prompt, return_tensors="pt").input_ids
    with torch.inference_mode():
        output = model.generate(ids, do_sample=False, max_new_tokens=TOKENS)
    return without_end(output[0, ids.shape[1] :].tolist())


def without_end(ids):
    return tuple(token for token in ids if token != LLAMA.eos_token_id)


@pytest.mark.parametrize("prompt", PROMPTS)
def test_tokens_are_those_of_plain_generate(stack, checkpoint, prompt):
    with stack.client() as client:
        reply = client.generate(RawPrompt(prompt), max_tokens=TOKENS, temperature=0, token_ids=True)
    assert without_end(reply.token_ids) == generated(checkpoint, prompt)
    assert reply.receipt.backend is Backend.TORCH
    assert reply.receipt.precision.value == "fp32"


def test_another_precision_is_loaded_when_it_is_named(stack):
    with stack.client() as client:
        reply = client.generate("Hi", model="tiny/int8", backend="torch", max_tokens=4, timeout=60)
    assert reply.receipt.precision.value == "int8"


def test_what_the_device_cannot_compute_is_refused_with_a_reason(stack):
    with stack.client() as client, pytest.raises(errors.DiplexError, match="int4 needs CUDA"):
        client.generate("Hi", model="tiny/int4", max_tokens=4, timeout=60)


def test_a_device_that_is_not_there_is_refused_with_a_reason(options, tmp_path):
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with services.worker(
        f"unix:{tmp_path / 's'}", "--model", "tiny", "--device", "cuda:0", *options
    ) as worker:
        failed = worker.entry("model failed")
    assert "without CUDA" in failed["error"] or "no usable device" in failed["error"]


def test_a_name_of_no_device_ends_the_worker_at_once():
    argv = [sys.executable, "-m", "workers.torch_worker", "serve", "--device", "gpu"]
    done = subprocess.run(argv, env=environment(), cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "must be auto, cpu, cuda or cuda:N" in done.stderr


def test_the_worker_itself_has_no_torch(stack):
    maps = Path(f"/proc/{stack.worker.pid}/maps").read_text()
    assert "libtorch" not in maps


def test_killed_while_it_prepares_it_leaves_the_store_whole(checkpoint, tmp_path):
    """At several moments; whatever is found afterwards is complete, and the next one gets through."""
    catalogue = services.write_catalogue(tmp_path / "models.toml", {"tiny": checkpoint})
    home = tmp_path / "home"
    wanted = ("tiny/int8", "--catalogue", catalogue, "--home", home)
    for stage in ("blobs", "prepared"):
        process = services.pull(*wanted)
        while process.poll() is None and not any(home.glob(f"{stage}/**/*")):
            os.sched_yield()
        process.send_signal(signal.SIGKILL)
        process.wait()
        for manifest in home.glob(f"prepared/**/{MANIFEST_FILE}"):
            if not any(part.startswith(".") for part in manifest.parts):
                assert json.loads(manifest.read_text())["files"]
    assert services.pull(*wanted).wait(timeout=60) == 0
    [folder] = home.glob("prepared/*/torch-int8")
    assert (folder / "model.json").is_file()
    assert not list(home.glob("prepared/*/.*"))
