"""How long the statements of a join may run, and how many bytes of results they may make together,
before they are stopped and reported.

Used by `refresh`, on the engine's thread. Never interrupts anything itself.
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress

import apsw

FULL_MS = 30_000
FULL_PER_ROW_US = 100
"""A full re-evaluation, and what is added for each row of the topics that it reads: ten times what
a row takes in a join of them. At most a fifth of the time goes into it, and a shutdown does not
wait for it."""

DELTA_MS = 2_000
DELTA_PER_KB_MS = 4
"""The delta statements of one join, and for each KB of changes that they work on: the backlog of a
restart may be large."""

DELTA_BYTES = 256 * 1024 * 1024
"""Results that are in memory at once. What one flush changes may make more: then its keys are taken
in parts."""

FULL_PER_ROW_BYTES = 1024
FULL_PER_BYTE = 4
"""A full re-evaluation holds all results at once: what is added for each row that it reads, and for
each byte of the shards, whose rows may be large."""


def delta_ms(changes: Sequence[bytes]) -> int:
    """For the delta statements that work on these change rows."""
    return DELTA_MS + DELTA_PER_KB_MS * (sum(map(len, changes)) // 1024)


def rows_of(readers: Iterable[apsw.Connection], topics: Iterable[int]) -> int:
    """At least as many as these topics, by catalogue number, have in these shards."""
    numbers, rows = set(topics), 0
    for reader in readers:
        for number in numbers:
            # Row numbers are given out upwards: the highest is a bound that costs no scan. What
            # cannot be read is for the query to say.
            with suppress(apsw.Error):
                rows += reader.execute(f"SELECT max(id) FROM t{number}").get or 0
    return rows


def full_ms(rows: int) -> int:
    """For a query that reads so many rows."""
    return FULL_MS + rows * FULL_PER_ROW_US // 1_000


def full_bytes(rows: int, readers: Iterable[apsw.Connection]) -> int:
    """Of the results of a query that reads so many rows, from these shards."""
    stored = 0
    for reader in readers:
        with suppress(apsw.Error):
            pages = int(reader.execute("PRAGMA page_count").get)
            stored += pages * int(reader.execute("PRAGMA page_size").get)
    return DELTA_BYTES + rows * FULL_PER_ROW_BYTES + stored * FULL_PER_BYTE
