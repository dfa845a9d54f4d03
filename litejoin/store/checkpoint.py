"""Checkpoints on a thread of their own, off the write path.

A WAL is copied back when it has grown past PASSIVE_PAGES; a passive checkpoint waits for nobody.
Under steady writing it never catches the last page, so the WAL would grow for ever: past
RESTART_PAGES a restarting checkpoint makes the next writer wait (it asks in BEGIN) until the log
starts again. That also needs every reader of the shard to have ended its transaction, so readers
end theirs when an evaluation is over. While they do not, the attempt is given up after BUSY_MS and
made again later.

Started and closed by the store. One connection a shard, opened when first needed, used here only.
"""

import threading
from collections.abc import Mapping
from pathlib import Path

import apsw

from litejoin.errors import StorageError
from litejoin.store.failures import storage_error
from litejoin.store.sqlite import open_database

PASSIVE_PAGES = 4_000
"""16 MB. Random keys gain from a larger WAL (a page written often is copied once), disks do not."""

RESTART_PAGES = 16_000
"""64 MB of WAL a shard, at most four times what a passive checkpoint leaves alone."""

BUSY_MS = 200
"""How long a restarting checkpoint may hold the shard's writer back."""


class Checkpointer:
    """The thread. `notify` is called after each flush and never blocks."""

    def __init__(self, paths: Mapping[int, Path]) -> None:
        self._paths = dict(paths)
        self._connections: dict[int, apsw.Connection] = {}
        self._pages: dict[int, int] = {}
        self._wake = threading.Condition()
        self._stopping = False
        self.failure: StorageError | None = None
        """An I/O error or corruption met while copying pages back: fatal, raised by the next
        flush.
        """
        self._thread = threading.Thread(target=self._run, name="checkpoint", daemon=True)
        self._thread.start()

    def notify(self, pages: Mapping[int, int]) -> None:
        """Tell how many pages each shard's WAL has."""
        due = {shard: count for shard, count in pages.items() if count >= PASSIVE_PAGES}
        if due:
            with self._wake:
                self._pages.update(due)
                self._wake.notify()

    def close(self) -> None:
        """Stop after the checkpoint that is running; may be called twice."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        self._thread.join()
        for connection in self._connections.values():
            connection.close()
        self._connections.clear()

    def _run(self) -> None:
        while self.failure is None:
            with self._wake:
                self._wake.wait_for(lambda: self._pages or self._stopping)
                if self._stopping:
                    return
                shard, pages = self._pages.popitem()
            try:
                self._checkpoint(shard, pages)
            except apsw.Error as error:
                failure = storage_error(error, shard)
                # A full disk keeps the pages in the WAL, where they are safe; next time, perhaps.
                if not failure.retriable:
                    self.failure = failure

    def _checkpoint(self, shard: int, pages: int) -> None:
        connection = self._connections.get(shard)
        if connection is None:
            connection = open_database(self._paths[shard], create=False)
            connection.set_busy_timeout(BUSY_MS)
            self._connections[shard] = connection
        connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        if pages >= RESTART_PAGES:
            try:
                connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_RESTART)
            except apsw.BusyError:
                pass  # a reader is in the way; the next flush asks again
