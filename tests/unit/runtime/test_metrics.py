"""The catalogue of metrics: named as Prometheus names things, and read out of nested figures."""

import re
from collections.abc import Callable, Iterable

import pytest
from prometheus_client.core import Metric as Family
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from litejoin.runtime.metrics.catalogue import CATALOGUE, Metric, counter, gauge, seconds
from litejoin.runtime.metrics.exposition import exposition
from litejoin.runtime.metrics.figures import Figures, samples
from litejoin.runtime.metrics.process import ProcessFigures, build_figures


@pytest.mark.parametrize("metric", CATALOGUE, ids=lambda metric: metric.name)
def test_a_metric_is_named_as_usual_and_has_a_label_for_each_star(metric: Metric) -> None:
    assert re.fullmatch(r"(litejoin|process)(_[a-z]+)+", metric.name)
    assert metric.name.endswith("_total") == (metric.kind == "counter")
    assert metric.help.endswith(".")
    assert metric.place.split(".").count("*") == len(metric.labels)


def test_no_name_is_used_twice() -> None:
    names = [metric.name for metric in CATALOGUE]
    assert len(set(names)) == len(names)


def test_stars_become_labels_and_what_is_not_there_is_not_shown() -> None:
    tree = {"sources": {"a": {"rejected": {"LJ-ROW": 2, "LJ-HTTP": 3}}, "b": {}}, "status": "ok"}
    rejected = counter("x", "X.", "sources.*.rejected.*", "source", "reason")
    assert list(samples(rejected, tree)) == [(("a", "LJ-ROW"), 2.0), (("a", "LJ-HTTP"), 3.0)]
    assert list(samples(counter("x", "X.", "status.*.y", "z"), tree)) == []
    assert list(samples(gauge("x", "X.", "status"), tree)) == []  # a text is no number
    assert list(samples(gauge("x", "X.", "at", read=seconds), {"at": None})) == []
    since_1970 = {"at": "1970-01-02T00:00:00.500Z"}
    assert list(samples(gauge("x", "X.", "at", read=seconds), since_1970)) == [((), 86_400.5)]


def test_a_part_has_one_name() -> None:
    figures = Figures(lambda: {"status": "ok"})
    figures.add("part", lambda: {"n": 1})
    with pytest.raises(ValueError, match="part"):
        figures.add("part", dict)
    assert figures.gather() == {"status": "ok", "part": {"n": 1}}


@pytest.mark.parametrize(
    ("accept", "parse"),
    [
        ("", text_string_to_metric_families),
        ("text/plain", text_string_to_metric_families),
        ("application/openmetrics-text", openmetrics),
    ],
)
def test_every_sample_has_help_and_type_and_labels_are_escaped(
    accept: str, parse: Callable[[str], Iterable[Family]]
) -> None:
    name = 'a"b\\c\nd'
    tree = {"status": "ok", "sources": {name: {"polls": 3}}, "build": build_figures()}
    text, content_type = exposition(tree, accept)
    assert content_type.startswith(accept or "text/plain")
    families = {f.name: f for f in parse(text.decode())}
    polls = families["litejoin_source_polls"]
    assert (polls.type, polls.documentation) == ("counter", "Polls begun by an api source.")
    assert [(s.labels, s.value) for s in polls.samples] == [({"source": name}, 3.0)]
    assert set(families) == {"litejoin_up", "litejoin_source_polls", "litejoin_build_info"}


def test_the_process_is_measured() -> None:
    figures = ProcessFigures()()
    assert figures["resident_bytes"] > 1e6
    assert figures["virtual_bytes"] > figures["resident_bytes"]
    assert 1.6e9 < figures["started_s"]
    assert figures["max_fds"] > figures["open_fds"] > 2
    assert figures["cpu_s"] > 0
