"""The page of the metrics, the dashboard and the alert rules, held to the code."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from gateway.signals.exposition import Exposition
from gateway.signals.metrics import Metrics
from gateway.signals.numbers import Counter, Gauge, Histogram
from tests.config.test_docs import page

NAMES = {f"{metric.name}_total" if isinstance(metric, Counter) else metric.name: metric for metric in Metrics().all}


def test_every_metric_is_in_the_table_with_its_type_and_labels() -> None:
    rows = re.findall(r"^\| `(interject_\w+)` \| (\w+) \| (.*?) \| .+ \|$", page("metrics"), re.MULTILINE)
    assert {name: (kind, re.findall(r"`(\w+)`", labels)) for name, kind, labels in rows} == {
        name: (type(metric).__name__.lower(), list(metric.labels)) for name, metric in NAMES.items()
    }


def test_every_label_is_explained() -> None:
    text = page("metrics")
    explained = set(re.findall(r"^\| `(\w+)`(?: of [\w ]+)? \| ", text, re.MULTILINE))
    named = set(re.findall(r"`(\w+)`", text.partition("Labels are bounded.")[2].partition("\n\n")[0]))
    assert {label for metric in NAMES.values() for label in metric.labels} - {"point", "version"} <= explained | named


DEPLOY = Path(__file__).parents[2] / "deploy"
PARTS = ("_bucket", "_sum", "_count")


def metrics_in(text: str) -> set[str]:
    """The metrics of ours that an expression names."""
    names = set(re.findall(r"interject_\w+", text))
    return {
        next((name.removesuffix(part) for part in PARTS if name.removesuffix(part) in NAMES), name) for name in names
    }


def expressions() -> list[str]:
    """Those of the dashboard, with Grafana's variables filled in."""
    dashboard = json.loads((DEPLOY / "grafana" / "interject.json").read_text())
    found = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
    return [each.replace("$__rate_interval", "5m").replace("$instance", ".*") for each in found]


def promtool(*arguments: str | Path, text: str = "") -> str:
    """Its output. Skips where it is not installed (Debian: prometheus); the machines of CI have it."""
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("promtool is not installed: apt-get install prometheus")
    ended = subprocess.run([program, *arguments], input=text, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout + ended.stderr


def test_dashboard_and_alerts_ask_for_metrics_that_there_are() -> None:
    asked = metrics_in(" ".join(expressions()))
    assert asked <= set(NAMES)
    # Nobody has to find by accident that something is counted.
    assert set(NAMES) - asked == {"interject_store_up", "interject_approval_wait_seconds"}
    assert metrics_in((DEPLOY / "prometheus" / "alerts.yml").read_text()) <= set(NAMES)


def test_the_rules_and_the_example_of_a_configuration_are_valid() -> None:
    promtool("check", "config", "--syntax-only", DEPLOY / "prometheus" / "prometheus.yml")
    assert "17 rules found" in promtool("check", "rules", DEPLOY / "prometheus" / "alerts.yml")


def test_alerts_are_raised_when_they_should_be() -> None:
    promtool("test", "rules", Path(__file__).with_name("alerts_test.yml"))


def test_every_expression_of_the_dashboard_is_valid(tmp_path: Path) -> None:
    rules = [{"record": f"panel:{number}", "expr": each} for number, each in enumerate(expressions())]
    file = tmp_path / "rules.yml"
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    promtool("check", "rules", file)


def test_metrics_have_names_as_prometheus_wants_them() -> None:
    metrics = Metrics()
    for metric in metrics.all:
        labels = tuple("x" for _ in metric.labels)
        match metric:
            case Counter():
                metric.add(*labels)
            case Gauge():
                metric.values[labels] = 1.0
            case Histogram():
                metric.observe(0.1, *labels)
    promtool("check", "metrics", text=Exposition(metrics.all)().decode())
