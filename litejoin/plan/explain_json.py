"""The JSON form of a plan. Its names are stable: scripts read them.

Called by `explain`. Takes a plan whose secrets are masked already; decides nothing about the plan.
`schemas/plan.schema.json` describes the form; a test holds each against the other.
"""

from collections.abc import Mapping, Sequence

from litejoin.plan.explain_joins import accumulators, fires_per_minute, overlapping, scans_of
from litejoin.plan.explain_storage import archive_tree, replication_tree
from litejoin.plan.explain_text import TOPIC_COLUMNS, consumed, destination, topics_of
from litejoin.plan.nodes import (
    ApiSourcePlan,
    DeliveryPlan,
    Estimates,
    IndexPlan,
    JoinPlan,
    KafkaSourcePlan,
    Place,
    Plan,
    Reason,
    ReferencePlan,
    SourcePlan,
    StoragePlan,
    TopicPlan,
    WindowPlan,
)
from litejoin.plan.requests import Budget, budget_name, budgets, requests_of
from litejoin.plan.units import duration_text

Tree = dict[str, object]

RATE_DIGITS = 4
"""Decimals of requests per minute: 0.0001 is one request in a week."""


def plan_tree(plan: Plan, warnings: Sequence[Mapping[str, object]]) -> Tree:
    """The plan as plain values; `warnings` are findings in the form `validate` prints them."""
    return {
        "name": plan.name,
        "config_hash": plan.config_hash,
        "storage": _storage(plan.storage),
        "delivery": _delivery(plan.delivery),
        "sources": [_source(source) for source in plan.sources],
        "budgets": [_budget(budget) for budget in budgets(plan.sources)],
        "topics": [_topic(topic) for topic in plan.topics],
        "joins": [_join(join) for join in plan.joins],
        "windows": [_window(window) for window in plan.windows],
        "sinks": [
            {"name": s.name, "type": s.type, "guarantee": s.guarantee, "to": destination(s)}
            for s in plan.sinks
        ],
        "estimates": _estimates(plan.estimates),
        "archive": archive_tree(plan.storage.archive),
        "replication": replication_tree(plan.replication),
        "unsupported": [{"feature": u.feature, **_place(u.place)} for u in plan.unsupported],
        "warnings": [dict(warning) for warning in warnings],
    }


def _storage(storage: StoragePlan) -> Tree:
    return {
        "data_dir": str(storage.data_dir),
        "shards": storage.shard_count,
        "synchronous": storage.synchronous,
    }


def _delivery(delivery: DeliveryPlan) -> Tree:
    dlq = delivery.dlq
    return {
        "guarantee": delivery.guarantee,
        "dlq": {
            "path": str(dlq.path),
            "retry_interval_ms": dlq.retry_interval_ms,
            "max_retries": dlq.max_retries,
            "ttl_ms": dlq.ttl_ms,
            "max_size_mb": dlq.max_size_bytes >> 20,
        },
    }


def _source(source: SourcePlan) -> Tree:
    if isinstance(source, ApiSourcePlan):
        return _api_source(source)
    if isinstance(source, KafkaSourcePlan):
        reads = consumed(source)
    else:
        reads = str(source.addr)
    return {
        "name": source.name,
        "type": source.type,
        "topics": list(topics_of(source)),
        "reads": reads,
        "requests_per_minute": None,
        "pagination": None,
    }


def _api_source(source: ApiSourcePlan) -> Tree:
    asked = requests_of(source)
    return {
        "name": source.name,
        "type": source.type,
        "topics": [source.topic],
        "reads": f"{source.method} {source.shown_url}",
        "requests_per_minute": round(asked.least, RATE_DIGITS),
        "pagination": {
            "type": source.pagination,
            "min_pages": source.min_pages,
            "max_pages": source.max_pages,
        },
        "auth": None if source.auth is None else source.auth.kind,
        "watermark": source.watermark.strategy,
        "change_detection": source.change_detection,
        "detect_deletes": source.detect_deletes,
        "interval_ms": source.interval_ms,
        "most_requests_per_minute": round(asked.most, RATE_DIGITS),
        "allowed_per_minute": asked.allowed,
        "per_record_of": asked.per_record_of,
        "budget": budget_name(source),
    }


