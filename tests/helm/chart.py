"""The chart as Helm renders it, and what one asks of the manifests."""

from __future__ import annotations

import base64
import subprocess
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy/helm/diplex"
TOOLS = ROOT / ".venv-helm/bin"
SETS = tuple(sorted(path.name.removesuffix("-values.yaml") for path in (CHART / "ci").glob("*-values.yaml")))
RELEASE, NAMESPACE = "demo", "models"
POD_KINDS = ("Deployment", "Pod")


def helm(
    *arguments: str | Path, program: str = "helm", check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Runs Helm, without a cluster."""
    return subprocess.run(
        [TOOLS / program, *arguments], capture_output=True, text=True, check=check, timeout=60
    )


def values_file(name: str) -> Path:
    return CHART / f"ci/{name}-values.yaml"


@dataclass(frozen=True)
class Manifests:
    """Everything that one release consists of."""

    text: str

    @cached_property
    def all(self) -> list[dict[str, Any]]:
        return [document for document in yaml.safe_load_all(self.text) if document]

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [it for it in self.all if it["kind"] == kind]

    def one(self, kind: str, name: str) -> dict[str, Any]:
        """The only object of a kind whose name ends so."""
        [found] = [
            it for it in self.of(kind) if it["metadata"]["name"].removeprefix(RELEASE) == f"-diplex-{name}"
        ]
        return found

    @cached_property
    def pods(self) -> dict[str, dict[str, Any]]:
        """Component -> the specification of its pods."""
        return {
            it["metadata"]["labels"]["app.kubernetes.io/component"]: (
                it["spec"]["template"]["spec"] if it["kind"] == "Deployment" else it["spec"]
            )
            for it in self.all
            if it["kind"] in POD_KINDS
        }

    def container(self, component: str) -> dict[str, Any]:
        [container] = self.pods[component]["containers"]
        return container

    @property
    def workers(self) -> list[str]:
        return [component for component in self.pods if component.endswith("-worker")]

    def secret(self, name: str) -> dict[str, str]:
        data = self.one("Secret", name)["data"]
        return {key: base64.b64decode(value).decode() for key, value in data.items()}


def rendered(values: Path | str, *options: str, program: str = "helm") -> Manifests:
    """The manifests of a values file, or of the set of that name."""
    file = values if isinstance(values, Path) else values_file(values)
    where = ("--namespace", NAMESPACE, "--values", file)
    return Manifests(helm("template", RELEASE, CHART, *where, *options, program=program).stdout)


def number(container: dict[str, Any], port: str | int) -> int:
    """A container's port by its name."""
    ports = {it["name"]: it["containerPort"] for it in container["ports"]}
    return ports[port] if isinstance(port, str) else port
