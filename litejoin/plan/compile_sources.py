"""Sources of the document -> source plans.

Called by `compile`. A new kind of source: a node in `nodes`, a function and a line in `COMPILERS`.
"""

from collections.abc import Callable

from litejoin.plan.compile_api import compile_api
from litejoin.plan.nodes import (
    HttpSourcePlan,
    KafkaSourcePlan,
    Secret,
    SourcePlan,
)
from litejoin.plan.redact import shown_url
from litejoin.plan.section import Section


def compile_source(source: Section) -> SourcePlan:
    """The plan of one source."""
    return COMPILERS[source.text("type")](source)


def url_as_written(section: Section, key: str) -> str:
    """A URL that is safe to show: `${VAR}` not expanded, secrets written in clear masked."""
    return shown_url(section.document.shown(section.at(key)) or "")


def headers_of(section: Section) -> dict[str, Secret]:
    """The `headers` of a request, each value secret."""
    return {name: Secret(value) for name, value in section.section("headers").value.items()}


def _http(source: Section) -> HttpSourcePlan:
    return HttpSourcePlan(
        name=source.text("name"),
        topics=source.texts("topics"),
        addr=source.section("config").address("addr"),
    )


def _kafka(source: Section) -> KafkaSourcePlan:
    config = source.section("config")
    renamed = config.section("topic_map").value
    return KafkaSourcePlan(
        name=source.text("name"),
        topics=tuple(str(renamed.get(topic, topic)) for topic in source.texts("topics")),
        brokers=config.text("brokers"),
        group_id=config.text("group_id"),
    )


COMPILERS: dict[str, Callable[[Section], SourcePlan]] = {
    "api": compile_api,
    "http": _http,
    "kafka": _kafka,
}
"""By the `type` of a source."""
