"""What makes one directory of files of different moments, file by file."""

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import apsw
import pytest

from litejoin.engine.restored import SKIPPED_POSITIONS
from litejoin.engine.state import StateDatabase
from litejoin.errors import StartRefusedError
from litejoin.records import Row, RowKind, pack_rows
from litejoin.replica.fetch import Found
from litejoin.replica.restore import Fetched, Target
from litejoin.replica.settle import Restored, settle
from litejoin.store.log import ResultLog
from litejoin.store.manifest import Manifest, load_manifest
from litejoin.store.marks import Marks, read_marks
from litejoin.store.quarantine import Damage, read_quarantine, write_quarantine
from litejoin.store.writer import ShardStore

SHARDS = 2
UPTO_MS = 1_700_000_000_000


class Directory:
    """A directory with a topic, an api source, an http source's answers, and results."""

    def __init__(self, root: Path) -> None:
        store = ShardStore.open(
            root, pipeline="p", shard_count=SHARDS, synchronous="full", is_replicated=True
        )
        topic = store.create_topic("orders")
        feed, push = store.source_state("feed").number, store.source_state("push").number
        asyncio.run(store.source_state("feed").mark_started())
        keys = [f"k{n}".encode() for n in range(20)]
        store.flush([pack_rows(Row(topic, RowKind.UPSERT, 1, key, b"1") for key in keys)])
        note = b"note watermark ".ljust(600, b".")
        token = b"note token ".ljust(600, b".")
        store.flush(
            [
                pack_rows(
                    Row(number, RowKind.STATE_UPSERT, 1, key, b"{}", b"h" * 16)
                    for number, key in (
                        *((feed, key) for key in (*keys, note, token)),
                        (push, b"0123456789abcdef0123456789abcdef"),
                    )
                )
            ]
        )
        store.flush([pack_rows(Row(topic, RowKind.UPSERT, 1, key, b"2") for key in keys)])
        self.manifest = load_manifest(store.layout, SHARDS)
        self.layout, self.topic, self.feed, self.push = store.layout, topic, feed, push
        store.close()
        state = StateDatabase(self.layout.state, "full", is_replicated=True)
        state.begin()
        state.join_id("j", "text")
        state.commit(7, 3, frozenset())
        state.close()
        names = [p.name for p in (self.layout.shard(0), self.layout.shard(1), self.layout.state)]
        self.names = names
        sources = {name: root / name for name in names}
        self.target = Target(self.layout, SHARDS, self.layout.dlq, sources)

    def settle(self, *names: str, manifest: Manifest | None = None) -> Restored:
        found = {name: Found("1", UPTO_MS) for name in names or self.names}
        return settle(self.target, Fetched(manifest or self.manifest, found), ["push"])

    def rows(self, number: int, query: str) -> list[tuple[Any, ...]]:
        connection = apsw.Connection(str(self.layout.shard(number)))
        try:
            return connection.execute(query).fetchall()
        finally:
            connection.close()

    def change(self, path: Path, sql: str) -> None:
        connection = apsw.Connection(str(path))
        connection.execute(sql)
        connection.close()

    def meta(self) -> Mapping[str, Any]:
        connection = apsw.Connection(str(self.layout.state))
        try:
            return dict(connection.execute("SELECT name, value FROM meta").fetchall())
        finally:
            connection.close()


@pytest.fixture
def made(tmp_path: Path) -> Directory:
    return Directory(tmp_path / "data")


def test_every_join_is_owed_and_positions_go_on_far_behind(made: Directory) -> None:
    found = made.settle()
    meta = made.meta()
    assert json.loads(meta["owed"]) == [1]
    assert meta["head"] == 7 + SKIPPED_POSITIONS
    log = ResultLog(made.layout.state, "p", made.manifest.epoch)
    assert log.lost() == [(7, 7 + SKIPPED_POSITIONS)]
    log.close()
    assert (found.lost_flushes, found.windows_may_lack) == (0, ())
    assert found.upto == "2023-11-14T22:13:20.000Z"
    assert json.loads((made.layout.root / "restored.json").read_text())["rpo_s"] == found.rpo_s


def test_a_local_results_log_keeps_its_positions(made: Directory) -> None:
    made.settle("shard-0001.db")
    assert (made.meta()["head"], json.loads(made.meta()["owed"])) == (7, [1])


def test_watermarks_and_answers_are_forgotten_and_records_and_tokens_are_not(
    made: Directory,
) -> None:
    made.settle("shard-0001.db")
    keys = [
        key for shard in range(SHARDS)
        for (key,) in made.rows(shard, f"SELECT key FROM s{made.feed} ORDER BY key")
    ]  # fmt: skip
    assert len(keys) == 21 and [k.split()[1] for k in keys if k.startswith("note")] == ["token"]
    assert not any(made.rows(shard, f"SELECT key FROM s{made.push}") for shard in range(SHARDS))


def test_what_a_shard_names_is_added_to_an_older_catalogue(made: Directory) -> None:
    older = Manifest(SHARDS, made.manifest.epoch, created=True)
    made.layout.manifest.unlink()
    made.settle(manifest=older)
    manifest = load_manifest(made.layout, SHARDS)
    assert manifest.topics == {"orders": made.topic}
    assert {name: e.number for name, e in manifest.sources.items()} == {
        "feed": made.feed, "push": made.push,
    }  # fmt: skip
    assert manifest.sources["feed"].started


def test_shards_that_name_a_table_differently_are_refused(made: Directory) -> None:
    made.change(made.layout.shard(1), f"UPDATE meta SET value = 'x' WHERE name = 't{made.topic}'")
    with pytest.raises(StartRefusedError, match="is of 'orders' and of 'x'"):
        made.settle()


def test_a_lost_tail_is_told_and_then_the_mark_is_what_the_shard_has(made: Directory) -> None:
    saved = read_marks(made.layout.marks, SHARDS)
    assert saved is not None
    Marks.create(made.layout.marks, [saved.seqs[0], saved.seqs[1] + 5], synced=True).close()
    write_quarantine(made.layout.quarantine, {1: Damage("bits", "then")})
    found = made.settle("shard-0001.db")
    [file] = found.files
    assert (found.lost_flushes, file.lost_flushes, file.flush) == (5, 5, saved.seqs[1])
    assert "lost commits: flush" in found.notices[0]
    assert read_quarantine(made.layout.quarantine) == {}
    store = ShardStore.open(
        made.layout.root, pipeline="p", shard_count=SHARDS, synchronous="full", is_replicated=True
    )
    assert (store.quarantine.shards, store.notices) == (frozenset(), [])
    store.close()


def test_messages_that_no_file_has_any_more_are_told(made: Directory) -> None:
    made.change(made.layout.state, "UPDATE meta SET value = 1 WHERE name = 'applied'")
    assert made.settle().windows_may_lack == ()  # the records from flush 1 on are there
    made.change(made.layout.shard(0), "DELETE FROM batches WHERE seq <= 2")
    found = made.settle()
    assert found.windows_may_lack == (0,)
    assert "open windows may lack messages of shard 0" in found.notices[-1]


def test_it_can_be_repeated(made: Directory) -> None:
    made.settle()
    made.settle()
    assert made.meta()["head"] == 7 + 2 * SKIPPED_POSITIONS
    assert not (made.layout.root / "restore.json").exists()
