"""An environment in which pip and the hub library know only what a test gives them."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants

from tests.unit.runtime.store.arrangement import FileServer, file_server


@pytest.fixture
def links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only place where pip looks for wheels."""
    folder = tmp_path / "links"
    folder.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    return folder


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[FileServer], FileServer]]:
    """Makes a server the model hub, for this process and its children."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf" / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "hf" / "token"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    endpoint = constants.ENDPOINT  # read by the library when it is imported
    with ExitStack() as stack:

        def start(content: FileServer) -> FileServer:
            server = stack.enter_context(file_server(content))
            monkeypatch.setenv("HF_ENDPOINT", server.address)
            monkeypatch.setattr(constants, "ENDPOINT", server.address)
            template = constants.HUGGINGFACE_CO_URL_TEMPLATE.removeprefix(endpoint)
            monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.address + template)
            return server

        yield start
        huggingface_hub.close_session()


@pytest.fixture
def disk(tmp_path: Path) -> Callable[[str], AbstractContextManager[Path]]:
    """Mounts a disk of the given size; skips where mounting isn't allowed."""

    @contextmanager
    def mounted(size: str) -> Iterator[Path]:
        folder = tmp_path / "disk"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
        if subprocess.run(command, capture_output=True, check=False).returncode != 0:
            pytest.skip("mounting a small disk needs root")
        try:
            yield folder
        finally:
            command = ["umount", str(folder)]
            subprocess.run(command, check=True)

    return mounted
