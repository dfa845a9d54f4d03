"""What clients may ask for: the query strings of /subscribe and /snapshot, read and judged.

Raises RequestError with status 400 and the name of the parameter that is wrong. Unknown parameters
are ignored: proxies and browsers add their own.
"""

import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

from litejoin.errors import RequestError
from litejoin.records import Result

DEFAULT_LIMIT = 10_000
MAX_LIMIT = 1_000_000
"""Results of one snapshot; 8 bytes each are held while it is sent."""

MAX_KEYS = 1_000
MAX_FIELDS = 50

Scope = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Filter:
    """Which results a client wants. `keys` are JSON texts; None: all keys."""

    queries: frozenset[str]
    keys: frozenset[str] | None = None

    def takes(self, result: Result) -> bool:
        """True when the result is wanted."""
        return result.query in self.queries and (self.keys is None or result.key in self.keys)


@dataclass(frozen=True, slots=True)
class Subscription:
    """A request for /subscribe."""

    filter: Filter
    replay: bool
    last_event_id: str | None


@dataclass(frozen=True, slots=True)
class SnapshotQuery:
    """A request for /snapshot."""

    filter: Filter
    limit: int
    emitted_ms: tuple[int | None, int | None]


def parse_subscription(scope: Scope, joins: Collection[str]) -> Subscription:
    """Read `join`, `key`, `replay` and Last-Event-ID (header, or `last_event_id` for browsers)."""
    fields, names = _fields(scope)
    last_event_id = _header(scope, b"last-event-id") or fields.get("last_event_id")
    return Subscription(
        Filter(_joins(fields, joins), _keys(names)), _flag(fields, "replay"), last_event_id or None
    )


def parse_snapshot(scope: Scope, joins: Collection[str]) -> SnapshotQuery:
    """Read `join`, `keys`, `key` (for one with a comma in it), `limit`, `from` and `to`."""
    fields, names = _fields(scope)
    if fields.get("keys"):
        names += fields["keys"].split(",")
        if len(names) > MAX_KEYS:
            raise _bad(f"keys: at most {MAX_KEYS} at once")
    keys = _keys(names)
    first_ms, last_ms = _time_ms(fields, "from"), _time_ms(fields, "to")
    if first_ms is not None and last_ms is not None and first_ms > last_ms:
        raise _bad("from is later than to")
    return SnapshotQuery(Filter(_joins(fields, joins), keys), _limit(fields), (first_ms, last_ms))


def _keys(names: Sequence[str]) -> frozenset[str] | None:
    return frozenset().union(*map(key_texts, names)) if names else None


def key_texts(key: str) -> frozenset[str]:
    """The JSON texts a key in a URL may stand for: `5` is the text "5" and the number 5."""
    texts = {json.dumps(key, ensure_ascii=False), json.dumps(key)}
    try:
        if not isinstance(json.loads(key), str | list | dict):
            texts.add(key)
    except ValueError:
        pass
    return frozenset(texts)


def _fields(scope: Scope) -> tuple[dict[str, str], list[str]]:
    """The parameters, and the values of `key`, which alone may come more than once."""
    try:
        pairs = parse_qsl(
            scope["query_string"].decode("ascii"),
            keep_blank_values=True,
            max_num_fields=MAX_FIELDS,
            errors="strict",
        )
    except ValueError:
        raise _bad("the query string cannot be read") from None
    names = [value for name, value in pairs if name == "key"]
    fields = {name: value for name, value in pairs if name != "key"}
    if len(fields) + len(names) != len(pairs):
        raise _bad("a parameter is given twice")
    return fields, names


def _header(scope: Scope, name: bytes) -> str | None:
    values = [value for header, value in scope["headers"] if header == name]
    return values[-1].decode("latin-1") if values else None


def _joins(fields: Mapping[str, str], joins: Collection[str]) -> frozenset[str]:
    name, known = fields.get("join", ""), ", ".join(sorted(joins)) or "none"
    if name == "*":
        return frozenset(joins)
    if not name:
        raise _bad(f"join is missing: join=* or one of: {known}")
    if name not in joins:
        raise _bad(f"no join {name[:128]!r} here; there are: {known}")
    return frozenset((name,))


def _flag(fields: Mapping[str, str], name: str) -> bool:
    value = fields.get(name, "false").lower()
    if value not in ("true", "false", "1", "0", ""):
        raise _bad(f"{name} must be true or false")
    return value in ("true", "1", "")


def _limit(fields: Mapping[str, str]) -> int:
    text = fields.get("limit", str(DEFAULT_LIMIT))
    limit = int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else 0
    if not 1 <= limit <= MAX_LIMIT:
        raise _bad(f"limit must be a whole number from 1 to {MAX_LIMIT}")
    return limit


def _time_ms(fields: Mapping[str, str], name: str) -> int | None:
    text = fields.get(name, "")
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = _rfc3339_s(text)
    if not math.isfinite(seconds) or abs(seconds) > 1e11:
        raise _bad(f"{name} must be RFC 3339 or Unix seconds")
    return round(seconds * 1000)


def _rfc3339_s(text: str) -> float:
    # An unescaped `+02:00` arrives as ` 02:00`.
    try:
        moment = datetime.fromisoformat(text.replace(" ", "+") if "T" in text else text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return math.nan


def _bad(message: str) -> RequestError:
    return RequestError(message, status=400)
