"""Gives pages that deleted rows left free back to the file system, a little at a time.

Called by the store, on the connection that writes the shard. Files made before shards were kept for
this (`auto_vacuum`) stay as large as they are; `litejoin reshard` makes new ones.
"""

import apsw

KEEP_PAGES = 1_000
KEEP_SHARE = 8
"""A shard keeps 4 MB and an eighth of its pages free: rows that expire while others arrive would
otherwise have their pages given back and taken again."""

STEP_PAGES = 250
"""1 MB a transaction: the flush that waits for it takes about as long itself."""


def give_back(connection: apsw.Connection, pages: int) -> int:
    """Free at most `pages` pages at the end of the file, in one transaction. Returns how many.

    The file shrinks with the next checkpoint. Raises apsw.Error.
    """
    free, used = (
        int(connection.execute(f"PRAGMA {name}").get) for name in ("freelist_count", "page_count")
    )
    surplus = free - KEEP_PAGES - used // KEEP_SHARE
    if surplus <= 0:
        return 0
    wanted = min(pages, surplus)
    connection.execute(f"PRAGMA incremental_vacuum({wanted})").fetchall()
    return free - int(connection.execute("PRAGMA freelist_count").get)
