"""The checkpoint rule: a write-ahead log that starts again while Litestream is away takes commits
with it which the replica then lacks without a word. So the logs of a replicated store never do.
"""

import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from litejoin.engine.state import StateDatabase
from litejoin.records import Row, RowKind, pack_rows
from litejoin.replica.binary import environment, require_litestream
from litejoin.store import checkpoint
from litejoin.store.layout import Layout, wal_of
from litejoin.store.writer import ShardStore


def header(path: Path) -> bytes:
    """Salts of a log: others when it has started again."""
    return wal_of(path).read_bytes()[:32]


def batch(topic: int, start: int, count: int) -> bytes:
    return pack_rows(
        Row(topic, RowKind.UPSERT, 1, f"k{n}".encode(), b'"%d%s"' % (n, b"x" * 2000))
        for n in range(start, start + count)
    )


@pytest.fixture
def open_store(tmp_path: Path) -> Iterator[Callable[..., ShardStore]]:
    opened = []

    def open_it(**options: Any) -> ShardStore:
        store = ShardStore.open(
            tmp_path / "data", pipeline="p", shard_count=1, synchronous="normal",
            is_replicated=True, **options,
        )  # fmt: skip
        opened.append(store)
        return store

    yield open_it
    for store in opened:
        store.close()


def replicate_once(tmp_path: Path) -> None:
    config = tmp_path / "litestream.yml"
    path = tmp_path / "data/shard-0000.db"
    config.write_text(f"dbs: [{{path: {path}, replica: {{url: 'file://{tmp_path}/replica'}}}}]\n")
    done = subprocess.run(
        [require_litestream(), "replicate", "-once", "-config", config],
        capture_output=True, check=False, timeout=60, env=environment(),
    )  # fmt: skip
    assert done.returncode == 0, done


def restored_rows(tmp_path: Path, table: str) -> list[Any]:
    out = tmp_path / "restored.db"
    out.unlink(missing_ok=True)
    url = f"file://{tmp_path}/replica"
    subprocess.run(
        [require_litestream(), "restore", "-o", out, url], check=True, capture_output=True,
        timeout=60, env=environment(),
    )  # fmt: skip
    with apsw.Connection(str(out)) as connection:
        return connection.execute(f"SELECT key, payload FROM {table} ORDER BY key").fetchall()


def test_what_is_written_while_litestream_is_away_is_in_the_replica_afterwards(
    open_store: Callable[..., ShardStore], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Small, so that the rule is tried with a few megabytes.
    monkeypatch.setattr(checkpoint, "PASSIVE_PAGES", 50)
    monkeypatch.setattr(checkpoint, "RESTART_PAGES", 200)
    store = open_store()
    topic = store.create_topic("t")
    store.flush([batch(topic, 0, 200)])
    replicate_once(tmp_path)
    before = header(store.layout.shard(0))
    for n in range(200, 1200, 20):  # Litestream is away
        store.flush([batch(topic, n, 20)])
    assert header(store.layout.shard(0)) == before, "the log has started again"
    store.close()
    assert wal_of(store.layout.shard(0)).stat().st_size > 1_000_000
    again = open_store()
    again.flush([batch(topic, 1200, 1)])
    assert header(again.layout.shard(0)) == before, "the log has started again"
    replicate_once(tmp_path)
    connection = apsw.Connection(str(again.layout.shard(0)), flags=apsw.SQLITE_OPEN_READONLY)
    rows = connection.execute(f"SELECT key, payload FROM t{topic} ORDER BY key").fetchall()
    connection.close()
    assert len(rows) == 1201
    assert restored_rows(tmp_path, f"t{topic}") == rows


def test_a_write_waits_while_litestream_holds_the_file(
    open_store: Callable[..., ShardStore],
) -> None:
    """Longer than the 5 s after which a foreign lock is an error elsewhere."""
    store = open_store()
    topic = store.create_topic("t")
    other = apsw.Connection(str(store.layout.shard(0)))
    other.execute("BEGIN IMMEDIATE")
    timer = threading.Timer(6.0, lambda: other.execute("ROLLBACK"))
    timer.start()
    flush = store.flush([batch(topic, 0, 1)])
    timer.join()
    other.close()
    assert flush.rows == 1


def test_the_results_log_is_never_copied_back_either(tmp_path: Path) -> None:
    path = Layout(tmp_path).state
    for _ in range(3):
        state = StateDatabase(path, "normal", is_replicated=True)
        before = header(path)
        for n in range(30):
            state.begin()
            state.connection.execute(
                "INSERT INTO log VALUES((SELECT coalesce(max(pos), 0) + 1 FROM log), 1, 1, 1, ?,"
                " ?, NULL, NULL)",
                (str(n), "x" * 20_000),
            )
            state.commit(state.head, state.applied, frozenset())
        state.close()
        assert header(path) == before
        assert wal_of(path).exists()


def test_a_shard_says_whose_its_tables_are_and_the_catalogue_is_copied(
    open_store: Callable[..., ShardStore],
) -> None:
    store = open_store()
    topic = store.create_topic("orders")
    source = store.source_state("feed").number
    layout = store.layout
    store.close()
    connection = apsw.Connection(str(layout.shard(0)))
    meta = dict(connection.execute("SELECT name, value FROM meta").fetchall())
    connection.close()
    assert (meta[f"t{topic}"], meta[f"s{source}"]) == ("orders", "feed")
    connection = apsw.Connection(str(layout.catalogue))
    [(text,)] = connection.execute("SELECT value FROM catalogue").fetchall()
    connection.close()
    assert text == layout.manifest.read_text()
