"""A damaged shard is out of service: its keys are refused, others run, no wrong row is served."""

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from litejoin._ext.checksum import row_checksum
from litejoin._ext.route import shard_of
from litejoin.errors import CorruptionError, StartRefusedError
from litejoin.records import Row, RowKind, pack_rows
from litejoin.store.layout import Layout, wal_of
from litejoin.store.sqlite import open_database
from tests.differential.pipeline import EnginePipeline
from tests.harness.results import canonical, canonical_rows
from tests.reference.oracle import Oracle

SHARDS = 3
QUERIES = {
    "by-key": "SELECT key, json_extract(payload, '$.v') AS v FROM orders",
    "left": "SELECT o.key, json_extract(o.payload, '$.v') AS v, json_extract(u.payload, '$.v') AS w"
    " FROM orders o LEFT JOIN users u ON json_extract(o.payload, '$.u') = u.key",
    "groups": "SELECT json_extract(payload, '$.u') AS u, count(*) AS n, sum(json_extract(payload,"
    " '$.v')) AS v FROM orders GROUP BY u",
    "top": "SELECT key, json_extract(payload, '$.v') AS v FROM orders ORDER BY v DESC, key LIMIT 3",
}

Damage = Callable[[apsw.Connection], object]
DAMAGES: dict[str, Damage] = {
    "payload": lambda c: c.execute("UPDATE t1 SET payload = replace(payload, '\"v\":', '\"v\":9')"),
    "old": lambda c: c.execute("UPDATE t1 SET timestamp_ms = timestamp_ms - 1"),
    "users": lambda c: c.execute("UPDATE t2 SET payload = '{\"v\":77}'"),
    "text": lambda c: c.execute("UPDATE t1 SET payload = CAST(x'7bff' AS TEXT)"),
    "op": lambda c: c.execute("UPDATE t1 SET op = 3 - op"),
}


class Truth:
    """What the topics hold, by plain SQLite, and what each join has to show for it."""

    def __init__(self) -> None:
        self.oracle = Oracle(("orders", "users"))

    def take(self, row: Row) -> None:
        topic = {1: "orders", 2: "users"}[row.table]
        text = row.payload.decode() if row.kind == RowKind.UPSERT else None
        self.oracle.put(topic, row.key.decode(), text)

    def results(self, join: str) -> dict[str, tuple[str, ...]]:
        return self.oracle.groups(QUERIES[join])


class Engine(EnginePipeline):
    """The pipeline with the runtime's answer to damage."""

    def open(self) -> None:
        super().open()
        self.truth: Truth = getattr(self, "truth", Truth())

    def flush(self, rows: list[Row]) -> int:
        """Write each row as a batch of its own, evaluate; how many were refused."""
        flush = self.store.flush([pack_rows([row]) for row in rows])
        for place, row in enumerate(rows):
            if place not in flush.refused:
                self.truth.take(row)
        before = self.engine.state.head
        while True:
            self.engine.leave_out(self.store.quarantine.shards)
            try:
                self.engine.apply(flush.changes, flush.seq)
                break
            except CorruptionError as error:
                self.store.quarantine.take(error)
        self.check_log(before)
        return len(flush.refused)

    def check_log(self, after: int) -> None:
        """Whatever was said since is what plain SQLite says."""
        found = self._read(
            "SELECT j.name, l.key, l.rows FROM log l JOIN joins j ON j.id = l.join_id"
            f" WHERE l.pos > {after}"
        )
        for join, key, rows in found:
            want = self.truth.results(join).get(canonical(json.loads(key)), ())
            assert canonical_rows(json.loads(rows)) == tuple(sorted(want)), (join, key)

    def check_state(self) -> None:
        state = self.state()
        for join in QUERIES:
            found = {key: tuple(sorted(rows)) for key, rows in state.get(join, {}).items()}
            want = {key: tuple(sorted(rows)) for key, rows in self.truth.results(join).items()}
            assert found == want, join


def random_rows(source: random.Random, count: int) -> list[Row]:
    rows = []
    for _ in range(count):
        number, value = source.randrange(12), source.randrange(1000)
        if source.random() < 0.3:
            rows.append(_upsert(2, f"u{number % 5}", f'{{"v":{value}}}'))
        elif source.random() < 0.15:
            rows.append(Row(1, RowKind.DELETE, 1, f"o{number}".encode()))
        else:
            rows.append(_upsert(1, f"o{number}", f'{{"u":"u{number % 5}","v":{value}}}'))
    return rows


def _upsert(topic: int, key: str, payload: str) -> Row:
    return Row(topic, RowKind.UPSERT, 1, key.encode(), payload.encode())


@pytest.mark.parametrize("level", ["native", "delta"])
@pytest.mark.parametrize("what", DAMAGES)
def test_what_is_said_beside_a_damaged_shard_is_right(
    tmp_path: Path, what: str, level: str
) -> None:
    """And once it is repaired and released, everything is what plain SQLite says."""
    source = random.Random(f"{what}{level}{os.environ.get('LITEJOIN_TEST_SEED', '')}")
    pipeline = Engine(tmp_path, SHARDS, QUERIES, level)
    pipeline.flush(random_rows(source, 60))
    shard = source.choice([n for n in range(SHARDS) if _rows(pipeline, n)])
    path = pipeline.store.layout.shard(shard)
    with open_database(path) as connection:
        DAMAGES[what](connection)
    refused = sum(pipeline.flush(random_rows(source, 12)) for _ in range(8))
    assert pipeline.store.quarantine.shards == ({shard} if refused else set())
    pipeline.close()

    pipeline.open()  # now it is found if it was not needed before
    damaged = pipeline.store.quarantine.shards
    assert damaged <= {shard}
    assert bool(sum(pipeline.flush(random_rows(source, 12)) for _ in range(4))) == bool(damaged)
    pipeline.close()

    _repair(pipeline, shard)
    pipeline.open()
    assert not pipeline.store.quarantine.shards
    pipeline.settle()
    pipeline.check_state()
    pipeline.close()


