"""What the engine has not applied yet, read back from the batch records of the shards.

Called once, at start. A batch record holds keys and old versions but not the new payloads, which
the shard has anyway: the current row of the key stands for the newest version, and versions in
between were never delivered and need not be.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Protocol

import apsw

from litejoin.store.changes import Change, Version, pack_changes, unpack_changes


class BatchRecords(Protocol):
    """The part of the store that recovery reads."""

    def unapplied(self, number: int, after_seq: int) -> Iterable[tuple[int, bytes]]: ...


def unapplied_changes(
    records: BatchRecords, readers: Sequence[apsw.Connection], after_seq: int
) -> tuple[list[bytes], int]:
    """The change rows of flushes after `after_seq`, oldest first per shard, with current payloads;
    and the newest flush found. Raises CorruptionError.
    """
    changes: list[bytes] = []
    newest = after_seq
    for shard, reader in enumerate(readers):
        for seq, body in records.unapplied(shard, after_seq):
            newest = max(newest, seq)
            changes.append(pack_changes(_filled(reader, unpack_changes(body))))
    return changes, newest


def _filled(reader: apsw.Connection, changes: Iterable[Change]) -> Iterator[Change]:
    for change in changes:
        if change.new is None or not change.elided:
            yield change
            continue
        row = reader.execute(
            f"SELECT payload, timestamp_ms, op, changes FROM t{change.topic} WHERE key = ?",
            (change.key.decode(),),
        ).get
        if row is None:
            # Deleted by a later flush, whose own record says so.
            yield replace(change, new=None, elided=False)
        else:
            yield replace(change, new=_version(row), elided=False)


def _version(row: tuple[str, int, int, str | None]) -> Version:
    payload, timestamp_ms, op, extra = row
    changes = extra.encode() if extra is not None else None
    return Version(payload.encode(), timestamp_ms, op == 2, changes)
