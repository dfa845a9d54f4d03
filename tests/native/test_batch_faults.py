"""Whatever SQLite answers and whatever is in a batch: an error of our tree, a rolled-back shard, a
writer that goes on; never a crash, never half a batch.
"""

import random
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st

from litejoin._ext.batch import BatchWriter
from litejoin._ext.route import shard_of
from litejoin.errors import CorruptionError, StorageError, StorageFullError, StorageIOError
from litejoin.records import ROW_HEADER, Row, RowKind, pack_rows, unpack_rows
from litejoin.store.changes import unpack_changes
from litejoin.store.shard import Identity, create_deletes_table, create_topic_table, initialize
from litejoin.store.sqlite import load_native

SHARDS = 3
Pairs = list[tuple[int, apsw.Connection]]


def open_file(path: Path, number: int, vfs: str | None = None) -> apsw.Connection:
    load_native()
    connection = apsw.Connection(str(path), vfs=vfs)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    initialize(connection, Identity(number, "e"))
    create_topic_table(connection, 1, time_index=True)
    return connection


@pytest.fixture
def shards(tmp_path: Path) -> Iterator[Pairs]:
    pairs = [(n, open_file(tmp_path / f"{n}.db", n)) for n in range(SHARDS)]
    yield pairs
    for _, connection in pairs:
        connection.close()


@pytest.fixture(params=[False, True], ids=["in turn", "together"])
def together(request: pytest.FixtureRequest) -> bool:
    """Do the shards commit at the same time?"""
    return bool(request.param)


@pytest.fixture
def writer(shards: Pairs, together: bool) -> Iterator[BatchWriter]:
    writer = BatchWriter(shards, SHARDS, together=together)
    yield writer
    writer.close()


def upserts(count: int, payload: str = "{}") -> bytes:
    return pack_rows(
        Row(1, RowKind.UPSERT, 5, f"k{n}".encode(), payload.encode()) for n in range(count)
    )


def stored(pairs: Pairs) -> dict[str, str]:
    found: dict[str, str] = {}
    for _, connection in pairs:
        found.update(connection.execute("SELECT key, payload FROM t1"))  # type: ignore[arg-type]
    return found


def raw(**fields: object) -> bytes:
    """One row whose head says what the test wants, however wrong."""
    head = {
        "size": 40, "table": 1, "kind": 1, "flags": 0, "ts": 5,
        "key_len": 1, "payload_len": 2, "extra_len": 0, "reserved": 0, **fields,
    }  # fmt: skip
    body = head.pop("body", b"k{}")
    assert isinstance(body, bytes)
    return (ROW_HEADER.pack(*head.values()) + body).ljust(40, b"\0")


BAD = [
    (b"\0" * 31, "cut inside the head"),
    (raw()[:39], "size does not fit"),
    (raw(size=0), "size does not fit"),
    (raw(size=36), "size does not fit"),
    (raw(size=48), "size does not fit"),
    (raw(key_len=0), "empty key"),
    (raw(key_len=2**32 - 1), "size does not fit"),
    (raw(payload_len=2**32 - 1), "size does not fit"),
    (raw(extra_len=2**32 - 1, key_len=2**32 - 1), "size does not fit"),
    (raw(kind=0), "unknown kind"),
    (raw(kind=5), "unknown kind"),
    (raw(flags=1), "unknown flags"),
    (raw(kind=2, flags=2), "unknown flags"),
    (raw(kind=2, flags=4), "unknown flags"),
    (raw(kind=4, flags=4), "unknown flags"),
    (raw(reserved=1), "reserved bytes"),
    (raw(kind=3), "a state row.s hash has 16 bytes"),
    (raw(body=b"\0{}"), "key is not UTF-8 text without NUL"),
    (raw(body=b"\xff{}"), "key is not UTF-8 text"),
    (raw(body=b"k\xed\xa0\x80", payload_len=3), "payload is not UTF-8 text"),
    (raw(body=b"k\xc0\x80"), "payload is not UTF-8 text"),
    (raw(body=b"k\xf4\x90\x80\x80", payload_len=4), "payload is not UTF-8 text"),
    (raw(body=b"k{\0"), "payload is not UTF-8 text without NUL"),
    (raw(body=b"k{}\xff", extra_len=1), "changes are not UTF-8 text"),
    (pack_rows([Row(1, RowKind.UPSERT, 1, b"k" * 65_537, b"1")]), "key longer than 64 KiB"),
]


