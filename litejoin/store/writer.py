"""The store: opens a data directory, writes flushes, keeps its catalogue.

Made by the runtime before anything else touches the directory. `flush` is called by one thread, the
flush thread; `topic_number`, `trim_batches` and `stats` by any. Knows topics and rows, nothing of
joins. An I/O error or a commit that failed half way leaves it unusable: the process must end, and
the next start recovers from the batch records.
"""

import threading
from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import apsw

from litejoin._ext.batch import BatchWriter
from litejoin._ext.checksum import xxh64
from litejoin.errors import CorruptionError, StartRefusedError, StorageError, StorageIOError
from litejoin.store import shard as shards
from litejoin.store.catalogue import Catalogue
from litejoin.store.checkpoint import Checkpointer
from litejoin.store.failures import file_error, read_error, storage_error
from litejoin.store.files import make_directory
from litejoin.store.freed import STEP_PAGES, give_back
from litejoin.store.layout import Layout
from litejoin.store.lock import DirectoryLock
from litejoin.store.manifest import Manifest, SourceEntry, load_manifest
from litejoin.store.marks import Marks, read_marks
from litejoin.store.quarantine import Quarantine
from litejoin.store.reshard import refuse_unfinished
from litejoin.store.source_state import ShardSourceState, StateReaders
from litejoin.store.startup import judge_marks, look_at, open_shards, refuse_if_all, stand_in
from litejoin.store.tables import TableMaker
from litejoin.store.trimming import TrimDelay


@dataclass(frozen=True, slots=True)
class Flush:
    """What one flush did."""

    seq: int
    changes: list[bytes]
    """Change rows (store.changes), one bytes for each writer group."""
    rows: int
    """Packed rows taken in."""
    unchanged: int
    """Keys whose rewrite with the same payload was dropped."""
    full_shards: tuple[int, ...]
    """Shards whose disk is full: their rows of this flush are not stored."""
    messages: tuple[bytes, ...] = ()
    """Message rows of the topics named by `keep_messages`."""
    refused: tuple[int, ...] = ()
    """Places of the batches with rows of quarantined shards, which are not stored."""


