"""What the store's tests share: entries, a converter, wheels, and a model hub on a loopback port."""

from __future__ import annotations

import hashlib
import json
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from workers.runtime.catalogue import (
    Artefact,
    BackendEntry,
    Capability,
    FolderSource,
    ModelEntry,
    Profile,
    SamplingDefaults,
    Source,
    SourceArtefact,
    SourceFile,
    SourceFolder,
)
from workers.runtime.progress import Report

CONTENT = bytes(range(256)) * 1024  # 256 KiB
SHA256 = hashlib.sha256(CONTENT).hexdigest()
COMMIT = "c" * 40
MEMBER = "tiny_weights/tiny.gguf"


def entry_of(
    *sources: Source,
    sha256: str | None = SHA256,
    size: int | None = len(CONTENT),
    profiles: tuple[Profile, ...] = (),
) -> ModelEntry:
    """A model called Tiny whose artefact has those sources."""
    return _entry(SourceArtefact("tiny.gguf", "gguf", sources, size, sha256), profiles)


def folder_entry(
    *sources: FolderSource, files: tuple[SourceFile, ...] = (), kind: str = "safetensors"
) -> ModelEntry:
    """The same with a folder."""
    return _entry(SourceFolder(kind, sources, files), ())


def _entry(artefact: Artefact, profiles: tuple[Profile, ...]) -> ModelEntry:
    section = BackendEntry("onnx", artefact, profiles or (Profile("int8"), Profile("fp32")), "int8")
    return ModelEntry(
        name="Tiny",
        aliases=(),
        architecture="llama",
        licence="Apache-2.0",
        capabilities=frozenset({Capability.TEXT}),
        context_length=128,
        sampling=SamplingDefaults(),
        backends=(section,),
        origin=Path("models.toml"),
    )


