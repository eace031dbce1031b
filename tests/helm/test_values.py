"""The schema of the values lets right ones through and says what is wrong with others."""

from __future__ import annotations

import json

import pytest
import yaml

from tests.helm.chart import CHART, helm, rendered


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ("gateway.replica=2", "replica"),
        ("gateway.replicas=0", "replicas"),
        ("gateway.preStopSeconds=0", "preStopSeconds"),
        ("gateway.settings.Drain=1", "Drain"),
        ("onnx.slots=1000", "slots"),
        ("onnx.store.kind=nfs", "kind"),
        ("onnx.options={max-queue}", "options"),
        ("onnx.gpu.enabled=true", "gpu"),
        ("onnx.autoscaling.kind=vpa", "kind"),
        ("onnx.resources.limits.memory=lots", "memory"),
        ("onnx.enabled=false", "enabled"),
        ("tls.gateway.clientCertificates=true", "secretName"),
        ("tls.workers.secretName=workers", "gateway"),
        ("log.level=LOUD", "level"),
        ("traces.endpoint=collector:4317", "endpoint"),
        ("auth.existingSecret=Not A Name", "existingSecret"),
    ],
)
def test_wrong_values_are_refused_by_name(values, told):
    done = helm("template", "demo", CHART, "--set", values, check=False)
    assert done.returncode != 0
    assert "values don't meet the specifications of the schema" in done.stderr
    assert told in done.stderr


def test_every_value_with_a_default_is_in_the_schema():
    schema = json.loads((CHART / "values.schema.json").read_text("utf-8"))

    def missing(node, values, path):
        while "$ref" in node:
            node = schema["$defs"][node["$ref"].rpartition("/")[2]]
        for key, value in values.items():
            known = node.get("properties", {})
            if key in known and isinstance(value, dict):
                yield from missing(known[key], value, f"{path}{key}.")
            elif key not in known and node.get("additionalProperties", True) is False:
                yield f"{path}{key}"

    defaults = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))
    assert list(missing(schema, defaults, "")) == []
    assert list(missing(schema, {"onnx": {"wrong": 1}}, "")) == ["onnx.wrong"]


def test_a_registry_a_tag_and_a_digest_name_the_image(tmp_path):
    digest = f"sha256:{'0a' * 32}"
    file = tmp_path / "values.yaml"
    file.write_text(
        yaml.safe_dump(
            {
                "image": {"registry": "registry.example/team/", "tag": "1.2"},
                "gateway": {"image": {"tag": "9"}},
                "onnx": {"image": {"digest": digest}},
                "torch": {"enabled": True, "gpu": {"enabled": True}},
            }
        )
    )
    made = rendered(file)
    assert {made.container(each)["image"] for each in made.pods} == {
        "registry.example/team/diplex/gateway:9",
        f"registry.example/team/diplex/onnx-worker@{digest}",
        "registry.example/team/diplex/torch-worker:1.2-cuda",
    }
