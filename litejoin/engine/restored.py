"""What state.db must know after data files came back, each of its own moment.

Called before the engine opens the file: by the restore from a replica, and by a start that finds
another state.db than the one that the shards went on with. Which results still fit the topics is
not known then, so every join is owed: the next start computes it from the topics, and tells what
differs.
"""

import json
import struct
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import apsw

from litejoin.engine.recovery import BatchRecords
from litejoin.engine.state import StateDatabase
from litejoin.errors import CorruptionError
from litejoin.store.sqlite import open_readonly

SKIPPED_POSITIONS = 1 << 32
"""Positions that are never given out again after state.db lost the newest ones: those may have been
delivered, and a receiver would take another result of the same id for the one it has. More than a
million a second for an hour; a `seq` stays below 2^53, the last that every JSON reader can hold,
for two million restores."""


@dataclass(frozen=True, slots=True)
class StateFigures:
    """How far the file was."""

    applied: int
    head: int
    joins: int
    results: int


def note_restored(path: Path, *, lost_positions: bool, least: int = 0) -> StateFigures:
    """Make every join owed; with `lost_positions` go on far behind the last position. Blocks.

    `least`: positions below are not given out, whatever the file says, which may be a new one: the
    milliseconds since 1970 are more than any log has had.
    """
    state = StateDatabase(path, "full")
    try:
        execute = state.connection.execute
        ids = [row[0] for row in execute("SELECT id FROM joins WHERE definition <> ''")]
        results = int(execute("SELECT count(*) FROM state").get)
        found = StateFigures(state.applied, state.head, len(ids), results)
        with state.connection:
            update = "INSERT OR REPLACE INTO meta VALUES(?, ?)"
            execute(update, ("owed", json.dumps(ids)))
            execute(update, ("shards", b""))
            execute("DELETE FROM grouped")
            execute("DELETE FROM groups")
            if lost_positions:
                head = max(state.head + SKIPPED_POSITIONS, least)
                kept = execute("SELECT value FROM meta WHERE name = 'lost'").get
                lost = [*json.loads(kept or "[]"), [state.head, head]]
                execute(update, ("lost", json.dumps(lost)))
                execute(update, ("head", head))
        return found
    finally:
        state.close()


OLDER, NEWER = "gone, or older than the shards", "newer than"


def moment_of(path: Path, records: BatchRecords, shard_count: int) -> str:
    """OLDER when state.db lacks flushes that no batch record holds any more; NEWER, and which
    shards, when it has some that these have not; empty when it is of their moment, or a restore has
    noted that it is not. Blocks.
    """
    if not path.exists():
        return OLDER if records.last_seq > 0 else ""
    try:
        with closing(open_readonly(path)) as connection:
            execute = connection.execute
            applied = int(execute("SELECT value FROM meta WHERE name = 'applied'").get)
            owed = json.loads(execute("SELECT value FROM meta WHERE name = 'owed'").get)
            ids = {row[0] for row in execute("SELECT id FROM joins WHERE definition <> ''")}
            noted = execute("SELECT value FROM meta WHERE name = 'shards'").get
        if ids and ids <= set(owed):
            return ""
        if applied > records.last_seq:
            return f"{NEWER} the shards"
        behind = _behind(records, noted or b"", shard_count)
        if behind:
            return f"{NEWER} shard {', '.join(map(str, behind))}"
        found = {seq for n in range(shard_count) for seq, _ in records.unapplied(n, applied)}
    except (apsw.Error, CorruptionError):
        return ""  # the engine opens and reads them next, and says what is wrong
    return "" if found.issuperset(range(applied + 1, records.last_seq + 1)) else OLDER


def _behind(records: BatchRecords, noted: bytes, shard_count: int) -> list[int]:
    """The shards that lack a flush which they had when results were made: older copies of
    themselves, or they lost their tail. The newest record of a shard is never deleted.
    """
    if len(noted) != 8 * shard_count:
        return []  # there were none, or another number of shards
    seqs = struct.unpack(f"<{shard_count}q", noted)
    return [
        number
        for number, seq in enumerate(seqs)
        if seq and next(iter(records.unapplied(number, seq - 1)), None) is None
    ]