@dataclass
class Converter:
    """Writes two files, the source's upper half in a subfolder, and counts its calls in a file."""

    version: str = "1"
    calls: Path | None = None  # one line a call
    midway: Callable[[], None] = lambda: None  # called between the two files
    seen: list[str] = field(default_factory=list)  # profiles, one a call

    def __call__(self, source: Path, target: Path, *, profile: str, report: Report) -> Mapping[str, str]:
        """Convert."""
        del report
        assert not list(target.iterdir())
        if self.calls is not None:
            with self.calls.open("a") as file:
                file.write(profile + "\n")
        self.seen.append(profile)
        content = source.read_bytes()
        (target / "model.onnx").write_bytes(content[: len(content) // 2] + self.version.encode())
        self.midway()
        (target / "data").mkdir()
        (target / "data" / "weights.bin").write_bytes(content[len(content) // 2 :])
        return {"tool": "1.0"}


class FolderConverter(Converter):
    """Joins the files of a folder."""

    def __call__(self, source: Path, target: Path, *, profile: str, report: Report) -> Mapping[str, str]:
        """Convert."""
        del report
        self.seen.append(profile)
        self.midway()
        files = sorted(path for path in source.rglob("*") if path.is_file() and path.name != "manifest.json")
        (target / "model.onnx").write_bytes(b"".join(path.read_bytes() for path in files))
        return {}


def wheel(folder: Path, content: bytes = CONTENT, member: str = MEMBER) -> Path:
    """A wheel tiny-weights==1.0 that holds the content."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "tiny_weights-1.0-py3-none-any.whl"
    info = "tiny_weights-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(member, content)
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


def leftovers(home: Path) -> list[Path]:
    """What should be gone when nobody is at work."""
    staged = [path for kind in ("blobs", "prepared") for path in (home / kind).rglob(".*")]
    return staged + list((home / "partial").glob("*"))


@dataclass
class FileServer:
    """Serves files over HTTP with ranges; can break off or stall, and keeps count."""

    files: dict[str, bytes] = field(default_factory=dict)  # path -> content
    headers: dict[str, str] = field(default_factory=dict)  # sent with every file
    break_after: list[int] = field(default_factory=list)  # bytes sent before the next responses break off
    stall_after: int | None = None  # bytes sent before a response waits for its client to go away
    ranges: bool = True
    refusal: int | None = None  # status with which everything is answered instead
    etags: bool = False  # each file's digest is its ETag
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)  # method, path, Range
    gone: threading.Event = field(
        default_factory=threading.Event
    )  # set when a stalled response's client left
    address: str = ""

    def gets(self, path: str) -> list[str | None]:
        """The Range headers of the GET requests for a path."""
        return [wanted for method, asked, wanted in self.requests if method == "GET" and asked == path]


class Handler(BaseHTTPRequestHandler):
    """Answers from ``content``, which a subclass sets."""

    content: FileServer

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        wanted = self.headers.get("Range")
        self.content.requests.append((self.command, self.path, wanted))
        if self.content.refusal is not None:
            self.send_error(self.content.refusal)
            return
        data = self.content.files.get(self.path)
        if data is None:
            self.send_error(404)
            return
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and self.content.ranges else 0
        if start >= len(data):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(data) - start))
        if self.path.endswith("/"):
            self.send_header("Content-Type", "text/html")
        else:
            for name, value in self.content.headers.items():
                self.send_header(name, value)
            if self.content.etags:
                self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
        self.end_headers()
        if body:
            self._send(data[start:])

    def _send(self, data: bytes) -> None:
        if self.path.endswith("/") or self.path.startswith("/api/"):
            self.wfile.write(data)
        elif self.content.break_after:
            self.wfile.write(data[: self.content.break_after.pop(0)])
        elif self.content.stall_after is not None:
            self.wfile.write(data[: self.content.stall_after])
            self.wfile.flush()
            self.connection.settimeout(60)
            self.connection.recv(1)  # ends when the client is gone
            self.content.gone.set()
        else:
            self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def file_server(content: FileServer) -> Iterator[FileServer]:
    """Run the server while the block lasts."""
    bound = type("BoundHandler", (Handler,), {"content": content})
    server = ThreadingHTTPServer(("127.0.0.1", 0), bound)
    server.daemon_threads = True
    content.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield content
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def hub_of(content: bytes = CONTENT, revision: str = COMMIT, *, etag: str = SHA256) -> FileServer:
    """A hub with the repository owner/tiny that holds one file."""
    files = {f"/owner/tiny/resolve/{name}/tiny.gguf": content for name in (revision, COMMIT)}
    return FileServer(files, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT})


HUB_PATH = f"/owner/tiny/resolve/{COMMIT}/tiny.gguf"

FILES = {"config.json": b'{"model_type": "llama"}', "model.safetensors": CONTENT, "tokenizer.json": b"{}"}
"""A checkpoint as far as the store looks into it."""


def folder_hub(files: Mapping[str, bytes] = FILES, *, listed: bool = True) -> FileServer:
    """A hub with the repository owner/tiny that holds a checkpoint; asks for what is large by its digest."""
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    siblings = [
        {"rfilename": name, "size": len(content)}
        | (
            {"lfs": {"sha256": digests[name], "size": len(content), "pointerSize": 1}}
            if len(content) > 1000
            else {}
        )
        for name, content in files.items()
    ]
    about = {"id": "owner/tiny", "sha": COMMIT, "private": False, "gated": False, "tags": [],
             "downloads": 0, "siblings": siblings, "cardData": {"license": "apache-2.0"}}  # fmt: skip
    answers = {f"/owner/tiny/resolve/{COMMIT}/{name}": content for name, content in files.items()}
    if listed:
        for revision in ("", f"/revision/{COMMIT}", "/revision/main"):
            answers[f"/api/models/owner/tiny{revision}?blobs=true"] = json.dumps(about).encode()
    return FileServer(answers, {"X-Repo-Commit": COMMIT}, etags=True)
