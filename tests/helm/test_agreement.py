"""Arguments, ports, probes and paths are those of the programs and of their images."""

from __future__ import annotations

import re

import pytest

from diplex.serving import LIVENESS
from gateway.security.roles import Roles
from tests.helm.chart import RELEASE, number, rendered
from tests.helm.image import FILES, image_of
from tests.helm.options import STANDARD, gateway_config, known_variables, worker_options
from workers.onnx_worker.kind import KIND

HEALTH_NAMES = {"", LIVENESS}
"""What every server answers for, whatever models there are."""


def variables(container):
    return {it["name"]: it.get("value", "from elsewhere") for it in container.get("env", ())}


def port_of(listen):
    return int(listen.rpartition(":")[2])


def mounts(container):
    return [it["mountPath"] for it in container["volumeMounts"]]


def settings_of(manifests):
    return gateway_config(manifests.container("gateway")["args"], {})


def parsed(manifests, component):
    return worker_options(manifests.container(component)["args"])[1]


def listening(manifests, component):
    """Port's name -> where the program is told to listen."""
    if component == "gateway":
        it = settings_of(manifests)
        told = {
            "grpc": it.listen,
            "http": it.http.listen,
            "metrics": it.metrics.listen,
            "health": it.health.listen,
        }
    else:
        it = parsed(manifests, component)
        told = {"grpc": it["listen"], "metrics": it["metrics_listen"], "health": it["health_listen"]}
    return {name: port_of(listen) for name, listen in told.items() if listen}


def serving(manifests):
    return ["gateway", *manifests.workers]


def test_ports_of_containers_are_those_that_programs_listen_on(manifests):
    for component in serving(manifests):
        ports = {it["name"]: it["containerPort"] for it in manifests.container(component)["ports"]}
        assert ports == listening(manifests, component)


def test_ports_are_those_of_the_images(manifests):
    for component in serving(manifests):
        image, ports = image_of(component), listening(manifests, component)
        own = {port_of(value) for name, value in image.variables.items() if name.endswith("_HEALTH_LISTEN")}
        assert ports.pop("health", *own) in own  # which the image opens for itself alone
        assert set(ports.values()) == image.ports


def test_users_are_those_of_the_images(manifests):
    for component, pod in manifests.pods.items():
        image = image_of(component if component in FILES else "gateway")
        security = pod["securityContext"]
        assert f"{security['runAsUser']}:{security['runAsGroup']}" == image.user
        assert security["fsGroup"] == security["runAsGroup"]


def test_stores_are_where_the_images_have_them(manifests):
    for component in manifests.workers:
        image, pod = image_of(component), manifests.pods[component]
        for container in [*pod.get("initContainers", ()), *pod["containers"]]:
            home = variables(container)["DIPLEX_HOME"]
            assert home == image.variables["DIPLEX_HOME"]
            assert {home} == image.volumes
            assert home in mounts(container)


def test_homes_can_be_written(manifests):
    for component, pod in manifests.pods.items():
        image = image_of(component if component in FILES else "gateway")
        for container in [*pod.get("initContainers", ()), *pod["containers"]]:
            assert image.variables["HOME"] in mounts(container)


def test_arguments_go_to_entry_points_that_take_them(manifests):
    modules = {
        "gateway": "gateway",
        "onnx-worker": "workers.onnx_worker",
        "torch-worker": "workers.torch_worker",
    }
    for component in serving(manifests):
        container = manifests.container(component)
        assert "command" not in container
        assert image_of(component).entrypoint[-2:] == ["-m", modules[component]]
        if component != "gateway":
            assert worker_options(container["args"])[0] == "serve"


def test_init_containers_pull_what_the_worker_serves(manifests):
    for component in manifests.workers:
        pod = manifests.pods[component]
        commands = [worker_options(it["args"]) for it in pod.get("initContainers", ())]
        assert {command for command, _ in commands} <= {"pull"}
        assert [told["name"] for _, told in commands] == list(parsed(manifests, component)["model"] or ())
        images = {it["image"] for it in [*pod.get("initContainers", ()), *pod["containers"]]}
        assert len(images) == 1


def test_variables_are_known_to_the_programs(manifests):
    for component in serving(manifests):
        pod = manifests.pods[component]
        for container in [*pod.get("initContainers", ()), *pod["containers"]]:
            ours = {name for name in variables(container) if not name.startswith(STANDARD)}
            assert ours <= known_variables(component)


@pytest.mark.parametrize("probe", ["startupProbe", "livenessProbe", "readinessProbe"])
def test_probes_ask_for_health_that_there_is_without_tls(manifests, probe):
    for component in serving(manifests):
        container = manifests.container(component)
        asked = container[probe]["grpc"]
        ports = listening(manifests, component)
        assert asked["port"] == ports.get("health", ports["grpc"])
        assert asked.get("service", "") in HEALTH_NAMES
        if component == "gateway":
            encrypted = bool(settings_of(manifests).security.certificate_file)
        else:
            encrypted = bool(parsed(manifests, component)["tls_certificate_file"])
        assert encrypted is ("health" in ports)


def test_what_restarts_a_container_is_not_whether_models_are_loaded(manifests):
    for component in serving(manifests):
        container = manifests.container(component)
        assert {container[probe]["grpc"]["service"] for probe in ("startupProbe", "livenessProbe")} == {
            LIVENESS
        }


