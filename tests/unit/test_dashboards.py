"""Dashboards and alerts ask for metrics that exist, with labels that they have."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from prometheus_client.metrics import MetricWrapperBase

from diplex import metrics
from gateway.processes import ProcessMemory
from workers.runtime.metrics import EngineMetrics

DEPLOY = Path(__file__).parents[2] / "deploy"
OURS = re.compile(r"\b((?:diplex|gen_ai|process)_\w+?)(\{[^}]*\})?(?=[\s)\[]|$)")
GIVEN = {"job", "instance", "le"}
"""Labels that Prometheus adds, and histograms have."""


class Nobody:
    """A supervisor of processes without any."""

    pids = {}  # noqa: RUF012  # never changed


def known():
    """Every name that can be asked for, with its labels."""
    names = {"process_resident_memory_bytes": set()}
    for metric in vars(metrics).values():
        for family in metric.describe() if isinstance(metric, MetricWrapperBase) else ():
            kinds = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"], "gauge": [""]}
            for ending in kinds[family.type]:
                names[family.name + ending] = set(metric._labelnames)
    for family in [*EngineMetrics(None, None).describe(), *ProcessMemory(Nobody()).collect()]:
        names[family.name] = set(family._labelnames)
    return names


def expressions():
    board = json.loads((DEPLOY / "grafana/diplex.json").read_text("utf-8"))
    for panel in board["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]
    alerts = (DEPLOY / "prometheus/alerts.yml").read_text("utf-8")
    for number, text in enumerate(re.findall(r"expr: (?:>-\n)?(.*?)\n        for:", alerts, re.DOTALL)):
        yield f"alert {number}", " ".join(text.split())


@pytest.mark.parametrize(
    ("title", "expression"), list(expressions()), ids=lambda it: it if len(it) < 40 else ""
)
def test_what_is_asked_for_exists(title, expression):
    names, asked = known(), OURS.findall(re.sub(r"by \([^)]*\)", "", expression))
    assert asked or "up{" in expression
    for name, filters in asked:
        assert name in names
        assert set(re.findall(r"(\w+)=", filters)) <= names[name] | GIVEN
    grouped = {label for found in re.findall(r"by \(([^)]*)\)", expression) for label in found.split(", ")}
    assert grouped <= set().union(*(names[name] for name, _ in asked), GIVEN)


def test_every_metric_of_ours_is_on_the_board():
    text = (DEPLOY / "grafana/diplex.json").read_text("utf-8")
    bases = {re.sub(r"_(total|bucket|sum|count)$", "", name) for name in known()}
    assert {base for base in bases if base not in text} == set()
