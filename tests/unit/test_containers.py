"""Dockerfiles, Compose files and what they name agree with each other and with the code; needs no engine."""

from __future__ import annotations

import re
import tomllib
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
import yaml

from gateway.config import GatewayConfig
from gateway.configuration.keys import keys_of
from workers.runtime.command import options, serve_options

ROOT = Path(__file__).parents[2]
DOCKERFILES = {
    "gateway": ROOT / "gateway/Dockerfile",
    "onnx-worker": ROOT / "workers/onnx_worker/Dockerfile",
    "torch-worker": ROOT / "workers/torch_worker/Dockerfile",
}
REQUIREMENTS = {"gateway": "gateway.txt", "onnx-worker": "onnx.txt", "torch-worker": "torch.txt"}
EXTRAS = {"gateway": "gateway", "onnx-worker": "onnx", "torch-worker": "torch"}
OVERLAYS = [*sorted((ROOT / "deploy/compose").glob("*.yml")), ROOT / "tests/compose/compose.yml"]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
OURS = tuple(EXTRAS)
CLIENT = {"DIPLEX_ADDRESS", "DIPLEX_CA_FILE", "DIPLEX_SERVER_NAME"}


def instructions(name):
    """A Dockerfile's instructions, comments left out, continued lines joined."""
    lines = [line for line in DOCKERFILES[name].read_text().splitlines() if not line.lstrip().startswith("#")]
    return [line.split(None, 1) for line in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines() if line]


def variables(name):
    """What an image sets."""
    found = {}
    for word, rest in instructions(name):
        if word == "ENV":
            found |= dict(each.split("=", 1) for each in rest.split())
    return found


def known_variables(name):
    """What the process reads."""
    if name == "gateway":
        return {key.variable for key in keys_of(GatewayConfig).values()} | CLIENT
    found = set(CLIENT)
    for module in (options, serve_options):
        for each in vars(module).values():
            for about in getattr(each, "__metadata__", ()):
                found |= {about.envvar} if isinstance(getattr(about, "envvar", None), str) else set()
    return found


def locked(file):
    return set(re.findall(r"^([\w.-]+)==", (ROOT / "requirements" / file).read_text(), re.MULTILINE))


@pytest.mark.parametrize("name", OURS)
class TestImages:
    def test_what_is_copied_is_there_and_not_ignored(self, name):
        ignored = (ROOT / ".dockerignore").read_text().splitlines()
        kept = [line[1:] for line in ignored if line.startswith("!")]
        for word, rest in instructions(name):
            if word != "COPY" or rest.startswith("--from"):
                continue
            for source in rest.replace("${REQUIREMENTS}", REQUIREMENTS[name]).split()[:-1]:
                assert (ROOT / source).exists(), source
                assert any(source == it or source.startswith(f"{it}/") for it in kept), source

    def test_its_own_extra_and_nothing_else(self, name):
        assert REQUIREMENTS[name] in DOCKERFILES[name].read_text()
        makefile = (ROOT / "Makefile").read_text()
        output = f"--output-file requirements/{REQUIREMENTS[name]}"
        (line,) = [it for it in makefile.splitlines() if it.endswith(output)]
        assert re.findall(r"--extra (\S+)", line) == [EXTRAS[name]]
        others = {"gateway": {"torch", "onnxruntime", "numpy"}, "onnx-worker": {"torch", "starlette"}}
        assert not locked(REQUIREMENTS[name]) & others.get(
            name, {"onnxruntime", "onnx", "starlette", "torch"}
        )

    def test_all_is_installed_by_hash_but_torch(self, name):
        installs = re.findall(
            r"pip install (.*?)(?:&&|$)", "\n".join(rest for _, rest in instructions(name)), re.MULTILINE
        )
        free = [it for it in installs if "--require-hashes" not in it and "--no-index" not in it]
        assert len(free) == (name == "torch-worker")

    def test_variables_are_known(self, name):
        ours = {it for it in variables(name) if it.startswith("DIPLEX_")}
        assert ours <= known_variables(name)

    def test_ports_are_those_that_are_listened_on(self, name):
        (exposed,) = [rest.split() for word, rest in instructions(name) if word == "EXPOSE"]
        listened = [it.rpartition(":")[2] for key, it in variables(name).items() if key.endswith("_LISTEN")]
        (check,) = [rest for word, rest in instructions(name) if word == "HEALTHCHECK"]
        (health,) = [it for it in listened if f":{it}" in check]
        assert sorted([*exposed, health]) == sorted(listened)

    def test_no_shell_is_needed(self, name):
        """What runs in the container is written as a list."""
        for word, rest in instructions(name):
            if word in {"ENTRYPOINT", "CMD"} or word == "HEALTHCHECK":
                assert rest.partition("CMD ")[2 if word == "HEALTHCHECK" else 0].startswith("["), rest


