"""The store over files on disk: what it makes, when it makes it again, what it refuses."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest

from diplex.errors import DigestMismatch, InternalError, ModelNotFound, SourceUnavailable, UnsupportedModel
from tests.unit.runtime.store.arrangement import CONTENT, SHA256, Converter, entry_of, leftovers
from workers.runtime.catalogue import DiskSource, Profile
from workers.runtime.fidelity.certificate import Certificate
from workers.runtime.progress import Phase, Progress
from workers.runtime.store import Store, default_home


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "weights.gguf"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "home")


def test_an_artefact_with_its_manifest(store, weights):
    artefact = store.ensure(entry_of(DiskSource(weights)), "onnx", None, Converter())
    assert artefact.folder == store.home / "prepared" / "Tiny" / "onnx-int8"
    manifest = json.loads((artefact.folder / "manifest.json").read_text())
    assert manifest["source"]["location"] == f"file:{weights}"
    assert manifest["source"]["sha256"] == SHA256
    assert manifest["tools"] == {"tool": "1.0"}
    assert manifest["converter"] == "1"
    assert (manifest["model"], manifest["backend"], manifest["profile"]) == ("Tiny", "onnx", "int8")
    lines = []
    for name in ("model.onnx", "data/weights.bin"):
        content = (artefact.folder / name).read_bytes()
        lines.append(f"{hashlib.sha256(content).hexdigest()}  {name}\n")
    assert artefact.digest == hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()
    assert not leftovers(store.home)


def test_the_second_time_nothing_is_done(store, weights):
    entry, converter = entry_of(DiskSource(weights)), Converter()
    first = store.ensure(entry, "onnx", "int8", converter)
    reports: list[Progress] = []
    opened: list[str] = []
    assert store.ensure(entry, "onnx", "int8", converter, reports.append) == first
    assert converter.seen == ["int8"]
    assert reports == opened == []


def test_each_profile_is_an_artefact_of_its_own(store, weights):
    entry, converter = entry_of(DiskSource(weights)), Converter()
    folders = {store.ensure(entry, "onnx", profile, converter).folder.name for profile in ("int8", "FP32")}
    assert folders == {"onnx-int8", "onnx-fp32"}
    assert converter.seen == ["int8", "fp32"]


def test_find_does_no_work(store, weights):
    entry = entry_of(DiskSource(weights))
    assert store.find(entry, "onnx") is None
    assert not store.home.exists()
    made = store.ensure(entry, "onnx", None, Converter())
    assert store.find(entry, "onnx") == made
    assert store.find(entry, "onnx", "fp32") is None
    assert store.find(entry, "onnx", version="2") is None


def test_progress_is_counted_in_bytes(store, weights):
    reports: list[Progress] = []
    store.ensure(entry_of(DiskSource(weights)), "onnx", None, Converter(), reports.append)
    verified = [report for report in reports if report.phase is Phase.VERIFY and report.detail == "tiny.gguf"]
    assert verified[0].done == 0
    assert verified[-1].done == verified[-1].total == len(CONTENT)


def test_another_converter_version_makes_it_again(store, weights):
    entry = entry_of(DiskSource(weights))
    first = store.ensure(entry, "onnx", None, Converter("1"))
    second = store.ensure(entry, "onnx", None, Converter("2"))
    assert second.manifest.converter == "2"
    assert second.digest != first.digest
    assert not leftovers(store.home)


def test_another_source_digest_makes_it_again(store, tmp_path, weights):
    store.ensure(entry_of(DiskSource(weights)), "onnx", None, Converter())
    other = tmp_path / "other.gguf"
    other.write_bytes(b"other" * 100)
    digest = hashlib.sha256(other.read_bytes()).hexdigest()
    changed = entry_of(DiskSource(other), sha256=digest, size=None)
    assert store.find(changed, "onnx") is None
    assert store.ensure(changed, "onnx", None, Converter()).manifest.source.sha256 == digest


@pytest.mark.parametrize(
    "damage", ["manifest gone", "manifest broken", "manifest of another schema", "file short"]
)
def test_what_is_not_whole_is_made_again(store, weights, damage):
    entry, converter = entry_of(DiskSource(weights)), Converter()
    folder = store.ensure(entry, "onnx", None, converter).folder
    manifest = folder / "manifest.json"
    if damage == "manifest gone":
        manifest.unlink()
    elif damage == "manifest broken":
        manifest.write_text("{")
    elif damage == "manifest of another schema":
        manifest.write_text(manifest.read_text().replace('"schema": 1', '"schema": 99'))
    else:
        os.truncate(folder / "model.onnx", 10)
    assert store.find(entry, "onnx") is None
    store.verify(store.ensure(entry, "onnx", None, converter))
    assert converter.seen == ["int8", "int8"]


def test_verify_reads_the_content(store, weights):
    artefact = store.ensure(entry_of(DiskSource(weights)), "onnx", None, Converter())
    store.verify(artefact)
    path = artefact.folder / "data" / "weights.bin"
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(content)
    with pytest.raises(DigestMismatch, match=r"data/weights\.bin; remove the folder"):
        store.verify(artefact)


def test_the_certificate_counts_only_for_its_own_digest(store, weights):
    certificate = Certificate(
        kl=0.004,
        perplexity=19.3,
        reference_perplexity=19.2,
        top1_agreement=0.95,
        tokens=2000,
        text_sha256="c" * 64,
    )
    made = store.ensure(entry_of(DiskSource(weights)), "onnx", None, Converter())
    assert made.certificate is None
    right = entry_of(DiskSource(weights), profiles=(Profile("int8", made.digest, certificate),))
    wrong = entry_of(DiskSource(weights), profiles=(Profile("int8", "0" * 64, certificate),))
    found, other = store.find(right, "onnx"), store.find(wrong, "onnx")
    assert found is not None
    assert found.certificate == certificate
    assert other is not None
    assert other.certificate is None


def test_the_source_artefact_can_be_had_alone(store, weights):
    path = store.source(entry_of(DiskSource(weights)), "onnx")
    assert path == store.home / "blobs" / f"sha256-{SHA256}" / "tiny.gguf"
    assert path.read_bytes() == CONTENT
    assert path.samefile(weights)  # linked, not copied


def test_a_file_written_to_after_it_was_linked_is_not_trusted(store, weights):
    entry = entry_of(DiskSource(weights))
    store.source(entry, "onnx")
    with weights.open("r+b") as file:
        file.write(b"changed")
    os.utime(weights, ns=(1, 1))
    with pytest.raises(DigestMismatch, match="sha256 is"):
        store.source(entry, "onnx")
    shutil.rmtree(store.home / "blobs")
    weights.write_bytes(CONTENT)
    assert store.source(entry, "onnx").read_bytes() == CONTENT


def test_a_file_without_a_digest_is_followed(store, weights):
    entry, converter = entry_of(DiskSource(weights), sha256=None, size=None), Converter()
    first = store.ensure(entry, "onnx", None, converter)
    assert first.manifest.source.sha256 == SHA256
    assert store.ensure(entry, "onnx", None, converter) == first
    weights.unlink()
    assert store.ensure(entry, "onnx", None, converter) == first  # its copy is whole, whatever became of it
    weights.write_bytes(CONTENT[::-1])
    second = store.ensure(entry, "onnx", None, converter)
    assert second.manifest.source.sha256 == hashlib.sha256(CONTENT[::-1]).hexdigest()
    assert converter.seen == ["int8", "int8"]


def test_wrong_bytes_are_not_kept(store, weights):
    with pytest.raises(DigestMismatch, match=f"file:{weights}: sha256 is {SHA256} and not {'0' * 64}"):
        store.ensure(entry_of(DiskSource(weights), sha256="0" * 64), "onnx", None, Converter())
    assert not leftovers(store.home)
    assert not list((store.home / "blobs").iterdir())


def test_sources_are_tried_in_their_order(store, tmp_path, weights):
    wrong = tmp_path / "wrong.gguf"
    wrong.write_bytes(b"wrong")
    sources = DiskSource(tmp_path / "absent.gguf"), DiskSource(wrong), DiskSource(weights)
    artefact = store.ensure(entry_of(*sources), "onnx", None, Converter())
    assert artefact.manifest.source.location == f"file:{weights}"


def test_all_sources_failing_lists_each_reason(store, tmp_path):
    wrong = tmp_path / "wrong.gguf"
    wrong.write_bytes(b"wrong")
    entry = entry_of(DiskSource(tmp_path / "absent.gguf"), DiskSource(wrong, unverified=True))
    with pytest.raises(SourceUnavailable) as caught:
        store.ensure(entry, "onnx", None, Converter())
    assert "absent.gguf: No such file or directory" in caught.value.message
    assert "wrong.gguf: sha256 is" in caught.value.message
    assert "DIPLEX_MODELS" in caught.value.message


def test_wrong_bytes_from_a_checked_source_are_told_as_such(store, tmp_path):
    wrong = tmp_path / "wrong.gguf"
    wrong.write_bytes(b"wrong")
    entry = entry_of(DiskSource(wrong), DiskSource(tmp_path / "absent.gguf"))
    with pytest.raises(DigestMismatch, match=r"absent\.gguf: No such file"):
        store.ensure(entry, "onnx", None, Converter())


def test_a_failing_converter_leaves_nothing(store, weights):
    def fail() -> None:
        raise UnsupportedModel("no such tensor type")

    entry = entry_of(DiskSource(weights))
    with pytest.raises(UnsupportedModel):
        store.ensure(entry, "onnx", None, Converter(midway=fail))
    assert store.find(entry, "onnx") is None
    assert not leftovers(store.home)


def test_a_converter_that_makes_nothing_is_a_defect(store, weights):
    class Idle(Converter):
        def __call__(self, *_: object, **__: object) -> dict[str, str]:
            return {}

    with pytest.raises(InternalError, match="made no files for Tiny/int8"):
        store.ensure(entry_of(DiskSource(weights)), "onnx", None, Idle())


def test_unknown_backend_and_profile(store, weights):
    with pytest.raises(UnsupportedModel):
        store.find(entry_of(DiskSource(weights)), "torch")
    with pytest.raises(ModelNotFound, match="no profile 'int4'"):
        store.ensure(entry_of(DiskSource(weights)), "onnx", "int4", Converter())


@pytest.mark.parametrize(
    ("environ", "home"),
    [
        ({"DIPLEX_HOME": "/srv/diplex", "XDG_CACHE_HOME": "/cache"}, "/srv/diplex"),
        ({"XDG_CACHE_HOME": "/cache"}, "/cache/diplex"),
    ],
)
def test_home(environ, home):
    assert default_home(environ) == Path(home)


def test_home_without_any_setting():
    assert default_home({}).name == "diplex"
    assert default_home({}).is_relative_to(Path.home())
