"""What the engine has not applied yet, read back from the batch records of the shards.

Called once, at start. A batch record holds keys and old versions but not the new payloads, which
the shard has anyway: the current row of the key stands for the newest version, and versions in
between were never delivered and need not be.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import apsw

from litejoin._ext.checksum import row_checksum
from litejoin.errors import CorruptionError
from litejoin.store.changes import Change, Version, pack_changes, unpack_changes
from litejoin.store.verify import as_damage


class BatchRecords(Protocol):
    """The part of the store that recovery reads."""

    def unapplied(self, number: int, after_seq: int) -> Iterable[tuple[int, bytes]]: ...

    @property
    def last_seq(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Unapplied:
    """What the flushes after the last applied one did, oldest first per shard."""

    changes: list[bytes]
    """Change rows, with current payloads."""
    messages: list[bytes]
    """Message rows, for windows: each as it arrived."""
    newest: int
    """The newest flush found."""


def unapplied_changes(
    records: BatchRecords, readers: Sequence[apsw.Connection], after_seq: int
) -> Unapplied:
    """Read back what follows flush `after_seq`. Raises CorruptionError."""
    found = Unapplied([], [], after_seq)
    for shard, reader in enumerate(readers):
        for seq, body in records.unapplied(shard, after_seq):
            found = replace(found, newest=max(found.newest, seq))
            rows = list(unpack_changes(body))
            found.messages.append(pack_changes(row for row in rows if row.message))
            found.changes.append(
                pack_changes(_filled(shard, reader, (row for row in rows if not row.message)))
            )
    return found


def _filled(shard: int, reader: apsw.Connection, changes: Iterable[Change]) -> Iterator[Change]:
    for change in changes:
        if change.new is None or not change.elided:
            yield change
            continue
        with as_damage(shard):
            row = reader.execute(
                f"SELECT payload, timestamp_ms, op, changes, checksum FROM t{change.topic}"
                " WHERE key = ?",
                (change.key.decode(),),
            ).get
        if row is None:
            # Deleted by a later flush, whose own record says so.
            yield replace(change, new=None, elided=False)
        else:
            with as_damage(shard):
                yield replace(change, new=_version(change, row), elided=False)


def _version(change: Change, row: tuple[str, int, int, str | None, int]) -> Version:
    payload, timestamp_ms, op, extra, checksum = row
    raw, changes = payload.encode(), extra.encode() if extra is not None else None
    if row_checksum(0, change.topic, op, timestamp_ms, change.key, raw, changes) != checksum:
        raise CorruptionError(
            f"shard {change.shard}: the row of {change.key[:80]!r} (t{change.topic}) is not what"
            " was written",
            shard=change.shard,
        )
    return Version(raw, timestamp_ms, op == 2, changes)
