"""`explain`: a plan as text, JSON or mermaid, with every secret masked.

Called by `litejoin plan`. Starts nothing, reads no file, decides nothing: what it shows is the plan
that `run` would use.
"""

import json
from collections.abc import Callable, Mapping, Sequence

from litejoin.plan.explain_json import plan_tree
from litejoin.plan.explain_mermaid import plan_mermaid
from litejoin.plan.explain_text import plan_text
from litejoin.plan.nodes import Plan
from litejoin.plan.redact import hidden_values, mask_all, redacted

Finding = Mapping[str, object]
"""A finding as `validate --format json` prints it: file, line, column, code, level, message, ..."""


def explain(
    plan: Plan, form: str, warnings: Sequence[Finding] = (), secrets: frozenset[str] = frozenset()
) -> str:
    """The plan in a `form` of "text", "json" or "mermaid", ending in a line feed.

    `secrets` are values to mask beyond those that the plan itself knows as secret.
    """
    masked_warnings = mask_all(list(warnings), hidden_values(plan, secrets))
    return FORMS[form](redacted(plan, secrets), masked_warnings)


def _text(plan: Plan, warnings: Sequence[Finding]) -> str:
    lines = [
        f"{w['file']}:{w['line']}:{w['column']}: {w['code']} {w['level']}: {w['message']}"
        for w in warnings
    ]
    return plan_text(plan, lines)


def _json(plan: Plan, warnings: Sequence[Finding]) -> str:
    return json.dumps(plan_tree(plan, warnings), indent=2, ensure_ascii=False) + "\n"


def _mermaid(plan: Plan, warnings: Sequence[Finding]) -> str:
    return plan_mermaid(plan)


FORMS: dict[str, Callable[[Plan, Sequence[Finding]], str]] = {
    "text": _text,
    "json": _json,
    "mermaid": _mermaid,
}
"""The forms `--format` takes."""
