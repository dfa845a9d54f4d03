"""Which joins each sink has, and up to where each of them counts as delivered.

Called once a start, on the ledger's thread. A sink whose config names one more join than before
gets what that join has already: its cursor goes back to 0, and what it has of its other joins is
remembered here, so that it does not come again.

    table routes   columns             meaning
                   sink, join, done    nothing of the join up to `done` is to be delivered (again)
"""

import logging
from collections.abc import Collection, Mapping
from typing import cast

from litejoin.delivery.ledger import Ledger

log = logging.getLogger("litejoin.delivery")

Done = dict[str, int]
"""Join -> position up to which a sink has it."""


def settle_routes(
    ledger: Ledger, joins: Mapping[str, Collection[str]], head: int
) -> tuple[dict[str, Done], dict[str, int]]:
    """Note the joins of each sink; `head` is the end of the results log.

    Returns, by sink, what it has of each join, and the cursors as they are now.
    """
    with ledger.db:
        done = {sink: _settle(ledger, sink, set(names), head) for sink, names in joins.items()}
    return done, ledger.stored_cursors()


def _settle(ledger: Ledger, sink: str, joins: set[str], head: int) -> Done:
    rows = ledger.db.execute('SELECT "join", done FROM routes WHERE sink = ?', (sink,)).fetchall()
    known = dict(cast(list[tuple[str, int]], rows))
    cursor = _checked_cursor(ledger, sink, head)
    if cursor is None or not known:
        # A new sink, or a dlq.db of a version that did not note routes.
        done = dict.fromkeys(joins, 0)
    else:
        done = _go_back(ledger, sink, known, joins, cursor, head)
    ledger.db.execute("DELETE FROM routes WHERE sink = ?", (sink,))
    ledger.db.executemany(
        "INSERT INTO routes VALUES(?, ?, ?)", [(sink, join, at) for join, at in done.items()]
    )
    return done


def _checked_cursor(ledger: Ledger, sink: str, head: int) -> int | None:
    cursor = ledger.stored_cursors().get(sink)
    if cursor is None or cursor <= head:
        return cursor
    log.error(
        "joiner: sink %s was at position %d, the results log ends at %d: the data directory is"
        " older than dlq.db; going on from %d", sink, cursor, head, head,
    )  # fmt: skip
    _move(ledger, sink, head)  # before the log grows: what it gains is to be delivered
    return head


def _move(ledger: Ledger, sink: str, cursor: int) -> None:
    ledger.db.execute("UPDATE cursors SET pos = ? WHERE sink = ?", (cursor, sink))


def _go_back(
    ledger: Ledger, sink: str, known: Done, joins: set[str], cursor: int, head: int
) -> Done:
    new = joins - known.keys()
    if new:
        log.info("joiner: sink %s has new joins and gets what they have: %s",
                 sink, ", ".join(sorted(new)))  # fmt: skip
    at_least = cursor if new else 0
    done = {join: max(at_least, min(known[join], head)) for join in joins - new}
    done |= dict.fromkeys(new, 0)
    start = max(0 if new else cursor, min(done.values(), default=0))
    if start != cursor:
        _move(ledger, sink, start)
    return done
