"""A data directory that does not match is refused and left as it is; a lost tail is named."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from litejoin.errors import DataDirInUseError, StartRefusedError
from litejoin.records import Row, RowKind, pack_rows
from litejoin.store import marks
from litejoin.store.check import release
from litejoin.store.layout import Layout
from litejoin.store.sqlite import open_database
from litejoin.store.writer import ShardStore

SHARDS = 3
Opener = Callable[..., ShardStore]


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "data")


@pytest.fixture
def open_store(layout: Layout) -> Iterator[Opener]:
    opened: list[ShardStore] = []

    def open_it(synchronous: str = "normal", shard_count: int = SHARDS) -> ShardStore:
        store = ShardStore.open(
            layout.root,
            pipeline="p",
            shard_count=shard_count,
            synchronous=synchronous,  # type: ignore[arg-type]
        )
        opened.append(store)
        return store

    yield open_it
    for store in opened:
        store.close()


@pytest.fixture
def filled(open_store: Opener, layout: Layout) -> Layout:
    """A directory that a store has written and closed."""
    store = open_store()
    topic = store.create_topic("orders")
    for payload in ("1", "2"):
        store.flush([rows(topic, payload)])
    store.close()
    return layout


def rows(topic: int, payload: str) -> bytes:
    keys = (f"k{n}".encode() for n in range(30))
    return pack_rows(Row(topic, RowKind.UPSERT, 1, key, payload.encode()) for key in keys)


def contents(layout: Layout) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in layout.root.iterdir() if path.name != "lock"}


def edit_manifest(layout: Layout, **fields: object) -> None:
    body = json.loads(layout.manifest.read_text())
    layout.manifest.write_text(json.dumps({**body, **fields}))


Damage = Callable[[Layout], object]
DAMAGES: list[tuple[Damage, str]] = [
    (lambda d: edit_manifest(d, format=2), "has format 2"),
    (lambda d: edit_manifest(d, hash="md5"), "with hash 'md5'"),
    (lambda d: edit_manifest(d, shard_count=4), "was made with shard_count 4, not 3"),
    (lambda d: edit_manifest(d, epoch="x"), "damaged manifest.json"),
    (lambda d: edit_manifest(d, epoch="0" * 32), "belongs to another data_dir"),
    (lambda d: edit_manifest(d, topics=[]), "damaged manifest.json"),
    (lambda d: edit_manifest(d, topics={"a": True}), "damaged manifest.json"),
    (lambda d: edit_manifest(d, sources={"a": {"number": 1}}), "damaged manifest.json"),
    (lambda d: d.manifest.write_text("{"), "unreadable manifest.json"),
    (lambda d: d.manifest.write_text("[]"), "no object"),
    (lambda d: d.manifest.unlink(), "3 shard files but no manifest.json"),
    (lambda d: d.shard(1).unlink(), "lacks shard-0001.db"),
    (lambda d: shutil.copy(d.shard(1), d.shard(7)), "has shard-0007.db, not one of its 3"),
    (lambda d: shutil.copy(d.shard(1), d.shard(2)), "another shard's file"),
    (lambda d: d.marks.write_bytes(b"LJMARKS1"), "marks is damaged"),
    (lambda d: d.marks.write_bytes(bytes(2000)), "marks is damaged"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGES)
def test_a_directory_that_does_not_match_is_refused_and_left_alone(
    filled: Layout, open_store: Opener, damage: Damage, message: str
) -> None:
    damage(filled)
    before = contents(filled)
    with pytest.raises(StartRefusedError, match=message) as caught:
        open_store()
    assert caught.value.hint
    assert contents(filled) == before


def test_a_first_start_that_was_cut_short_goes_on(filled: Layout, open_store: Opener) -> None:
    """The manifest is written before the shards: a crash between leaves some of them unmade."""
    edit_manifest(filled, created=False)
    filled.shard(2).unlink()
    filled.marks.unlink()
    assert open_store().flush([rows(1, "3")]).rows == 30


def test_a_number_that_every_shard_has_lost_is_not_given_out_again(
    filled: Layout, open_store: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    for shard in range(SHARDS):
        roll_back(filled, shard)
    monkeypatch.setattr(marks, "boot_id", lambda: b"another boot id.")
    assert open_store().flush([rows(1, "3")]).seq == 3


def test_the_manifest_is_there_before_any_shard(
    layout: Layout, open_store: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut_short(_connection: object, path: Path, _identity: object) -> None:
        raise StartRefusedError(f"no more than {path.name}")

    with monkeypatch.context() as broken:
        broken.setattr("litejoin.store.shard.check_identity", cut_short)
        with pytest.raises(StartRefusedError, match="no more than"):
            open_store()
    assert layout.shard_numbers() == [0]
    assert len(open_store().open_readers()) == SHARDS


def test_a_topic_whose_tables_were_not_made_gets_them(filled: Layout, open_store: Opener) -> None:
    edit_manifest(filled, topics={"orders": 1, "users": 2})
    assert open_store().flush([rows(2, "1")]).rows == 30


def roll_back(layout: Layout, shard: int) -> None:
    """What damage in the middle of a WAL does: the last commits are gone and nothing says so."""
    connection = open_database(layout.shard(shard))
    connection.execute("DELETE FROM batches WHERE seq = (SELECT max(seq) FROM batches)")
    connection.close()


def test_a_lost_tail_is_named(filled: Layout, open_store: Opener) -> None:
    roll_back(filled, 1)
    for _ in range(2):  # neither the mark nor the quarantine is forgotten
        store = open_store()
        lost = "lost commits: flush 2 was committed, its newest is 1 (1 batches at most are lost)"
        assert store.quarantine.reasons() == {1: lost}
        store.close()
    filled.quarantine.unlink()
    store = open_store()
    assert store.quarantine.reasons() == {1: lost}
    store.close()
    filled.marks.unlink()
    filled.quarantine.unlink()
    store = open_store()
    assert "marks was missing" in store.notices[0]


def test_a_shard_that_is_released_without_its_lost_commits_is_in_service(
    filled: Layout, open_store: Opener
) -> None:
    roll_back(filled, 1)
    open_store().close()
    assert release(filled, SHARDS, 1, "p").status == "ok"
    store = open_store()
    assert not store.quarantine.shards
    assert store.flush([rows(1, "3")]).seq == 3


@pytest.mark.parametrize("which", ["max(id)", "min(id)"])
def test_a_start_looks_at_the_newest_rows(filled: Layout, open_store: Opener, which: str) -> None:
    connection = open_database(filled.shard(1))
    connection.execute(f"UPDATE t1 SET payload = '3' WHERE id = (SELECT {which} FROM t1)")
    connection.close()
    assert list(open_store().quarantine.reasons()) == [1]


def test_a_shard_that_lost_all_of_its_commits_is_named_too() -> None:
    saved = marks.SavedMarks((2, 3, 0), synced=True, same_boot=True)
    assert marks.lost_tails(saved, [0, 3, 0]) == {
        0: "lost commits: flush 2 was committed, its newest is 0 (2 batches at most are lost)"
    }


@pytest.mark.parametrize(("synchronous", "refused"), [("full", True), ("normal", False)])
def test_after_a_power_loss_only_unsynced_commits_may_be_missing(
    filled: Layout,
    open_store: Opener,
    monkeypatch: pytest.MonkeyPatch,
    synchronous: str,
    refused: bool,
) -> None:
    open_store(synchronous).close()
    roll_back(filled, 0)
    monkeypatch.setattr(marks, "boot_id", lambda: b"another boot id.")
    store = open_store(synchronous)
    if refused:
        assert "lost commits" in store.quarantine.reasons()[0]
        return
    assert not store.quarantine.shards
    assert "shard 0 lost commits" in store.notices[0]
    assert store.flush([rows(1, "3")]).seq == 3, "a number that was lost is not given out again"


@pytest.mark.parametrize("area", [0, 1])
def test_a_torn_write_of_the_marks_costs_nothing(
    filled: Layout, open_store: Opener, area: int
) -> None:
    data = bytearray(filled.marks.read_bytes())
    data[512 * (1 + area) + 9] ^= 0xFF
    filled.marks.write_bytes(data)
    assert open_store().last_seq == 2


CHILD = """
import sys
from pathlib import Path
from litejoin.records import Row, RowKind, pack_rows
from litejoin.store.writer import ShardStore

