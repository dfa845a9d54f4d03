"""Spreads the rows of a data directory over another number of shard files. Offline.

Called by `litejoin reshard`, which holds nothing of the directory but this. New files are built
beside the old ones, in `reshard/`, and verified; only then they change places. Every step is noted
in `reshard/progress.json` before or after it such that a run that was cut anywhere is continued by
the next:

    copying    new files are filled from one old shard after another; the old ones are untouched
    moving     the new ones are verified; the old ones go to reshard/old
    placing    the old ones are away; the new ones come, then the manifest and the marks
    cleaning   the directory is complete; reshard/ goes, progress.json last

A directory with a `progress.json` in it is not started on; a `reshard/` without one holds nothing
that is needed: nothing was moved, or everything is in its place. Rows keep their checksums, which
are compared in the new files; so a damaged row stops it before anything is moved.
"""

import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import apsw

from litejoin._ext.checksum import row_checksum, xxh64
from litejoin._ext.route import shard_of
from litejoin.errors import CorruptionError, StartRefusedError
from litejoin.store import shard as shards
from litejoin.store.files import make_directory, replace_file, sync_directory
from litejoin.store.layout import Layout, wal_of
from litejoin.store.lock import DirectoryLock
from litejoin.store.manifest import Manifest, load_manifest, stored_shard_count
from litejoin.store.marks import Marks, lost_tails, read_marks
from litejoin.store.quarantine import read_quarantine
from litejoin.store.sqlite import open_readonly, open_untouched
from litejoin.store.tables import Table, tables_of
from litejoin.store.verify import as_damage, check_rows, look, opening

CHUNK_ROWS = 5_000
"""Rows held in memory at once."""

Positions = Callable[[Iterable[tuple[Any, Any]], int, int], Iterable[tuple[str, bytes]]]
"""Of a source whose state is a row for each shard: (key, hash) of the old rows, the old and the new
number of shards, to (key, hash) of the new rows."""

Say = Callable[[str], None]


@dataclass
class Progress:
    """What `progress.json` holds."""

    old: int
    new: int
    seq: int
    """The newest flush of all shards, which becomes that of every new one."""
    phase: str = "copying"
    copied: list[int] = field(default_factory=list)
    sums: dict[str, list[int]] = field(default_factory=dict)
    """By table: rows and the sum of their checksums, in the old shards copied so far."""


