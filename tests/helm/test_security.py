"""What pods may do, and who may talk to whom."""

from __future__ import annotations

import pytest

from tests.helm.chart import rendered


def containers(pod):
    return [*pod.get("initContainers", ()), *pod["containers"]]


def policy(manifests, component):
    return manifests.one("NetworkPolicy", component)["spec"]


def component_of(peer):
    return peer["podSelector"]["matchLabels"]["app.kubernetes.io/component"]


def ports(rule):
    return {it["port"] for it in rule["ports"]}


def test_pods_keep_to_the_restricted_standard(manifests):
    for pod in manifests.pods.values():
        security = pod["securityContext"]
        assert security["runAsNonRoot"] is True
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
        kinds = {kind for volume in pod["volumes"] for kind in volume} - {"name"}
        assert kinds <= {"emptyDir", "secret", "persistentVolumeClaim"}
        for container in containers(pod):
            own = container["securityContext"]
            assert own["allowPrivilegeEscalation"] is False
            assert own["readOnlyRootFilesystem"] is True
            assert own["capabilities"] == {"drop": ["ALL"]}
            assert "privileged" not in own


def test_every_container_says_what_it_needs(manifests):
    for pod in manifests.pods.values():
        for container in containers(pod):
            assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
            assert "memory" in container["resources"]["limits"]


def test_secrets_are_read_only_and_nobody_else_s(manifests):
    for pod in manifests.pods.values():
        secret = {it["name"]: it["secret"] for it in pod["volumes"] if "secret" in it}
        assert {it["defaultMode"] for it in secret.values()} <= {0o440}
        for container in containers(pod):
            for mount in container["volumeMounts"]:
                assert mount["name"] not in secret or mount["readOnly"] is True


def test_a_key_is_never_mounted_with_the_keys_file():
    volumes = {it["name"]: it for it in rendered("default").pods["gateway"]["volumes"]}
    assert [it["key"] for it in volumes["api-keys"]["secret"]["items"]] == ["keys.toml"]


def test_workers_are_reached_by_gateways_alone(manifests):
    for component in manifests.workers:
        spec = policy(manifests, component)
        assert component_of(spec) == component
        calls, *others = spec["ingress"]
        assert [component_of(peer) for peer in calls["from"]] == ["gateway"]
        assert ports(calls) == {50061}
        assert [ports(rule) for rule in others] == [{9465}]
        assert all(rule["from"] for rule in others)
        assert set(spec["policyTypes"]) == {"Ingress", "Egress"}


def test_gateways_reach_names_and_workers_and_what_is_asked_for(manifests):
    spec = policy(manifests, "gateway")
    to_workers = [rule for rule in spec["egress"] if ports(rule) == {50061}]
    assert [component_of(peer) for rule in to_workers for peer in rule["to"]] == manifests.workers
    others = [ports(rule) for rule in spec["egress"] if rule not in to_workers]
    traced = "traces.endpoint" in "".join(manifests.container("gateway")["args"])
    assert others == [{53}, *([{4317}] if traced else [])]


def test_probes_of_an_encrypted_server_are_for_nodes_alone():
    manifests = rendered("tls")
    for component in ("gateway", "onnx-worker"):
        [health] = [it for it in manifests.container(component)["ports"] if it["name"] == "health"]
        opened = set().union(*(ports(rule) for rule in policy(manifests, component)["ingress"]))
        assert health["containerPort"] not in opened
        assert health["containerPort"] not in {
            port["port"] for service in manifests.of("Service") for port in service["spec"]["ports"]
        }


def test_callers_and_name_servers_can_be_named():
    spec = policy(rendered("tls"), "gateway")
    assert "diplex-callers" in str(spec["ingress"][0]["from"])
    assert "kube-dns" in str(spec["egress"][0]["to"])


@pytest.mark.parametrize(("open_", "refused"), [("true", False), ("false", True)])
def test_without_keys_a_gateway_is_open_only_if_nothing_else_asks(open_, refused, tmp_path):
    file = tmp_path / "values.yaml"
    file.write_text(
        "auth: {enabled: false}\n"
        + ("" if open_ == "true" else "tls: {gateway: {secretName: t, clientCertificates: true}}\n")
    )
    arguments = rendered(file).container("gateway")["args"]
    assert ("--set=security.allow_unauthenticated=true" in arguments) is not refused
    assert not any("keys_file=/etc/diplex/api" in it for it in arguments)
