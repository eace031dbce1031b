"""What is in the images, what isn't, and how much they add to the one that they are built upon."""

from __future__ import annotations

import json
import os
from typing import NamedTuple

import pytest

from tests.compose.stack import docker, has_image, image, inspect

pytestmark = [pytest.mark.compose, pytest.mark.timeout(300)]

BASE = os.environ.get("BASE") or "python:3.11-slim-bookworm"


class Expected(NamedTuple):
    megabytes: int
    """At most, over the base image."""
    packages: set[str]
    """Folders that must be there."""
    absent: set[str]
    """Folders that must not."""


IMAGES = {
    "gateway": Expected(
        90,
        {"gateway", "starlette"},
        {"torch", "onnxruntime", "onnx", "numpy", "workers", "pip", "setuptools"},
    ),
    "onnx-worker": Expected(
        260,
        {"workers", "onnxruntime", "onnx", "gguf", "pip"},
        {"torch", "transformers", "gateway", "setuptools"},
    ),
    "torch-worker": Expected(
        1150, {"workers", "torch", "transformers", "pip"}, {"onnxruntime", "onnx", "gateway"}
    ),
}


@pytest.fixture(params=IMAGES)
def name(request):
    if request.param == "torch-worker" and not has_image("torch-worker"):
        pytest.skip("the torch worker's image isn't built: make compose-test-full")
    return request.param


@pytest.fixture
def config(name):
    return inspect(image(name))["Config"]


def run(name, code):
    """What Python prints in a container of the image that can reach nothing."""
    options = ("--rm", "--network=none", "--read-only", "--entrypoint=/opt/venv/bin/python")
    return docker("run", *options, image(name), "-c", code).stdout


def test_size(name):
    added = inspect(image(name))["Size"] - inspect(BASE)["Size"]
    print(f"{name}: {added / 1e6:.0f} MB over {BASE}")  # noqa: T201  # shown with -s
    assert added <= IMAGES[name].megabytes * 1e6


IMPORTABLE = """
import pathlib, sys
print(*(path.name for folder in sys.path if folder for path in pathlib.Path(folder).glob("*")))
"""
FILES = """
import os
tops = ("/opt", "/usr", "/var", "/home", "/root", "/srv")
print(*{name for top in tops for _, folders, files in os.walk(top) for name in (*folders, *files)})
"""
UNCOMPILED = """
import pathlib, runpy, sys
sys.argv = ["it", "--help"]
try:
    runpy.run_module({module!r}, run_name="__main__")
except SystemExit:
    pass
specs = [module.__spec__ for module in list(sys.modules.values()) if getattr(module, "__spec__", None)]
ours = [spec for spec in specs if spec.cached and (spec.origin or "").startswith("/opt")]
print(len(ours) > 100, *(spec.name for spec in ours if not pathlib.Path(spec.cached).exists()))
"""
INSTALLED = """
import importlib.metadata, json, sys
venv = [folder for folder in sys.path if folder.startswith("/opt/venv")]
found = importlib.metadata.distributions(path=venv)
print(json.dumps([(each.name.lower(), each.version) for each in found]))
"""


def test_contents(name):
    found = set(run(name, IMPORTABLE).split())
    assert IMAGES[name].packages <= found
    assert not IMAGES[name].absent & found
    files = run(name, FILES).split()
    for library in IMAGES[name].absent & {"torch", "onnxruntime"}:
        parts = (f"{library}-", f"lib{library}")  # its metadata, its libraries
        assert not [file for file in files if file.startswith(parts)]


def test_metadata(name, config):
    labels = config["Labels"]
    for key in ("title", "description", "licenses", "version", "revision"):
        assert labels[f"org.opencontainers.image.{key}"]
    assert config["User"] == "10001:10001"
    assert config["Entrypoint"][:2] == ["/opt/venv/bin/python", "-m"]
    assert config["Healthcheck"]["Test"][:3] == ["CMD", "diplex", "health"]


def test_bill_of_materials(name):
    bill = json.loads(run(name, "print(open('/usr/share/sbom/diplex.cdx.json').read())"))
    assert bill["bomFormat"] == "CycloneDX"
    assert bill["metadata"]["component"]["name"] == "diplex"
    listed = {(it["name"].lower(), it["version"]) for it in bill["components"]}
    installed = json.loads(run(name, INSTALLED))
    assert installed
    assert {tuple(it) for it in installed} <= listed


def test_starts_without_anything_being_compiled(name):
    """The root file system is read-only: what isn't compiled in the image is compiled at every start."""
    module = {
        "gateway": "gateway",
        "onnx-worker": "workers.onnx_worker",
        "torch-worker": "workers.torch_worker",
    }
    assert run(name, UNCOMPILED.format(module=module[name])).splitlines()[-1].split() == ["True"]


def test_the_onnx_worker_has_machine_code_of_its_functions():
    code = "from pathlib import Path\nfrom workers.onnx_worker.compiled.machine_code import find\n"
    code += "from workers.onnx_worker.compiled.object_file import load\n"
    code += "file = find(Path('/nowhere'))\nload(file)\nprint(file.parent)"
    printed = run("onnx-worker", code).split()
    assert printed == ["/opt/diplex/workers/onnx_worker/compiled/machine-code"]


def test_public_address_without_keys_is_refused(name):
    """Alone, an image opens nothing to everybody."""
    done = docker("run", "--rm", "--network=none", image(name), check=False)
    assert done.returncode != 0
    assert "can be reached from other machines" in done.stdout + done.stderr
