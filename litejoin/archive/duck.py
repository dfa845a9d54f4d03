"""The one place that imports DuckDB: writes Parquet files, re-reads them, makes several one.

Used by the archive's worker and by queries, each in a process without an event loop. Given rows and
Parquet files only, never a SQLite file. One thread at a time; every method blocks.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from litejoin.archive.arrow import RowStream
from litejoin.errors import ConfigError, StorageError, StorageFullError

ROW_GROUP_ROWS = 30_720
"""Rows between two places where a reader can skip by key. Larger groups compress no better and are
decoded as a whole for one key."""

DUCKDB_SHARE = 0.55
"""Of the memory limit; the rest is for the rows on their way to DuckDB and for what it allocates
beside its buffers."""

MIN_DUCKDB_BYTES = 48 * 1024 * 1024
"""With less it cannot hold a row group while it writes it."""

FETCH_ROWS = 1_000

COMPRESSION = {"snappy": "snappy", "zstd": "zstd", "none": "uncompressed"}

COLUMNS = "key, payload, timestamp, op, changes, seq, checksum"
_COPY = (
    "COPY ({query}) TO '{path}' (FORMAT parquet, COMPRESSION {compression},"
    " ROW_GROUP_SIZE {group}, DICTIONARY_SIZE_LIMIT {dictionary})"
)
_FROM_STREAM = """
SELECT key, payload, make_timestamp_ms(timestamp_ms) AS timestamp,
  CASE op WHEN 1 THEN 'created' WHEN 2 THEN 'updated' ELSE 'deleted' END AS op,
  changes, {seq}::BIGINT AS seq, checksum FROM stream"""
_FIGURES = """
SELECT count(*), coalesce(bit_xor(checksum), 0), min(key), max(key), epoch_ms(min(timestamp)),
  epoch_ms(max(timestamp)), min(seq), max(seq), count(op), coalesce(sum(strlen(payload)), 0),
  coalesce(sum(strlen(changes)), 0) FROM read_parquet(?)"""


@dataclass(frozen=True, slots=True)
class Figures:
    """What a file was found to hold."""

    rows: int
    checksum: int
    min_key: str
    max_key: str
    min_ms: int
    max_ms: int
    min_seq: int
    max_seq: int


class Duck:
    """A DuckDB in memory, with bounded buffers that spill into a folder.

    Its first use raises ConfigError when the package is missing.
    """

    def __init__(
        self, memory_bytes: int, spill: Path, threads: int = 1, *, keeps_files: bool = True
    ) -> None:
        """`keeps_files`: parts of files that were read stay in memory for the next query."""
        self._config: dict[str, object] = {
            "memory_limit": f"{max(MIN_DUCKDB_BYTES, int(memory_bytes * DUCKDB_SHARE))}B",
            "threads": threads,
            "temp_directory": str(spill),
            "enable_external_file_cache": keeps_files,
            # Nothing is fetched from anywhere behind the user's back.
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        }
        self._opened: Any = None

    @property
    def _connection(self) -> Any:
        """Opened when first needed: until then it costs neither its 40 MB nor its time."""
        if self._opened is None:
            module = load_duckdb()
            self._error = module.Error
            self._opened = module.connect(":memory:", config=self._config)
        return self._opened

    def write(self, stream: RowStream, seq: int, path: Path, compression: str) -> None:
        """Write rows in the order given. Raises StorageFullError and StorageError."""
        self._copy(_FROM_STREAM.format(seq=seq), path, compression, {"stream": stream})

    def merge(self, sources: Sequence[Path], path: Path, compression: str) -> None:
        """Write the rows of several files, in order of key and seq, as one."""
        names = ", ".join(map(_quoted, sources))
        query = f"SELECT {COLUMNS} FROM read_parquet([{names}]) ORDER BY key, seq"
        self._copy(query, path, compression, {})

    def figures(self, path: Path) -> Figures:
        """Re-read every column of a file. Raises StorageError naming a file that cannot be read."""
        row = self.rows(_FIGURES, (str(path),), str(path)).__next__()
        return Figures(*row[:8])

    def rows(self, sql: str, values: Sequence[object], what: str) -> Iterator[tuple[Any, ...]]:
        """The rows of a query, fetched as they are asked for."""
        cursor = self._connection.cursor()
        try:
            cursor.execute(sql, values)
            while rows := cursor.fetchmany(FETCH_ROWS):
                yield from rows
        except self._error as error:
            raise self._failure(error, what) from error

    def _copy(self, query: str, path: Path, compression: str, named: Mapping[str, object]) -> None:
        sql = _COPY.format(
            query=query,
            path=str(path).replace("'", "''"),
            compression=COMPRESSION[compression],
            group=ROW_GROUP_ROWS,
            dictionary=1,
        )
        connection = self._connection
        try:
            for name, source in named.items():
                connection.register(name, source)
            connection.execute(sql)
        except self._error as error:
            raise self._failure(error, str(path)) from error
        finally:
            for name in named:
                connection.unregister(name)

    def _failure(self, error: Exception, what: str) -> StorageError:
        text = f"archive: {what}: {str(error).splitlines()[0]}"
        if "No space left" in str(error) or "Disk quota" in str(error):
            return StorageFullError(text, hint="free disk space; the archive goes on by itself")
        return StorageError(text)

    def close(self) -> None:
        """Free its memory."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None


def load_duckdb() -> Any:
    """The package, imported now. Raises ConfigError with the command that installs it."""
    try:
        # Imported here: it costs 40 MB, and only who has an archive pays.
        import duckdb
    except ImportError as error:
        raise ConfigError(
            f"storage.archive needs the package duckdb ({error})",
            hint="pip install 'litejoin[archive]'",
        ) from None
    return duckdb


def _quoted(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"