class ShardStore:
    """An open data directory."""

    def __init__(
        self,
        layout: Layout,
        lock: DirectoryLock,
        manifest: Manifest,
        synchronous: shards.Synchronous,
        *,
        is_replicated: bool = False,
    ) -> None:
        self.layout = layout
        self.is_replicated = is_replicated
        self.quarantine = Quarantine(layout.quarantine)
        """The shards that are out of service. Whoever meets damage adds to it."""
        self.notices: list[str] = []
        """What an operator should read about this start, one line each."""
        self.commit_gate = threading.Lock()
        """Held while a flush commits its shards; a reader that moves its snapshots of all shards
        while holding it sees all of a flush or nothing of it."""
        self._lock = lock
        self._manifest = manifest
        self._synchronous = synchronous
        self._flushing = threading.Lock()
        self._catalogue = threading.Lock()
        self._connections: list[apsw.Connection] = []
        self._readers: list[apsw.Connection] = []
        self._state_readers = StateReaders(self.open_readers, self.quarantine)
        self._marks: Marks | None = None
        self._copy: Catalogue | None = None
        self._trim_delay = TrimDelay() if is_replicated else None
        self._writer: BatchWriter | None = None
        self._checkpointer: Checkpointer | None = None
        self._tables: TableMaker | None = None
        self._left_out: set[int] = set()
        """Quarantined shards that the writer knows of."""
        self._seq = 0
        self._failure: StorageError | None = None

    @classmethod
    def open(
        cls,
        data_dir: Path,
        *,
        pipeline: str,
        shard_count: int,
        synchronous: shards.Synchronous,
        has_time_index: Callable[[str], bool] = lambda topic: False,
        is_replicated: bool = False,
        prepare: Callable[[Layout], None] = lambda layout: None,
    ) -> "ShardStore":
        """Lock, check and open the directory; create it if it is new. Blocks on the disk.

        `has_time_index` says which topics need an index on their timestamp (retention). `prepare`
        is called under the lock before anything is looked at, and may restore files.
        `is_replicated`: Litestream reads the write-ahead logs, which are left to it. Raises
        DataDirInUseError, and StartRefusedError when the directory does not match; nothing was
        created then.
        """
        layout = Layout(data_dir)
        try:
            make_directory(data_dir)
        except OSError as error:
            raise StartRefusedError(
                f"data_dir {data_dir} cannot be created: {error.strerror}",
                hint="check storage.data_dir and the owner of its parent",
            ) from error
        lock = DirectoryLock.acquire(layout.lock, pipeline)
        try:
            refuse_unfinished(layout)
            prepare(layout)
            manifest = load_manifest(layout, shard_count)
            store = cls(layout, lock, manifest, synchronous, is_replicated=is_replicated)
        except BaseException:
            lock.release()
            raise
        try:
            store._open(has_time_index)
        except BaseException:
            store.close()
            raise
        return store

    def _open(self, has_time_index: Callable[[str], bool]) -> None:
        manifest = self._manifest
        if self.is_replicated:
            self._copy = Catalogue.open(self.layout.catalogue, manifest)
        if not manifest.created:
            self._save_manifest()
        open_shards(
            self.layout,
            manifest,
            self._synchronous,
            self.quarantine,
            self._connections,
            keeps_logs=self.is_replicated,
        )
        if not manifest.created:
            manifest.created = True
            self._save_manifest()
        self._open_marks()
        look_at(self._connections, self.quarantine)
        self._leave_out()
        refuse_if_all(self.layout, manifest, self.quarantine)
        self._tables = TableMaker(self._connections, has_time_index, lambda: self.quarantine.shards)
        self._make(lambda tables: tables.make(manifest.topics, manifest.sources))
        self._writer = BatchWriter(
            enumerate(self._connections),
            manifest.shard_count,
            together=self._synchronous == "full",
        )
        for number in self._left_out:
            self._writer.leave_out(number)
        paths = {number: self.layout.shard(number) for number in range(manifest.shard_count)}
        sync_marks = self._marks.sync if self._marks and self._synchronous == "full" else None
        self._checkpointer = Checkpointer(paths, sync_marks, copies_back=not self.is_replicated)

    def _open_marks(self) -> None:
        found = [shards.last_seq(connection) for connection in self._connections]
        saved = read_marks(self.layout.marks, len(found))
        self.notices += judge_marks(saved, found, self.quarantine)
        kept = list(found)
        if saved:
            self._seq = max(saved.seqs)
            for number in self.quarantine.shards:
                kept[number] = saved.seqs[number]
        self._seq = max([self._seq, *found])
        self._marks = Marks.create(self.layout.marks, kept, synced=self._synchronous == "full")

    def _leave_out(self) -> None:
        """Stop writing the shards that were quarantined since. On the flush thread, or at start."""
        for number in self.quarantine.shards - self._left_out:
            connection = self._connections[number]
            # What is in its WAL is evidence: closing must not copy it back and delete it.
            connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            if self._writer:
                self._writer.leave_out(number)
            if self._checkpointer:
                self._checkpointer.leave_out(number)
            self._left_out.add(number)

    # --- catalogue --------------------------------------------------------------------------------

    @property
    def epoch(self) -> str:
        """32 hex digits that differ for every new data directory."""
        return self._manifest.epoch

    @property
    def shard_count(self) -> int:
        return self._manifest.shard_count

    def topics(self) -> dict[str, int]:
        """Topic names and numbers, as of now."""
        with self._catalogue:
            return dict(self._manifest.topics)

    def topic_number(self, name: str) -> int:
        """`topic_numbers` of one."""
        return self.topic_numbers((name,))[0]

    def topic_numbers(self, names: Sequence[str], *, are_configured: bool = False) -> list[int]:
        """See `Manifest`. The next flush makes the tables of new ones. Never blocks on the disk."""
        with self._catalogue:
            return self._manifest.topic_numbers(names, are_configured=are_configured)

    def create_topic(self, name: str) -> int:
        """The number of a topic of the config, whose tables are there when it returns. Blocks."""
        (number,) = self.topic_numbers((name,), are_configured=True)
        with self._flushing:
            self._make_tables()
        return number

    def source_state(self, name: str, topic: str | None = None) -> ShardSourceState:
        """The state of a source (see `Manifest`), whose tables are there then. Blocks."""
        with self._catalogue:
            entry = self._manifest.source(name, topic)
        with self._flushing:
            self._make_tables()
        return ShardSourceState(entry, self._state_readers, self._mark_started, self.topics)

    def _mark_started(self, entry: SourceEntry) -> None:
        with self._catalogue:
            entry.started = True
            self._save_manifest()

    def _make_tables(self) -> None:
        assert self._tables is not None
        with self._catalogue:
            topics, sources = dict(self._manifest.topics), dict(self._manifest.sources)
            if not self._tables.lacks(topics, sources) and not self._manifest.is_unsaved:
                return
            # The catalogue first: a table whose number has no name would be lost, and given out
            # again.
            self._save_manifest()
        self._make(lambda tables: tables.make(topics, sources))

    def _make(self, make: Callable[[TableMaker], None]) -> None:
        assert self._tables is not None
        while True:
            try:
                make(self._tables)
                return
            except CorruptionError as error:
                self.quarantine.take(error)
                self._leave_out()

    def _save_manifest(self) -> None:
        try:
            self._manifest.save(self.layout.manifest)
        except OSError as error:
            raise file_error(error, str(self.layout.manifest)) from error
        if self._copy is not None:
            self._copy.keep(self._manifest)

    # --- writing ----------------------------------------------------------------------------------

    def flush(
        self,
        batches: Sequence[bytes],
        *,
        drop_noops: bool = False,
        piecewise: Container[int] = (),
    ) -> Flush:
        """Write row batches, one transaction a shard; durable when it returns. Blocks.

        A batch with rows of a quarantined shard is left out as a whole (`Flush.refused`), one whose
        place is in `piecewise` only as far as those rows go. Damage that is met on the way
        quarantines its shard. Raises ValueError for a malformed batch and StorageFullError when the
        disk has no room for the catalogue (nothing was written, the store goes on), StorageIOError
        (the process must end) and StorageError.
        """
        with self._flushing:
            writer, marks, checkpointer = self._usable()
            checkpointer.make_room()
            self._make_tables()
            self._seq += 1
            self._prepare(writer, batches, drop_noops, piecewise)
            with self.commit_gate:
                try:
                    result = writer.commit()
                except (StorageError, MemoryError) as error:
                    self._failure = StorageIOError(f"a commit failed half way: {error}")
                    raise
            if result.committed:
                self._record(marks, result.committed)
                checkpointer.notify(writer.wal_pages())
            return Flush(
                self._seq,
                [result.changes],
                result.rows,
                result.unchanged,
                result.full_shards,
                result.messages,
                result.refused,
            )

    def _prepare(
        self,
        writer: BatchWriter,
        batches: Sequence[bytes],
        drop_noops: bool,
        piecewise: Container[int],
    ) -> None:
        """All rows in open transactions; again without the shard that turns out to be damaged."""
        while True:
            self._leave_out()
            try:
                writer.prepare(batches, self._seq, drop_noops=drop_noops, piecewise=piecewise)
                return
            except CorruptionError as error:
                self.quarantine.take(error)

    def _record(self, marks: Marks, committed: tuple[int, ...]) -> None:
        try:
            marks.record(committed, self._seq)
        except StorageError as error:
            self._failure = error
            raise

    def _usable(self) -> tuple[BatchWriter, Marks, Checkpointer]:
        writer, marks, checkpointer = self._writer, self._marks, self._checkpointer
        if writer is None or marks is None or checkpointer is None:
            raise RuntimeError("the store is closed")
        failure = self._failure or checkpointer.failure
        if failure:
            raise failure
        return writer, marks, checkpointer

    @property
    def last_seq(self) -> int:
        """The number of the newest flush, of this run or an earlier one."""
        return self._seq

    def skip_to(self, seq: int) -> None:
        """Number the next flush above `seq`: the engine may remember flushes that a shard lost."""
        with self._flushing:
            self._seq = max(self._seq, seq)

    def keep_messages(self, topics: Iterable[int]) -> None:
        """From now on flushes and batch records hold every message of these topics, by number,
        not only what their keys became: windows need them.
        """
        with self._flushing:
            writer, _marks, _checkpointer = self._usable()
            for number in topics:
                writer.keep_messages(number)

    def keep_deletes(self, topics: Collection[int]) -> None:
        """From now on note deletes in these topics, by number: they are archived. Blocks."""
        with self._flushing:
            writer, _marks, _checkpointer = self._usable()
            self._make(lambda tables: tables.make_deletes(topics))
            for number in topics:
                writer.keep_deletes(number)

    def trim_batches(self, applied: Mapping[int, int]) -> None:
        """Batch records up to `applied[shard]` are not needed again: the next transaction of the
        shard deletes them. Never blocks. With replication that waits a while: state.db, which has
        them applied, may be restored from a moment before the shard's.
        """
        if self._trim_delay is not None:
            applied = self._trim_delay.due(applied)
        if self._writer is not None:
            for number, seq in applied.items():
                self._writer.trim(number, seq)

    def give_back(self, pages: int) -> int:
        """Give at most so many pages that deleted rows left free back to the file system, over all
        shards, in small transactions between flushes. Returns how many. Blocks on the disk.

        A full disk and damage end it early; an I/O error is raised by the next flush.
        """
        left = pages
        for number, connection in enumerate(self._connections):
            given = -1
            while left > 0 and given:
                with self._flushing:
                    if self._writer is None or number in self.quarantine.shards:
                        break
                    given = self._give_back(number, connection, min(left, STEP_PAGES))
                left -= given
        return pages - left

    def _give_back(self, number: int, connection: apsw.Connection, pages: int) -> int:
        writer, _marks, checkpointer = self._usable()
        checkpointer.make_room()
        try:
            given = give_back(connection, pages)
        except apsw.Error as error:
            found = storage_error(error, number)
            if isinstance(found, CorruptionError):
                self.quarantine.take(found)
            elif isinstance(found, StorageIOError):
                self._failure = found
            return 0
        if given:
            checkpointer.notify(writer.wal_pages())
        return given

    # --- reading ----------------------------------------------------------------------------------

    def unapplied(self, number: int, after_seq: int) -> Iterator[tuple[int, bytes]]:
        """Batch records of a shard newer than `after_seq`, oldest first: (seq, change rows).

        Raises CorruptionError for a record that is not what was written. For recovery, before the
        first flush.
        """
        if number in self.quarantine.shards:
            return
        connection = shards.open_reader(self.layout.shard(number))
        try:
            rows = connection.execute(
                "SELECT seq, body, checksum FROM batches WHERE seq > ? ORDER BY seq", (after_seq,)
            )
            for seq, body, checksum in rows:
                if xxh64(body, seq) != checksum % (1 << 64):
                    raise CorruptionError(
                        f"shard {number}: the batch record of flush {seq} is not what was written",
                        shard=number,
                        hint="restore the shard's file from a backup",
                    )
                yield seq, body
        except apsw.Error as error:
            raise read_error(error, number) from error
        finally:
            connection.close()

    def open_readers(self) -> list[apsw.Connection]:
        """One read-only connection a shard, in order, for one thread at a time; of a quarantined
        shard to an empty one in memory.

        A reader must end its read transactions when it has nothing to evaluate: while one is open
        the WAL cannot start again. `close` closes those that are still open.
        """
        readers = [
            stand_in(shards.Identity(number, self.epoch))
            if number in self.quarantine.shards
            else shards.open_reader(self.layout.shard(number))
            for number in range(self.shard_count)
        ]
        self._readers += readers
        return readers

    def stats(self) -> dict[str, object]:
        """For metrics: the newest flush and the pages in each WAL. Never blocks."""
        pages = self._writer.wal_pages() if self._writer else {}
        return {
            "seq": self._seq,
            "wal_pages": pages,
            "topics": len(self._manifest.topics),
            "quarantined": {str(n): reason for n, reason in self.quarantine.reasons().items()},
        }

    def close(self) -> None:
        """Checkpoint and close everything, leaving no -wal file, unless it is replicated; release
        the lock. May be called twice.

        The threads that use the store's readers must be done.
        """
        if self._checkpointer:
            self._checkpointer.close()
        if self._writer:
            self._writer.close()
        if self._marks:
            self._marks.close()
        if self._copy:
            self._copy.close()
            self._copy = None
        self._writer = self._marks = self._checkpointer = None
        for reader in self._readers:
            reader.close()
        self._leave_out()
        for number, connection in enumerate(self._connections):
            if number in self._left_out or self.is_replicated:
                connection.close()
            else:
                shards.close_writer(connection)
        self._readers.clear()
        self._connections.clear()
        self._lock.release()
