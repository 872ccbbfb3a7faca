"""The metrics in Prometheus' text format, by its client library. Loaded with the first scrape."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from gateway.signals.numbers import Counter, Gauge, Histogram, Metric

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4


class Exposition:
    """Call it for the text of the metrics and of the process: memory, CPU time, open files."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_Collector(tuple(metrics)))
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)

    def __call__(self) -> bytes:
        return generate_latest(self._registry)


class _Collector(Collector):
    def __init__(self, metrics: tuple[Metric, ...]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Family]:
        for metric in self._metrics:
            yield _family(metric)


def _family(metric: Metric) -> Family:
    match metric:
        case Counter(name, help, labels, values):
            counter = CounterMetricFamily(name, help, labels=labels)
            for given, value in values.items():
                counter.add_metric(given, value)
            return counter
        case Gauge(name, help, labels, values):
            gauge = GaugeMetricFamily(name, help, labels=labels)
            for given, value in values.items():
                gauge.add_metric(given, value)
            return gauge
        case Histogram(name, help, labels, bounds, distributions):
            histogram = HistogramMetricFamily(name, help, labels=labels)
            names = [*(f"{bound:g}" for bound in bounds), "+Inf"]
            for given, found in distributions.items():
                histogram.add_metric(given, list(zip(names, accumulate(found.counts), strict=True)), found.sum)
            return histogram
