"""The topic tables against a plain Python twin: every access path finds the rows of a scan."""

import json
import random
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from litejoin._ext.topic import TopicTables
from litejoin.errors import CorruptionError, StorageError
from litejoin.records import Row, RowKind, pack_rows
from litejoin.store.changes import Change, Version, pack_changes
from litejoin.store.sqlite import open_memory
from litejoin.store.writer import ShardStore

PATH = "json_extract(payload, '$.v')"
INDEXES = [(PATH, False), (f"CAST({PATH} AS TEXT)", True)]


class Tables:
    """One topic `t` over a store, and beside it a dict that says what must be found."""

    def __init__(self, root: Path, shards: int) -> None:
        self.store = ShardStore.open(
            root, pipeline="test", shard_count=shards, synchronous="normal"
        )
        self.number = self.store.create_topic("t")
        self.readers = self.store.open_readers()
        self.host = open_memory()
        self.tables = TopicTables(self.host, self.readers)
        self.tables.define("t", self.number, INDEXES)
        self.rows: dict[str, str] = {}
        self.olds: list[tuple[str, str]] = []
        self.versions: list[tuple[str, str]] = []

    def write(self, rows: list[tuple[str, str | None]], *, apply: bool = True) -> None:
        """One flush: the last row of a key wins, its old version is the one before it."""
        packed = [
            Row(self.number, RowKind.DELETE if p is None else RowKind.UPSERT, 1_500, k.encode(),
                (p or "").encode())
            for k, p in rows
        ]  # fmt: skip
        before = dict(self.rows)
        for key, payload in rows:
            if payload is None:
                self.rows.pop(key, None)
            else:
                self.rows[key] = payload
        touched = list(dict.fromkeys(key for key, _ in rows))
        self.olds = [(k, before[k]) for k in touched if k in before]
        self.versions = self.olds + [(k, self.rows[k]) for k in touched if k in self.rows]
        changes = self.store.flush([pack_rows(packed)]).changes
        if apply:
            self.tables.apply(changes)

    def select(self, sql: str, *bindings: object) -> list[tuple[str, str]]:
        return sorted(self.host.execute(sql, bindings).fetchall())  # type: ignore[arg-type]

    def close(self) -> None:
        self.tables.close()
        self.host.close()
        self.store.close()


@pytest.fixture(params=[1, 3, 8])
def tables(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Tables]:
    made = Tables(tmp_path / "d", request.param)
    yield made
    made.close()


VALUES = [1, 1.0, "1", 2**53 + 1, float(2**53), 0.1, "", "ü", None, True, [1], -5]


def random_rows(rng: random.Random, n: int) -> list[tuple[str, str | None]]:
    rows: list[tuple[str, str | None]] = []
    for _ in range(n):
        body = json.dumps({"v": rng.choice(VALUES)} if rng.random() < 0.9 else {})
        rows.append((f"k{rng.randrange(40)}", None if rng.random() < 0.2 else body))
    return rows


@pytest.mark.parametrize("seed", range(4))
def test_every_access_path_finds_the_rows_of_a_scan(tables: Tables, seed: int) -> None:
    rng = random.Random(seed)
    print(f"seed {seed}")
    for _ in range(6):
        tables.write(random_rows(rng, 30))
        current, both = sorted(tables.rows.items()), sorted([*tables.rows.items(), *tables.olds])
        assert tables.select("SELECT key, payload FROM t") == current
        assert tables.select('SELECT key, payload FROM "t:both"') == both
        assert tables.select('SELECT key, payload FROM "t:delta"') == sorted(tables.versions)
        for key in ("k1", "k7", "k39", "absent"):
            where = "WHERE key = ?"
            assert tables.select(f"SELECT key, payload FROM t {where}", key) == [
                pair for pair in current if pair[0] == key
            ]
            assert tables.select(f'SELECT key, payload FROM "t:both" {where}', key) == [
                pair for pair in both if pair[0] == key
            ]
        for value in (1, "1", 2**53 + 1, float(2**53), 0.1, "ü", "absent", -5):
            for table in ('"t"', '"t:both"'):
                scan = tables.select(f"SELECT key, payload FROM {table} WHERE {PATH} = ?", value)
                probe = f'SELECT key, payload FROM {table} WHERE "lj:1" = ? AND {PATH} = ?'
                assert tables.select(probe, value, value) == scan
                text = str(value)
                as_text = f"CAST({PATH} AS TEXT) = ?"
                scan = tables.select(f"SELECT key, payload FROM {table} WHERE {as_text}", text)
                probe = f'SELECT key, payload FROM {table} WHERE "lj:2" = ? AND {as_text}'
                assert tables.select(probe, text, text) == scan
        null_scan = tables.select(f"SELECT key, payload FROM t WHERE {PATH} IS NULL")
        assert tables.select('SELECT key, payload FROM t WHERE "lj:1" IS NULL') == null_scan


