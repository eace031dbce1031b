"""The catalogue: what the curated file says, what a broken file is told, how names are found."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from diplex.errors import InvalidCatalogue, ModelNotFound, UnsupportedModel
from workers.runtime.catalogue import (
    CURATED,
    Capability,
    Catalogue,
    DiskFolder,
    DiskSource,
    HubFolder,
    HubSource,
    IndexSource,
    PartsSource,
    ServingWishes,
    SourceFolder,
    overlay_paths,
)
from workers.runtime.catalogue.watch import CatalogueFiles

VALID = """
[[model]]
name = "Tiny"
aliases = ["owner/Tiny-Model", "tiny-alias"]
architecture = "llama"
licence = "Apache-2.0"
capabilities = ["text"]
context_length = 128

[model.onnx]
default_profile = "int8"

[model.onnx.artefact]
file = "tiny.gguf"
format = "gguf"
sha256 = "{digest}"
sources = [{{ file = "weights/tiny.gguf" }}]

[model.onnx.profiles.int8]
[model.onnx.profiles.fp32]
""".format(digest="a" * 64)

CERTIFICATE = f"""
digest = "{"b" * 64}"
[model.onnx.profiles.int8.certificate]
kl = 0.004
perplexity = 19.3
reference_perplexity = 19.2
top1_agreement = 0.95
tokens = 2000
text_sha256 = "{"c" * 64}"
"""


def load(tmp_path: Path, text: str, name: str = "models.toml") -> Catalogue:
    file = tmp_path / name
    file.write_text(text, encoding="utf-8")
    return Catalogue.load(curated=file)


class TestCurated:
    def test_the_default_model(self):
        entry = Catalogue.load().find("SmolLM2-135M-Instruct").entry
        assert entry.capabilities == {Capability.TEXT, Capability.CHAT}
        assert (entry.architecture, entry.licence, entry.context_length) == ("llama", "Apache-2.0", 8192)
        assert (entry.sampling.temperature, entry.sampling.top_p, entry.sampling.top_k) == (0.2, 0.9, None)
        onnx = entry.backend("onnx")
        assert onnx.profile().name == "int8"
        assert onnx.profile("FP32").name == "fp32"
        index, hub = onnx.artefact.sources
        assert isinstance(index, IndexSource)
        assert not index.unverified
        assert isinstance(hub, HubSource)
        assert hub.unverified
        assert hub.revision is None

    def test_it_is_the_file_at_the_root_of_the_repository(self):
        assert CURATED.samefile(Path(__file__).parents[3] / "models.toml")

    def test_every_certificate_belongs_to_a_digest_and_is_good_enough(self):
        for entry in Catalogue.load().entries:
            for backend in entry.backends:
                default = backend.profile()
                if default.certificate is not None:
                    assert default.digest is not None
                    assert default.certificate.kl <= 0.01


class TestNames:
    @pytest.mark.parametrize("name", ["Tiny", "tiny", "owner/tiny-model", "TINY-ALIAS"])
    def test_names_and_aliases_in_any_case(self, tmp_path, name):
        match = load(tmp_path, VALID).find(name)
        assert (match.entry.name, match.profile) == ("Tiny", None)

    @pytest.mark.parametrize("name", ["Tiny/fp32", "owner/Tiny-Model/FP32"])
    def test_a_profile_behind_the_name(self, tmp_path, name):
        match = load(tmp_path, VALID).find(name)
        assert (match.entry.name, match.profile) == ("Tiny", "fp32")

    def test_an_unknown_profile_lists_those_there_are(self, tmp_path):
        with pytest.raises(ModelNotFound, match="Tiny/int8, Tiny/fp32"):
            load(tmp_path, VALID).find("tiny/int4")

    def test_an_unknown_name_suggests_near_ones(self, tmp_path):
        with pytest.raises(ModelNotFound, match="did you mean Tiny") as caught:
            load(tmp_path, VALID).find("tinny")
        assert "Tiny" in caught.value.metadata["suggestions"]

    def test_a_name_like_nothing_lists_the_catalogue(self, tmp_path):
        with pytest.raises(ModelNotFound, match="the catalogue has Tiny"):
            load(tmp_path, VALID).find("zzzzzzzz")

    def test_an_unknown_backend(self, tmp_path):
        with pytest.raises(UnsupportedModel, match="'torch'; it has onnx"):
            load(tmp_path, VALID).find("tiny").entry.backend("torch")


class TestOverlays:
    def test_paths(self):
        assert overlay_paths(f"a.toml{os.pathsep}{os.pathsep}b.toml") == (Path("a.toml"), Path("b.toml"))
        assert overlay_paths("") == ()

    def test_a_later_file_replaces_a_whole_entry(self, tmp_path):
        base, first, second = (tmp_path / name for name in ("base.toml", "first.toml", "second.toml"))
        base.write_text(VALID)
        first.write_text(VALID.replace('"Tiny"', '"TINY"').replace("= 128", "= 256"))
        second.write_text(VALID.replace('"Tiny"', '"Other"').replace("owner/Tiny-Model", "other-alias"))
        catalogue = Catalogue.load((first, second), curated=base)
        assert [entry.name for entry in catalogue.entries] == ["TINY", "Other"]
        assert catalogue.find("tiny").entry.context_length == 256
        assert catalogue.find("tiny-alias").entry.name == "Other"
        assert catalogue.find("owner/tiny-model").entry.origin == first

    def test_a_relative_file_source_is_beside_its_catalogue(self, tmp_path):
        entry = load(tmp_path, VALID).find("tiny").entry
        assert entry.backend("onnx").artefact.sources == (DiskSource(tmp_path / "weights" / "tiny.gguf"),)

    def test_a_file_url(self, tmp_path):
        entry = (
            load(tmp_path, VALID.replace("weights/tiny.gguf", "file:///opt/a%20b.gguf")).find("tiny").entry
        )
        assert entry.backend("onnx").artefact.sources == (DiskSource(Path("/opt/a b.gguf")),)

    def test_a_file_may_do_without_a_digest(self, tmp_path):
        text = VALID.replace(f'sha256 = "{"a" * 64}"', "")
        assert load(tmp_path, text).find("tiny").entry.backend("onnx").artefact.sha256 is None


class TestCertificates:
    def test_one_is_read(self, tmp_path):
        text = VALID.replace("[model.onnx.profiles.int8]", "[model.onnx.profiles.int8]" + CERTIFICATE)
        profile = load(tmp_path, text).find("tiny").entry.backend("onnx").profile()
        assert profile.digest == "b" * 64
        assert profile.certificate is not None
        assert profile.certificate.kl == 0.004
        assert profile.certificate.tokens == 2000

    def test_one_without_a_digest_is_refused(self, tmp_path):
        certificate = CERTIFICATE.replace(f'digest = "{"b" * 64}"', "")
        text = VALID.replace("[model.onnx.profiles.int8]", "[model.onnx.profiles.int8]" + certificate)
        with pytest.raises(InvalidCatalogue, match=r"profiles\.int8\.certificate: needs the digest"):
            load(tmp_path, text)


SOURCES = 'sources = [{ file = "weights/tiny.gguf" }]'

BROKEN = [
    ('name = "Tiny"', 'name = "a/b"', r"model\[0\]\.name: must be a name of letters"),
    ('licence = "Apache-2.0"', "", r'model "Tiny": licence: is missing'),
    ('licence = "Apache-2.0"', 'license = "MIT"', r'model "Tiny": licence: is missing'),
    ('capabilities = ["text"]', 'capabilities = ["song"]', r"capabilities: 'song' is none of text, chat"),
    ('capabilities = ["text"]', "capabilities = []", "capabilities: is missing or empty"),
    (
        "context_length = 128",
        "context_length = 0",
        "context_length: must be a whole number of at least 1, is 0",
    ),
    ("context_length = 128", "context_length = true", "context_length: must be a whole number"),
    (
        "context_length = 128",
        "context_length = 128\ncontext_len = 1",
        "context_len: is not known here; did you mean 'context_",
    ),
    (
        "[model.onnx]",
        "[model.sampling]\ntop_p = 1.5\n[model.onnx]",
        r"sampling\.top_p: must be a number over 0 and",
    ),
    ("[model.onnx]", "[model.sampling]\ntop_k = 0\n[model.onnx]", r"sampling\.top_k: must be a whole number"),
    ("[model.onnx]", '[model.sampling]\nmin_p = "x"\n[model.onnx]', r"sampling\.min_p: must be a number"),
    (
        "[model.onnx]",
        "[model.sampling]\ntemperature = inf\n[model.onnx]",
        r"sampling\.temperature: must be a number",
    ),
    ('default_profile = "int8"', 'default_profile = "int4"', "default_profile: must be one of int8, fp32"),
    ('default_profile = "int8"', "", "default_profile: must be one of int8, fp32, is None"),
    ('file = "tiny.gguf"', 'file = "../tiny.gguf"', r"onnx\.artefact\.file: must be a file name"),
    ('format = "gguf"', 'format = "zip"', r"onnx\.artefact\.format: must be one of 'gguf', 'safetensors'"),
    (f'sha256 = "{"a" * 64}"', 'sha256 = "abc"', r"onnx\.artefact\.sha256: must be 64 lower-case hex digits"),
    (SOURCES, "sources = []", r"onnx\.artefact\.sources: must be a list of tables that isn't empty"),
    (
        SOURCES,
        "sources = [{ unverified = true }]",
        r"sources\[0\]: must have exactly one of the keys pypi, parts, hf, file",
    ),
    (SOURCES, 'sources = [{ file = "x", hf = "a/b" }]', "must have exactly one of the keys"),
    (SOURCES, 'sources = [{ pypi = "tiny", member = "x" }]', r"sources\[0\]\.pypi: must be a pinned package"),
    (SOURCES, 'sources = [{ pypi = "tiny==1.0" }]', r"sources\[0\]\.member: is missing"),
    (
        SOURCES,
        'sources = [{ pypi = "--target=/x==1", member = "x" }]',
        r"sources\[0\]\.pypi: must be a pinned",
    ),
    (
        SOURCES,
        'sources = [{ hf = "a/b", path = "x.gguf" }]',
        r"sources\[0\]\.revision: is missing; only a source",
    ),
    (
        SOURCES,
        'sources = [{ hf = "a/b", path = "x", revision = "main" }]',
        r"revision: must be a full commit id",
    ),
]


class TestFolders:
    ARTEFACT = VALID[VALID.index("[model.onnx.artefact]") : VALID.index("[model.onnx.profiles")]
    COMMIT = "d" * 40

    def read(self, tmp_path, text):
        artefact = f'[model.onnx.artefact]\nformat = "safetensors"\n{text}\n'
        catalogue = load(tmp_path, VALID.replace(self.ARTEFACT, artefact))
        return catalogue.find("tiny").entry.backend("onnx").artefact

    def test_a_commit_of_a_hub_needs_no_digests(self, tmp_path):
        artefact = self.read(tmp_path, f'sources = [{{ hf = "a/b", revision = "{self.COMMIT}" }}]')
        assert artefact == SourceFolder("safetensors", (HubFolder("a/b", self.COMMIT),))
        assert (artefact.name, artefact.size, artefact.sha256) == ("a/b", None, None)

    def test_a_folder_lies_relative_to_the_catalogue(self, tmp_path):
        artefact = self.read(tmp_path, 'sources = [{ folder = "weights" }]')
        assert artefact.sources == (DiskFolder(tmp_path / "weights"),)

    def test_all_digests_together_stand_for_the_folder(self, tmp_path):
        files = ", ".join(f'{{ path = "{name}", size = 5, sha256 = "{name * 64}" }}' for name in "ba")
        artefact = self.read(
            tmp_path,
            f'files = [{files}]\nsources = [{{ hf = "a/b", unverified = true }}, {{ folder = "w" }}]',
        )
        lines = "".join(f"{name * 64}  {name}\n" for name in "ab")
        assert artefact.sha256 == hashlib.sha256(lines.encode()).hexdigest()
        assert artefact.size == 10

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ('sources = [{ hf = "a/b" }]', r"revision: is missing"),
            ('sources = [{ folder = "a" }, { folder = "b" }]', "without which only one source"),
            ('sources = [{ file = "a" }]', "must have exactly one of the keys hf, folder"),
            (
                'files = [{ path = "../a" }]\nsources = [{ folder = "a" }]',
                r"path: must be the path of a file",
            ),
            ('files = [{ path = "/a" }]\nsources = [{ folder = "a" }]', r"path: must be the path of a file"),
            (
                'files = [{ path = "a" }, { path = "a" }]\nsources = [{ folder = "a" }]',
                "files: has a path twice",
            ),
            ('file = "a.gguf"\nsources = [{ folder = "a" }]', "file: is not known here"),
        ],
    )
    def test_what_breaks_a_rule(self, tmp_path, text, message):
        with pytest.raises(InvalidCatalogue, match=message):
            self.read(tmp_path, text)


class TestTerms:
    TERMS = """
