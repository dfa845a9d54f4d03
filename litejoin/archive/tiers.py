"""Topics over both tiers: the latest version of each key, wherever it is, counted once.

Of the versions of a key that were written until the asked time the one in SQLite wins; then the one
of the later compaction. A delete is a version without a row, and a row and a delete of one
compaction, or both in SQLite, can only be a row that was written after the delete. Called by
`litejoin query` and by the worker that answers /snapshot, never in a process with an event loop.
"""

from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import apsw

from litejoin.archive.cache import CloudFiles
from litejoin.archive.duck import Duck
from litejoin.archive.files import hash_file
from litejoin.archive.hot import HotRows, TopicRow, check
from litejoin.archive.manifest import ArchiveFile, Manifest, refuse_without_manifest
from litejoin.archive.paths import ArchivePaths
from litejoin.errors import CorruptionError, StorageError
from litejoin.store.layout import Layout
from litejoin.store.sqlite import open_database

SPOOL_CACHE_KIB = 16 * 1024
INSERT_ROWS = 2_000
HOT_SEQ = 2**62
"""Above every compaction."""

_SPOOL = """
CREATE TABLE rows(key TEXT PRIMARY KEY, payload, timestamp_ms, op, changes, seq) WITHOUT ROWID;
"""
_PUT = """
INSERT INTO rows VALUES(?, ?, ?, ?, ?, ?) ON CONFLICT(key) DO UPDATE SET payload = excluded.payload,
  timestamp_ms = excluded.timestamp_ms, op = excluded.op, changes = excluded.changes,
  seq = excluded.seq WHERE excluded.seq > seq OR (excluded.seq = seq AND op = 'deleted')"""
_READ = """
SELECT key, payload, epoch_ms(timestamp), op, changes, seq, checksum, filename
  FROM read_parquet({files}, filename = true) WHERE {where}"""