def _budget(budget: Budget) -> Tree:
    return {
        "name": budget.name,
        "sources": list(budget.sources),
        "requests_per_minute": round(budget.least, RATE_DIGITS),
        "most_requests_per_minute": (
            None if budget.most is None else round(budget.most, RATE_DIGITS)
        ),
        "allowed_per_minute": budget.allowed,
        "per_record_of": list(budget.per_record_of),
    }


def _topic(topic: TopicPlan) -> Tree:
    return {
        "name": topic.name,
        "shards": topic.shards,
        "columns": list(TOPIC_COLUMNS),
        "indexes": [_index(index) for index in topic.indexes],
        "retention": None if topic.retention_ms is None else duration_text(topic.retention_ms),
        "fed_by": list(topic.fed_by),
    }


def _index(index: IndexPlan) -> Tree:
    return {
        "path": index.path,
        "used_by": list(index.used_by),
        "column": index.column,
        "expression": index.expression,
    }


def _join(join: JoinPlan) -> Tree:
    return {
        "name": join.name,
        "key": join.key_column,
        "columns": list(join.columns),
        "strategy": join.strategy,
        "reasons": [_reason(reason) for reason in join.reasons],
        "references": [_reference(reference) for reference in join.references],
        "sql": join.refresh_sql,
        "sql_of_null_key": join.refresh_null_sql,
        "query_plan": list(join.refresh_plan),
        "scans": scans_of(join),
        "emit": join.emit,
        "on_delete": join.on_delete,
        "emit_expired": join.emit_expired,
        "on_change": join.on_change,
        "accumulators": accumulators(join),
        "sinks": list(join.sinks),
    }


def _reason(reason: Reason) -> Tree:
    return {
        "message": reason.message,
        **_place(reason.place),
        "rewrite": reason.rewrite or None,
    }


def _reference(reference: ReferencePlan) -> Tree:
    return {
        "topic": reference.topic,
        "alias": reference.alias,
        "strategy": reference.strategy,
        "through": reference.through,
        "index": reference.index,
        "sql": reference.affected_sql,
        "query_plan": list(reference.query_plan),
    }


def _window(window: WindowPlan) -> Tree:
    rate = fires_per_minute(window)
    return {
        "name": window.name,
        "type": window.type,
        "topic": window.topic,
        "size_ms": window.size_ms,
        "slide_ms": window.slide_ms,
        "gap_ms": window.gap_ms,
        "lateness_ms": window.allowed_lateness_ms,
        "buffer_bound_ms": window.buffer_bound_ms,
        "time_path": window.time_path,
        "partition_by": window.partition_by,
        "on_late": window.on_late,
        "emit": window.emit,
        "fires_per_minute": None if rate is None else round(rate, RATE_DIGITS),
        "windows_per_message": overlapping(window),
        "pane_ms": window.pane_ms if window.uses_panes else None,
        "no_panes": None if window.no_panes is None else _reason(window.no_panes),
        "read_by": list(window.read_by),
        "indexes": [_index(index) for index in window.indexes],
        "sinks": list(window.sinks),
    }


def _estimates(estimates: Estimates) -> Tree:
    return {
        "memory_mb": estimates.memory_mb,
        "disk_mb": estimates.disk_mb,
        "parts": [
            {"of": part.of, "what": part.what, "mb": part.megabytes, "formula": part.formula}
            for part in estimates.parts
        ],
        "assumptions": list(estimates.assumptions),
    }


def _place(place: Place | None) -> Tree:
    return {
        "line": place.line if place else None,
        "column": place.column if place else None,
    }
