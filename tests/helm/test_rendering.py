"""The chart renders, under both versions of Helm, and what comes out is what Kubernetes takes."""

from __future__ import annotations

import re
import subprocess

import pytest
import yaml

from tests.helm.chart import CHART, RELEASE, SETS, TOOLS, helm, rendered, values_file

VERSIONS = ("1.31", "1.34", "1.37")
CUSTOM = {"ServiceMonitor", "PrometheusRule", "ScaledObject"}
"""Kinds that aren't Kubernetes' own."""
RANDOM = re.compile(r"^  (keys\.toml|first-key|token|keys): .*$", re.MULTILINE)


@pytest.mark.parametrize("name", SETS)
def test_lint(name):
    helm("lint", CHART, "--strict", "--quiet", "--values", values_file(name))


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("version", VERSIONS)
def test_the_api_takes_what_is_rendered(name, version, tmp_path):
    own = [it for it in rendered(name, "--kube-version", version).all if it["kind"] not in CUSTOM]
    file = tmp_path / "manifests.yaml"
    file.write_text(yaml.safe_dump_all(own))
    validate = [TOOLS / "kubernetes-validate", "--strict", "--kubernetes-version", version, file]
    done = subprocess.run(validate, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout
    passed = [line for line in done.stdout.splitlines() if line.startswith("INFO") and "passed" in line]
    assert len(passed) == len(own) > 8, done.stdout


def test_the_validation_finds_a_wrong_field(tmp_path):
    wrong = rendered("default").one("Deployment", "gateway")
    wrong["spec"]["template"]["spec"]["containers"][0]["readinessprobe"] = {}
    file = tmp_path / "manifests.yaml"
    file.write_text(yaml.safe_dump(wrong))
    validate = [TOOLS / "kubernetes-validate", "--strict", "--kubernetes-version", VERSIONS[-1], file]
    done = subprocess.run(validate, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert "readinessprobe" in done.stdout


@pytest.mark.parametrize("name", SETS)
def test_both_helms_render_the_same(name):
    newer, older = (
        yaml.safe_load_all(RANDOM.sub("", rendered(name, "--kube-version", "1.32", program=each).text))
        for each in ("helm", "helm3")
    )
    key = lambda it: (it["kind"], it["metadata"]["name"])  # noqa: E731  # of one sort
    assert sorted(filter(None, newer), key=key) == sorted(filter(None, older), key=key)


@pytest.mark.parametrize("name", SETS)
def test_objects_have_names_of_their_own_and_the_release_s_labels(name):
    objects = rendered(name).all
    names = [(it["kind"], it["metadata"]["name"]) for it in objects]
    assert len(set(names)) == len(names)
    assert {it["metadata"]["labels"]["app.kubernetes.io/instance"] for it in objects} == {RELEASE}
    assert {it["metadata"]["namespace"] for it in objects} == {"models"}
    assert max(len(it["metadata"]["name"]) for it in objects) <= 63


def test_the_longest_names_fit():
    done = helm("template", "r" * 53, CHART, "--values", values_file("torch-cpu"))
    names = [it["metadata"]["name"] for it in yaml.safe_load_all(done.stdout) if it]
    assert max(map(len, names)) <= 63


@pytest.mark.parametrize("name", SETS)
def test_notes_say_how_to_go_on(name):
    done = helm("install", RELEASE, CHART, "--dry-run=client", "--values", values_file(name))
    notes = done.stdout.partition("NOTES:")[2]
    assert "port-forward service/demo-diplex-gateway 50051" in notes
    assert ("base64 --decode" in notes) is (name != "tls")
    assert ("Keys are sent without TLS" in notes) is (name != "tls")
