"""From figures to text: the catalogue read by prometheus_client's encoders.

Imported by `app` at the first scrape and by nobody else: the library takes tens of milliseconds.
Every scrape has a registry of its own; the library's global one is never touched.
"""

from collections.abc import Iterator, Mapping

from prometheus_client.core import (
    CollectorRegistry,
    CounterMetricFamily,
    GaugeMetricFamily,
)
from prometheus_client.core import Metric as Family
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from litejoin.runtime.metrics.catalogue import CATALOGUE, Metric
from litejoin.runtime.metrics.figures import samples


class _Catalogue(Collector):
    def __init__(self, tree: Mapping[str, object]) -> None:
        self._tree = tree

    def collect(self) -> Iterator[Family]:
        for metric in CATALOGUE:
            family = _family(metric)
            for labels, value in samples(metric, self._tree):
                family.add_metric(labels, value)
            if family.samples:
                yield family


def _family(metric: Metric) -> CounterMetricFamily | GaugeMetricFamily:
    kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    return kind(metric.name, metric.help, labels=metric.labels)


def exposition(tree: Mapping[str, object], accept: str) -> tuple[bytes, str]:
    """The text for what a client accepts, and its content type."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Catalogue(tree))
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type