class TestCompose:
    @pytest.mark.parametrize("name", OURS)
    def test_user_ports_and_dockerfile_are_the_images(self, name):
        service = COMPOSE["services"][name]
        assert ROOT / service["build"]["dockerfile"] == DOCKERFILES[name]
        (user,) = [rest for word, rest in instructions(name) if word == "USER"]
        assert service["user"] == user
        ports = {it.rpartition(":")[2] for it in service.get("ports", ())}
        (exposed,) = [set(rest.split()) for word, rest in instructions(name) if word == "EXPOSE"]
        assert ports <= exposed
        assert bool(ports) is (name == "gateway")

    @pytest.mark.parametrize("file", [ROOT / "docker-compose.yml", *OVERLAYS], ids=lambda file: file.name)
    def test_variables_are_known(self, file):
        for name, service in yaml.safe_load(file.read_text())["services"].items():
            known = known_variables(name) if name in OURS else known_variables("onnx-worker")
            ours = {it for it in service.get("environment", ()) if it.startswith("DIPLEX_")}
            assert ours <= known, name

    @pytest.mark.parametrize("name", COMPOSE["services"])
    def test_every_container_is_confined(self, name):
        service = COMPOSE["services"][name]
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["networks"] == ["diplex"]
        assert "mem_limit" in service
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))

    @pytest.mark.parametrize("file", OVERLAYS, ids=lambda file: file.name)
    def test_overlays_change_services_that_exist(self, file):
        assert set(yaml.safe_load(file.read_text())["services"]) <= set(COMPOSE["services"])

    def test_files_that_are_mounted_exist(self):
        for file in (ROOT / "docker-compose.yml", *OVERLAYS):
            for service in yaml.safe_load(file.read_text())["services"].values():
                for volume in service.get("volumes", ()):
                    if volume.startswith("./"):
                        assert (ROOT / volume.partition(":")[0]).exists(), volume

    def test_example_of_settings_names_them_all(self):
        text = "".join(file.read_text() for file in (ROOT / "docker-compose.yml", *OVERLAYS))
        used = set(re.findall(r"\$\{(\w+)", text)) | {"PIP_INDEX_URL", "HF_ENDPOINT", "HF_TOKEN"}
        example = set(re.findall(r"^#?(\w+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
        assert example == used

    def test_collector_and_prometheus_are_where_others_look(self):
        collector = yaml.safe_load((ROOT / "deploy/otel/collector.yaml").read_text())
        port = collector["receivers"]["otlp"]["protocols"]["grpc"]["endpoint"].rpartition(":")[2]
        assert f"http://otel-collector:{port}" in (ROOT / ".env.example").read_text()
        source = yaml.safe_load((ROOT / "deploy/grafana/provisioning/datasources/prometheus.yml").read_text())
        assert source["datasources"][0]["url"] == "http://prometheus:9090"
        for job in yaml.safe_load((ROOT / "deploy/prometheus/compose.yml").read_text())["scrape_configs"]:
            (found,) = job["dns_sd_configs"]
            for name in found["names"]:
                assert str(found["port"]) in " ".join(
                    rest for word, rest in instructions(name) if word == "EXPOSE"
                )


def test_version_is_the_packages():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    for name in OURS:
        assert ["ARG", f"VERSION={version}"] in instructions(name)


def test_nothing_is_slimmed_that_we_import():
    """What deploy/images/slim.py takes out isn't imported by our sources."""
    text = (ROOT / "deploy/images/slim.py").read_text()
    patterns = list(re.findall(r'^    "(\w+/[\w/]+)",', text, re.MULTILINE))
    assert patterns
    imported = set()
    for folder in ("onnx_worker", "torch_worker"):
        for file in (ROOT / "workers" / folder).rglob("*.py"):
            imported |= set(re.findall(r"^\s*(?:from|import) ([\w.]+)", file.read_text(), re.MULTILINE))
    for name in imported:
        path = name.replace(".", "/")
        assert not any(fnmatchcase(path, f"{it}*") for it in patterns), name
