"""Joins that read windows: the current results of a window as a relation.

Called by `compile_joins`. `FROM totals`, where `totals` is a window, means what /snapshot shows of
it, a row for each row of each result. The engine keeps these rows as it keeps a topic, under
`relation_of(window)`: `payload` is the row as it is delivered, `changes` tells the result's key and
span. Here that becomes a table of the query's own columns, which `over_joins` puts before the
reader's query. A window reads a topic and nothing else, so no circle can come about.
"""

import json
import re
from collections.abc import Sequence

from litejoin.plan.nodes import relation_of
from litejoin.plan.tokens import quoted

OWN_COLUMNS = {
    "key": "changes ->> '$.key'",
    "payload": "payload",
    "timestamp": "timestamp",
    "timestamp_ms": "timestamp_ms",
    "window_start_ms": "changes ->> '$.start'",
    "window_end_ms": "changes ->> '$.end'",
}
"""Columns beside those of the window's query, unless that has one of the same name."""

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_UNWRITABLE = re.compile(r'["\\\x00-\x1f]')


def window_of(relation: str) -> str | None:
    """The window of a relation; None when it is a topic."""
    mark = relation_of("")
    return relation.removesuffix(mark) if relation.endswith(mark) else None


def relation_columns(columns: Sequence[str]) -> tuple[str, ...]:
    """The columns of a window whose query gives `columns`.

    One whose name has a quote or a backslash cannot be named in a JSON path and is left out.
    """
    own = [column for column in dict.fromkeys(columns) if not _UNWRITABLE.search(column)]
    taken = {column.lower() for column in own}
    return (*own, *(name for name in OWN_COLUMNS if name not in taken))


def relation_query(window: str, columns: Sequence[str]) -> str:
    """The query that gives `relation_columns(columns)` of a window."""
    delivered = set(columns)
    values = [
        _member(name) if name in delivered else OWN_COLUMNS[name]
        for name in relation_columns(columns)
    ]
    return f"SELECT {', '.join(values)} FROM {quoted(relation_of(window))} AS {quoted(window)}"


def _member(column: str) -> str:
    label = column if _PLAIN.fullmatch(column) else json.dumps(column, ensure_ascii=False)
    return "payload ->> '$.{}'".format(label.replace("'", "''"))


def written(text: str) -> str:
    """A text about relations, in the words of who wrote the query: windows and their columns."""
    for name, expression in OWN_COLUMNS.items():
        text = text.replace(expression, name)
    return text.replace(relation_of(""), "")
