"""Which fields of two values of one class differ, in words that people know from the config.

Used by `compare`. Secrets are told to differ and never shown.
"""

import dataclasses
from collections.abc import Iterator, Mapping

from litejoin.frozen import dataclass
from litejoin.plan.nodes import IndexPlan, Secret
from litejoin.plan.redact import shown_url
from litejoin.plan.units import duration_text

DERIVED = frozenset(
    {
        "place", "references", "reasons", "refresh_sql", "refresh_null_sql", "refresh_plan",
        "full_sql",
        "native", "key_index", "ordered", "shards", "fed_by", "explicit", "min_pages", "expands",
    }
)  # fmt: skip
"""What follows from other fields, or moves with the text."""

NEVER_SHOWN = frozenset({"body"})
"""What may hold anything, secrets too."""

NONE_TEXT = {"retention_ms": "for good", "archive": "off", "cloud": "off"}
"""What the absence of a value means."""

SHOWN_FOR = {"url": "shown_url", "written_url": "shown_url"}
"""Fields that may hold a secret, and the field that shows them safely."""


@dataclass(frozen=True, slots=True)
class FieldChange:
    """A field and its two values as text; None where there is none or it must not be shown."""

    name: str
    before: str | None
    after: str | None


def changed_fields(before: object, after: object, prefix: str = "") -> tuple[FieldChange, ...]:
    """The fields that differ; fields of nested values as `dlq.ttl`. Either may be None."""
    return tuple(_changes(before, after, prefix))


def _changes(before: object, after: object, prefix: str) -> Iterator[FieldChange]:
    if type(before) is not type(after) or not dataclasses.is_dataclass(before):
        yield FieldChange(prefix.rstrip(".") or "type", _text(before), _text(after))
        return
    for field in dataclasses.fields(before):
        name = field.name
        if name in DERIVED or name in SHOWN_FOR.values():
            continue
        old, new = getattr(before, name), getattr(after, name)
        if old == new:
            continue
        if dataclasses.is_dataclass(old) and type(old) is type(new):
            yield from _changes(old, new, f"{prefix}{name}.")
            continue
        if name in SHOWN_FOR:
            old = getattr(before, SHOWN_FOR[name], None) or shown_url(str(old))
            new = getattr(after, SHOWN_FOR[name], None) or shown_url(str(new))
        yield FieldChange(prefix + _plain(name), _text(old, name), _text(new, name))


def _plain(name: str) -> str:
    """`interval_ms` -> `interval`: the config writes units into the value."""
    if name == "written_url":
        return "replica_url"
    return name.removesuffix("_ms").removesuffix("_bytes")


def _text(value: object, name: str = "") -> str | None:
    if value is None:
        return NONE_TEXT.get(name)
    if isinstance(value, Secret) or name in NEVER_SHOWN:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) and name.endswith("_ms"):
        return duration_text(value)
    if isinstance(value, tuple | list | frozenset | set):
        texts = [_text(each) or "***" for each in value]
        return ", ".join(texts if isinstance(value, tuple | list) else sorted(texts)) or "none"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_text(each) or '***'}" for key, each in value.items()) or "none"
    if isinstance(value, IndexPlan):
        return value.path
    if dataclasses.is_dataclass(value):
        if NONE_TEXT.get(name) == "off":
            return "on"
        return type(value).__name__.removesuffix("Plan").lower()
    return str(value)
