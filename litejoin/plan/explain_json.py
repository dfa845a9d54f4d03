"""The JSON form of a plan. Its names are stable: scripts read them.

Called by `explain`. Takes a plan whose secrets are masked already; decides nothing about the plan.
"""

from collections.abc import Mapping, Sequence

from litejoin.plan.estimate import request_budget
from litejoin.plan.nodes import (
    ApiSourcePlan,
    JoinPlan,
    Place,
    Plan,
    ReferencePlan,
    SourcePlan,
    TopicPlan,
    WindowPlan,
)
from litejoin.plan.units import duration_text

Tree = dict[str, object]


def plan_tree(plan: Plan, warnings: Sequence[Mapping[str, object]]) -> Tree:
    """The plan as plain values; `warnings` are findings in the form `validate` prints them."""
    return {
        "name": plan.name,
        "config_hash": plan.config_hash,
        "sources": [_source(source) for source in plan.sources],
        "topics": [_topic(topic) for topic in plan.topics],
        "joins": [_join(join) for join in plan.joins],
        "windows": [_window(window) for window in plan.windows],
        "sinks": [{"name": s.name, "type": s.type, "guarantee": s.guarantee} for s in plan.sinks],
        "estimates": {
            "memory_mb": plan.estimates.memory_mb,
            "disk_mb": plan.estimates.disk_mb,
            "formula": plan.estimates.formula,
        },
        "unsupported": [{"feature": u.feature, **_place(u.place)} for u in plan.unsupported],
        "warnings": [dict(warning) for warning in warnings],
    }


def _source(source: SourcePlan) -> Tree:
    tree: Tree = {"name": source.name, "type": source.type}
    if isinstance(source, ApiSourcePlan):
        budget = request_budget(source)
        tree["topics"] = [source.topic]
        tree["requests_per_minute"] = budget.least
        tree["pagination"] = {
            "type": source.pagination,
            "min_pages": source.min_pages,
            "max_pages": source.max_pages,
        }
        tree["allowed_per_minute"] = budget.allowed
    else:
        tree["topics"] = list(source.topics)
        tree["requests_per_minute"] = None
        tree["pagination"] = None
    return tree


def _topic(topic: TopicPlan) -> Tree:
    return {
        "name": topic.name,
        "shards": topic.shards,
        "indexes": [{"path": i.path, "used_by": list(i.used_by)} for i in topic.indexes],
        "retention": None if topic.retention_ms is None else duration_text(topic.retention_ms),
    }


def _join(join: JoinPlan) -> Tree:
    return {
        "name": join.name,
        "key": join.key_column,
        "strategy": join.strategy,
        "reasons": [{"message": r.message, **_place(r.place)} for r in join.reasons],
        "references": [_reference(reference) for reference in join.references],
        "sql": join.refresh_sql,
        "query_plan": list(join.refresh_plan),
        "sinks": list(join.sinks),
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
    return {
        "name": window.name,
        "type": window.type,
        "topic": window.topic,
        "size_ms": window.size_ms,
        "slide_ms": window.slide_ms,
        "gap_ms": window.gap_ms,
        "lateness_ms": window.allowed_lateness_ms,
        "buffer_bound_ms": window.buffer_bound_ms,
        "sinks": list(window.sinks),
    }


def _place(place: Place | None) -> Tree:
    return {
        "line": place.line if place else None,
        "column": place.column if place else None,
    }
