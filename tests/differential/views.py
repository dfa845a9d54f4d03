"""The oracle of joins over windows and joins: plain SQLite with views, and what windows show."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import apsw

from litejoin.plan.nodes import Plan

COLUMNS = ("payload", "timestamp", "timestamp_ms", "window_start_ms", "window_end_ms")

Held = tuple[str, str, int]
"""Key, payload and Unix seconds of a row."""


def _relation(columns: tuple[str, ...], shown: Sequence[dict[str, Any]]) -> tuple[Any, ...]:
    """Column names and rows of a window, from its results."""
    names = [*columns, *(name for name in ("key", *COLUMNS) if name not in columns)]
    rows = []
    for body in shown:
        window = {side: _ms(text) for side, text in body["window"].items()}
        emitted_ms = _ms(body["emit_at"])
        of_result = {
            "key": body["key"], "timestamp": emitted_ms // 1000, "timestamp_ms": emitted_ms,
            "window_start_ms": window["start"], "window_end_ms": window["end"],
        }  # fmt: skip
        for row in body["rows"]:
            values = {**of_result, "payload": json.dumps(row), **row}
            rows.append([values[name] for name in names])
    return names, rows


def _ms(text: str) -> int:
    stamp = apsw.Connection(":memory:").execute("SELECT unixepoch(?, 'subsec') * 1000", (text,)).get
    return round(float(str(stamp)))


def views_over(
    made: Plan, topics: Mapping[str, Sequence[Held]], shown: Mapping[str, Sequence[dict[str, Any]]]
) -> apsw.Connection:
    """Topics, windows as `shown` by their results, and joins as views, in a SQLite of its own."""
    db = apsw.Connection(":memory:")
    for name, held in topics.items():
        db.execute(f"CREATE TABLE {name}(key TEXT, payload TEXT, timestamp INTEGER)")
        db.executemany(f"INSERT INTO {name} VALUES(?, ?, ?)", held)
    for window in made.windows:
        names, rows = _relation(window.columns, shown.get(window.name, ()))
        # Values of a query's columns have no type of their own, as those of expressions.
        values = ", ".join(f"+{name} AS {name}" for name in (f'"{name}"' for name in names))
        db.execute(f'CREATE TABLE "of {window.name}"({", ".join(json.dumps(n) for n in names)})')
        db.executemany(
            f'INSERT INTO "of {window.name}" VALUES({", ".join("?" * len(names))})', rows
        )
        db.execute(f'CREATE VIEW "{window.name}" AS SELECT {values} FROM "of {window.name}"')
    for join in made.joins:
        db.execute(f'CREATE VIEW "{join.name}" AS {join.query}')
    return db
