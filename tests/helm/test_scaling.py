"""What scales, spreads, is spared and is watched."""

from __future__ import annotations

import json
import re

import yaml

from tests.helm.chart import NAMESPACE, ROOT, rendered
from workers.runtime.metrics import EngineMetrics

LABELS = {it.name: set(it._labelnames) for it in EngineMetrics(None, None).describe()}  # metric -> its labels


def deployed(manifests):
    return {it["metadata"]["name"]: it["spec"] for it in manifests.of("Deployment")}


def test_budgets_are_for_pods_that_there_are(manifests):
    labels = [it["template"]["metadata"]["labels"] for it in deployed(manifests).values()]
    chosen = [it["spec"]["selector"]["matchLabels"] for it in manifests.of("PodDisruptionBudget")]
    assert len(chosen) == len(labels)
    for selector in chosen:
        assert len([it for it in labels if selector.items() <= it.items()]) == 1


def test_replicas_are_set_by_one_hand(manifests):
    scaled = {
        it["spec"]["scaleTargetRef"]["name"]
        for kind in ("HorizontalPodAutoscaler", "ScaledObject")
        for it in manifests.of(kind)
    }
    assert scaled <= deployed(manifests).keys()
    for name, spec in deployed(manifests).items():
        assert ("replicas" in spec) is (name not in scaled)


def test_workers_scale_by_metrics_that_they_have():
    [worker] = [
        it
        for it in rendered("autoscaling").of("HorizontalPodAutoscaler")
        if "worker" in it["metadata"]["name"]
    ]
    targets = {it["pods"]["metric"]["name"]: it["pods"]["target"] for it in worker["spec"]["metrics"]}
    assert targets.keys() <= LABELS.keys()
    assert {it["type"] for it in targets.values()} == {"AverageValue"}
    slots = [
        it for it in rendered("autoscaling").container("onnx-worker")["args"] if it.startswith("--slots=")
    ]
    assert float(targets["diplex_slots_busy"]["averageValue"]) < float(slots[0].partition("=")[2])


def test_keda_asks_for_metrics_that_there_are():
    made = rendered("autoscaling")
    [scaled] = made.of("ScaledObject")
    services = {it["metadata"]["name"] for it in made.of("Service")}
    queries = [it["metadata"]["query"] for it in scaled["spec"]["triggers"]]
    assert len(queries) == 2
    for query in queries:
        name, labels = re.fullmatch(r"sum\((\w+)\{(.*)\}\)", query).groups()
        asked = dict(re.findall(r'(\w+)="([^"]*)"', labels))
        assert name in LABELS
        assert asked["namespace"] == NAMESPACE
        assert asked["service"] in services
    assert all(it["metadata"]["serverAddress"].startswith("http") for it in scaled["spec"]["triggers"])


def test_an_adapter_s_rules_stand_in_the_documentation():
    text = (ROOT / "docs/kubernetes.md").read_text("utf-8")
    [block] = [it for it in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL) if "seriesQuery" in it]
    named = {re.match(r"\w+", it["seriesQuery"]).group() for it in yaml.safe_load(block)["rules"]["custom"]}
    [worker] = [
        it
        for it in rendered("autoscaling").of("HorizontalPodAutoscaler")
        if "worker" in it["metadata"]["name"]
    ]
    assert named == {it["pods"]["metric"]["name"] for it in worker["spec"]["metrics"]}


def test_monitors_find_a_port_and_give_the_jobs_their_names():
    made = rendered("autoscaling")
    alerts = (ROOT / "deploy/prometheus/alerts.yml").read_text("utf-8")
    for monitor in made.of("ServiceMonitor"):
        [endpoint] = monitor["spec"]["endpoints"]
        wanted = monitor["spec"]["selector"]["matchLabels"].items()
        found = [it for it in made.of("Service") if wanted <= it["metadata"]["labels"].items()]
        offered = [p["name"] for it in found for p in it["spec"]["ports"] if p["name"] == endpoint["port"]]
        assert len(offered) == 1
        [relabelled] = endpoint["relabelings"]
        assert f'"{relabelled["replacement"]}"' in alerts
        assert monitor["metadata"]["labels"]["release"] == "prometheus"
    assert len(made.of("ServiceMonitor")) == 3


def test_rules_and_dashboard_are_those_of_the_repository():
    made = rendered("autoscaling")
    [rule] = made.of("PrometheusRule")
    assert rule["spec"] == yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text("utf-8"))
    [board] = made.of("ConfigMap")
    source = json.loads((ROOT / "deploy/grafana/diplex.json").read_text("utf-8"))
    assert json.loads(board["data"]["diplex.json"]) == source


def test_a_packed_chart_is_whole(tmp_path):
    from tests.helm.chart import CHART, helm  # noqa: PLC0415  # of this test alone

    helm("package", CHART, "--destination", tmp_path)
    [packed] = tmp_path.glob("*.tgz")
    options = ("--set", "monitoring.rules.enabled=true")
    documents = yaml.safe_load_all(helm("template", "demo", packed, *options).stdout)
    [rule] = [it for it in documents if it and it["kind"] == "PrometheusRule"]
    assert rule["spec"]["groups"]


def test_gpus_are_asked_for_where_torch_is_to_use_them():
    cuda = rendered("torch-cuda")
    container = cuda.container("torch-worker")
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert "--device=cuda" in container["args"]
    assert container["image"].endswith("-cuda")
    assert cuda.pods["torch-worker"]["runtimeClassName"] == "nvidia"
    spec = cuda.one("Deployment", "torch-worker")["spec"]
    assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}
    plain = rendered("torch-cpu").container("torch-worker")
    assert "--device=cpu" in plain["args"]
    assert "nvidia.com/gpu" not in plain["resources"]["limits"]


def test_stores_are_shared_or_each_pod_s_own():
    shared = rendered("torch-cpu")
    [claim] = shared.of("PersistentVolumeClaim")
    volumes = {it["name"]: it for it in shared.pods["torch-worker"]["volumes"]}
    assert volumes["store"]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    assert claim["spec"]["storageClassName"] == "shared"
    own = {it["name"]: it for it in shared.pods["onnx-worker"]["volumes"]}
    assert own["store"]["emptyDir"]["sizeLimit"]