class Tiers:
    """One state of hot and archived rows. One thread; close it. Every method blocks."""

    def __init__(
        self,
        layout: Layout,
        shard_count: int,
        duck: Duck,
        *,
        as_of_ms: int | None = None,
        verified: set[tuple[str, int]] | None = None,
        cloud: CloudFiles | None = None,
    ) -> None:
        """`verified`: the files whose bytes were compared with their hash in this process already;
        it is added to. `cloud` has the files that are not here any more. Raises StorageError and
        its kin.
        """
        self._duck, self._as_of_ms, self._cloud = duck, as_of_ms, cloud
        self._verified = set() if verified is None else verified
        self._paths = ArchivePaths(layout.archive)
        self._closing = ExitStack()
        self._hot = HotRows(layout, shard_count)
        self._closing.callback(self._hot.close)
        self._files: list[ArchiveFile] = []
        refuse_without_manifest(self._paths.manifest)
        if self._paths.manifest.exists():
            manifest = Manifest.read(self._paths.manifest)
            self._files = manifest.files()
            manifest.close()
        self._spools: dict[int, apsw.Connection] = {}

    @property
    def archived_rows(self) -> int:
        """Versions in the archive."""
        return sum(file.rows for file in self._files)

    def lookup(self, topic: int, keys: Collection[str]) -> list[TopicRow]:
        """The rows of some keys."""
        best: dict[str, tuple[int, TopicRow]] = {}
        for row in self._hot.lookup(topic, keys):
            if self._counts(row):
                _prefer(best, row, HOT_SEQ)
        left = [key for key in keys if key not in best]
        for row, seq in self._archived(topic, left) if left else ():
            _prefer(best, row, seq)
        return sorted(row for _, row in best.values() if row.op != "deleted")

    def all_rows(self, topic: int) -> apsw.Connection:
        """A database with a table `rows` of all rows of the topic, by key; made once.

        On disk, in a file without a name that SQLite deletes with the connection.
        """
        if topic not in self._spools:
            self._spools[topic] = self._spool(topic)
        return self._spools[topic]

    def _spool(self, topic: int) -> apsw.Connection:
        spool = open_database("")
        self._closing.callback(spool.close)
        spool.execute(f"PRAGMA cache_size = -{SPOOL_CACHE_KIB}")
        spool.execute(_SPOOL)
        with spool:
            spool.executemany(_PUT, ((*row, seq) for row, seq in self._archived(topic, None)))
            hot = (row for row in self._hot.scan(topic) if self._counts(row))
            spool.executemany(_PUT, ((*row, HOT_SEQ) for row in hot))
            spool.execute("DELETE FROM rows WHERE op = 'deleted'")
        return spool

    def _counts(self, row: TopicRow) -> bool:
        return self._as_of_ms is None or row.timestamp_ms <= self._as_of_ms

    def _archived(self, topic: int, keys: Sequence[str] | None) -> Iterator[tuple[TopicRow, int]]:
        """Versions in the archive with their compactions, in any order; None: of all keys."""
        files = [file for file in self._files if file.topic == topic and self._may_hold(file, keys)]
        groups = self._cloud.groups(files) if self._cloud else [files] if files else []
        for group in groups:
            yield from self._read(group, topic, keys)

    def _read(
        self, files: Sequence[ArchiveFile], topic: int, keys: Sequence[str] | None
    ) -> Iterator[tuple[TopicRow, int]]:
        terms, values = ["true"], list[object]()
        if keys is not None:
            terms.append(f"key IN ({', '.join('?' for _ in keys)})")
            values += keys
        if self._as_of_ms is not None:
            terms.append("timestamp <= make_timestamp_ms(?)")
            values.append(self._as_of_ms)
        paths = [str(self._path(file, files)).replace("'", "''") for file in files]
        names = ", ".join(f"'{path}'" for path in paths)
        sql = _READ.format(files=f"[{names}]", where=" AND ".join(terms))
        for *columns, seq, checksum, name in self._duck.rows(sql, values, "a query"):
            row = TopicRow(*columns)
            check(row, topic, checksum, f"archive: {name}")
            yield row, seq

    def _may_hold(self, file: ArchiveFile, keys: Sequence[str] | None) -> bool:
        if self._as_of_ms is not None and file.min_ms > self._as_of_ms:
            return False
        return keys is None or any(file.min_key <= key <= file.max_key for key in keys)

    def _path(self, file: ArchiveFile, used: Sequence[ArchiveFile]) -> Path:
        """Where the file can be read. Raises CorruptionError, and ObjectStoreError and its kin."""
        if file.is_local:
            return self._verify(file)
        if self._cloud is None:
            raise StorageError(
                f"archive: {file.name} is only in the object store, which the config does not name",
                hint="set storage.archive.cloud as it was when the file was copied",
            )
        return self._cloud.fetch(file, used)

    def _verify(self, file: ArchiveFile) -> Path:
        """The path of a file whose bytes are those that were written. Raises CorruptionError."""
        path = self._paths.file(file.name)
        if (file.name, file.hash) not in self._verified:
            try:
                found = hash_file(path)
            except OSError as error:
                raise CorruptionError(
                    f"archive: {path} cannot be read: {error.strerror}",
                    hint="restore the file from a backup",
                ) from error
            if found != (file.bytes, file.hash):
                what = "truncated" if found[0] < file.bytes else "not what was written"
                raise CorruptionError(
                    f"archive: {path} is {what}; it has {file.rows} rows of topic {file.topic}",
                    hint="restore the file from a backup",
                )
            self._verified.add((file.name, file.hash))
        return path

    def close(self) -> None:
        """End the state."""
        self._closing.close()


def _prefer(best: dict[str, tuple[int, TopicRow]], row: TopicRow, seq: int) -> None:
    kept = best.get(row.key)
    if kept is None or (seq, kept[1].op == "deleted") > (kept[0], False):
        best[row.key] = (seq, row)
