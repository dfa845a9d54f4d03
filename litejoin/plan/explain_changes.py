"""The forms of a comparison: a page and JSON.

Called by `litejoin plan --diff` and `--diff-data-dir`. Decides nothing. The JSON form is described
by `schemas/plan-diff.schema.json`.
"""

import json
from collections.abc import Iterable

from litejoin.plan.compare import Change, Comparison
from litejoin.plan.fields import FieldChange
from litejoin.plan.layout import section, table, wrapped
from litejoin.plan.nodes import Plan
from litejoin.plan.redact import hidden_values, mask_all
from litejoin.plan.units import count_text

MAX_VALUE_CHARS = 60
"""Longer values, such as queries, are only said to differ; JSON has them."""

MARKS = {"added": "+", "removed": "-", "changed": "~"}


def explain_changes(
    comparison: Comparison, plan: Plan, form: str, secrets: frozenset[str] = frozenset()
) -> str:
    """The comparison of `plan` in a `form` of "text" or "json", ending in a line feed."""
    masked = mask_all(comparison, hidden_values(plan, secrets))
    if form == "json":
        return json.dumps(_tree(masked, plan), indent=2, ensure_ascii=False) + "\n"
    return _page(masked, plan)


def _page(comparison: Comparison, plan: Plan) -> str:
    lines = [
        *wrapped(f"{plan.name}   config {plan.config_hash}   against {comparison.against}"),
        *section("Changes", _changes(comparison)),
        *section("Built at the next start", _built(comparison)),
        *section("Refused by run", _refused(comparison)),
        *section("Notes", (line for note in comparison.notes for line in wrapped(f"  {note}"))),
        "",
        _summary(comparison),
    ]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _changes(comparison: Comparison) -> Iterable[str]:
    for change in comparison.changes:
        yield from wrapped(f"  {MARKS[change.kind]} {change.part} {change.name}".rstrip())
        for field in change.fields:
            yield from wrapped(f"      {_field(field)}", 8)
        for effect in change.effects:
            yield from wrapped(f"      => {effect}", 9)


def _field(field: FieldChange) -> str:
    before, after = field.before, field.after
    if before is not None and before == after:
        return f"{field.name} changed in a secret"
    if any(text is None or "\n" in text or len(text) > MAX_VALUE_CHARS for text in (before, after)):
        return f"{field.name} changed"
    return f"{field.name} {before} -> {after}"


def _built(comparison: Comparison) -> Iterable[str]:
    rows = [
        ("joins", ", ".join(comparison.joins) or "no join is computed anew"),
        ("indexes", ", ".join(comparison.indexes) or "no new key map"),
        ("shards", ", ".join(comparison.shards) or "no file is changed"),
    ]
    return table(rows)


def _refused(comparison: Comparison) -> Iterable[str]:
    for refusal in comparison.refused:
        hint = f" ({refusal.hint})" if refusal.hint else ""
        yield from wrapped(f"  {refusal.message}{hint}")


def _summary(comparison: Comparison) -> str:
    counts = {kind: 0 for kind in MARKS}
    for change in comparison.changes:
        counts[change.kind] += 1
    told = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)
    text = told or "no changes"
    if comparison.refused:
        text += f"; run would refuse for {count_text(len(comparison.refused), 'reason')}"
    return text


def _tree(comparison: Comparison, plan: Plan) -> dict[str, object]:
    return {
        "name": plan.name,
        "config_hash": plan.config_hash,
        "against": comparison.against,
        "changes": [_change(change) for change in comparison.changes],
        "built": {
            "joins": list(comparison.joins),
            "indexes": list(comparison.indexes),
            "shards": list(comparison.shards),
        },
        "refused": [{"message": r.message, "hint": r.hint} for r in comparison.refused],
        "notes": list(comparison.notes),
    }


def _change(change: Change) -> dict[str, object]:
    return {
        "change": change.kind,
        "part": change.part,
        "name": change.name,
        "fields": [
            {"name": field.name, "before": field.before, "after": field.after}
            for field in change.fields
        ],
        "effects": list(change.effects),
    }
