"""The text form of a plan: one page of sections that reads from sources to sinks.

Called by `explain`. Takes a plan whose secrets are masked already; decides nothing about the plan.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

from litejoin.plan.estimate import request_budget
from litejoin.plan.layout import aligned, section, table, wrapped
from litejoin.plan.nodes import (
    Address,
    ApiSourcePlan,
    HttpSinkPlan,
    HttpSourcePlan,
    JoinPlan,
    KafkaSinkPlan,
    OtherSinkPlan,
    Place,
    Plan,
    ReferencePlan,
    SinkPlan,
    SourcePlan,
    SqliteSinkPlan,
    SseSinkPlan,
    TopicPlan,
    WindowPlan,
)
from litejoin.plan.steps import steps_text
from litejoin.plan.units import count_text, duration_text, megabytes_text, rate_text

TOPIC_COLUMNS = "key, payload, timestamp, timestamp_ms, op, changes"


def plan_text(plan: Plan, findings: Sequence[str]) -> str:
    """The whole page; `findings` are the warnings, one text each."""
    topic_rows = [_topic(topic) for topic in plan.topics]
    shards = count_text(plan.storage.shard_count, "shard")
    lines = [
        *wrapped(
            f"{plan.name}   config {plan.config_hash}   {shards} in {_path(plan.storage.data_dir)}"
            f"   {plan.delivery.guarantee}, synchronous {plan.storage.synchronous}"
        ),
        *section("Sources", _sources(plan.sources)),
        *section(f"Topics   ({TOPIC_COLUMNS}; {shards} each)", table(topic_rows)),
        *section("Joins", _joins(plan)),
        *section("Windows", table([_window(window) for window in plan.windows])),
        *section("Sinks", table([_sink(sink) for sink in plan.sinks])),
        *section("Not supported yet (run refuses)", _unsupported(plan)),
        *section("Estimate", _estimate(plan)),
        *section("Warnings", (line for text in findings for line in wrapped(f"  {text}", 4))),
    ]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _sources(sources: Sequence[SourcePlan]) -> Iterable[str]:
    rows = []
    for source in sources:
        topics = (source.topic,) if isinstance(source, ApiSourcePlan) else source.topics
        fed = ", ".join(topics) or "any topic"
        rows.append((source.name, source.type, fed, _source(source)))
    for source, lines in zip(sources, aligned(rows), strict=True):
        yield from lines
        if isinstance(source, ApiSourcePlan):
            yield from wrapped(f"    {source.method} {source.shown_url}", 6)


def _source(source: SourcePlan) -> str:
    if isinstance(source, ApiSourcePlan):
        return f"every {duration_text(source.interval_ms)}, {_pages(source)}  ->  {_budget(source)}"
    if isinstance(source, HttpSourcePlan):
        return f"POST {_http(source.addr, '/ingest')}"
    return f"{source.brokers}, group {source.group_id}"


def _pages(source: ApiSourcePlan) -> str:
    if source.min_pages == source.max_pages:
        pages = count_text(source.min_pages, "page")
    else:
        pages = f"{source.min_pages:,} to {count_text(source.max_pages, 'page')}"
    return pages if source.pagination == "none" else f"{pages} ({source.pagination})"


def _budget(source: ApiSourcePlan) -> str:
    budget = request_budget(source)
    rate = rate_text(budget.least)
    if budget.most != budget.least:
        rate += f" to {rate_text(budget.most)}"
    text = f"{rate} {'request' if rate == '1' else 'requests'}/min"
    if budget.allowed is not None and budget.share is not None:
        text += f" of {rate_text(budget.allowed)} allowed ({budget.share:.0%})"
    return text.replace("%)", " %)")


def _topic(topic: TopicPlan) -> tuple[str, str, str]:
    kept = "kept for good" if topic.retention_ms is None else (
        f"retention {duration_text(topic.retention_ms)}"
    )  # fmt: skip
    indexes = []
    for index in topic.indexes:
        indexes.append(f"{index.column} key map on {index.path} ({', '.join(index.used_by)})")
    return topic.name, kept, "; ".join(indexes) or "no key map needed"


def _joins(plan: Plan) -> Iterable[str]:
    heads = aligned(
        [
            (j.name, f"key {j.key_column}", j.strategy, f"-> {', '.join(j.sinks)}")
            for j in plan.joins
        ]
    )
    for join, head in zip(plan.joins, heads, strict=True):
        yield from head
        yield from _references(join)
        for reason in join.reasons:
            where = f" ({_where(plan.file, reason.place)})" if reason.place else ""
            lost = "not incremental" if join.strategy == "full" else "not native"
            yield from wrapped(f"    {lost}: {reason.message}{where}", 6)


def _references(join: JoinPlan) -> Iterable[str]:
    names = [_reference_name(reference) for reference in join.references]
    width = max(map(len, names), default=0)
    for name, reference in zip(names, join.references, strict=True):
        yield from wrapped(
            f"    {name:<{width}}   {reference.strategy:<6}   {reference.through}", 6
        )
        if reference.query_plan:
            yield from wrapped(f"      affected keys: {steps_text(reference.query_plan)}", 8)
    if join.refresh_plan:
        what = "every result" if join.strategy == "full" else "results of affected keys"
        yield from wrapped(f"    {what}: {steps_text(join.refresh_plan)}", 6)


def _reference_name(reference: ReferencePlan) -> str:
    if reference.alias in ("", reference.topic):
        return reference.topic
    return f"{reference.topic} {reference.alias}"


def _window(window: WindowPlan) -> tuple[str, str, str, str]:
    parts = []
    for word, ms in (("size", window.size_ms), ("slide", window.slide_ms), ("gap", window.gap_ms)):
        if ms is not None:
            parts.append(f"{word} {duration_text(ms)}")
    parts.append(f"lateness {duration_text(window.allowed_lateness_ms)}")
    if window.buffer_bound_ms is None:
        parts.append("messages held while the session lasts")
    else:
        parts.append(f"messages held up to {duration_text(window.buffer_bound_ms)}")
    text = f"{', '.join(parts)}  -> {', '.join(window.sinks)}"
    return window.name, window.type, window.topic, text


def _sink(sink: SinkPlan) -> tuple[str, str, str, str]:
    if isinstance(sink, HttpSinkPlan):
        pace = f"{sink.max_in_flight} in flight"
        if sink.max_batch:
            pace = f"arrays of up to {sink.max_batch}"
        guarantee = f"{sink.guarantee}, {pace}{', signed' if sink.secrets else ''}"
    else:
        guarantee = sink.guarantee
    return sink.name, sink.type, guarantee, destination(sink)


def destination(sink: SinkPlan) -> str:
    """Where a sink's results go, as one text."""
    if isinstance(sink, HttpSinkPlan):
        return f"{sink.method} {sink.shown_url}"
    if isinstance(sink, SseSinkPlan):
        return _http(sink.addr, "/subscribe")
    if isinstance(sink, SqliteSinkPlan):
        return f"{_path(sink.path)}, {'table ' + sink.table if sink.table else 'a table per join'}"
    if isinstance(sink, KafkaSinkPlan):
        return f"{sink.brokers}, topic {sink.topic}"
    if isinstance(sink, OtherSinkPlan):
        return ", ".join(f"{name} {value}" for name, value in sink.config.items()) or "-"
    return "standard output"


def _unsupported(plan: Plan) -> Iterable[str]:
    places: dict[str, list[str]] = {}
    for item in plan.unsupported:
        places.setdefault(item.feature, []).append(f"{item.place.line}:{item.place.column}")
    return table([(name, f"{plan.file}:{', '.join(where)}") for name, where in places.items()])


def _estimate(plan: Plan) -> Iterable[str]:
    estimates = plan.estimates
    formulas = dict(part.split(" = ", 1) for part in estimates.formula.split("; "))
    rows = [
        ("memory", megabytes_text(estimates.memory_mb), formulas.get("memory", "")),
        ("disk", megabytes_text(estimates.disk_mb), formulas.get("disk", "")),
    ]
    return table(rows)


def _http(address: Address, path: str) -> str:
    host = address.host or "0.0.0.0"
    shown = Address(host, address.port)
    return f"http://{shown}{path}"


def _path(path: Path) -> str:
    return str(path) if path.is_absolute() else f"./{path}"


def _where(file: str, place: Place) -> str:
    return f"{file}:{place.line}:{place.column}"
