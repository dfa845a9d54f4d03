"""The diff state of api sources: what each key's record was at the last poll that filled a topic.

Implements `sources.base.SourceState` over the shards' s<N> tables. The rows are written by the
batch writer, in the transaction of the topic row of the same key; here they are read, on a thread
of the default executor, through one set of read-only connections that all sources share. A row
whose checksum does not fit is never handed out.
"""

import asyncio
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import apsw

from litejoin._ext.checksum import row_checksum
from litejoin._ext.route import shard_of
from litejoin._ext.verify import read_states
from litejoin.errors import CorruptionError
from litejoin.store.failures import read_error
from litejoin.store.manifest import SourceEntry
from litejoin.store.quarantine import Quarantine

TOPIC_ROW, STATE_ROW = 0, 1
"""Kinds of a row in its checksum (_ext/rowsum.h)."""
HINT = "restore the shard's file from a backup"


class StateReaders:
    """The shared connections: one a shard, used by one thread at a time."""

    def __init__(
        self,
        open_readers: Callable[[], list[apsw.Connection]],
        quarantine: Quarantine | None = None,
    ) -> None:
        self._open_readers = open_readers
        self._quarantine = quarantine
        self._connections: list[apsw.Connection] = []
        self._lock = threading.Lock()

    def hashes(self, number: int) -> list[tuple[bytes, bytes]]:
        """(key, hash) of every state row of a source. Blocks.

        Keys of quarantined shards are not among them: they look new, and are refused when they are
        submitted.
        """
        found: list[tuple[bytes, bytes]] = []
        with self._lock:
            for shard, connection in enumerate(self._open()):
                if shard in self._out():
                    continue
                with self._watched(shard):
                    rows = connection.execute(f"SELECT key, hash, payload, checksum FROM s{number}")
                    found.extend(_checked(shard, number, *row)[:2] for row in rows)
        return found

    def payloads(self, number: int, keys: Sequence[bytes]) -> list[bytes | None]:
        """The stored records of some keys, None where there is none. Blocks."""
        found: dict[bytes, bytes | None] = {}
        with self._lock:
            connections = self._open()
            asked: list[list[bytes]] = [[] for _ in connections]
            for key in keys:
                asked[shard_of(key, len(connections))].append(key)
            for shard, names in enumerate(asked):
                if not names or shard in self._out():
                    continue
                with self._watched(shard), _named(shard), _transaction(connections[shard]):
                    states = read_states(connections[shard], number, names)
                    found.update(zip(names, states, strict=True))
        return [found.get(key) for key in keys]

    def topic(self, number: int) -> list[bytes]:
        """The payloads of a topic. Blocks. Raises ShardQuarantinedError when some are not known:
        to take them for deleted would delete what hangs on them.
        """
        found: list[bytes] = []
        with self._lock:
            for shard, connection in enumerate(self._open()):
                if self._quarantine and shard in self._out():
                    raise self._quarantine.refusal()
                with self._watched(shard):
                    rows = connection.execute(
                        "SELECT key, payload, timestamp_ms, op, changes, checksum"
                        f" FROM t{number} ORDER BY id"
                    )
                    found.extend(_checked_topic(shard, number, *row) for row in rows)
        return found

    def _out(self) -> frozenset[int]:
        return self._quarantine.shards if self._quarantine else frozenset()

    @contextmanager
    def _watched(self, shard: int) -> Iterator[None]:
        """Damage met while reading takes the shard out of service: the caller tries again."""
        try:
            try:
                yield
            except apsw.Error as error:
                raise read_error(error, shard) from error
        except CorruptionError as error:
            if self._quarantine is None:
                raise
            self._quarantine.take(error)
            raise self._quarantine.refusal() from error

    def _open(self) -> list[apsw.Connection]:
        # Most pipelines have no api source: no connection is opened for them.
        if not self._connections:
            self._connections = self._open_readers()
        return self._connections


class ShardSourceState:
    """One source's state for one topic. The methods are those of SourceState."""

    def __init__(
        self,
        entry: SourceEntry,
        readers: StateReaders,
        mark_started: Callable[[SourceEntry], None],
        topics: Callable[[], Mapping[str, int]],
    ) -> None:
        self.number = entry.number
        self._entry = entry
        self._readers = readers
        self._mark_started = mark_started
        self._topics = topics

    async def hashes(self) -> Sequence[tuple[bytes, bytes]]:
        return await asyncio.to_thread(self._readers.hashes, self.number)

    async def payloads(self, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        return await asyncio.to_thread(self._readers.payloads, self.number, keys)

    async def parents(self, topic: str) -> Sequence[bytes]:
        number = self._topics().get(topic)
        return [] if number is None else await asyncio.to_thread(self._readers.topic, number)

    def is_new(self) -> bool:
        return not self._entry.started

    async def mark_started(self) -> None:
        await asyncio.to_thread(self._mark_started, self._entry)


@contextmanager
def _transaction(connection: apsw.Connection) -> Iterator[None]:
    """One look at the WAL for all reads, not one each."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


@contextmanager
def _named(shard: int) -> Iterator[None]:
    """Damage that native code met, with its shard."""
    try:
        yield
    except CorruptionError as error:
        raise CorruptionError(
            f"shard {shard}: {error}", extended=error.extended, shard=shard, hint=HINT
        ) from None


def _checked_topic(
    shard: int,
    number: int,
    key: str,
    payload: str,
    timestamp_ms: int,
    op: int,
    changes: str | None,
    checksum: int,
) -> bytes:
    raw, extra = payload.encode(), None if changes is None else changes.encode()
    if row_checksum(TOPIC_ROW, number, op, timestamp_ms, key.encode(), raw, extra) != checksum:
        raise CorruptionError(
            f"shard {shard}: the row of {key[:80]!r} (t{number}) is not what was written",
            shard=shard,
            hint=HINT,
        )
    return raw


def _checked(
    shard: int, number: int, key: str, digest: bytes, payload: str | None, checksum: int
) -> tuple[bytes, bytes, bytes]:
    raw_key, raw_payload = key.encode(), (payload or "").encode()
    if row_checksum(STATE_ROW, number, 0, 0, raw_key, raw_payload, digest) != checksum:
        raise CorruptionError(
            f"shard {shard}: the state row of {key[:80]!r} (s{number}) is not what was written",
            shard=shard,
            hint=HINT,
        )
    return raw_key, digest, raw_payload
