"""Looks at everything in a data directory and says what is wrong; changes nothing.

Called by `litejoin check`, also beside a running daemon: files are opened so that nothing is made
beside them. `release` is the one exception: it takes a shard that is sound again out of the
quarantine, and holds the directory's lock meanwhile.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import apsw

from litejoin.errors import CorruptionError, StartRefusedError, StorageError
from litejoin.store.layout import Layout, wal_of
from litejoin.store.lock import DirectoryLock
from litejoin.store.manifest import Manifest, load_manifest
from litejoin.store.marks import Marks, read_marks
from litejoin.store.quarantine import read_quarantine, write_quarantine
from litejoin.store.shard import Identity, check_identity, last_seq
from litejoin.store.sqlite import open_untouched
from litejoin.store.verify import Counted, check_pages, check_rows, look, opening

Status = Literal["ok", "damaged", "quarantined"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One file: what is wrong with it, if anything is."""

    file: str
    status: Status
    reason: str = ""
    shard: int | None = None
    rows: int | None = None
    """Rows that were compared with their checksums; None when it was only looked at."""
    bytes: int | None = None


def check_directory(
    layout: Layout, shard_count: int, dlq: Path, *, deep: bool
) -> Iterator[Finding]:
    """One finding a file, as they come. Blocks: milliseconds a shard, or all of it when `deep`.

    Raises StartRefusedError where `run` would refuse the start.
    """
    manifest = load_manifest(layout, shard_count)
    if not manifest.created:
        raise StartRefusedError(
            f"data_dir {layout.root} holds no pipeline's data yet", hint="run one first"
        )
    quarantined = read_quarantine(layout.quarantine)
    # Before the shards: a running daemon commits first and marks then.
    marks = read_marks(layout.marks, shard_count)
    for shard in range(shard_count):
        mark = marks.seqs[shard] if marks else 0
        found = _check_shard(layout, manifest, shard, mark, deep=deep)
        if shard in quarantined:
            found = Finding(found.file, "quarantined", quarantined[shard].reason, shard)
        yield found
    for path in (layout.state, dlq):
        if path.exists():
            yield _check_file(path, deep=deep)


def release(layout: Layout, shard_count: int, shard: int, pipeline: str) -> Finding:
    """Check one quarantined shard deeply; when it is sound, let the next start use it again.

    Commits that it lacks are given up: its mark becomes what it has. Raises DataDirInUseError while
    a process runs on the directory and StartRefusedError when the shard is not quarantined.
    """
    lock = DirectoryLock.acquire(layout.lock, pipeline)
    try:
        manifest = load_manifest(layout, shard_count)
        quarantined = read_quarantine(layout.quarantine)
        if shard not in quarantined:
            raise StartRefusedError(f"shard {shard} of {layout.root} is not quarantined")
        found = _check_shard(layout, manifest, shard, 0, deep=True)
        if found.status == "ok":
            _lower_mark(layout, shard_count, shard)
            del quarantined[shard]
            write_quarantine(layout.quarantine, quarantined)
        return found
    finally:
        lock.release()


def _check_shard(
    layout: Layout, manifest: Manifest, shard: int, mark: int, *, deep: bool
) -> Finding:
    path = layout.shard(shard)
    counted = None
    try:
        with opening(lambda: open_untouched(path, wal_of(path)), shard) as connection:
            check_identity(connection, path, Identity(shard, manifest.epoch))
            look(connection, shard)
            newest = last_seq(connection)
            if newest < mark:
                reason = f"lost commits: flush {mark} was committed, its newest is {newest}"
                return Finding(path.name, "damaged", reason, shard)
            if deep:
                counted = check_rows(connection, shard, lambda count: None)
                check_pages(connection, shard)
    except (CorruptionError, StorageError, StartRefusedError) as error:
        reason = str(error).removeprefix(f"shard {shard}: ")
        return Finding(path.name, "damaged", reason, shard)
    return _sound(path, shard, counted)


def _sound(path: Path, shard: int | None, counted: Counted | None) -> Finding:
    if counted is None:
        return Finding(path.name, "ok", shard=shard)
    return Finding(path.name, "ok", "", shard, counted.rows, counted.bytes)


def _check_file(path: Path, *, deep: bool) -> Finding:
    check = "integrity_check(1)" if deep else "schema_version"
    try:
        connection = open_untouched(path, wal_of(path))
        try:
            answer = str(connection.execute(f"PRAGMA {check}").get)
        finally:
            connection.close()
    except apsw.Error as error:
        return Finding(path.name, "damaged", str(error))
    if deep and answer != "ok":
        return Finding(path.name, "damaged", " ".join(answer.split()))
    return Finding(path.name, "ok")


def _lower_mark(layout: Layout, shard_count: int, shard: int) -> None:
    saved = read_marks(layout.marks, shard_count)
    if saved is None:
        return
    path = layout.shard(shard)
    with opening(lambda: open_untouched(path, wal_of(path)), shard) as connection:
        newest = last_seq(connection)
    if newest < saved.seqs[shard]:
        seqs = list(saved.seqs)
        seqs[shard] = newest
        Marks.create(layout.marks, seqs, synced=saved.synced).close()
