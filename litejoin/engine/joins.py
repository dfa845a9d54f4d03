"""One join of the running engine: its statements, and what is known of it beside its results.

Made and read by `engine`, on its thread. Decides nothing.
"""

from dataclasses import dataclass, field
from typing import Any

from litejoin._ext.evaluate import Evaluator
from litejoin.plan.nodes import JoinPlan


@dataclass
class Join:
    """The handles are the evaluator's; they are equal for a join that is always run in full."""

    plan: JoinPlan
    join_id: int
    handle: int
    full_handle: int
    references: list[tuple[int, int]] = field(default_factory=list)
    """(catalogue number of the topic or window, number of the reference)."""
    topics: frozenset[int] = frozenset()
    """Catalogue numbers of the topics among them."""
    due: bool = False
    """A full re-evaluation is owed."""
    rebuild: bool = False
    """Its results were made with another definition, or with none."""
    not_before_ms: int = 0
    results: int = 0
    evaluations: int = 0
    spent_ms: int = 0
    """Since the start, for /metrics."""
    expire_at_ms: int = 0
    """When results may have grown old; of a join that follows the clock."""

    def figures(self) -> dict[str, float]:
        """For /metrics. Any thread."""
        return {
            "evaluations": self.evaluations,
            "evaluation_s": self.spent_ms / 1000,
            "results": self.results,
        }


def add_join(evaluator: Evaluator, join_id: int, plan: JoinPlan) -> Join:
    """Make the evaluator know a join. Raises QueryError when SQLite refuses a statement."""

    def add(**statements: Any) -> int:
        return evaluator.add_join(
            join_id,
            plan.columns,
            plan.key_index,
            json_columns=plan.json_columns,
            ordered=plan.ordered,
            emit_all=plan.emit == "all",
            emit_deletes=plan.on_delete == "emit",
            **statements,
        )

    full = add(refresh_sql=plan.full_sql or plan.query, full=True)
    if plan.strategy == "full":
        return Join(plan, join_id, full, full)
    delta = add(
        refresh_sql=plan.refresh_sql,
        refresh_null_sql=plan.refresh_null_sql,
        affected_sql=[reference.affected_sql or "" for reference in plan.references],
    )
    return Join(plan, join_id, delta, full)