def test_key_maps_built_from_the_shards_equal_those_kept_up_to_date(tables: Tables) -> None:
    rng = random.Random(7)
    tables.write(random_rows(rng, 60), apply=False)
    assert tables.tables.load() == len(tables.rows)
    tables.write(random_rows(rng, 60))
    found = tables.select('SELECT key, payload FROM t WHERE "lj:2" = ?', "1")
    assert found == tables.select(f"SELECT key, payload FROM t WHERE CAST({PATH} AS TEXT) = '1'")
    tables.write([(key, None) for key in list(tables.rows)])
    assert tables.select('SELECT key, payload FROM t WHERE "lj:2" = ?', "1") == []


def plan_of(tables: Tables, sql: str) -> str:
    return " ".join(row[3] for row in tables.host.execute(f"EXPLAIN QUERY PLAN {sql}"))


def test_the_planner_probes_where_it_can_and_scans_where_it_must(tables: Tables) -> None:
    assert ":key" in plan_of(tables, "SELECT * FROM t WHERE key = 'a'")
    assert ":index lj:1" in plan_of(tables, 'SELECT * FROM t WHERE "lj:1" = 4')
    assert ":scan" in plan_of(tables, "SELECT * FROM t WHERE payload = 'a'")
    joined = 'SELECT * FROM "t:delta" a JOIN t b ON b.key = a.payload'
    assert ":delta" in plan_of(tables, joined)
    assert ":key" in plan_of(tables, joined)


def test_a_topic_is_key_payload_timestamp_and_more_by_name(tables: Tables) -> None:
    tables.write([("a", '{"v": 1}')])
    columns = [c[0] for c in tables.host.execute("SELECT * FROM t").get_description()]
    assert columns == ["key", "payload", "timestamp"]
    row = tables.host.execute('SELECT timestamp, timestamp_ms, op, changes, "lj:1" FROM t').get
    assert row == (1, 1500, "created", None, 1)
    tables.write([("a", '{"v": 2}')])
    assert tables.host.execute("SELECT op FROM t").get == "updated"


def test_a_number_finds_a_key_by_its_text(tables: Tables) -> None:
    tables.write([("7", "{}"), ("7.0", "[]")])
    assert tables.select("SELECT key, payload FROM t WHERE key = 7") == [("7", "{}")]
    assert tables.select("SELECT key, payload FROM t WHERE key = 7.0") == [("7.0", "[]")]
    assert tables.select("SELECT key, payload FROM t WHERE key = NULL") == []


NUMBERS = ["5", "5.0", "05", "7", "u1", "U1", "9007199254740993"]


