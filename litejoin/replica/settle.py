"""Makes one directory of files that were restored, each of its own moment.

After `restore.fetch_missing`, under the directory's lock, before anything opens the files. What
must hold again, and how:

- The catalogue names every table: what a shard says of its tables is added to it.
- No result is stale: every join is owed, so the next start computes it from the topics.
- No position of the results log means two results: a restored state.db goes on far behind.
- Nothing is taken for read that a shard may lack: watermarks of api sources and remembered answers
  to requests are dropped, so the next poll asks for everything. (Kafka offsets are in each shard,
  and a source goes on at the smallest.)
- A lost tail is told, not hidden: marks are compared first, and then are what the shards have.
"""

import json
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import apsw

from litejoin.clock import SystemClock
from litejoin.engine.restored import StateFigures, note_restored
from litejoin.errors import StartRefusedError
from litejoin.records import rfc3339
from litejoin.replica.restore import Fetched, Target, done
from litejoin.store.files import replace_file
from litejoin.store.layout import Layout, wal_of
from litejoin.store.manifest import Manifest, SourceEntry
from litejoin.store.marks import Marks, read_marks
from litejoin.store.quarantine import read_quarantine, write_quarantine
from litejoin.store.shard import last_seq, names_of
from litejoin.store.sqlite import open_database, open_untouched

WATERMARK_KEYS = "note watermark %"
"""As sources.api.notes keeps them, among the records of the source."""


