"""Each extra alone in an environment of its own: what it holds, and that the three work together."""

import re
import signal
import subprocess
import venv
from dataclasses import dataclass
from pathlib import Path
from shutil import copy2

import pytest

from tests.e2e import services

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

EXTRAS = ("sdk", "gateway", "onnx")
NEVER = {"torch", "transformers"}
FORBIDDEN = {
    "sdk": NEVER
    | {"onnxruntime", "onnx", "gguf", "numpy", "typer", "structlog", "rich", "tokenizers", "jinja2"},
    "gateway": NEVER | {"onnxruntime", "onnx", "gguf", "numpy", "tokenizers", "jinja2", "huggingface-hub"},
    "onnx": NEVER,
}
ASK = """
import sys
from diplex import Client

assert not {"numpy", "rich", "typer"} & set(sys.modules)
with Client(sys.argv[1]) as client:
    client.wait_until_ready(300)
    answer = client.generate(
        "What is the capital of France?",
        system="You are a helpful AI assistant.",
        temperature=0,
        timeout=60,
    )
print(answer.text)
"""


@dataclass(frozen=True)
class Environment:
    """A virtual environment with Diplex and one extra, used from a folder that isn't the repository."""

    folder: Path

    @property
    def python(self):
        return self.folder / "venv" / "bin" / "python"

    def run(self, *argv, check=True, timeout=600):
        return subprocess.run(
            [self.python, *argv],
            cwd=self.folder,
            env=services.environment(PYTHONSAFEPATH="1"),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=check,
            timeout=timeout,
        )

    def packages(self):
        """Names of all that is installed, as the package index spells them."""
        listed = self.run("-m", "pip", "list", "--format=freeze", "--disable-pip-version-check").stdout
        return {re.sub(r"[-_.]+", "-", line.split("==")[0]).lower() for line in listed.splitlines()}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """The repository as it would be committed now; building in it leaves nothing in the real one."""
    copy = tmp_path_factory.mktemp("source")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],  # noqa: S607
        cwd=services.ROOT,
        stdout=subprocess.PIPE,
        check=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (services.ROOT / name).exists():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            copy2(services.ROOT / name, copy / name, follow_symlinks=False)
    return copy


@pytest.fixture(scope="module", params=EXTRAS)
def extra(request):
    return request.param


@pytest.fixture(scope="module")
def environments(source, tmp_path_factory):
    """One environment for each extra, made when it is first asked for."""
    made = {}

    def environment(extra):
        if extra not in made:
            made[extra] = Environment(tmp_path_factory.mktemp(extra))
            venv.create(made[extra].folder / "venv", with_pip=True)
            pip = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check")
            made[extra].run(*pip, "--require-hashes", "-r", source / "requirements" / f"{extra}.txt")
            made[extra].run(*pip, "--no-deps", "--no-build-isolation", source)
        return made[extra]

    return environment


def test_holds_what_it_needs_and_no_more(environments, extra):
    environment = environments(extra)

    assert FORBIDDEN[extra] & environment.packages() == set()
    environment.run("-m", "pip", "check")
    where = environment.run("-c", "import diplex; print(diplex.__file__)").stdout
    assert where.startswith(str(environment.folder))


def test_the_sdk_has_no_command_line_and_says_so(environments):
    done = environments("sdk").run("-m", "diplex.cli", check=False)

    assert done.returncode == 1
    assert "diplex[cli]" in done.stdout


def test_the_gateway_cannot_convert_and_says_so(environments):
    done = environments("gateway").run("-m", "diplex.cli", "pull", services.DEFAULT_MODEL, check=False)

    assert done.returncode == 1
    assert "diplex[onnx]" in done.stdout


def test_the_three_work_together(environments, tmp_path):
    home = services.environment(DIPLEX_HOME=str(tmp_path / "home"), PYTHONSAFEPATH="1")
    socket = f"unix:{tmp_path / 'worker.sock'}"
    sdk, gateway, onnx = (environments(extra) for extra in EXTRAS)

    with (
        services.worker(socket, python=onnx.python, cwd=onnx.folder, env=home) as worker,
        services.gateway(socket, python=gateway.python, cwd=gateway.folder, env=home) as front,
    ):
        answer = sdk.run("-c", ASK, front.address).stdout
        ready = worker.entry("model ready")
        for service in (front, worker):
            service.send(signal.SIGTERM)
            assert service.wait() == 0

    assert "Paris" in answer
    assert ready["model"] == services.DEFAULT_MODEL
    assert any((tmp_path / "home" / "prepared").iterdir())  # it was converted there