[model.terms]
name = "tiny"
title = "Tiny Terms"
url = "https://example.org"
file = "tiny.txt"
"""

    def test_their_text_lies_beside_the_catalogue(self, tmp_path):
        (tmp_path / "tiny.txt").write_text("You may.")
        terms = load(tmp_path, VALID + self.TERMS).find("tiny").entry.terms
        assert (terms.name, terms.title, terms.text) == ("tiny", "Tiny Terms", "You may.")

    def test_a_missing_text_is_an_error(self, tmp_path):
        with pytest.raises(InvalidCatalogue, match=r"terms\.file: can.t be read"):
            load(tmp_path, VALID + self.TERMS)

    def test_gemmas_are_there(self):
        entry = Catalogue.load().find("google/gemma-3-270m").entry
        assert entry.terms.name == entry.licence == "gemma"
        assert entry.terms.text.startswith("Gemma Terms of Use")
        parts = entry.backend("onnx").artefact.sources[0]
        assert isinstance(parts, PartsSource)
        assert len(parts.parts) == 4


class TestBrokenFiles:
    @pytest.mark.parametrize(("before", "after", "message"), BROKEN)
    def test_the_message_names_file_entry_and_key(self, tmp_path, before, after, message):
        assert before in VALID
        with pytest.raises(InvalidCatalogue, match=message) as caught:
            load(tmp_path, VALID.replace(before, after), "mine.toml")
        assert str(tmp_path / "mine.toml") in caught.value.message

    def test_a_hub_source_needs_the_digest(self, tmp_path):
        text = VALID.replace(f'sha256 = "{"a" * 64}"', "").replace(
            SOURCES, 'sources = [{ hf = "a/b", path = "x", unverified = true }]'
        )
        with pytest.raises(InvalidCatalogue, match=r"onnx\.artefact\.sha256: is missing"):
            load(tmp_path, text)

    def test_a_model_without_a_backend(self, tmp_path):
        with pytest.raises(InvalidCatalogue, match="has no section for any backend"):
            load(tmp_path, VALID[: VALID.index("[model.onnx]")])

    def test_two_models_of_one_name(self, tmp_path):
        with pytest.raises(InvalidCatalogue, match='model "Other": \'TINY-alias\' already names "Tiny"'):
            load(
                tmp_path,
                VALID + VALID.replace('"Tiny"', '"Other"').replace('["owner/Tiny-Model", "tiny', '["TINY'),
            )

    def test_no_toml(self, tmp_path):
        with pytest.raises(InvalidCatalogue, match=r"models\.toml: is not TOML: Invalid value"):
            load(tmp_path, "model = [")

    def test_no_file(self, tmp_path):
        with pytest.raises(InvalidCatalogue, match=r"nowhere\.toml: can't be read: No such file"):
            Catalogue.load((tmp_path / "nowhere.toml",))


def test_how_a_model_is_served(tmp_path):
    file = tmp_path / "models.toml"
    file.write_text(
        VALID.replace(
            "[model.onnx]\n", "[model.serving]\npinned = true\nkeep_alive = 60\nthreads = 2\n[model.onnx]\n"
        )
    )
    serving = Catalogue.load([file]).find("tiny").entry.serving
    assert (serving.pinned, serving.keep_alive, serving.threads) == (True, 60, 2)
    file.write_text(VALID)
    assert Catalogue.load([file]).find("tiny").entry.serving == ServingWishes()
    file.write_text(VALID.replace("[model.onnx]\n", "[model.serving]\nthreads = 0\n[model.onnx]\n"))
    with pytest.raises(InvalidCatalogue, match="threads"):
        Catalogue.load([file])


def test_files_are_read_again_when_they_have_changed(tmp_path):
    file = tmp_path / "models.toml"
    file.write_text(VALID)
    files = CatalogueFiles([file])
    assert files.load().find("tiny")
    assert files.changed() is None
    file.write_text("[[model]]\nname = 7\n")
    with pytest.raises(InvalidCatalogue):
        files.changed()
    assert files.changed() is None  # told once
    file.unlink()
    with pytest.raises(InvalidCatalogue, match="can't be read"):
        files.changed()
    file.write_text(VALID.replace("Tiny", "Small"))
    changed = files.changed()
    assert changed is not None
    assert changed.find("small")
