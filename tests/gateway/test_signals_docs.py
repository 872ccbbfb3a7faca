"""The page of the metrics, the dashboard and the alert rules, held to the code."""

from __future__ import annotations

import re

from gateway.signals.metrics import Metrics
from gateway.signals.numbers import Counter
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
