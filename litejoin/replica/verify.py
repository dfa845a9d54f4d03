"""Is what was restored sound, and how far does it go? For `litejoin restore --verify`.

Reads everything: rows against their checksums, pages and indexes, batch records, results, cursors
and dead letters. Changes nothing.
"""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import apsw

from litejoin._ext.checksum import xxh64
from litejoin.errors import LiteJoinError
from litejoin.records import Result, ResultOp
from litejoin.store.layout import Layout, wal_of
from litejoin.store.manifest import load_manifest
from litejoin.store.shard import Identity, check_identity, last_seq
from litejoin.store.sqlite import open_untouched
from litejoin.store.verify import check_pages, check_rows


@dataclass(frozen=True, slots=True)
class Verified:
    """One file."""

    file: str
    problem: str = ""
    """Empty: it is sound."""
    figures: dict[str, object] = field(default_factory=dict)


def verify(layout: Layout, shard_count: int, dlq: Path) -> Iterator[Verified]:
    """One answer a file, as they come. Raises StartRefusedError where `run` would."""
    manifest = load_manifest(layout, shard_count)
    for number in range(shard_count):
        path = layout.shard(number)
        yield _verified(path, partial(_shard, path, Identity(number, manifest.epoch)))
    if layout.state.exists():
        yield _verified(layout.state, _state)
    if dlq.exists():
        yield _verified(dlq, _dlq)


def _verified(path: Path, look: Callable[[apsw.Connection], dict[str, object]]) -> Verified:
    try:
        with closing(open_untouched(path, wal_of(path))) as connection:
            return Verified(path.name, "", look(connection))
    except (LiteJoinError, apsw.Error, ValueError, TypeError) as error:
        return Verified(path.name, " ".join(str(error).split()))


def _shard(path: Path, identity: Identity, connection: apsw.Connection) -> dict[str, object]:
    check_identity(connection, path, identity)
    counted = check_rows(connection, identity.number, lambda size: None)
    check_pages(connection, identity.number)
    return {"rows": counted.rows, "flush": last_seq(connection)}


def _state(connection: apsw.Connection) -> dict[str, object]:
    _integrity(connection)
    lost = connection.execute(
        "SELECT count(*) FROM state s LEFT JOIN log l ON l.pos = s.pos WHERE l.pos IS NULL"
    ).get
    if lost:
        raise ValueError(f"{lost} current results are not in the log")
    meta = {name: value for name, value in connection.execute("SELECT name, value FROM meta")}
    results = connection.execute("SELECT count(*) FROM state").get
    return {"results": results, "applied": meta["applied"], "head": meta["head"]}


def _dlq(connection: apsw.Connection) -> dict[str, object]:
    _integrity(connection)
    found = connection.execute("SELECT sink, pos FROM cursors ORDER BY sink")
    cursors = {str(sink): pos for sink, pos in found}
    entries: dict[str, int] = {}
    rows = connection.execute(
        'SELECT sink, pos, "join", key, rows, op, emit_at_ms, pipeline, start_ms, end_ms, checksum'
        " FROM dlq"
    )
    for sink, pos, join, key, text, op, emit_at_ms, pipeline, start_ms, end_ms, checksum in rows:
        result = Result(pos, join, key, text, ResultOp(op), emit_at_ms, pipeline, start_ms, end_ms)
        if xxh64(result.body()) != checksum % (1 << 64):
            raise ValueError(f"the entry of sink {sink} at position {pos} is not what was written")
        entries[sink] = entries.get(sink, 0) + 1
    return {"cursors": cursors, "entries": entries}


def _integrity(connection: apsw.Connection) -> None:
    answer = str(connection.execute("PRAGMA integrity_check(1)").get)
    if answer != "ok":
        raise ValueError(" ".join(answer.split()))