def test_readiness_waits_for_models_where_there_are_any_to_wait_for(manifests):
    for component in serving(manifests):
        asked = manifests.container(component)["readinessProbe"]["grpc"].get("service", "")
        waits = component == "gateway" or bool(parsed(manifests, component)["model"])
        assert asked == ("" if waits else LIVENESS)


def test_services_lead_to_ports_of_their_pods(manifests):
    for service in manifests.of("Service"):
        component = service["spec"]["selector"]["app.kubernetes.io/component"]
        container = manifests.container(component)
        for port in service["spec"]["ports"]:
            assert number(container, port["targetPort"]) == port["port"]


def test_the_gateway_looks_for_workers_where_they_are(manifests):
    found = set()
    for worker in settings_of(manifests).workers:
        host, _, port = worker.removeprefix("dns:///").rpartition(":")
        [service] = [it for it in manifests.of("Service") if it["metadata"]["name"] == host]
        assert service["spec"]["clusterIP"] == "None"
        assert service["spec"]["publishNotReadyAddresses"] is True
        assert int(port) in {it["port"] for it in service["spec"]["ports"]}
        found.add(service["spec"]["selector"]["app.kubernetes.io/component"])
    assert found == set(manifests.workers)


def test_streams_may_end_before_anything_is_killed(manifests):
    for component in serving(manifests):
        container, pod = manifests.container(component), manifests.pods[component]
        if component == "gateway":
            drain = settings_of(manifests).drain_seconds
            before = container["lifecycle"]["preStop"]["sleep"]["seconds"]
        else:
            drain, before = parsed(manifests, component)["drain_seconds"], 0
            assert "lifecycle" not in container
        assert drain >= 30
        assert pod["terminationGracePeriodSeconds"] >= before + drain + 10


def test_files_that_programs_read_are_mounted(manifests):
    for component in serving(manifests):
        container = manifests.container(component)
        files = re.findall(r"=(/\S+)", "\n".join(container["args"]))
        volumes = {it["name"]: it for it in manifests.pods[component]["volumes"]}
        assert files
        for file in files:
            [mount] = [it for it in container["volumeMounts"] if file.startswith(it["mountPath"] + "/")]
            volume = volumes[mount["name"]]["secret"]
            key = file.removeprefix(mount["mountPath"] + "/")
            made = [it for it in manifests.of("Secret") if it["metadata"]["name"] == volume["secretName"]]
            for secret in made:
                assert key in secret["data"]
            chosen = [it["path"] for it in volume.get("items", ())]
            assert not chosen or chosen == [key]
            assert made or not volume["secretName"].startswith(RELEASE)


def test_what_gateway_and_workers_must_agree_on(manifests):
    security = settings_of(manifests).security
    for component in manifests.workers:
        told = parsed(manifests, component)
        assert bool(told["gateway_token_file"]) is bool(security.worker_token_file)
        assert bool(told["tls_certificate_file"]) is bool(security.worker_ca_file)
        assert bool(told["tls_client_ca_file"]) is bool(security.worker_certificate_file)
        assert bool(told["gateway_token_file"]) is not bool(told["tls_client_ca_file"])
        assert settings_of(manifests).max_message_mib <= told["max_message_mib"]


def test_threads_follow_the_cpu_that_a_pod_has(manifests):
    for component in manifests.workers:
        container = manifests.container(component)
        [threads] = [it for it in container["env"] if it["name"] == "DIPLEX_THREADS"]
        field = threads["valueFrom"]["resourceFieldRef"]
        kind, _, resource = field["resource"].partition(".")
        assert resource in container["resources"][kind]
        assert field["containerName"] == container["name"]


def test_the_default_model_is_one_that_is_loaded(manifests):
    default = settings_of(manifests).default_model
    loaded = [name for component in manifests.workers for name in parsed(manifests, component)["model"] or ()]
    assert any(name == default or name.startswith(f"{default}/") for name in loaded)


def test_the_model_by_default_is_the_worker_s_own():
    assert parsed(rendered("default"), "onnx-worker")["model"] == list(KIND.models)


def test_made_secrets_are_what_the_gateway_takes(tmp_path):
    made = rendered("default")
    file = tmp_path / "keys.toml"
    secret = made.secret("api-keys")
    file.write_text(secret["keys.toml"])
    roles = Roles.read(str(file))
    [key] = roles.keys.values()
    assert secret["first-key"].split("-")[1] == key.id
    rights = roles.rights_of_key(key)
    assert {str(it) for it in rights.methods} == {"generate", "operate"}
    again = rendered("default").secret("api-keys")
    assert again["first-key"] != secret["first-key"]


def test_no_setting_is_passed_over(tmp_path):
    file = tmp_path / "values.yaml"
    file.write_text(
        "gateway: {settings: {routing.affinity_entries: 1000000, http.hosts: [a.example, b.example],"
        " security.jwt_audience: diplex, discovery.interval_seconds: 2.5, drain_seconds: 7}}\n"
    )
    config = settings_of(rendered(file))
    assert config.routing.affinity_entries == 1_000_000
    assert config.http.hosts == ("a.example", "b.example")
    assert config.security.jwt_audience == "diplex"
    assert config.discovery.interval_seconds == 2.5
    assert config.connections.max_age_seconds == 600