class Reshard:
    """One run over one directory, whose lock is held."""

    def __init__(self, layout: Layout, positions: Mapping[str, Positions], say: Say) -> None:
        """`positions`, by source name; `say` is told each step once it is done."""
        self._layout, self._say = layout, say
        self._built = Layout(layout.reshard / "new")
        self._old = Layout(layout.reshard / "old")
        self._note = _note_of(layout)
        self._positions = positions

    def run(self, count: int) -> Progress:
        """Do what is left to do. Raises StartRefusedError and CorruptionError before anything was
        moved.
        """
        progress = self._begin(count)
        if progress.phase == "copying":
            manifest = load_manifest(self._layout, progress.old)
            self._copy(manifest, progress)
            self._verify(progress)
            self._enter(progress, "moving")
        if progress.phase == "moving":
            self._move(self._layout, self._old, progress.old)
            self._enter(progress, "placing")
        if progress.phase == "placing":
            self._move(self._built, self._layout, progress.new)
            self._adopt(progress)
            self._enter(progress, "cleaning")
        self._clean()
        self._say("done")
        return progress

    def _clean(self) -> None:
        # What Litestream noted of the files that were replaced, and of the catalogue, which is to
        # reach the new replica as it is now: with these notes it would copy what was first.
        noted = self._layout.root.glob(".shard-*.db-litestream")
        catalogue = self._layout.catalogue
        copied = catalogue.with_name(f".{catalogue.name}-litestream")
        for folder in (*noted, copied, self._old.root, self._built.root):
            if folder.exists():
                shutil.rmtree(folder)
        self._note.unlink()
        shutil.rmtree(self._layout.reshard)
        sync_directory(self._layout.root)

    # -- beginning

    def _begin(self, count: int) -> Progress:
        if self._note.exists():
            progress = Progress(**json.loads(self._note.read_bytes()))
            if progress.new != count:
                raise StartRefusedError(
                    f"data_dir {self._layout.root} is on its way to {progress.new} shards",
                    hint=f"finish that first: --shards {progress.new}",
                )
            self._say(f"going on: {progress.phase}")
            return progress
        progress = self._look(count)
        if self._layout.reshard.exists():
            shutil.rmtree(self._layout.reshard)  # one that was given up
        make_directory(self._built.root)
        make_directory(self._old.root)
        self._save(progress)
        self._say(f"from {progress.old} to {progress.new} shards")
        return progress

    def _look(self, count: int) -> Progress:
        """Refuse what cannot be resharded."""
        layout, old = self._layout, stored_shard_count(self._layout)
        if old == count:
            raise StartRefusedError(f"data_dir {layout.root} has {count} shards already")
        manifest = load_manifest(layout, old)
        if read_quarantine(layout.quarantine):
            raise StartRefusedError(
                f"data_dir {layout.root} has quarantined shards",
                hint="repair them first: litejoin check says what is wrong",
            )
        newest = [self._settle(manifest, number) for number in range(old)]
        saved = read_marks(layout.marks, old)
        for number, text in (lost_tails(saved, newest) if saved else {}).items():
            raise CorruptionError(f"shard {number} {text}", shard=number)
        if self._applied() < max(newest):
            raise StartRefusedError(
                f"data_dir {layout.root} has changes that its joins have not seen yet",
                hint="start the pipeline and stop it again, so that they catch up",
            )
        return Progress(old, count, max(newest))

    def _settle(self, manifest: Manifest, number: int) -> int:
        """Bring a shard's write-ahead log back into its file; its newest flush."""
        path = self._layout.shard(number)
        identity = shards.Identity(number, manifest.epoch)
        connection = shards.open_writer(path, identity, "full", create=False)
        try:
            with as_damage(number):
                look(connection, number)
                newest = shards.last_seq(connection)
                connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        finally:
            connection.close()
        if wal_of(path).exists() and wal_of(path).stat().st_size:
            raise StartRefusedError(
                f"{path} is open in another program", hint="close it: its log cannot be emptied"
            )
        return newest

    def _applied(self) -> int:
        if not self._layout.state.exists():
            return 0
        connection = open_readonly(self._layout.state)
        try:
            return int(connection.execute("SELECT value FROM meta WHERE name = 'applied'").get)
        finally:
            connection.close()

    # -- copying

    def _copy(self, manifest: Manifest, progress: Progress) -> None:
        targets = []
        try:
            for number in range(progress.new):
                identity = shards.Identity(number, manifest.epoch)
                path = self._built.shard(number)
                targets.append(shards.open_writer(path, identity, "full", create=True))
            for number in range(progress.old):
                if number not in progress.copied:
                    self._copy_shard(number, targets, manifest, progress)
            self._copy_positions(manifest, targets, progress)
            for target in targets:
                _write_record(target, progress.seq)
                target.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        finally:
            for target in targets:
                target.close()
        sync_directory(self._built.root)

    def _copy_shard(
        self, number: int, targets: list[apsw.Connection], manifest: Manifest, progress: Progress
    ) -> None:
        by_shard = {manifest.sources[n].number for n in self._positions if n in manifest.sources}
        sums = {name: list(pair) for name, pair in progress.sums.items()}
        path = self._layout.shard(number)
        for target in targets:
            target.execute("BEGIN IMMEDIATE")
        with (
            opening(partial(open_untouched, path, wal_of(path)), number) as source,
            as_damage(number),
        ):
            for table in tables_of(source):
                if table.is_state and table.number in by_shard:
                    continue
                for target in targets:
                    _make_table(target, table, has_time=_has_time(source, table))
                rows, total = _copy_table(source, targets, table)
                known = sums.setdefault(table.name, [0, 0])
                sums[table.name] = [known[0] + rows, (known[1] + total) % (1 << 64)]
        for target in targets:
            target.execute("COMMIT")
        progress.copied.append(number)
        progress.sums = sums
        self._save(progress)
        self._say(f"copied shard {number}")

    def _copy_positions(
        self, manifest: Manifest, targets: list[apsw.Connection], progress: Progress
    ) -> None:
        for name, spread in self._positions.items():
            if name not in manifest.sources:
                continue
            table = Table("s", manifest.sources[name].number)
            old: list[tuple[Any, ...]] = []
            for number in range(progress.old):
                path = self._layout.shard(number)
                with opening(partial(open_untouched, path, wal_of(path)), number) as source:
                    if table in tables_of(source):
                        old += source.execute(f"SELECT key, hash FROM {table.name}").fetchall()
            for target in targets:
                _make_table(target, table, has_time=False)
            for key, value in spread(old, progress.old, progress.new):
                _put_position(targets[shard_of(key.encode(), progress.new)], table, key, value)

    def _verify(self, progress: Progress) -> None:
        """Read the new files: every checksum, and as many rows as there were, with the same sum."""
        found: dict[str, list[int]] = {}
        for number in range(progress.new):
            path = self._built.shard(number)
            with opening(partial(open_untouched, path, wal_of(path)), number) as connection:
                check_rows(connection, number, lambda count: None)
                for table in tables_of(connection):
                    known = found.setdefault(table.name, [0, 0])
                    rows, total = _sums(connection, table)
                    found[table.name] = [known[0] + rows, (known[1] + total) % (1 << 64)]
            self._say(f"verified new shard {number}")
        for name, want in progress.sums.items():
            if found.get(name) != want:
                raise CorruptionError(
                    f"table {name}: {want[0]} rows were read, {found.get(name, [0])[0]} are in the"
                    " new files, or not the same ones",
                    hint=f"nothing was moved; delete {self._layout.reshard} and try again",
                )

    # -- changing places

    def _move(self, source: Layout, target: Layout, count: int) -> None:
        """Rename every shard that has not been; nothing is ever replaced."""
        for number in range(count):
            path = source.shard(number)
            if path.exists():
                path.rename(target.shard(number))
                self._say(f"moved {path.name} to {target.root.name or target.root}")
        sync_directory(source.root)
        sync_directory(target.root)

    def _adopt(self, progress: Progress) -> None:
        manifest = load_manifest(self._layout, stored_shard_count(self._layout), files=False)
        manifest.shard_count = progress.new
        seqs, synced = [progress.seq] * progress.new, _was_synced(self._layout, progress.old)
        Marks.create(self._layout.marks, seqs, synced=synced).close()
        manifest.save(self._layout.manifest)
        self._say("manifest written")

    def _enter(self, progress: Progress, phase: str) -> None:
        progress.phase = phase
        self._save(progress)
        self._say(phase)

    def _save(self, progress: Progress) -> None:
        replace_file(self._note, json.dumps(asdict(progress)).encode() + b"\n")