def _rows(pipeline: Engine, shard: int) -> int:
    with open_database(pipeline.store.layout.shard(shard)) as connection:
        return int(connection.execute("SELECT (SELECT count(*) FROM t1) + count(*) FROM t2").get)


def _repair(pipeline: Engine, shard: int) -> None:
    """Put what the shard should hold into it, as a restored backup would."""
    with open_database(pipeline.store.layout.shard(shard)) as connection:
        for topic, name in ((1, "orders"), (2, "users")):
            connection.execute(f"DELETE FROM t{topic}")
            for row in pipeline.truth.oracle.rows(f"SELECT key, payload FROM {name}"):
                key, payload = row["key"].encode(), row["payload"].encode()
                if shard_of(key, SHARDS) == shard:
                    connection.execute(
                        f"INSERT INTO t{topic} VALUES(NULL, ?, ?, 1, 1, NULL, ?)",
                        (
                            row["key"],
                            row["payload"],
                            row_checksum(0, topic, 1, 1, key, payload, None),
                        ),
                    )
    pipeline.store.layout.quarantine.unlink(missing_ok=True)


@pytest.fixture
def filled(tmp_path: Path) -> Layout:
    """Two topics in three shards, closed."""
    pipeline = Engine(tmp_path, SHARDS, QUERIES)
    pipeline.flush(random_rows(random.Random(1), 60))
    pipeline.close()
    return pipeline.store.layout


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty or not a shard's file"),
        (bytes(65_536), "not a database"),
        (b"no database" * 500, "not a database"),
    ],
)
def test_a_file_that_lost_its_content_is_left_as_it_is(
    filled: Layout, content: bytes, reason: str
) -> None:
    filled.shard(1).write_bytes(content)
    pipeline = Engine(filled.root, SHARDS, QUERIES)
    assert reason in pipeline.store.quarantine.reasons()[1]
    batches = [pack_rows([row]) for row in random_rows(random.Random(2), 30)]
    assert 0 < len(pipeline.store.flush(batches).refused) < 30
    pipeline.close()
    assert filled.shard(1).read_bytes() == content


@pytest.mark.parametrize("pages", [1, 2, 3, 5])
def test_a_truncated_file_is_quarantined(filled: Layout, pages: int) -> None:
    content = filled.shard(1).read_bytes()[: pages * 4096]
    filled.shard(1).write_bytes(content)
    pipeline = Engine(filled.root, SHARDS, QUERIES)
    assert pipeline.store.quarantine.shards == {1}
    pipeline.close()
    assert filled.shard(1).read_bytes() == content


def killed_copy(layout: Layout, root: Path) -> Layout:
    """The directory as kill -9 leaves it: what was flushed last is in the logs only."""
    pipeline = Engine(layout.root, SHARDS, QUERIES)
    for seed in (3, 4):
        pipeline.flush(random_rows(random.Random(seed), 60))
    shutil.copytree(layout.root, root, ignore=shutil.ignore_patterns("*-shm", "lock"))
    pipeline.close()
    return Layout(root)


def lose_the_end_of_its_log(shard: Path) -> None:
    wal = wal_of(shard)
    content = bytearray(wal.read_bytes())
    content[-1] ^= 1
    wal.write_bytes(content)


def lose_its_first_page(shard: Path) -> None:
    shard.write_bytes(bytes(4096) + shard.read_bytes()[4096:])


@pytest.mark.parametrize(
    ("damage", "reason"),
    [(lose_the_end_of_its_log, "lost commits"), (lose_its_first_page, "not a database")],
)
def test_the_log_of_a_damaged_shard_is_kept_as_evidence(
    filled: Layout, tmp_path: Path, damage: Callable[[Path], None], reason: str
) -> None:
    killed = killed_copy(filled, tmp_path / "killed")
    path = killed.shard(1)
    damage(path)
    before = path.read_bytes(), wal_of(path).read_bytes()
    pipeline = Engine(killed.root, SHARDS, QUERIES)
    assert reason in pipeline.store.quarantine.reasons()[1]
    pipeline.flush(random_rows(random.Random(5), 60))
    pipeline.close()
    assert (path.read_bytes(), wal_of(path).read_bytes()) == before


def test_a_start_without_any_sound_shard_is_refused(filled: Layout) -> None:
    for shard in range(SHARDS):
        filled.shard(shard).write_bytes(b"")
    with pytest.raises(
        StartRefusedError, match="every shard is damaged; shard 0: shard-0000.db is"
    ):
        Engine(filled.root, SHARDS, QUERIES)


def test_a_piecewise_batch_keeps_the_rows_of_sound_shards(tmp_path: Path) -> None:
    pipeline = Engine(tmp_path, SHARDS, QUERIES)
    pipeline.store.quarantine.add(1, "for the test")
    rows = [_upsert(1, f"o{n}", '{"v":1}') for n in range(30)]
    sound = [row for row in rows if shard_of(row.key, SHARDS) != 1]
    batch = pack_rows(rows)
    flush = pipeline.store.flush([batch, pack_rows(sound[:1]), batch], piecewise={2})
    assert (flush.refused, flush.rows) == ((0, 2), 1 + len(sound))
    pipeline.close()
