"""Sinks of the document -> sink plans.

Called by `compile`. A new kind of sink: a node in `nodes`, a function here, a line in `COMPILERS`.
"""

from base64 import b64encode
from collections.abc import Callable
from typing import Literal

from litejoin.plan.compile_sources import (
    headers_of,
    kafka_options,
    kafka_security,
    url_as_written,
)
from litejoin.plan.nodes import (
    ClientTls,
    CustomSinkPlan,
    FileSinkPlan,
    HttpSinkPlan,
    KafkaSinkPlan,
    PostgresSinkPlan,
    ResponseClasses,
    Secret,
    SinkPlan,
    SqliteSinkPlan,
    SseSinkPlan,
    StdoutSinkPlan,
)
from litejoin.plan.section import Section

Guarantee = Literal["best_effort", "at_least_once"]


def compile_sink(sink: Section, guarantee: Guarantee) -> SinkPlan:
    """The plan of one sink; `guarantee` is that of sinks that name none."""
    return COMPILERS[sink.text("type")](sink, sink.value.get("guarantee", guarantee))


def _http(sink: Section, guarantee: Guarantee) -> SinkPlan:
    config = sink.section("config")
    return HttpSinkPlan(
        name=sink.text("name"),
        guarantee=guarantee,
        url=config.text("url"),
        method=config.value["method"],
        timeout_ms=config.duration_ms("timeout"),
        headers=_with_auth(headers_of(config), config.section("auth")),
        max_in_flight=config.integer("max_in_flight"),
        shown_url=url_as_written(config, "url"),
        query=_auth_query(config.section("auth")),
        secrets=tuple(Secret(secret) for secret in config.texts("secret")),
        responses=_responses(config.section("responses")),
        max_batch=config.section("batch").value.get("max_results", 0),
        tls=_tls(config.section("tls")),
    )


def _with_auth(headers: dict[str, Secret], auth: Section) -> dict[str, Secret]:
    """The headers with the credentials; a cookie of theirs goes beside those that are there."""
    own = _auth_headers(auth)
    cookie = next((name for name in headers if name.lower() == "cookie"), None)
    if cookie is not None and "Cookie" in own:
        return headers | {cookie: Secret(f"{headers[cookie]}; {own['Cookie']}")}
    return headers | own


def _auth_headers(auth: Section) -> dict[str, Secret]:
    kind, name, value = auth.text("type"), auth.text("name"), auth.text("value")
    if kind == "bearer":
        return {"Authorization": Secret(f"Bearer {auth.text('token')}")}
    if kind == "basic":
        pair = f"{auth.text('username')}:{auth.text('password')}"
        return {"Authorization": Secret("Basic " + b64encode(pair.encode()).decode())}
    if kind == "api_key" and auth.text("in") == "header":
        return {name: Secret(value)}
    if kind == "api_key" and auth.text("in") == "cookie":
        return {"Cookie": Secret(f"{name}={value}")}
    return {}


def _auth_query(auth: Section) -> dict[str, Secret]:
    in_query = auth.text("type") == "api_key" and auth.text("in") == "query"
    return {auth.text("name"): Secret(auth.text("value"))} if in_query else {}


def _responses(responses: Section) -> ResponseClasses:
    """The lists, of which a default gives way to what is written in another."""
    names = ("delivered", "retry", "stop", "park")
    lists = {name: tuple(str(status).lower() for status in responses.value[name]) for name in names}
    is_written = {name: responses.document.has(responses.at(name)) for name in names}
    written = {status for name in names if is_written[name] for status in lists[name]}
    return ResponseClasses(
        *(
            tuple(each for each in lists[name] if is_written[name] or each not in written)
            for name in names
        )
    )


def _tls(tls: Section) -> ClientTls:
    return ClientTls(
        tls.maybe_path("ca_file"),
        tls.maybe_path("cert_file"),
        tls.maybe_path("key_file"),
        bool(tls.value.get("verify", True)),
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
    return KafkaSinkPlan(
        name=sink.text("name"),
        guarantee=guarantee,
        brokers=config.text("brokers"),
        topic=config.text("topic"),
        value=config.value["value"],
        timeout_ms=config.duration_ms("timeout"),
        compression=config.value["compression"],
        security=kafka_security(config),
        options=kafka_options(config),
    )


def _file(sink: Section, guarantee: Guarantee) -> SinkPlan:
    config = sink.section("config")
    rotate = config.section("rotate")
    has_bound = "max_size" in rotate.value
    return FileSinkPlan(
        sink.text("name"),
        guarantee,
        config.path("path"),
        rotate.size_bytes("max_size") if has_bound else 0,
        rotate.integer("keep") if has_bound else 0,
    )


def _postgres(sink: Section, guarantee: Guarantee) -> SinkPlan:
    config = sink.section("config")
    return PostgresSinkPlan(
        sink.text("name"), guarantee, Secret(config.text("dsn")), config.maybe_text("table")
    )


def _custom(sink: Section, guarantee: Guarantee) -> SinkPlan:
    config = sink.section("config").value
    return CustomSinkPlan(sink.text("name"), guarantee, sink.text("uses"), config)


COMPILERS: dict[str, Callable[[Section, Guarantee], SinkPlan]] = {
    "http": _http,
    "sse": _sse,
    "sqlite": _sqlite,
    "stdout": _stdout,
    "kafka": _kafka,
    "file": _file,
    "postgres": _postgres,
    "custom": _custom,
}
"""By the `type` of a sink."""
