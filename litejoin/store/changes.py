"""The layout of change rows: what one flush did to the topics, as bytes.

The batch writer makes them (`_ext/changes.h` is the same layout as a C struct), the engine reads
them, and the batch records of a shard hold them with the new payloads elided. Rows follow each
other, little endian, each padded with zero bytes to a multiple of 8:

    offset  size  field
    0       4     size              bytes of this row with head and padding
    4       2     topic             catalogue number
    6       1     shard             0..255
    7       1     flags             ChangeFlag
    8       8     id                row id in the shard's table
    16      8     new_timestamp_ms  signed; 0 without a new version
    24      8     old_timestamp_ms  signed; 0 without an old version
    32      4     key_len
    36      4     new_len           0 when elided
    40      4     new_changes_len
    44      4     old_len
    48      4     old_changes_len
    52      4     reserved          0
    56      ..    key, new payload, new changes, old payload, old changes, padding

The old version is the one before the flush, the new one the one after it, whatever happened
between. A row with the old version only is a delete. A row deleted and written again in one flush
is an update. Message rows, one for every upsert of a topic that has windows, follow the changes of
their shard in its batch record, payloads included; in memory they travel apart from the changes.
Packing and unpacking here is for tests and tools; the hot paths stay in native code.
"""

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntFlag

CHANGE_HEAD = struct.Struct("<IHBBqqqIIIIII")


class ChangeFlag(IntFlag):
    """The flags byte of a change row."""

    HAS_NEW = 1
    HAS_OLD = 2
    NEW_UPDATED = 4
    """The new version's `op` is "updated", else "created"."""
    OLD_UPDATED = 8
    NEW_CHANGES = 16
    """The new version's `changes` is not NULL."""
    OLD_CHANGES = 32
    ELIDED = 64
    """The new payload is left out: it is in the shard."""
    MESSAGE = 128
    """Not a change but one message as it arrived, for windows: a new version, the id is 0."""


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a topic row. `payload` is b"" where it was elided."""

    payload: bytes
    timestamp_ms: int
    updated: bool
    changes: bytes | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """One change row, unpacked."""

    topic: int
    shard: int
    id: int
    key: bytes
    new: Version | None
    old: Version | None
    elided: bool = False
    message: bool = False


def pack_changes(changes: Iterable[Change]) -> bytes:
    """Pack change rows; a Change with `elided` loses its new payload."""
    return b"".join(_pack(change) for change in changes)


def unpack_changes(data: bytes) -> Iterator[Change]:
    """The change rows in `data`, in order. Raises ValueError when the bytes are not change rows."""
    at = 0
    while at < len(data):
        if len(data) - at < CHANGE_HEAD.size:
            raise ValueError(f"change rows cut at byte {at}")
        head = CHANGE_HEAD.unpack_from(data, at)
        lengths = head[7:12]
        if head[0] % 8 or head[0] < CHANGE_HEAD.size + sum(lengths) or at + head[0] > len(data):
            raise ValueError(f"bad change row size at byte {at}")
        yield _unpack(head, data, at + CHANGE_HEAD.size)
        at += head[0]


def count_changes(data: bytes) -> int:
    """How many change rows there are, without unpacking them."""
    count = at = 0
    while at < len(data):
        at += CHANGE_HEAD.unpack_from(data, at)[0]
        count += 1
    return count


def _pack(change: Change) -> bytes:
    flags = ChangeFlag.ELIDED if change.elided and change.new else ChangeFlag(0)
    flags |= ChangeFlag.MESSAGE if change.message else ChangeFlag(0)
    new, old = change.new, change.old
    if new:
        flags |= ChangeFlag.HAS_NEW | (ChangeFlag.NEW_UPDATED if new.updated else ChangeFlag(0))
        flags |= ChangeFlag.NEW_CHANGES if new.changes is not None else ChangeFlag(0)
    if old:
        flags |= ChangeFlag.HAS_OLD | (ChangeFlag.OLD_UPDATED if old.updated else ChangeFlag(0))
        flags |= ChangeFlag.OLD_CHANGES if old.changes is not None else ChangeFlag(0)
    parts = (
        change.key,
        new.payload if new and not change.elided else b"",
        (new.changes or b"") if new else b"",
        old.payload if old else b"",
        (old.changes or b"") if old else b"",
    )
    body = sum(map(len, parts))
    size = (CHANGE_HEAD.size + body + 7) & ~7
    head = CHANGE_HEAD.pack(
        size, change.topic, change.shard, flags, change.id, new.timestamp_ms if new else 0,
        old.timestamp_ms if old else 0, *map(len, parts), 0,
    )  # fmt: skip
    return head + b"".join(parts) + b"\0" * (size - CHANGE_HEAD.size - body)


def _unpack(head: tuple[int, ...], data: bytes, at: int) -> Change:
    _size, topic, shard, raw_flags, row_id, new_ts, old_ts = head[:7]
    flags = ChangeFlag(raw_flags)
    parts = []
    for length in head[7:12]:
        parts.append(data[at : at + length])
        at += length
    key, new_payload, new_changes, old_payload, old_changes = parts
    new = old = None
    if ChangeFlag.HAS_NEW in flags:
        changes = new_changes if ChangeFlag.NEW_CHANGES in flags else None
        new = Version(new_payload, new_ts, ChangeFlag.NEW_UPDATED in flags, changes)
    if ChangeFlag.HAS_OLD in flags:
        changes = old_changes if ChangeFlag.OLD_CHANGES in flags else None
        old = Version(old_payload, old_ts, ChangeFlag.OLD_UPDATED in flags, changes)
    elided, message = ChangeFlag.ELIDED in flags, ChangeFlag.MESSAGE in flags
    return Change(topic, shard, row_id, key, new, old, elided, message)
