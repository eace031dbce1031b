"""The containers of a release as processes, with their own arguments, secrets and probes, and a caller."""

from __future__ import annotations

import base64
import os
import re
import signal
import sys
from contextlib import ExitStack
from pathlib import Path

import grpc
import pytest
import yaml
from grpc_health.v1 import health_pb2, health_pb2_grpc

from diplex import errors
from diplex.client import Client, Tls
from tests.e2e.services import READY_SECONDS, Service, environment
from tests.fixtures.certificates import Authority
from tests.helm.chart import Manifests, rendered, values_file
from tests.helm.image import image_of

SERVING = health_pb2.HealthCheckResponse.SERVING


class Node:
    """Starts pods' containers as a kubelet would, each port at a free one of the loopback.

    Args:
        folder: Where volumes lie.
        manifests: The release.
        secrets: Those that it doesn't bring: name -> key -> content.
        names: Service's name -> the address of its only pod.
    """

    def __init__(self, folder: Path, manifests: Manifests, secrets: dict[str, dict[str, bytes]]):
        self._folder = folder
        self._manifests = manifests
        self._secrets = secrets | {
            it["metadata"]["name"]: {key: base64.b64decode(value) for key, value in it["data"].items()}
            for it in manifests.of("Secret")
        }
        self._exit = ExitStack()
        self.names: dict[str, str] = {}

    def __enter__(self):
        return self

    def __exit__(self, *ended):
        self._exit.close()

    def start(self, component: str, **variables: str) -> Service:
        """A component's container; returns once it listens."""
        container = self._manifests.container(component)
        moved = self._mounted(component)
        module = image_of(component).entrypoint[1:]
        env = image_of(component).variables | {
            it["name"]: it.get("value") or str(len(os.sched_getaffinity(0)))
            for it in container.get("env", ())
        }
        ours = {
            name: "127.0.0.1:0" if name.endswith("_LISTEN") else value
            for name, value in env.items()
            if name.startswith("DIPLEX_")
        }
        arguments = [self._here(text, moved) for text in container["args"]]
        return self._exit.enter_context(
            Service([sys.executable, *module, *arguments], env=environment(**ours | variables))
        )

    def health(self, service: Service, component: str) -> health_pb2_grpc.HealthStub:
        """Where the component's probes ask."""
        container = self._manifests.container(component)
        probed = {container[it]["grpc"]["port"] for it in ("startupProbe", "livenessProbe", "readinessProbe")}
        [name] = [it["name"] for it in container["ports"] if {it["containerPort"]} == probed]
        address = service.entry("health")["address"] if name == "health" else service.address
        return health_pb2_grpc.HealthStub(self._exit.enter_context(grpc.insecure_channel(address)))

    def _mounted(self, component: str) -> dict[str, Path]:
        """Mount's path -> a folder with what the secret holds."""
        pod = self._manifests.pods[component]
        volumes = {it["name"]: it["secret"] for it in pod["volumes"] if "secret" in it}
        moved = {}
        for mount in self._manifests.container(component)["volumeMounts"]:
            if (secret := volumes.get(mount["name"])) is None:
                continue
            folder = moved[mount["mountPath"]] = self._folder / component / mount["name"]
            folder.mkdir(parents=True)
            wanted = {it["key"]: it["path"] for it in secret.get("items", ())}
            for key, content in self._secrets[secret["secretName"]].items():
                if not wanted or key in wanted:
                    (folder / wanted.get(key, key)).write_bytes(content)
        return moved

    def _here(self, argument: str, moved: dict[str, Path]) -> str:
        argument = re.sub(r"0\.0\.0\.0:\d+$", "127.0.0.1:0", argument)
        for name, address in self.names.items():
            argument = re.sub(rf"dns:///{name}:\d+", address, argument)
        for path, folder in moved.items():
            argument = argument.replace(f"={path}/", f"={folder}/")
        return argument


def until(stub: health_pb2_grpc.HealthStub, service: str) -> None:
    """Waits until a name's health is SERVING."""
    watch = stub.Watch(health_pb2.HealthCheckRequest(service=service), timeout=READY_SECONDS)
    assert SERVING in (it.status for it in iter_until(watch))
    watch.cancel()


def iter_until(watch):
    for told in watch:
        yield told
        if told.status == SERVING:
            return


def pair(authority: Authority, label: str, *names: str) -> dict[str, bytes]:
    certificate, key = authority.issue(label, *names)
    parts = {"tls.crt": certificate, "tls.key": key, "ca.crt": authority.file}
    return {name: Path(file).read_bytes() for name, file in parts.items()}


def tiny(tmp_path: Path, name: str) -> Path:
    """A set of values with the tiny model instead of a real one."""
    values = yaml.safe_load(values_file(name).read_text("utf-8")) or {}
    values["onnx"] = {**values.get("onnx", {}), "models": ["tiny-llama/fp32"]}
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump(values))
    return file


@pytest.fixture
def store(tiny_home, tiny_catalogue):
    return {"DIPLEX_HOME": str(tiny_home), "DIPLEX_MODELS": str(tiny_catalogue)}


def test_a_release_answers_and_its_probes_succeed(tmp_path, store):
    manifests = rendered(tiny(tmp_path, "default"))
    with Node(tmp_path, manifests, {}) as node:
        worker = node.start("onnx-worker", **store)
        node.names["demo-diplex-onnx-worker"] = worker.address
        gateway = node.start("gateway")
        for service, component in ((worker, "onnx-worker"), (gateway, "gateway")):
            until(node.health(service, component), "liveness")
            until(node.health(service, component), "")
        key = manifests.secret("api-keys")["first-key"]
        with Client(gateway.address, api_key=key) as client:
            assert client.generate("Hello", max_tokens=4).receipt.usage.completion_tokens
        with Client(gateway.address) as stranger, pytest.raises(errors.Unauthenticated):
            stranger.generate("Hello", max_tokens=4)
        with Client(worker.address) as stranger, pytest.raises(errors.DiplexError):
            stranger.generate("Hello", max_tokens=4)
        for service in (gateway, worker):
            service.send(signal.SIGTERM)
            assert service.wait() == 0


def test_a_release_with_tls_answers_and_its_probes_succeed(tmp_path, store):
    ours, theirs = Authority(tmp_path / "ours"), Authority(tmp_path / "theirs")
    made = rendered("default")  # for keys as the chart makes them
    secrets = {
        "diplex-keys": {"keys.toml": made.secret("api-keys")["keys.toml"].encode()},
        "diplex-resumption": {"keys": made.secret("resumption-keys")["keys"].encode()},
        "gateway-tls": pair(theirs, "gateway", "127.0.0.1"),
        "workers-tls": pair(ours, "workers", "workers.diplex.internal"),
        "gateway-client-tls": pair(ours, "client", "gateway.diplex.internal"),
    }
    with Node(tmp_path / "pods", rendered(tiny(tmp_path, "tls")), secrets) as node:
        worker = node.start("onnx-worker", **store)
        node.names["demo-diplex-onnx-worker"] = worker.address
        gateway = node.start("gateway")
        for service, component in ((worker, "onnx-worker"), (gateway, "gateway")):
            until(node.health(service, component), "liveness")
            until(node.health(service, component), "")
        key = made.secret("api-keys")["first-key"]
        with Client(gateway.address, api_key=key, tls=Tls(theirs.file)) as client:
            assert client.generate("Hello", max_tokens=4).receipt.usage.completion_tokens
