"""Message rows (litejoin.store.changes) into a table, with their event time and partitions."""

from collections.abc import Sequence
from typing import NamedTuple

import apsw
from typing_extensions import disjoint_base

class Read(NamedTuple):
    """What one chunk of message rows gave."""

    rows: int
    """Messages inserted."""
    oldest_ms: int
    newest_ms: int
    """Times of the inserted ones; 0 when there is none."""
    refused: list[tuple[str, bytes, bytes, int]]
    """(reason, key, payload, time of ingestion) of each message without a usable event time."""
    unplaced: list[tuple[str, bytes, bytes, int]]
    """The same of those that were inserted but are in no partition: their payload is no JSON."""

@disjoint_base
class MessageReader:
    """Inserts the messages of one topic. One thread at a time, on a connection it does not own.

    `sql` gets ?1 event time, ?2 number, ?3 key, ?4 payload, ?5.. the JSON text at each of
    `partitions`, NULL where there is nothing, an empty blob where the payload is no JSON (with a
    time path, such a message is refused instead). `time_path` and `partitions` are programs of
    `gjson.compile_path`; without a time path the time of ingestion counts. `time_format`: 0 auto,
    1 RFC 3339, 2 Unix seconds, 3 Unix milliseconds.
    """

    def __new__(
        cls,
        connection: apsw.Connection,
        sql: str,
        topic: int,
        *,
        time_path: bytes | None = None,
        time_format: int = 0,
        partitions: Sequence[bytes] = (),
    ) -> MessageReader: ...
    def read(self, chunk: bytes, first: int, latest_ms: int) -> Read:
        """Insert the topic's messages of `chunk`, numbered from `first`. Blocks, without the GIL.

        A time after `latest_ms` or before 1970 is refused. Raises ValueError for bytes that are not
        change rows, StorageError and its kin for the database.
        """

    def close(self) -> None:
        """Free the statement, so that the connection can be closed. Idempotent."""
