"""What the store promises about its directory: catalogue, flushes, records, a clean close."""

from collections.abc import Callable
from pathlib import Path

import pytest

from litejoin.errors import BadRowError, CorruptionError, StartRefusedError
from litejoin.store.changes import unpack_changes
from litejoin.store.layout import Layout
from litejoin.store.sqlite import open_database
from litejoin.store.writer import ShardStore
from tests.harness.waiting import eventually

Opener = Callable[..., ShardStore]
Builder = Callable[..., bytes]


def test_rows_topics_and_records_survive_a_restart(open_store: Opener, upserts: Builder) -> None:
    store = open_store()
    topic = store.create_topic("orders")
    first = store.flush([upserts(topic, 10)])
    second = store.flush([upserts(topic, 4, "1")])
    assert (first.rows, second.rows, second.seq) == (10, 4, first.seq + 1)
    assert len(list(unpack_changes(second.changes[0]))) == 4
    epoch = store.epoch
    store.close()

    store = open_store()
    assert store.topics() == {"orders": topic}
    assert (store.epoch, store.last_seq) == (epoch, second.seq)
    seqs = [seq for shard in (0, 1) for seq, _ in store.unapplied(shard, first.seq)]
    assert set(seqs) == {second.seq}
    counts = [r.execute(f"SELECT count(*) FROM t{topic}").get for r in store.open_readers()]
    assert sum(counts) == 10


def test_a_topic_named_by_a_push_gets_its_tables_with_the_flush(
    open_store: Opener, upserts: Builder
) -> None:
    store = open_store()
    number = store.topic_number("late")
    assert store.topic_number("late") == number
    assert store.flush([upserts(number, 3)]).rows == 3


@pytest.mark.parametrize("name", ["", "1a", "a b", "sqlite_x", "SQLite_x", "a" * 129, "é", "a\n"])
def test_a_name_that_is_none_is_refused(open_store: Opener, name: str) -> None:
    with pytest.raises(BadRowError, match="is not a name"):
        open_store().topic_number(name)


def test_names_that_differ_in_case_only_are_refused(open_store: Opener) -> None:
    store = open_store()
    store.topic_number("Orders")
    with pytest.raises(BadRowError, match="differs from 'Orders' only in case"):
        store.topic_number("orders")


def test_the_number_of_topics_is_bounded(open_store: Opener) -> None:
    store = open_store(1)
    for n in range(1000):
        store.topic_number(f"t{n}")
    with pytest.raises(BadRowError, match="at most 1,000 topics"):
        store.topic_number("one_more")


def test_names_of_which_one_is_refused_become_no_topics(open_store: Opener) -> None:
    store = open_store(1)
    with pytest.raises(BadRowError, match="is not a name") as refused:
        store.topic_numbers(["a", "b", "sqlite_x", "c"])
    assert refused.value.row == 2
    with pytest.raises(BadRowError, match="at most 1,000 topics"):
        store.topic_numbers([f"t{n}" for n in range(1001)])
    assert store.topics() == {}
    assert store.topic_numbers(["a", "b"]) == [1, 2]


def test_the_config_may_name_topics_beyond_the_bound(open_store: Opener) -> None:
    store = open_store(1)
    store.topic_numbers([f"t{n}" for n in range(1000)])
    assert store.create_topic("orders") == 1001
    assert store.topic_numbers(["orders"]) == [1001]


def test_the_time_index_follows_the_configuration(open_store: Opener) -> None:
    def has_index(store: ShardStore) -> bool:
        (reader, *_) = store.open_readers()
        query = "SELECT count(*) FROM sqlite_schema WHERE name = 't1_time'"
        return reader.execute(query).get == 1

    for wanted in (False, True, False):
        store = open_store(has_time_index=lambda topic, wanted=wanted: wanted)
        store.create_topic("orders")
        assert has_index(store) is wanted
        store.close()


def test_close_leaves_no_wal_and_only_private_files(
    open_store: Opener, upserts: Builder, tmp_path: Path
) -> None:
    store = open_store()
    store.open_readers()
    store.flush([upserts(store.create_topic("orders"), 10)])
    assert list((tmp_path / "data").glob("*-wal"))
    store.close()
    files = list((tmp_path / "data").iterdir())
    assert {f.name for f in files} == {
        "lock", "manifest.json", "marks", "shard-0000.db", "shard-0001.db",
    }  # fmt: skip
    assert {f.stat().st_mode & 0o777 for f in files} == {0o600}
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700


def test_trimmed_records_go_with_the_next_flush(open_store: Opener, upserts: Builder) -> None:
    store = open_store(1)
    topic = store.create_topic("orders")
    seqs = [store.flush([upserts(topic, 1, f"{n}")]).seq for n in range(3)]
    store.trim_batches({0: seqs[1]})
    last = store.flush([upserts(topic, 1, "9")]).seq
    assert [seq for seq, _ in store.unapplied(0, 0)] == [seqs[2], last]


def test_a_changed_record_is_noticed(open_store: Opener, upserts: Builder, tmp_path: Path) -> None:
    store = open_store(1)
    store.flush([upserts(store.create_topic("orders"), 1)])
    connection = open_database(Layout(tmp_path / "data").shard(0))
    connection.execute("UPDATE batches SET body = zeroblob(length(body))")
    connection.close()
    with pytest.raises(CorruptionError, match="batch record of flush 1 is not what was written"):
        list(store.unapplied(0, 0))
    store.close()
    with pytest.raises(
        StartRefusedError, match="every shard is damaged; shard 0: the batch record"
    ):
        open_store(1)


def test_skip_to_keeps_numbers_rising(open_store: Opener, upserts: Builder) -> None:
    store = open_store(1)
    store.skip_to(41)
    assert store.flush([upserts(store.create_topic("orders"), 1)]).seq == 42


def test_a_closed_store_says_so(open_store: Opener) -> None:
    store = open_store(1)
    store.close()
    with pytest.raises(RuntimeError, match="the store is closed"):
        store.flush([])


def test_another_shard_count_is_refused(open_store: Opener) -> None:
    open_store(2).close()
    with pytest.raises(StartRefusedError, match="shard_count 2, not 3"):
        open_store(3)


@pytest.mark.parametrize("synchronous", ["full", "normal"])
def test_marks_are_as_durable_as_the_commits_that_they_mark(
    open_store: Opener, upserts: Builder, monkeypatch: pytest.MonkeyPatch, synchronous: str
) -> None:
    store = open_store(synchronous=synchronous)
    topic = store.create_topic("orders")
    synced: list[Path] = []

    def note(fd: int) -> None:
        synced.append(Path(f"/proc/self/fd/{fd}").readlink())

    monkeypatch.setattr("litejoin.store.marks.os.fdatasync", note)
    store.flush([upserts(topic, 1)])
    if synchronous == "full":
        eventually(lambda: synced)
    store.close()
    assert set(synced) == ({store.layout.marks} if synchronous == "full" else set())