store = ShardStore.open(Path(sys.argv[1]), pipeline="shop", shard_count=3, synchronous="normal")
topic = store.create_topic("orders")
n = 0
while True:
    keys = [f"k{n + i}".encode() for i in range(20)]
    store.flush([pack_rows(Row(topic, RowKind.UPSERT, 1, key, b"{}") for key in keys)])
    n += 20
    print(n, flush=True)
"""


@pytest.fixture
def child(layout: Layout) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(layout.root)], stdout=subprocess.PIPE, text=True
    )
    yield process
    process.kill()
    process.wait()
    assert process.stdout
    process.stdout.close()


def test_a_second_process_is_refused_at_once_and_told_who_holds_it(
    child: "subprocess.Popen[str]", open_store: Opener
) -> None:
    assert child.stdout and child.stdout.readline()
    started = time.monotonic()
    with pytest.raises(DataDirInUseError, match=rf"process {child.pid} \(pipeline shop\)"):
        open_store()
    assert time.monotonic() - started < 1


@pytest.mark.parametrize("flushes", [1, 40, 90])
def test_kill_9_loses_no_flush_that_returned(
    child: "subprocess.Popen[str]", open_store: Opener, flushes: int
) -> None:
    assert child.stdout
    acked = 0
    for _ in range(flushes):
        acked = int(child.stdout.readline())
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    whole_lines = child.stdout.read().rpartition("\n")[0]
    acked = int((whole_lines.split() or [str(acked)])[-1])
    store = open_store()
    assert store.notices == []
    found = {
        key for reader in store.open_readers() for (key,) in reader.execute("SELECT key FROM t1")
    }
    assert {f"k{n}" for n in range(acked)} <= found
    assert {list(store.unapplied(shard, 0))[-1][0] for shard in range(SHARDS)} <= {
        store.last_seq,
        store.last_seq - 1,
    }


def test_the_lock_is_not_inherited(open_store: Opener) -> None:
    store = open_store()
    sleeper = subprocess.Popen(["sleep", "60"], close_fds=False)
    try:
        store.close()
        open_store()
    finally:
        sleeper.kill()
        sleeper.wait()
