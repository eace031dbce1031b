"""A checkpoint that needs code of its publisher: refused, unless that is allowed by the model's name."""

from __future__ import annotations

import json

import pytest
import torch
from transformers import AutoTokenizer, LlamaForCausalLM

from diplex.client import RawPrompt
from diplex.errors import UnsupportedModel
from tests.fixtures.random_checkpoint import LLAMA, write_checkpoint
from tests.torch import services
from workers.runtime.artefact import ModelDescription
from workers.runtime.catalogue import Catalogue
from workers.runtime.engine.messages import EngineConfig
from workers.runtime.store import Store
from workers.torch_worker.backend import TorchBackend
from workers.torch_worker.prepare import CheckpointToTorch

NAME = "mystery"
PROMPT = "the model is"
TOKENS = 12
CODE = {
    "configuration_mystery.py": """
from transformers import LlamaConfig


class MysteryConfig(LlamaConfig):
    model_type = "mystery"
""",
    "modeling_mystery.py": """
from transformers import LlamaForCausalLM

from .configuration_mystery import MysteryConfig


class MysteryForCausalLM(LlamaForCausalLM):
    config_class = MysteryConfig
""",
}
AUTO_MAP = {
    "AutoConfig": "configuration_mystery.MysteryConfig",
    "AutoModelForCausalLM": "modeling_mystery.MysteryForCausalLM",
}


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """What the same weights say as a Llama."""
    folder = write_checkpoint(tmp_path_factory.mktemp("llama"))
    ids = AutoTokenizer.from_pretrained(folder)(PROMPT, return_tensors="pt").input_ids
    with torch.inference_mode():
        output = LlamaForCausalLM.from_pretrained(folder).generate(
            ids, do_sample=False, max_new_tokens=TOKENS
        )
    return tuple(token for token in output[0, ids.shape[1] :].tolist() if token != LLAMA.eos_token_id)


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory):
    """A file with one entry, of a checkpoint whose architecture only the code beside it knows."""
    folder = write_checkpoint(tmp_path_factory.mktemp("mystery"))
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": NAME, "architectures": ["MysteryForCausalLM"], "auto_map": AUTO_MAP}
    (folder / "config.json").write_text(json.dumps(config))
    for name, text in CODE.items():
        (folder / name).write_text(text)
    return services.write_catalogue(tmp_path_factory.mktemp("place") / "models.toml", {NAME: folder})


def entry(catalogue, *allowed):
    return Catalogue.load((catalogue,)).allowing_code(allowed).find(NAME).entry


def test_it_is_refused_before_any_of_it_runs(catalogue, tmp_path):
    store = Store(tmp_path)
    with pytest.raises(UnsupportedModel, match=r"needs code of its publisher.*--allow-remote-code"):
        store.ensure(entry(catalogue), "torch", "fp32", CheckpointToTorch())
    assert not list(tmp_path.rglob("*.py"))


def test_what_was_allowed_once_is_asked_for_again(catalogue, tmp_path):
    prepared = Store(tmp_path).ensure(entry(catalogue, NAME), "torch", "fp32", CheckpointToTorch()).folder
    assert sorted(file.name for file in prepared.glob("*.py")) == sorted(CODE)
    description = ModelDescription.load(prepared)
    with pytest.raises(UnsupportedModel, match="allows it by the model's name"):
        TorchBackend(description, EngineConfig(prepared, device="cpu"))


def test_it_is_served_where_it_is_allowed_by_name(catalogue, expected, tmp_path):
    options = ("--catalogue", catalogue, "--home", tmp_path / "home", "--allow-remote-code", NAME)
    with services.stack(tmp_path, "--model", f"{NAME}/fp32", *options) as stack, stack.client() as client:
        reply = client.generate(RawPrompt(PROMPT), max_tokens=TOKENS, temperature=0, token_ids=True)
    assert tuple(token for token in reply.token_ids if token != LLAMA.eos_token_id) == expected
