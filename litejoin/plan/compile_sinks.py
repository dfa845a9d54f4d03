"""Sinks of the document -> sink plans.

Called by `compile`. A new kind of sink: a node in `nodes`, a function here, a line in `COMPILERS`.
"""

from collections.abc import Callable
from typing import Literal

from litejoin.plan.compile_sources import headers_of, url_as_written
from litejoin.plan.nodes import (
    HttpSinkPlan,
    KafkaSinkPlan,
    OtherSinkPlan,
    SinkPlan,
    SqliteSinkPlan,
    SseSinkPlan,
    StdoutSinkPlan,
)
from litejoin.plan.section import Section

Guarantee = Literal["best_effort", "at_least_once"]


def compile_sink(sink: Section, guarantee: Guarantee) -> SinkPlan:
    """The plan of one sink."""
    return COMPILERS.get(sink.text("type"), _other)(sink, guarantee)


def _http(sink: Section, guarantee: Guarantee) -> SinkPlan:
    config = sink.section("config")
    return HttpSinkPlan(
        name=sink.text("name"),
        guarantee=guarantee,
        url=config.text("url"),
        method=config.value["method"],
        timeout_ms=config.duration_ms("timeout"),
        headers=headers_of(config),
        max_in_flight=config.integer("max_in_flight"),
        shown_url=url_as_written(config, "url"),
    )


def _sse(sink: Section, guarantee: Guarantee) -> SinkPlan:
    return SseSinkPlan(sink.text("name"), guarantee, sink.section("config").address("addr"))


def _sqlite(sink: Section, guarantee: Guarantee) -> SinkPlan:
    config = sink.section("config")
    return SqliteSinkPlan(
        sink.text("name"), guarantee, config.path("path"), config.maybe_text("table")
    )


def _stdout(sink: Section, guarantee: Guarantee) -> SinkPlan:
    return StdoutSinkPlan(sink.text("name"), guarantee)


def _kafka(sink: Section, guarantee: Guarantee) -> SinkPlan:
    config = sink.section("config")
    return KafkaSinkPlan(sink.text("name"), guarantee, config.text("brokers"), config.text("topic"))


def _other(sink: Section, guarantee: Guarantee) -> SinkPlan:
    config = sink.section("config").value
    return OtherSinkPlan(sink.text("name"), guarantee, sink.text("type"), config)


COMPILERS: dict[str, Callable[[Section, Guarantee], SinkPlan]] = {
    "http": _http,
    "sse": _sse,
    "sqlite": _sqlite,
    "stdout": _stdout,
    "kafka": _kafka,
}
"""By the `type` of a sink; every other kind of the language is carried along unstarted."""
