"""`explain`: a plan as text, JSON or mermaid, with every secret masked.

Called by `litejoin plan`. Starts nothing, reads no file, decides nothing: what it shows is the plan
that `run` would use.
"""

import json
from collections.abc import Mapping, Sequence

from litejoin.plan.explain_json import plan_tree
from litejoin.plan.explain_mermaid import plan_mermaid
from litejoin.plan.explain_text import plan_text
from litejoin.plan.nodes import Plan
from litejoin.plan.redact import hidden_values, mask_all, redacted

Finding = Mapping[str, object]
"""A finding as `validate --format json` prints it: file, line, column, code, level, message, ..."""


def explain(
    plan: Plan,
    form: str,
    warnings: Sequence[Finding] = (),
    secrets: frozenset[str] = frozenset(),
    *,
    with_sql: bool = False,
) -> str:
    """The plan in a `form` of "text", "json" or "mermaid", ending in a line feed.

    `secrets` are values to mask beyond those that the plan itself knows as secret. `with_sql` adds
    the delta statements to the text form; the JSON form always has them.
    """
    masked_warnings = mask_all(list(warnings), hidden_values(plan, secrets))
    plan = redacted(plan, secrets)
    if form == "json":
        return json.dumps(plan_tree(plan, masked_warnings), indent=2, ensure_ascii=False) + "\n"
    if form == "mermaid":
        return plan_mermaid(plan)
    return plan_text(plan, [_line(warning) for warning in masked_warnings], with_sql=with_sql)


def _line(warning: Finding) -> str:
    place = f"{warning['file']}:{warning['line']}:{warning['column']}"
    hint = f" ({warning['hint']})" if warning["hint"] else ""
    return f"{place}: {warning['code']} {warning['level']}: {warning['message']}{hint}"


FORMS = ("text", "json", "mermaid")
"""The forms `--format` takes."""