def reshard(
    layout: Layout, count: int, pipeline: str, positions: Mapping[str, Positions], say: Say
) -> Progress:
    """Lock the directory and reshard it, or go on where an earlier run was cut.

    Raises DataDirInUseError, StartRefusedError, and CorruptionError for damage.
    """
    if not layout.manifest.exists():
        raise StartRefusedError(f"data_dir {layout.root} holds no pipeline's data")
    lock = DirectoryLock.acquire(layout.lock, pipeline)
    try:
        return Reshard(layout, positions, say).run(count)
    finally:
        lock.release()


def _has_time(source: apsw.Connection, table: Table) -> bool:
    query = "SELECT count(*) FROM sqlite_schema WHERE name = ?"
    return bool(source.execute(query, (f"{table.name}_time",)).get)


def _make_table(target: apsw.Connection, table: Table, *, has_time: bool) -> None:
    if table.is_state:
        shards.create_state_table(target, table.number)
    elif table.letter == "d":
        shards.create_deletes_table(target, table.number)
    else:
        shards.create_topic_table(target, table.number, time_index=has_time)


def _copy_table(
    source: apsw.Connection, targets: list[apsw.Connection], table: Table
) -> tuple[int, int]:
    """Rows and the sum of their checksums. What an earlier run has copied stays."""
    columns = "key, hash, payload" if table.is_state else "key, payload, timestamp_ms, op, changes"
    marks = ", ".join("?" for _ in columns.split(", "))
    insert = (
        f"INSERT INTO {table.name}({columns}, checksum) VALUES({marks}, ?)"
        " ON CONFLICT(key) DO NOTHING"
    )
    rows, total, count = 0, 0, len(targets)
    cursor = source.execute(f"SELECT {columns}, checksum FROM {table.name} ORDER BY id")
    while chunk := list(islice(cursor, CHUNK_ROWS)):
        parts: list[list[tuple[object, ...]]] = [[] for _ in targets]
        for row in chunk:
            parts[shard_of(row[0].encode(), count)].append(row)
            total += row[-1]
        for target, part in zip(targets, parts, strict=True):
            target.executemany(insert, part)
        rows += len(chunk)
    return rows, total % (1 << 64)