@pytest.mark.parametrize(("bad", "reason"), BAD)
def test_a_malformed_batch_is_refused_before_anything_is_written(
    shards: Pairs, writer: BatchWriter, bad: bytes, reason: str
) -> None:
    with pytest.raises(ValueError, match=f"batch 1, row at byte 40: {reason}"):
        writer.write([upserts(9), raw() + bad], 1)
    assert stored(shards) == {}
    assert writer.write([upserts(9)], 1).rows == 9


@given(st.binary(max_size=200), st.integers(0, 400), st.integers(0, 255))
def test_no_bytes_crash_the_writer(noise: bytes, at: int, byte: int) -> None:
    connection = apsw.Connection(":memory:")
    load_native()
    initialize(connection, Identity(0, "e"))
    create_topic_table(connection, 1, time_index=False)
    writer = BatchWriter([(0, connection)], 1)
    flipped = bytearray(upserts(9, '{"é":1}'))
    flipped[at % len(flipped)] = byte
    for batch in (noise, bytes(flipped), bytes(flipped[: at % len(flipped)])):
        try:
            rows = writer.write([batch], 1).rows
        except (ValueError, StorageError):  # an unknown table is SQLite's to refuse
            continue
        finally:
            connection.execute("DELETE FROM batches")
        assert rows == len(list(unpack_rows(batch)))
    writer.close()
    connection.close()


