"""Looking into the dead-letter queue and changing it by hand: list, show, retry, purge.

Used by the `dlq` commands, from another process while the pipeline runs or after it has stopped,
and through `Keeper.read` inside a running one. Works on an open Ledger; blocking. A running
pipeline sees a change within a second.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from litejoin.delivery.ledger import DAMAGED, ENTRY_COLUMNS, Ledger, entry_of
from litejoin.delivery.retry import BY_HAND_MS
from litejoin.records import Result, rfc3339

PAGE = 50
"""Entries read at a time, so that a listing of a full queue takes no memory: each may have 1 MB."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which entries; what is None does not matter."""

    sink: str | None = None
    join: str | None = None
    key: str | None = None
    """As people write it: `5` is the text "5" and the number 5."""
    ids: tuple[str, ...] | None = None
    created_before_ms: int | None = None

    def where(self) -> tuple[str, list[str | int]]:
        """The condition in SQL and its bindings."""
        terms, bindings = ["1"], list[str | int]()
        for column, value in (("sink", self.sink), ('"join"', self.join)):
            if value is not None:
                terms.append(f"{column} = ?")
                bindings.append(value)
        if self.ids is not None:
            terms.append("id IN (SELECT value FROM json_each(?))")
            bindings.append(json.dumps(self.ids))
        if self.key is not None:
            terms.append("key IN (?, ?, ?)")
            bindings += [json.dumps(self.key, ensure_ascii=False), json.dumps(self.key), self.key]
        if self.created_before_ms is not None:
            terms.append("created_at_ms < ?")
            bindings.append(self.created_before_ms)
        return " AND ".join(terms), bindings


def entries(ledger: Ledger, selection: Selection) -> Iterator[dict[str, Any]]:
    """The selected entries, oldest first, as `dlq list --format json` shows them."""
    where, bindings = selection.where()
    sql = (
        f"SELECT number, id, {ENTRY_COLUMNS} FROM dlq WHERE number > ? AND {where}"
        " ORDER BY number LIMIT ?"
    )
    number = 0
    while page := ledger.db.execute(sql, (number, *bindings, PAGE)).fetchall():
        for row in page:
            yield _described(str(row[1]), row[2:])
        number = int(str(page[-1][0]))


def count_by_sink(ledger: Ledger, selection: Selection) -> dict[str, int]:
    """How many entries are selected, by sink."""
    where, bindings = selection.where()
    sql = f"SELECT sink, count(*) FROM dlq WHERE {where} GROUP BY sink ORDER BY sink"
    return {str(sink): int(str(n)) for sink, n in ledger.db.execute(sql, bindings)}


def body(ledger: Ledger, selection: Selection) -> bytes | None:
    """The body of the oldest selected entry, as it is sent; None: none, or it is damaged."""
    where, bindings = selection.where()
    sql = f"SELECT {ENTRY_COLUMNS} FROM dlq WHERE {where} ORDER BY number LIMIT 1"
    row = ledger.db.execute(sql, bindings).fetchone()
    entry = entry_of(row) if row else None
    return entry.result.body() if entry else None


def retry(ledger: Ledger, selection: Selection, now_ms: int) -> int:
    """Have the selected entries sent again at once, parked ones too; returns how many.

    A sink that has stopped goes on with them, and without any when all of it was selected.
    """
    where, bindings = selection.where()
    sql = f"UPDATE dlq SET next_retry_at_ms = {BY_HAND_MS} WHERE {where}"
    with ledger.db:
        ledger.db.execute(sql, bindings)
        count = ledger.db.changes()
        if selection == Selection(sink=selection.sink):
            ledger.ask_to_go_on(selection.sink, now_ms)
    return count


def purge(ledger: Ledger, selection: Selection) -> list[tuple[str, str]]:
    """Give the selected entries up for good; returns (sink, id) of each."""
    where, bindings = selection.where()
    sql = f"DELETE FROM dlq WHERE {where} RETURNING sink, id"
    return [(str(sink), str(id_)) for sink, id_ in ledger.db.execute(sql, bindings).fetchall()]


def _described(id_: str, row: tuple[Any, ...]) -> dict[str, Any]:
    entry = entry_of(row)
    sink, _pos, join, key, _rows, _op, _emit, _pipeline, attempts, created_ms, due_ms, error = row[
        :12
    ]
    return {
        "id": id_,
        "sink": sink,
        "join": join,
        "key": json.loads(key) if entry else key,
        **(_window(entry.result) if entry else {}),
        "attempts": attempts,
        "next_retry_at": None if due_ms is None else rfc3339(due_ms),
        "created_at": rfc3339(created_ms),
        "error": error if entry else DAMAGED,
    }


def _window(result: Result) -> dict[str, Any]:
    """Results of one key differ by their window."""
    if result.start_ms is None or result.end_ms is None:
        return {}
    return {"window": {"start": rfc3339(result.start_ms), "end": rfc3339(result.end_ms)}}