def _sums(connection: apsw.Connection, table: Table) -> tuple[int, int]:
    rows, total = 0, 0
    for (checksum,) in connection.execute(f"SELECT checksum FROM {table.name}"):
        rows += 1
        total += checksum
    return rows, total % (1 << 64)


def _put_position(target: apsw.Connection, table: Table, key: str, value: bytes) -> None:
    checksum = row_checksum(1, table.number, 0, 0, key.encode(), b"", value)
    target.execute(
        f"INSERT OR REPLACE INTO {table.name}(key, hash, payload, checksum) VALUES(?, ?, NULL, ?)",
        (key, value, checksum),
    )


def _write_record(target: apsw.Connection, seq: int) -> None:
    """An empty batch record: the shard's newest flush, which every join has seen."""
    checksum = xxh64(b"", seq)
    signed = checksum - (1 << 64) if checksum >> 63 else checksum
    target.execute("INSERT OR REPLACE INTO batches VALUES(?, ?, ?)", (seq, b"", signed))


def _was_synced(layout: Layout, old: int) -> bool:
    saved = None
    try:
        saved = read_marks(layout.marks, old)
    except StartRefusedError:
        pass  # the marks are the new ones already
    return saved is None or saved.synced


def refuse_unfinished(layout: Layout) -> None:
    """Raise StartRefusedError when a reshard was cut and has to be finished."""
    if _note_of(layout).exists():
        raise StartRefusedError(
            f"data_dir {layout.root}: a change of the number of shards was not finished",
            hint="run litejoin reshard again with the same --shards",
        )


def abandon(layout: Layout, pipeline: str) -> bool:
    """Give up a reshard that has not moved anything yet; False when there is none.

    Raises StartRefusedError when it is too late for that.
    """
    lock = DirectoryLock.acquire(layout.lock, pipeline)
    try:
        note = _note_of(layout)
        if not layout.reshard.exists():
            return False
        if note.exists() and Progress(**json.loads(note.read_bytes())).phase != "copying":
            refuse_unfinished(layout)
        note.unlink(missing_ok=True)  # first: what is left of the new files is worth nothing
        shutil.rmtree(layout.reshard)
        return True
    finally:
        lock.release()


def _note_of(layout: Layout) -> Path:
    return layout.reshard / "progress.json"
