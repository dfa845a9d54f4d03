"""The text form of a plan: one page of sections that reads from sources to sinks.

Called by `explain`. Takes a plan whose secrets are masked already; decides nothing about the plan.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

from litejoin.plan.explain_joins import join_lines, window_lines
from litejoin.plan.explain_storage import archive_lines, replication_lines
from litejoin.plan.layout import aligned, section, table, wrapped
from litejoin.plan.nodes import (
    Address,
    ApiSourcePlan,
    CustomSinkPlan,
    Estimates,
    FileSinkPlan,
    HttpSinkPlan,
    HttpSourcePlan,
    KafkaSinkPlan,
    KafkaSourcePlan,
    Plan,
    PostgresSinkPlan,
    SinkPlan,
    SourcePlan,
    SqliteSinkPlan,
    SseSinkPlan,
    TopicPlan,
)
from litejoin.plan.requests import Budget, Requests, budgets, requests_of
from litejoin.plan.units import count_text, duration_text, megabytes_text, rate_text

TOPIC_COLUMNS = ("key", "payload", "timestamp", "timestamp_ms", "op", "changes")
"""What a query can name of a topic."""


def plan_text(plan: Plan, findings: Sequence[str], *, with_sql: bool = False) -> str:
    """The whole page; `findings` are the warnings, one text each."""
    shards = count_text(plan.storage.shard_count, "shard")
    lines = [
        *wrapped(
            f"{plan.name}   config {plan.config_hash}   {shards} in {_path(plan.storage.data_dir)}"
            f"   {plan.delivery.guarantee}, synchronous {plan.storage.synchronous}"
        ),
        *section("Sources", _sources(plan.sources)),
        *section(
            f"Topics   ({', '.join(TOPIC_COLUMNS)}; {shards} each)",
            (line for topic in _topic_lines(plan.topics) for line in topic),
        ),
        *section("Joins", join_lines(plan.joins, plan.file, with_sql)),
        *section("Windows", window_lines(plan.windows, plan.file)),
        *section("Sinks", table([_sink(sink) for sink in plan.sinks])),
        *section("Archive", archive_lines(plan)),
        *section("Replication", replication_lines(plan.replication)),
        *section("Not supported yet (run refuses)", _unsupported(plan)),
        *section("Estimate", _estimate(plan.estimates)),
        *section("Warnings", (line for text in findings for line in wrapped(f"  {text}", 4))),
    ]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _sources(sources: Sequence[SourcePlan]) -> Iterable[str]:
    rows = []
    for source in sources:
        fed = ", ".join(topics_of(source)) or "any topic"
        rows.append((source.name, source.type, fed, _source(source)))
    for source, lines in zip(sources, aligned(rows), strict=True):
        yield from lines
        if isinstance(source, ApiSourcePlan):
            yield from wrapped(f"    {source.method} {source.shown_url}", 6)
            yield from wrapped(f"    {'; '.join(manners(source))}", 6)
    for budget in budgets(sources):
        if len(budget.sources) > 1:
            yield from wrapped(f"  {_shared(budget)}", 4)


def manners(source: ApiSourcePlan) -> Iterable[str]:
    """How a source signs in, asks for what is new and takes what is gone; no credentials."""
    if source.auth is not None:
        yield f"auth {source.auth.kind}"
    watermark = source.watermark
    if watermark.strategy != "none":
        yield f"watermark {' '.join(filter(None, (watermark.strategy, watermark.path)))}"
    yield f"compared by {'field' if source.change_detection == 'diff' else 'hash'}"
    yield "deletes what is gone" if source.detect_deletes else "keeps what is gone"


def _source(source: SourcePlan) -> str:
    if isinstance(source, ApiSourcePlan):
        asked = requests_of(source)
        return (
            f"every {duration_text(source.interval_ms)}, {_pages(source)}  ->  {_requests(asked)}"
        )
    if isinstance(source, HttpSourcePlan):
        return f"POST {_http(source.addr, '/ingest')}{_webhook(source)}"
    return consumed(source)


def topics_of(source: SourcePlan) -> tuple[str, ...]:
    """The topics that a source feeds, each once: several Kafka topics may become one."""
    if isinstance(source, ApiSourcePlan):
        return (source.topic,)
    return tuple(dict.fromkeys(source.topics))


def consumed(source: KafkaSourcePlan) -> str:
    """What a Kafka source reads as whom, with the names that are others there."""
    text = f"{source.brokers}, group {source.group_id}"
    pairs = zip(source.kafka_topics, source.topics, strict=True)
    renamed = [f"{there} -> {here}" for there, here in pairs if there != here]
    return f"{text}; {', '.join(renamed)}" if renamed else text


def _webhook(source: HttpSourcePlan) -> str:
    """What is posted where, when it is not rows at /ingest."""
    if source.webhook is None:
        return ""
    topic = source.topics[0] if len(source.topics) == 1 else "{topic}"
    signed = ", signed" if source.webhook.secrets else ""
    return f"/{topic}, any JSON, key {' + '.join(source.webhook.key_path)}{signed}"


def _pages(source: ApiSourcePlan) -> str:
    if source.min_pages == source.max_pages:
        pages = count_text(source.min_pages, "page")
    else:
        pages = f"{source.min_pages:,} to {count_text(source.max_pages, 'page')}"
    return pages if source.pagination == "none" else f"{pages} ({source.pagination})"


def _requests(asked: Requests) -> str:
    rate = _rate(asked.least, asked.most)
    if asked.per_record_of:
        limit = f", {rate_text(asked.allowed)} allowed" if asked.allowed else ""
        return f"{rate} for each record of {asked.per_record_of}{limit}"
    return rate + _share(asked.share, asked.allowed)


def _shared(budget: Budget) -> str:
    """The line of a budget that several sources draw on."""
    rate = _rate(budget.least, budget.least if budget.most is None else budget.most)
    text = f"{rate}{_share(budget.share, budget.allowed)}"
    if budget.most is None:
        text += f" or more: one record of {', '.join(budget.per_record_of)} is counted"
    return f"{budget.name}, {count_text(len(budget.sources), 'source')}  ->  {text}"


def _rate(least: float, most: float) -> str:
    rate = rate_text(least)
    if most != least:
        rate += f" to {rate_text(most)}"
    return f"{rate} {'request' if rate == '1' else 'requests'}/min"


def _share(share: float | None, allowed: float | None) -> str:
    if share is None or allowed is None:
        return ""
    return f" of {rate_text(allowed)} allowed ({share * 100:.0f} %)"


def _topic_lines(topics: Sequence[TopicPlan]) -> Iterable[list[str]]:
    """The lines of each topic: what is kept for how long, and its key maps, one a line."""
    rows = []
    for topic in topics:
        maps = [f"{i.column} key map on {i.path} ({', '.join(i.used_by)})" for i in topic.indexes]
        kept = topic.retention_ms
        kept_text = "kept for good" if kept is None else f"retention {duration_text(kept)}"
        rows.append((topic.name, kept_text, (maps or ["no key map needed"])[0]))
        rows += [("", "", more) for more in maps[1:]]
    return aligned(rows)


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
    if isinstance(sink, FileSinkPlan):
        return _path(sink.path)
    if isinstance(sink, PostgresSinkPlan):
        return f"PostgreSQL, {'table ' + sink.table if sink.table else 'a table per join'}"
    if isinstance(sink, CustomSinkPlan):
        return f"{sink.uses} of an installed package"
    return "standard output"


def _unsupported(plan: Plan) -> Iterable[str]:
    places: dict[str, list[str]] = {}
    for item in plan.unsupported:
        places.setdefault(item.feature, []).append(f"{item.place.line}:{item.place.column}")
    return table([(name, f"{plan.file}:{', '.join(where)}") for name, where in places.items()])


def _estimate(estimates: Estimates) -> Iterable[str]:
    sums = {"memory": estimates.memory_mb, "disk": estimates.disk_mb}
    rows = []
    for of, megabytes in sums.items():
        rows.append((of, megabytes_text(megabytes), ""))
        for part in estimates.parts:
            if part.of == of:
                rows.append((f"  {part.what}", megabytes_text(part.megabytes), part.formula))
    width = max(len(size) for _, size, _ in rows)
    yield from table([(what, f"{size:>{width}}", formula) for what, size, formula in rows])
    yield from wrapped(f"  assumed: {'; '.join(estimates.assumptions)}", 11)


def _http(address: Address, path: str) -> str:
    host = address.host or "0.0.0.0"
    shown = Address(host, address.port)
    return f"http://{shown}{path}"


def _path(path: Path) -> str:
    return str(path) if path.is_absolute() else f"./{path}"