@dataclass(frozen=True, slots=True)
class RestoredFile:
    """One file that came back."""

    file: str
    upto: str
    """When its newest copied change was copied (RFC 3339); empty when an attempt before did it."""
    age_s: int
    """How long before the restore that was: what was written since is lost."""
    bytes: int
    flush: int | None = None
    """A shard's newest flush; for state.db, the last whose results it has."""
    lost_flushes: int | None = None
    """How many flushes at most the shard had and lacks now; None when nothing here tells."""


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore found."""

    at: str
    upto: str
    """When the newest change that is back was copied; a file that had none since is as good."""
    rpo_s: int
    """How long before `at` that was: what was written in these seconds is lost."""
    files: tuple[RestoredFile, ...]
    lost_flushes: int
    """The most flushes that a shard is known to lack."""
    windows_may_lack: tuple[int, ...]
    """Shards with messages that no window has seen and no batch record holds any more."""
    notices: tuple[str, ...]


def settle(target: Target, fetched: Fetched, answers_of: Iterable[str]) -> Restored:
    """Do all of it; may be repeated. `answers_of`: http sources, which remember answers.

    Raises StartRefusedError when shards contradict each other.
    """
    layout, count = target.layout, target.shard_count
    names = fetched.found
    saved = read_marks(layout.marks, count)
    shards = [n for n in range(count) if layout.shard(n).name in names]
    quarantined = read_quarantine(layout.quarantine)
    sound = [n for n in range(count) if n in shards or n not in quarantined]
    newest = list(saved.seqs) if saved else [0] * count
    oldest = [0] * count
    tables = []
    for number in sound:
        path = layout.shard(number)
        with closing(open_untouched(path, wal_of(path))) as connection:
            tables.append(names_of(connection))
            newest[number] = last_seq(connection)
            query = "SELECT coalesce(min(seq), 0) FROM batches"
            oldest[number] = int(connection.execute(query).get)
    manifest = _named(fetched.manifest, tables, layout)
    lost = {n: max(0, saved.seqs[n] - newest[n]) if saved else None for n in shards}
    _forget_what_was_read(layout, manifest, sound, set(answers_of))
    lost_positions = "state.db" in names or not layout.state.exists()
    state = note_restored(layout.state, lost_positions=lost_positions)
    found = _report(target, fetched, state, newest, oldest, lost)
    replace_file(report_path(layout), report_json(found).encode())
    _forget_local_copies(target, names)
    _release(layout, shards)
    _lower_marks(layout, count, shards, newest)
    manifest.save(layout.manifest)
    done(layout)
    return found


def report_json(found: Restored) -> str:
    """The report as JSON."""
    return json.dumps(asdict(found), indent=1) + "\n"


def report_path(layout: Layout) -> Path:
    """Where the report of the last restore stays."""
    return layout.root / "restored.json"


def _named(manifest: Manifest, tables: Iterable[Mapping[str, str]], layout: Layout) -> Manifest:
    """The manifest with every topic and source that a shard has a table of."""
    topics, sources = dict(manifest.topics), dict(manifest.sources)
    known = {f"t{number}": name for name, number in topics.items()}
    known |= {f"s{entry.number}": name for name, entry in sources.items()}
    for table, name in (item for each in tables for item in each.items()):
        if known.setdefault(table, name) != name:
            raise StartRefusedError(
                f"data_dir {layout.root}: table {table} is of {known[table]!r} and of {name!r}",
                hint="the files are not of one directory; restore all of them",
            )
        if table[0] == "t":
            topics[name] = int(table[1:])
        elif name not in sources:
            # Its first poll may have been taken in: to think so tells of changes, not of nothing.
            sources[name] = SourceEntry(int(table[1:]), started=True)
    return replace(manifest, topics=topics, sources=sources, created=True)


def _forget_what_was_read(
    layout: Layout, manifest: Manifest, shards: Iterable[int], answers_of: set[str]
) -> None:
    for number in shards:
        with closing(_writable(layout, number)) as connection, connection:
            have = {str(name) for (name,) in connection.execute("SELECT name FROM sqlite_schema")}
            for name, entry in manifest.sources.items():
                table = f"s{entry.number}"
                if table in have:
                    where = "1" if name in answers_of else "key LIKE ?"
                    bound = () if name in answers_of else (WATERMARK_KEYS,)
                    connection.execute(f"DELETE FROM {table} WHERE {where}", bound)


def _writable(layout: Layout, number: int) -> apsw.Connection:
    connection = open_database(layout.shard(number), create=False)
    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    connection.execute("PRAGMA wal_autocheckpoint = 0").fetchall()
    return connection


def _lower_marks(layout: Layout, count: int, shards: Iterable[int], newest: list[int]) -> None:
    saved = read_marks(layout.marks, count)
    seqs = list(saved.seqs) if saved else list(newest)
    for number in shards:
        seqs[number] = newest[number]
    Marks.create(layout.marks, seqs, synced=saved.synced if saved else False).close()


def _release(layout: Layout, shards: Iterable[int]) -> None:
    quarantined = read_quarantine(layout.quarantine)
    kept = {number: damage for number, damage in quarantined.items() if number not in set(shards)}
    if kept != quarantined:
        write_quarantine(layout.quarantine, kept)


def _forget_local_copies(target: Target, names: Iterable[str]) -> None:
    """What Litestream noted of the files that these replace."""
    for name in names:
        path = target.path(name)
        copies = path.with_name(f".{path.name}-litestream")
        if copies.is_dir():
            for each in sorted(copies.rglob("*"), reverse=True):
                each.rmdir() if each.is_dir() else each.unlink()
            copies.rmdir()


def _report(
    target: Target,
    fetched: Fetched,
    state: StateFigures,
    newest: list[int],
    oldest: list[int],
    lost: Mapping[int, int | None],
) -> Restored:
    now_ms = SystemClock().now_ms()
    files = []
    for name, found in fetched.found.items():
        number = target.shard_names().index(name) if name.startswith("shard-") else None
        flush = newest[number] if number is not None else None
        files.append(
            RestoredFile(
                name,
                rfc3339(found.upto_ms) if found else "",
                max(0, now_ms - found.upto_ms) // 1000 if found else 0,
                target.path(name).stat().st_size,
                state.applied if name == "state.db" else flush,
                lost.get(number) if number is not None else None,
            )
        )
    # A record that state.db has applied is proof that none is gone which it has not.
    is_gap = [oldest[n] > state.applied > 0 for n in range(len(newest))]
    gaps = [n for n, gap in enumerate(is_gap) if gap]
    main = [f for f in files if f.file != "dlq.db" and f.upto]
    return Restored(
        at=rfc3339(now_ms),
        upto=max((f.upto for f in main), default=""),
        rpo_s=min((f.age_s for f in main), default=0),
        files=tuple(files),
        lost_flushes=max((count or 0 for count in lost.values()), default=0),
        windows_may_lack=tuple(gaps),
        notices=tuple(_notices(files, state, newest, gaps)),
    )


def _notices(
    files: Iterable[RestoredFile],
    state: StateFigures,
    newest: list[int],
    gaps: list[int],
) -> Iterable[str]:
    for file in files:
        if file.lost_flushes:
            yield (
                f"{file.file} lost commits: flush {(file.flush or 0) + file.lost_flushes} was"
                f" committed, its newest is {file.flush} ({file.lost_flushes} batches at most)"
            )
    if newest and max(newest) > state.applied:
        yield f"results are made again of flushes {state.applied + 1} to {max(newest)}"
    if state.joins:
        yield f"{state.joins} joins are computed anew, since every file is of its own moment"
    if gaps:
        names = ", ".join(map(str, gaps))
        yield f"open windows may lack messages of shard {names}: their batch records are gone"
