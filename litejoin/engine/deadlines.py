"""How long the statements of a join may run before they are interrupted and reported.

Used by `engine`, on its thread. Never interrupts anything itself.
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


def delta_ms(changes: Sequence[bytes]) -> int:
    """For the delta statements that work on these change rows."""
    return DELTA_MS + DELTA_PER_KB_MS * (sum(map(len, changes)) // 1024)


def full_ms(readers: Iterable[apsw.Connection], topics: Iterable[int]) -> int:
    """For a query that reads these topics, by catalogue number, from these shards."""
    numbers, rows = set(topics), 0
    for reader in readers:
        for number in numbers:
            # Row numbers are given out upwards: the highest is a bound that costs no scan. What
            # cannot be read is for the query to say.
            with suppress(apsw.Error):
                rows += reader.execute(f"SELECT max(id) FROM t{number}").get or 0
    return FULL_MS + rows * FULL_PER_ROW_US // 1_000