@pytest.mark.parametrize("size", [10_000_000, 1_000_001])
def test_large_payloads_round_trip(shards: Pairs, writer: BatchWriter, size: int) -> None:
    first, second = "a" * size, "é" * (size // 2)
    writer.write([upserts(1, first)], 1)
    (change,) = unpack_changes(writer.write([upserts(1, second)], 2).changes)
    assert change.new and change.new.payload == second.encode()
    assert change.old and change.old.payload == first.encode()
    assert stored(shards) == {"k0": second}


def test_a_batch_is_bytes(writer: BatchWriter) -> None:
    with pytest.raises(TypeError, match="a batch is bytes, not str"):
        writer.write(["x"], 1)  # type: ignore[list-item]


def test_an_unknown_table_rolls_everything_back(shards: Pairs, writer: BatchWriter) -> None:
    alien = pack_rows([Row(9, RowKind.UPSERT, 1, b"z", b"1")])
    with pytest.raises(StorageError, match="table t9: no such table") as caught:
        writer.write([upserts(9), alien], 1)
    assert caught.value.shard == shard_of("z", SHARDS)
    assert stored(shards) == {}
    assert writer.write([upserts(9)], 1).rows == 9


def test_a_raising_trigger_rolls_every_shard_back(shards: Pairs, writer: BatchWriter) -> None:
    victim = shard_of("k7", SHARDS)
    shards[victim][1].execute(
        "CREATE TRIGGER no BEFORE INSERT ON t1 WHEN NEW.key = 'k7'"
        " BEGIN SELECT RAISE(ABORT, 'no k7'); END"
    )
    with pytest.raises(StorageError, match="table t1: no k7") as caught:
        writer.write([upserts(20)], 1)
    assert caught.value.shard == victim
    assert caught.value.extended == apsw.SQLITE_CONSTRAINT_TRIGGER
    assert stored(shards) == {}
    shards[victim][1].execute("DROP TRIGGER no")
    assert writer.write([upserts(20)], 1).rows == 20


def test_a_delete_that_cannot_be_kept_is_not_made(shards: Pairs, writer: BatchWriter) -> None:
    for _, connection in shards:
        create_deletes_table(connection, 1)
        connection.execute(
            "CREATE TRIGGER no BEFORE INSERT ON d1 BEGIN SELECT RAISE(ABORT, 'no d1'); END"
        )
    writer.keep_deletes(1)
    writer.write([upserts(1)], 1)
    with pytest.raises(StorageError, match="table t1: no d1"):
        writer.write([pack_rows([Row(1, RowKind.DELETE, 1, b"k0")])], 2)
    assert set(stored(shards)) == {"k0"}


def test_an_interrupt_at_any_step_leaves_nothing_half_done(
    shards: Pairs, writer: BatchWriter
) -> None:
    """SQLite is stopped at the nth progress call, for every n until the flush comes through."""
    writer.write([upserts(6, "old")], 1)
    refused = 0
    for n in range(1, 2000):
        for _, connection in shards:
            left = [n]

            def stop(left: list[int] = left) -> bool:
                left[0] -= 1
                return left[0] == 0

            connection.set_progress_handler(stop, 3)
        try:
            writer.write([upserts(6, "new")], 1 + n)
            break
        except StorageError as error:
            assert error.extended & 0xFF == apsw.SQLITE_INTERRUPT
            refused += 1
            for _, connection in shards:
                connection.set_progress_handler(None)
            # COMMIT too can be stopped; then the shards before it have committed, as documented.
            if "commit" not in str(error):
                assert set(stored(shards).values()) == {"old"}
    for _, connection in shards:
        connection.set_progress_handler(None)
    assert refused > 10
    assert set(stored(shards).values()) == {"new"}


def test_a_full_disk_rolls_back_its_shard_only(shards: Pairs, writer: BatchWriter) -> None:
    writer.write([upserts(30, "old")], 1)
    full = shards[1][1]
    pages = full.execute("PRAGMA page_count").get
    full.execute(f"PRAGMA max_page_count = {pages}")
    big = "x" * 5000
    result = writer.write([upserts(30, big)], 2)
    assert result.full_shards == (1,)
    assert result.committed == (0, 2)
    kept = {key for key, payload in stored(shards).items() if payload == "old"}
    assert kept == {f"k{n}" for n in range(30) if shard_of(f"k{n}", SHARDS) == 1}
    assert {change.shard for change in unpack_changes(result.changes)} == {0, 2}
    assert result.rows == 30 - len(kept)
    full.execute("PRAGMA max_page_count = 1000000")
    again = writer.write([upserts(30, big)], 3)
    assert (again.full_shards, again.rows) == ((), 30)
    assert set(stored(shards).values()) == {big}


def test_a_disk_that_fills_at_any_page_never_leaves_half_a_shard(
    shards: Pairs, writer: BatchWriter
) -> None:
    """SQLITE_FULL at the nth page that is asked for, for every n until the flush comes through."""
    writer.write([upserts(60, "old" * 100)], 1)
    connection = shards[0][1]
    pages = int(connection.execute("PRAGMA page_count").get)
    fresh = "new" * 300
    for n in range(200):
        connection.execute(f"PRAGMA max_page_count = {pages + n}")
        result = writer.write([upserts(60, fresh)], 2 + n)
        found = {p for (p,) in connection.execute("SELECT DISTINCT payload FROM t1")}
        if not result.full_shards:
            assert found == {fresh}
            break
        assert result.full_shards == (0,)
        assert found == {"old" * 100}
    assert n > 3


def test_a_read_only_database_is_an_error(tmp_path: Path) -> None:
    open_file(tmp_path / "x.db", 0).close()
    connection = apsw.Connection(str(tmp_path / "x.db"), flags=apsw.SQLITE_OPEN_READONLY)
    writer = BatchWriter([(0, connection)], 1)
    with pytest.raises(StorageError, match="readonly database") as caught:
        writer.write([upserts(1)], 1)
    assert caught.value.extended & 0xFF == apsw.SQLITE_READONLY
    writer.close()


def test_a_locked_database_is_an_error(tmp_path: Path) -> None:
    connection = open_file(tmp_path / "x.db", 0)
    other = apsw.Connection(str(tmp_path / "x.db"))
    other.execute("BEGIN IMMEDIATE")
    writer = BatchWriter([(0, connection)], 1)
    with pytest.raises(StorageError, match="begin: database is locked"):
        writer.write([upserts(1)], 1)
    other.execute("ROLLBACK")
    assert writer.write([upserts(1)], 1).rows == 1
    writer.close()


def test_overwritten_pages_are_corruption(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    connection = open_file(path, 0)
    first = BatchWriter([(0, connection)], 1)
    first.write([upserts(2000, "x" * 100)], 1)
    first.close()
    connection.close()
    data = bytearray(path.read_bytes())
    data[8192:] = random.Random(3).randbytes(len(data) - 8192)
    path.write_bytes(data)
    connection = apsw.Connection(str(path))
    writer = BatchWriter([(0, connection)], 1)
    with pytest.raises(CorruptionError) as caught:
        writer.write([upserts(2000)], 2)
    assert caught.value.shard == 0
    writer.close()


class FailingVFS(apsw.VFS):
    """The real files, with a call that fails on demand."""

    def __init__(self, name: str) -> None:
        self.fail: tuple[str, type[apsw.Error]] | None = None
        self.barrier: threading.Barrier | None = None
        """Where syncs wait for each other."""
        super().__init__(name, "")

    def xOpen(self, name: str, flags: list[int]) -> "FailingFile":
        return FailingFile(self, name, flags)


class FailingFile(apsw.VFSFile):
    def __init__(self, vfs: FailingVFS, name: str, flags: list[int]) -> None:
        self._vfs = vfs
        self._is_wal = bool(flags[0] & apsw.SQLITE_OPEN_WAL)
        super().__init__("", name, flags)

    def _check(self, call: str) -> None:
        if self._is_wal and self._vfs.fail and self._vfs.fail[0] == call:
            raise self._vfs.fail[1]

    def xWrite(self, data: bytes, offset: int) -> None:
        self._check("write")
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:
        self._check("sync")
        if self._is_wal and self._vfs.barrier:
            self._vfs.barrier.wait(30)
        super().xSync(flags)


@pytest.fixture
def failing() -> Iterator[FailingVFS]:
    load_native()
    vfs = FailingVFS("failing")
    yield vfs
    vfs.unregister()


# apsw also shows what the failing file raised: the caller here is C, which cannot take it.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    ("call", "error", "expected"),
    [
        ("write", apsw.IOError, StorageIOError),
        ("sync", apsw.IOError, StorageIOError),
        ("write", apsw.FullError, StorageFullError),
    ],
)
def test_a_commit_that_fails(
    tmp_path: Path,
    failing: FailingVFS,
    together: bool,
    call: str,
    error: type[apsw.Error],
    expected: type[StorageError],
) -> None:
    pairs = [(n, open_file(tmp_path / f"{n}.db", n, vfs="failing")) for n in range(SHARDS)]
    writer = BatchWriter(pairs, SHARDS, together=together)
    writer.write([upserts(9, "old")], 1)
    writer.prepare([upserts(9, "new")], 2)
    failing.fail = (call, error)
    if expected is StorageFullError:
        assert writer.commit().full_shards == (0, 1, 2)
    else:
        with pytest.raises(expected, match="shard 0: commit"):
            writer.commit()
    failing.fail = None
    assert set(stored(pairs).values()) == {"old"}
    assert writer.write([upserts(9, "new")], 3).rows == 9
    writer.close()
    for _, connection in pairs:
        connection.close()


def test_one_commit_of_several_that_fails_is_the_one_that_is_told(
    shards: Pairs, writer: BatchWriter, together: bool
) -> None:
    """A hook that refuses stands for the disk. In turn, the shards behind it are rolled back; those
    that commit together with it are not.
    """
    writer.write([upserts(30, "old")], 1)
    shards[1][1].set_commit_hook(lambda: True)
    with pytest.raises(StorageError, match="shard 1: commit"):
        writer.write([upserts(30, "new")], 2)
    shards[1][1].set_commit_hook(None)
    payloads = [{p for (p,) in c.execute("SELECT DISTINCT payload FROM t1")} for _, c in shards]
    assert payloads == [{"new"}, {"old"}, {"new" if together else "old"}]
    assert writer.write([upserts(30, "new")], 3).rows == 30


def test_commits_together_wait_for_each_other(tmp_path: Path, failing: FailingVFS) -> None:
    """Every shard's sync is entered before one is let go: they are not done one by one."""
    pairs = [(n, open_file(tmp_path / f"{n}.db", n, vfs="failing")) for n in range(SHARDS)]
    writer = BatchWriter(pairs, SHARDS, together=True)
    failing.barrier = threading.Barrier(SHARDS)
    assert writer.write([upserts(30)], 1).committed == (0, 1, 2)
    assert not failing.barrier.broken
    failing.barrier = None
    writer.close()
    for _, connection in pairs:
        connection.close()


def test_prepare_and_commit_come_in_pairs(writer: BatchWriter) -> None:
    with pytest.raises(RuntimeError, match="without prepare"):
        writer.commit()
    with pytest.raises(RuntimeError, match="without prepare"):
        writer.rollback()
    writer.prepare([upserts(1)], 1)
    with pytest.raises(RuntimeError, match="without prepare, or the other way round"):
        writer.prepare([upserts(1)], 2)
    writer.rollback()


def test_a_second_thread_is_told_so(shards: Pairs, writer: BatchWriter) -> None:
    entered, leave = threading.Event(), threading.Event()

    def wait() -> bool:
        entered.set()
        leave.wait(10)
        return False

    shards[0][1].set_progress_handler(wait, 1)
    thread = threading.Thread(target=writer.write, args=([upserts(9)], 1))
    thread.start()
    assert entered.wait(10)
    with pytest.raises(RuntimeError, match="in use by another thread"):
        writer.write([upserts(9)], 2)
    leave.set()
    thread.join()
    shards[0][1].set_progress_handler(None)
    assert writer.write([upserts(9)], 3).rows == 9


def test_a_closed_writer_says_so(shards: Pairs) -> None:
    writer = BatchWriter(shards, SHARDS)
    writer.prepare([upserts(3)], 1)
    writer.close()
    writer.close()
    assert stored(shards) == {}
    for call in (lambda: writer.write([], 1), writer.commit):
        with pytest.raises(RuntimeError):
            call()


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda c: BatchWriter([], 1), "0 connections"),
        (lambda c: BatchWriter([(0, c)], 0), "for 0 shards"),
        (lambda c: BatchWriter([(0, c)], 257), "for 257 shards"),
        (lambda c: BatchWriter([(2, c)], 2), "shard 2 of 2"),
        (lambda c: BatchWriter([(0, c), (0, c)], 2), "given twice"),
    ],
)
def test_a_group_of_shards_is_checked(
    shards: Pairs, build: Callable[[apsw.Connection], BatchWriter], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        build(shards[0][1])


def test_a_database_without_the_stores_tables_is_refused() -> None:
    load_native()
    with pytest.raises(StorageError, match="prepare: no such table: batches"):
        BatchWriter([(0, apsw.Connection(":memory:"))], 1)


def resident_kib() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4


def test_statements_and_memory_are_given_back(tmp_path: Path) -> None:
    """A statement that were left open would keep the connection from closing."""
    connection = open_file(tmp_path / "x.db", 0)
    batch = upserts(2000, "x" * 500)
    for seq in range(1, 61):
        if seq == 20:  # warm: SQLite's page cache is full
            before = resident_kib()
        writer = BatchWriter([(0, connection)], 1)
        writer.trim(0, seq - 1)
        writer.write([batch], seq)
        with pytest.raises(ValueError, match="cut"):
            writer.write([batch, b"x"], seq)
        writer.close()
    assert resident_kib() - before < 10_000, "one flush leaked each time would be 80 MB"
    connection.close()
    assert struct.unpack(">H", (tmp_path / "x.db").read_bytes()[16:18]) == (4096,)
    assert not (tmp_path / "x.db-wal").exists()
