"""The examples, run against a gateway as their own pages say."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.docs.blocks import ROOT
from tests.docs.sandbox import BIN, Sandbox

GO_LIBRARIES = Path("/usr/share/gocode")
"""Debian's Go packages: golang-google-grpc-dev, golang-google-protobuf-dev, golang-google-genproto-dev."""
JARS = Path("/usr/share/java")
"""Debian's jars: libgrpc-java, libnetty-java, libperfmark-java, libgoogle-common-protos-java, geronimo."""
NEEDED_JARS = (
    "grpc-api",
    "grpc-context",
    "grpc-core",
    "grpc-netty",
    "grpc-protobuf",
    "grpc-protobuf-lite",
    "grpc-stub",
    "guava",
    "protobuf",
    "jsr305",
    "gson",
    "proto-google-common-protos",
    "perfmark-api",
    "geronimo-annotation-1.3-spec",
    "netty-buffer",
    "netty-codec",
    "netty-codec-http",
    "netty-codec-http2",
    "netty-codec-socks",
    "netty-common",
    "netty-handler",
    "netty-handler-proxy",
    "netty-resolver",
    "netty-transport",
    "netty-transport-native-unix-common",
)


def build(*argv, cwd, **variables):
    done = subprocess.run(
        [str(word) for word in argv],
        cwd=cwd,
        env=os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}"} | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout


@pytest.fixture
def sandbox(up, home, folder):
    return Sandbox(up, home, folder)


def test_node(sandbox):
    """What `make test-docs` has installed runs its own tests, with node's own runner."""
    sandbox.variables = {"PICTURE": str(sandbox.folder / "lunch.jpg"), "PICTURE_SHOWS": "pizza"}
    done = sandbox.run("node", "--test", f"{ROOT}/examples/node/test/examples.test.js")
    assert done.returncode == 0, done.stdout
    assert "# pass 7" in done.stdout


def follows(run):
    """What the program says to each of its words, in Go and in Java."""
    assert "Paris" in run("generate", "What is the capital of France?")
    assert "tokens" in run("stream", "Why is the sky blue?")
    assert "pizza" in run("image", "lunch.jpg")
    assert 80 < len(run("cancel")) < 1000
    assert re.search("deadline_?exceeded|resource_?exhausted", run("deadline"), re.IGNORECASE)
    refusal = run("errors")
    assert "INVALID_REQUEST" in refusal
    assert "sampling.temperature: -1" in refusal


def test_go(sandbox, tmp_path_factory):
    tools = [tool for tool in ("go", "protoc-gen-go", "protoc-gen-go-grpc") if shutil.which(tool) is None]
    if tools or not (GO_LIBRARIES / "src/google.golang.org/grpc").is_dir():
        pytest.skip("no Go with gRPC: Debian's golang-google-grpc-dev, protoc-gen-go, protoc-gen-go-grpc")
    path = tmp_path_factory.mktemp("go")
    sources = path / "src/diplex.example/client"
    shutil.copytree(ROOT / "examples/go", sources)
    build("buf", "generate", "--output", sources, "--template", "buf.gen.yaml", cwd=ROOT / "examples/go")
    go = {
        "GO111MODULE": "off",
        "GOPATH": f"{path}:{GO_LIBRARIES}",
        "GOFLAGS": "",
        "GOCACHE": str(path / "cache"),
    }
    build("go", "vet", "-tags", "grpc133", ".", cwd=sources, **go)
    build("go", "build", "-tags", "grpc133", "-o", path / "client", ".", cwd=sources, **go)

    follows(lambda *words: _said(sandbox.run(path / "client", *words)))


def test_java(sandbox, tmp_path_factory):
    jars = [JARS / f"{name}.jar" for name in NEEDED_JARS]
    tools = ("javac", "grpc_java_plugin", "protoc")
    if not all(shutil.which(tool) for tool in tools) or not all(jar.is_file() for jar in jars):
        pytest.skip("no Java with gRPC: Debian's libgrpc-java, protobuf-compiler-grpc-java-plugin and more")
    path = tmp_path_factory.mktemp("java")
    (path / "bin").mkdir()
    (path / "bin/protoc-gen-grpc-java").symlink_to(shutil.which("grpc_java_plugin"))
    searched = f"{path / 'bin'}:{BIN}:{os.environ['PATH']}"
    sources = path / "example"
    shutil.copytree(ROOT / "examples/java", sources)
    build(
        "buf", "generate", "--output", sources, "--template", "buf.gen.yaml",
        cwd=ROOT / "examples/java", PATH=searched,
    )  # fmt: skip
    error_info(path, sources / "src/main/java")
    files = [str(file) for file in sources.rglob("*.java")]
    classpath = ":".join(map(str, jars))
    build("javac", "-proc:none", "-d", path / "classes", "-cp", classpath, *files, cwd=path)

    words = ("java", "-cp", f"{path / 'classes'}:{classpath}", "com.example.Main")
    follows(lambda *more: _said(sandbox.run(*words, *more)))


def error_info(path, target):
    """ErrorInfo, which Debian's version of the common protos is too old for."""
    proto = (ROOT / "examples/node/google_rpc.proto").read_text("utf-8")
    options = 'option java_package = "com.google.rpc";\noption java_multiple_files = true;\n'
    (path / "google_rpc.proto").write_text(
        proto.replace("package google.rpc;\n", f"package google.rpc;\n{options}")
    )
    build("protoc", f"-I{path}", "-I/usr/include", f"--java_out={target}", "google_rpc.proto", cwd=path)
    for file in (target / "com/google/rpc").iterdir():
        if not file.name.startswith(("ErrorInfo", "GoogleRpc")):
            file.unlink()


def _said(done):
    assert done.returncode == 0, done.stdout
    return done.stdout
