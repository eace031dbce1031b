"""The curated catalogue: what stands in it about models that nobody has verified yet."""

import pytest

from workers.runtime.catalogue import Capability, Catalogue, HubFolder, SourceFolder
from workers.runtime.catalogue.catalogue import curated_files
from workers.runtime.catalogue.parsing import read_entries
from workers.runtime.text.template import ChatTemplate

CATALOGUE = Catalogue.load()
ENDS = {"bos_token": "<s>", "eos_token": "</s>"}
UNVERIFIED = [
    (entry, backend)
    for entry in CATALOGUE.entries
    for backend in entry.backends
    if isinstance(backend.artefact, SourceFolder)
]


@pytest.mark.parametrize(
    "name",
    [
        "meta-llama/Llama-2-7b-chat-hf",
        "meta-llama/Meta-Llama-3-8B-Instruct",
        "codellama/CodeLlama-7b-Instruct-hf",
        "WizardLMTeam/WizardCoder-Python-34B-V1.0",
        "mistralai/Mistral-7B-Instruct-v0.2",
        "microsoft/phi-2",
        "microsoft/Phi-3-mini-4k-instruct",
        "google/gemma-2b-it",
        "google/gemma-7b-it",
        "bigcode/starcoder2-15b",
        "HuggingFaceTB/SmolVLM2-2.2B-Instruct",
        "llava-hf/llava-1.5-7b-hf",
        "llava-hf/llava-1.5-13b-hf",
        "microsoft/kosmos-2-patch14-224",
        "Salesforce/blip2-opt-2.7b",
        "Qwen/Qwen2-VL-2B-Instruct",
        "Qwen/Qwen2.5-VL-3B-Instruct",
        "Qwen/Qwen3-VL-2B-Instruct",
        "OpenGVLab/InternVL3-1B-hf",
        "google/gemma-3-4b-it",
    ],
)
def test_models_are_found_by_their_repositories(name):
    entry = CATALOGUE.find(name).entry
    assert entry.parameters
    assert entry.backend("torch").artefact.sources[0].repository == name


def test_no_name_stands_twice():
    entries = [entry for file in curated_files() for entry in read_entries(file)]
    names = [name.lower() for entry in entries for name in (entry.name, *entry.aliases)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(("entry", "backend"), UNVERIFIED, ids=[entry.name for entry, _ in UNVERIFIED])
class TestUnverified:
    def test_nothing_is_claimed_about_its_bytes(self, entry, backend):
        (source,) = backend.artefact.sources
        if isinstance(source, HubFolder) and source.unverified:
            assert source.revision is None
            assert not backend.artefact.pinned
            assert backend.artefact.sha256 is None
            assert all(profile.certificate is None for profile in backend.profiles)

    def test_its_form_is_a_template(self, entry, backend):
        del backend
        if entry.chat_template is not None:
            ChatTemplate(entry.chat_template, **ENDS)
            assert Capability.CHAT in entry.capabilities


def test_code_of_publishers_is_refused_unless_it_is_allowed_by_name():
    name = "CogVLM-chat"
    assert "--allow-remote-code" in CATALOGUE.find(name).entry.backend("torch").refusal
    allowed = CATALOGUE.allowing_code([name.lower()])
    assert allowed.find(name).entry.backend("torch").refusal is None
    assert not allowed.find("phi-2").entry.code_allowed
