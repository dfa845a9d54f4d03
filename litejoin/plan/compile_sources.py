"""Sources of the document -> source plans.

Called by `compile`. A new kind of source: a node in `nodes`, a function and a line in `COMPILERS`.
"""

import json
from collections.abc import Callable

from litejoin.plan.nodes import (
    ApiSourcePlan,
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


def _api(source: Section) -> ApiSourcePlan:
    api = source.section("api")
    pagination = api.section("pagination")
    least, most = _pages(pagination)
    return ApiSourcePlan(
        name=source.text("name"),
        topic=source.text("topic"),
        url=api.text("url"),
        method=api.value["method"],
        interval_ms=api.duration_ms("interval"),
        key_path=api.texts("key_path"),
        response_path=api.text("response_path"),
        change_detection=api.value["change_detection"],
        detect_deletes=api.flag("detect_deletes"),
        timeout_ms=api.duration_ms("timeout"),
        initial_snapshot=api.flag("initial_snapshot"),
        headers=headers_of(api),
        body=_body(api),
        max_consecutive_failures=api.integer("max_consecutive_failures"),
        ignore_fields=api.texts("ignore_fields"),
        max_response_bytes=api.size_bytes("max_response_bytes"),
        pagination=pagination.text("type"),
        min_pages=least,
        max_pages=most,
        allowed_per_minute=_allowed_per_minute(api.section("rate_limit")),
        shown_url=url_as_written(api, "url"),
        rate_group=api.section("rate_limit").text("group"),
        fastest_interval_ms=api.section("adaptive").maybe_duration_ms("min_interval"),
        parent_topic=api.section("for_each").maybe_text("topic"),
    )


def _body(api: Section) -> str | None:
    """The request body; a mapping or a list is sent as JSON."""
    body = api.value.get("body")
    if body is None or isinstance(body, str):
        return None if body is None else str(body)
    return json.dumps(body, ensure_ascii=False)


def _pages(pagination: Section) -> tuple[int, int]:
    """The least and the most pages of a poll; at the most a walk is given up as incomplete."""
    value = pagination.value
    if value["type"] == "none":
        return 1, 1
    most = int(value.get("max_pages", 1))
    if "max_page" in value:
        most = min(most, value["max_page"] - value["start"] + 1)
    if "max_offset" in value:
        most = min(most, (value["max_offset"] - value["start"]) // value["limit"] + 1)
    if "max_records" in value and value.get("limit", value.get("size")):
        most = min(most, -(-value["max_records"] // value.get("limit", value.get("size"))))
    return 1, max(1, most)


def _allowed_per_minute(rate_limit: Section) -> float | None:
    """The stricter of the two limits, None without any."""
    limits = []
    if "requests_per_second" in rate_limit.value:
        limits.append(rate_limit.number("requests_per_second") * 60)
    if "requests_per_minute" in rate_limit.value:
        limits.append(rate_limit.number("requests_per_minute"))
    return min(limits, default=None)


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
    "api": _api,
    "http": _http,
    "kafka": _kafka,
}
"""By the `type` of a source."""