@pytest.mark.parametrize(
    "condition",
    [
        "key IN (SELECT CAST(v AS INTEGER) FROM s)",
        "key IN (SELECT CAST(v AS REAL) FROM s)",
        "key IN (SELECT v FROM s)",
        "key IN (SELECT b FROM s)",
        'key IN (SELECT value FROM json_each(\'[5, "5", 7.0, "u1", null]\'))',
        "key IN (5, '7', 5.0)",
        "key IN (5, '7', 5.0) AND key <> '7'",
        "key COLLATE NOCASE IN ('u1')",
        "key = 'U1' COLLATE NOCASE",
        "key COLLATE NOCASE = 'u1'",
    ],
)
def test_a_key_is_compared_as_that_of_a_plain_table(tables: Tables, condition: str) -> None:
    """Affinities and collations are those of the query, whichever way its rows are found."""
    tables.write([(key, "{}") for key in NUMBERS])
    plain = apsw.Connection(":memory:")
    plain.execute("CREATE TABLE t(key TEXT)")
    plain.executemany("INSERT INTO t VALUES(?)", [(key,) for key in NUMBERS])
    for db in (plain, tables.host):
        db.execute("CREATE TABLE s(v, b BLOB)")
        values = ["5", 5, "5.0", 7.0, "u1", None, 2**53 + 1]
        db.executemany("INSERT INTO s VALUES(?1, ?1)", [(value,) for value in values])
    sql = f"SELECT key, 1 FROM t WHERE {condition}"
    assert tables.select(sql) == sorted(plain.execute(sql).fetchall())


def test_in_finds_old_versions_once(tables: Tables) -> None:
    tables.write([("5", "{}"), ("5.0", "{}")])
    tables.write([("5", '{"n":1}'), ("5.0", None)])
    found = tables.select(
        """SELECT key, payload FROM "t:both" WHERE key IN
        (SELECT value FROM json_each('["5", 5, "5.0"]')) AND +key IN ('5', '5.0')"""
    )
    assert found == [("5", '{"n":1}'), ("5", "{}"), ("5.0", "{}")]


def test_a_self_join_reads_two_rows_at_once(tables: Tables) -> None:
    tables.write([(f"k{i}", json.dumps({"v": i % 2})) for i in range(6)])
    pairs = tables.select(
        "SELECT a.key, b.key FROM t a JOIN t b ON b.\"lj:1\" = json_extract(a.payload, '$.v')"
    )
    assert len(pairs) == 18


def test_a_row_that_is_not_what_was_written_is_an_error(tables: Tables) -> None:
    tables.write([("a", '{"v": 1}')])
    for number in range(tables.store.shard_count):
        other = apsw.Connection(str(tables.store.layout.shard(number)))
        other.execute("UPDATE t1 SET payload = replace(payload, '1', '2')")
        other.close()
    with pytest.raises(apsw.CorruptError, match="fails its checksum"):
        tables.select("SELECT key, payload FROM t")
    with pytest.raises(CorruptionError, match="topic t: shard .* fails its checksum"):
        tables.tables.load()


def test_bytes_that_are_no_change_rows_are_refused(tables: Tables) -> None:
    good = pack_changes(
        [Change(tables.number, 0, 1, b"k", Version(b"{}", 1, False), Version(b"[]", 1, False))]
    )
    for cut in range(1, len(good)):
        with pytest.raises(ValueError, match="change rows"):
            tables.tables.apply([good[:cut]])
    rng = random.Random(3)
    for _ in range(500):
        noise = bytearray(good)
        for _ in range(rng.randrange(1, 6)):
            noise[rng.randrange(56)] = rng.randrange(256)
        try:
            tables.tables.apply([bytes(noise)])
            tables.host.execute('SELECT * FROM "t:delta"').fetchall()
        except (ValueError, apsw.Error):
            pass
    tables.tables.clear()
    assert tables.tables.changed() == []


def test_an_expression_that_does_not_compile_is_an_error() -> None:
    tables = TopicTables(open_memory())
    with pytest.raises(StorageError, match="no such function: nosuch"):
        tables.define("t", 1, [("nosuch(payload)", False)])
    tables.close()


def test_tables_without_shards_are_empty() -> None:
    host = open_memory()
    tables = TopicTables(host)
    tables.define('odd "name', 1, INDEXES)
    for where in ("", "WHERE key = 'a'", 'WHERE "lj:1" = 1'):
        assert host.execute(f'SELECT * FROM "odd ""name" {where}').fetchall() == []
    tables.close()
    host.close()
