"""Checkpoints on a thread of their own, off the write path.

Each time a WAL has grown by PASSIVE_PAGES it is copied back; a passive checkpoint waits for nobody.
Under steady writing it never catches the last page, so the log would grow for ever: at
RESTART_PAGES the flush thread stands back in `make_room` until a restarting checkpoint has brought
the log to its start. That also needs every reader of the shard to have ended its transaction, so
readers end theirs when an evaluation is over. One that does not is waited for BUSY_MS, and again
half a log later.

Where the files are replicated it never copies anything back (`copies_back` False): Litestream reads
the logs, and alone may start them again. A log that starts again while Litestream is away takes
commits with it that the replica then lacks without a word: its check finds the last frame it knows
still in place, and goes on at the start of the new log. So the log grows until Litestream is back.

It also syncs the marks soon after each flush, if they are to be synced. Started and closed by the
store. One connection a shard, opened when first needed, used here only.
"""

import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import apsw

from litejoin.errors import StorageError
from litejoin.store.failures import storage_error
from litejoin.store.sqlite import open_database

PASSIVE_PAGES = 4_000
"""16 MB. Random keys gain from a larger WAL (a page written often is copied once), disks do not."""

RESTART_PAGES = 16_000
"""64 MB of WAL a shard."""

BUSY_MS = 200
"""How long the flush thread may be held up for readers of one shard."""

MARKS_WAIT_S = 0.01
"""How long a sync of the marks waits for more flushes to share it: each takes the disk from the
commits that follow, 2 % of their rate."""


def limit_log(connection: apsw.Connection) -> None:
    """Have what a reader that stayed long made of the log cut off when the log starts again."""
    page_bytes = connection.execute("PRAGMA page_size").get
    connection.execute(f"PRAGMA journal_size_limit = {RESTART_PAGES * page_bytes}")


class Checkpointer:
    """The thread. The flush thread calls `make_room` before and `notify` after each flush."""

    def __init__(
        self,
        paths: Mapping[int, Path],
        sync_marks: Callable[[], None] | None,
        *,
        copies_back: bool = True,
    ) -> None:
        self._paths = dict(paths)
        self._copies_back = copies_back
        self._sync_marks = sync_marks
        self._unsynced = False
        self._connections: dict[int, apsw.Connection] = {}
        self._seen = dict.fromkeys(paths, 0)
        """Pages in the WAL at the last checkpoint."""
        self._limits = dict.fromkeys(paths, RESTART_PAGES)
        self._left_out: set[int] = set()
        self._due: dict[int, int] = {}
        self._urgent: set[int] = set()
        self._wake = threading.Condition()
        self._stopping = False
        self.failure: StorageError | None = None
        """An I/O error or corruption met while copying back: fatal, raised by the next flush."""
        self._thread = threading.Thread(target=self._run, name="checkpoint", daemon=True)
        self._thread.start()

    def notify(self, pages: Mapping[int, int]) -> None:
        """Tell how many pages each shard's WAL has. Never blocks on the disk."""
        with self._wake:
            for shard, count in pages.items():
                if shard in self._left_out or not self._copies_back:
                    continue
                if count < self._seen[shard]:
                    self._seen[shard] = 0  # the log has started again
                if count >= self._seen[shard] + PASSIVE_PAGES:
                    self._due[shard] = count
                if count >= self._limits[shard]:
                    self._due[shard] = count
                    self._urgent.add(shard)
            is_first = self._sync_marks is not None and not self._unsynced
            self._unsynced = self._sync_marks is not None
            if self._due or is_first:
                self._wake.notify_all()

    def make_room(self) -> None:
        """Wait for the logs that have reached their bound; at most about BUSY_MS for each."""
        if self._urgent:
            with self._wake:
                self._wake.wait_for(lambda: not self._urgent or self.failure or self._stopping)

    def leave_out(self, shard: int) -> None:
        """Never checkpoint this shard again. One that is running ends first."""
        with self._wake:
            self._left_out.add(shard)
            self._due.pop(shard, None)
            self._urgent.discard(shard)

    def close(self) -> None:
        """Stop after the checkpoint that is running; may be called twice."""
        with self._wake:
            self._stopping = True
            self._wake.notify_all()
        self._thread.join()
        for shard, connection in self._connections.items():
            if shard in self._left_out:
                connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            connection.close()
        self._connections.clear()

    def _run(self) -> None:
        while self.failure is None:
            with self._wake:
                self._wake.wait_for(lambda: self._due or self._unsynced or self._stopping)
                self._wake.wait_for(
                    lambda: self._due or self._stopping, MARKS_WAIT_S if self._unsynced else 0
                )
                if self._stopping:
                    return
                self._unsynced = False
                shard = next(iter(self._urgent), next(iter(self._due), None))
                pages = self._due.pop(shard) if shard is not None else 0
            self._work(shard, pages)

    def _work(self, shard: int | None, pages: int) -> None:
        failure, limit = None, RESTART_PAGES
        try:
            if self._sync_marks:
                self._sync_marks()
            if shard is not None:
                limit = self._checkpoint(shard, pages, restart=shard in self._urgent)
        except apsw.Error as error:
            # A full disk keeps the pages in the WAL, where they are safe; next time, perhaps.
            failure, limit = storage_error(error, shard or 0), pages + RESTART_PAGES // 2
        except StorageError as error:
            failure = error
        with self._wake:
            if shard is not None:
                self._seen[shard] = pages
            if shard in self._urgent:
                self._limits[shard] = limit
                self._urgent.discard(shard)
            if failure and not failure.retriable and shard not in self._left_out:
                self.failure = failure
            self._wake.notify_all()

    def _checkpoint(self, shard: int, pages: int, *, restart: bool) -> int:
        """Copy the log back; the number of pages at which it is to be restarted next."""
        connection = self._connections.get(shard)
        if connection is None:
            connection = open_database(self._paths[shard], create=False)
            connection.set_busy_timeout(BUSY_MS)
            # A connection that has not read yet does not know of the WAL and checkpoints nothing.
            connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()
            self._connections[shard] = connection
        connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        if restart:
            try:
                connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_RESTART)
            except apsw.BusyError:
                return pages + RESTART_PAGES // 2
        return RESTART_PAGES
