"""Groups as accumulators: what is certain without reading the group, and what happens when it is
not.

That they equal SQLite over random histories is test_grouped_machine's.
"""

import json
import random
from operator import itemgetter
from pathlib import Path

import apsw
import pytest

from litejoin.errors import StorageFullError
from litejoin.plan.delta import IndexRegistry
from litejoin.plan.native_groups import grouped_plan
from litejoin.plan.shape import NotPlain
from litejoin.records import Row, RowKind
from tests.differential.pipeline import TOPICS, EnginePipeline, engine_pipeline
from tests.harness.results import canonical
from tests.reference.oracle import Oracle

N = "json_extract(payload, '$.n')"
SUM = f"SELECT payload ->> 'g' AS g, COUNT(*) AS n, SUM({N}) AS total FROM orders GROUP BY 1"
EXTREMES = f"""SELECT payload ->> 'g' AS g, MIN({N}) AS low, MAX({N}) AS high
    FROM orders GROUP BY g"""
JOINED = """SELECT u.payload ->> 'region' AS r, COUNT(o.key) AS n, SUM(o.payload ->> 'n') AS total
    FROM users u LEFT JOIN orders o ON o.payload ->> 'user' = u.key GROUP BY r"""


def order(p: EnginePipeline, key: str, n: object, **more: object) -> Row:
    payload = json.dumps({"g": "a", "n": n} | more)
    return Row(
        p.numbers["orders"], RowKind.UPSERT, 1_700_000_000_000, key.encode(), payload.encode()
    )


def gone(p: EnginePipeline, key: str) -> Row:
    return Row(p.numbers["orders"], RowKind.DELETE, 1_700_000_000_000, key.encode(), b"")


def user(p: EnginePipeline, key: str, region: str) -> Row:
    payload = json.dumps({"region": region})
    return Row(
        p.numbers["users"], RowKind.UPSERT, 1_700_000_000_000, key.encode(), payload.encode()
    )


def result(p: EnginePipeline, key: str = '"a"') -> dict[str, object]:
    rows = p.state()["j"][key]
    found: dict[str, object] = json.loads(rows[0])
    return found


def kept(p: EnginePipeline) -> int:
    reader = apsw.Connection(str(p.root / "state.db"), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        return int(reader.execute("SELECT count(*) FROM grouped").get)
    finally:
        reader.close()


def damage(p: EnginePipeline, table: str, column: str) -> None:
    for shard in p.root.glob("shard-*.db"):
        connection = apsw.Connection(str(shard))
        connection.execute(f"UPDATE {table} SET {column} = '{{}}' WHERE key = 'k0'")
        connection.close()


def test_a_change_does_not_read_its_group(tmp_path: Path) -> None:
    """A row of the group is damaged: whoever read it would say so."""
    with engine_pipeline(tmp_path / "d", 2, {"j": SUM}) as p:
        p.engine.apply(*p.write([order(p, f"k{i}", i) for i in range(100)]))
        damage(p, "t1", "payload")
        applied = p.engine.apply(*p.write([order(p, "k7", 1007), gone(p, "k8")]))
        assert applied.failures == ()
        assert result(p) == {"g": "a", "n": 99, "total": 99 * 50 + 1000 - 8}


def test_groups_outlive_a_restart(tmp_path: Path) -> None:
    with engine_pipeline(tmp_path / "d", 2, {"j": SUM}) as p:
        p.engine.apply(*p.write([order(p, f"k{i}", i) for i in range(10)]))
        p.write([order(p, "k10", 100)])
        p.close()
        p.open()
        assert kept(p) == 1
        damage(p, "t1", "payload")
        applied = p.engine.apply(*p.write([order(p, "k10", 200)]))
        assert applied.failures == ()
        assert result(p) == {"g": "a", "n": 11, "total": 245}


def test_groups_made_in_a_transaction_that_failed_are_made_again(tmp_path: Path) -> None:
    def no_room(*_: object) -> None:
        raise apsw.FullError("database or disk is full")

    with engine_pipeline(tmp_path / "d", 2, {"j": SUM}) as p:
        p.engine.apply(*p.write([order(p, f"k{i}", i) for i in range(10)]))
        p.engine._native.lose(p.engine._joins[0].handle)
        flush = p.write([order(p, "k10", 100)])
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(p.engine.state, "commit", no_room)
            with pytest.raises(StorageFullError):
                p.engine.apply(*flush)
        p.engine.apply(*flush)
        assert kept(p) == 1
        p.engine.apply(*p.write([order(p, "k11", 1000)]))
        assert result(p) == {"g": "a", "n": 12, "total": 1145}


def test_changes_that_come_while_a_re_evaluation_waits_are_in_the_groups(tmp_path: Path) -> None:
    with engine_pipeline(tmp_path / "d", 2, {"j": SUM}) as p:
        p.engine.apply(*p.write([order(p, f"k{i}", i) for i in range(10)]))
        join = p.engine._joins[0]
        join.due, join.not_before_ms = True, p.clock.monotonic_ms() + 500
        p.engine.apply(*p.write([order(p, "k10", 100)]))
        p.clock.advance(500)
        assert p.engine.idle().results == 1
        p.engine.apply(*p.write([order(p, "k11", 1000)]))
        assert result(p) == {"g": "a", "n": 12, "total": 1145}
        assert kept(p) == 1


def test_an_overflow_is_sqlites_own_and_passes(tmp_path: Path) -> None:
    with engine_pipeline(tmp_path / "d", 2, {"j": SUM}) as p:
        large = [order(p, f"k{i}", 2**62) for i in range(3)]
        applied = p.engine.apply(*p.write([*large, order(p, "b", 1, g="b")]))
        assert "'a'" in applied.failures[0] and "integer overflow" in applied.failures[0]
        assert result(p, '"b"') == {"g": "b", "n": 1, "total": 1}
        assert '"a"' not in p.state()["j"]
        p.engine.apply(*p.write([gone(p, "k0"), gone(p, "k1")]))
        assert result(p) == {"g": "a", "n": 1, "total": 2**62}
        assert kept(p) == 1


def test_extremes_that_leave_one_after_the_other(tmp_path: Path) -> None:
    """More than are kept: the list runs empty and is made anew."""
    with engine_pipeline(tmp_path / "d", 2, {"j": EXTREMES}) as p:
        p.engine.apply(*p.write([order(p, f"k{i}", i) for i in range(200)]))
        for low in range(0, 120, 3):
            p.engine.apply(*p.write([gone(p, f"k{low + i}") for i in range(3)]))
            assert result(p) == {"g": "a", "low": low + 3, "high": 199}
        p.engine.apply(*p.write([gone(p, f"k{i}") for i in range(121, 200)]))
        assert result(p) == {"g": "a", "low": 120, "high": 120}
        p.engine.apply(*p.write([gone(p, "k120")]))
        assert p.state().get("j", {}) == {}
        assert kept(p) == 1


def test_a_group_that_is_read_again_leaves_the_others_of_its_key_alone(tmp_path: Path) -> None:
    query = """SELECT payload ->> '$.g' AS g, payload ->> '$.h' AS h, count(*) AS c,
        max(payload ->> '$.n') AS top FROM orders GROUP BY 1, 2"""
    with engine_pipeline(tmp_path / "d", 2, {"j": query}) as p:
        p.engine.apply(*p.write([order(p, f"x{n:02}", n, h="x") for n in range(60)]))
        p.engine.apply(*p.write([order(p, f"y{n}", n, h="y") for n in range(3)]))
        for n in range(59, 9, -1):
            p.engine.apply(*p.write([gone(p, f"x{n:02}")]))
        rows = sorted(map(json.loads, p.state()["j"]['"a"']), key=itemgetter("h"))
        assert [(row["h"], row["c"], row["top"]) for row in rows] == [("x", 10, 9), ("y", 3, 2)]
        assert kept(p) == 1


@pytest.mark.parametrize("long", ["x" * 600, "y" * 5])
def test_extremes_that_are_texts(tmp_path: Path, long: str) -> None:
    with engine_pipeline(tmp_path / "d", 1, {"j": EXTREMES}) as p:
        rows = [order(p, "k0", 5), order(p, "k1", 5.0), order(p, "k2", "ä"), order(p, "k3", None)]
        p.engine.apply(*p.write(rows))
        assert result(p) == {"g": "a", "low": 5, "high": "ä"}
        p.engine.apply(*p.write([order(p, "k4", "z" + long), order(p, "k5", long)]))
        assert result(p)["high"] == "ä"
        p.engine.apply(*p.write([gone(p, "k2")]))
        assert result(p)["high"] == "z" + long
        p.engine.apply(*p.write([gone(p, "k0"), gone(p, "k4")]))
        assert result(p) == {"g": "a", "low": 5, "high": long}


def test_a_row_that_cannot_be_computed_stops_no_other_and_goes(tmp_path: Path) -> None:
    query = SUM.replace(f"SUM({N})", f"SUM(abs({N}))")
    with engine_pipeline(tmp_path / "d", 2, {"j": query}) as p:
        p.engine.apply(*p.write([order(p, "k0", 1), order(p, "b", 1, g="b")]))
        applied = p.engine.apply(*p.write([order(p, "k1", -(2**63)), order(p, "b", 2, g="b")]))
        assert "'a'" in applied.failures[0] and "integer overflow" in applied.failures[0]
        assert result(p, '"b"')["total"] == 2
        assert kept(p) == 0
        p.engine.apply(*p.write([order(p, "k1", -3)]))
        assert result(p) == {"g": "a", "n": 2, "total": 4}
        p.clock.advance(60_000)
        p.engine.apply(*p.write([order(p, "k2", -3)]))
        assert kept(p) == 1
        p.engine.apply(*p.write([order(p, "k2", -4)]))
        assert result(p) == {"g": "a", "n": 3, "total": 8}


def test_a_damaged_group_is_made_anew(tmp_path: Path) -> None:
    with engine_pipeline(tmp_path / "d", 2, {"j": SUM}) as p:
        p.engine.apply(*p.write([order(p, f"k{i}", i) for i in range(10)]))
        p.close()
        connection = apsw.Connection(str(p.root / "state.db"))
        connection.execute("UPDATE groups SET body = CAST(replace(body, x'2d', x'2e') AS BLOB)")
        connection.close()
        p.open()
        p.engine.apply(*p.write([order(p, "k3", 103)]))
        assert result(p) == {"g": "a", "n": 10, "total": 145}
        p.engine.apply(*p.write([order(p, "k3", 3)]))
        assert result(p) == {"g": "a", "n": 10, "total": 45}


def test_flushes_that_are_committed_already_are_evaluated_with_the_first(tmp_path: Path) -> None:
    """The order moves on and its old user goes, all in a flush that the shards show too early."""
    with engine_pipeline(tmp_path / "d", 2, {"j": JOINED}) as p:
        p.engine.apply(*p.write([user(p, "u1", "r1"), user(p, "u2", "r2")]))
        first, seq = p.write([order(p, "o1", 5, user="u1")])
        second, last = p.write([order(p, "o1", 7, user="u2")])
        assert p.engine.apply(first, seq).is_early
        assert not p.engine.apply(first + second, last).is_early
        assert result(p, '"r1"') == {"r": "r1", "n": 0, "total": None}
        assert result(p, '"r2"') == {"r": "r2", "n": 1, "total": 7}


def test_sums_of_reals_are_sqlites_doubles(tmp_path: Path) -> None:
    rng = random.Random(11)
    oracle = Oracle(["orders"])
    query = SUM.replace("COUNT(*) AS n", f"AVG({N}) AS mean, TOTAL({N}) AS t")
    with engine_pipeline(tmp_path / "d", 2, {"j": query}) as p:
        for _ in range(12):
            rows = []
            for _ in range(400):
                key, scale = f"k{rng.randrange(1500)}", rng.choice([2, 2, 2, 6, 12])
                n = rng.choice([round(rng.uniform(0, 10**6), scale), rng.randrange(10**9)])
                rows.append(order(p, key, n))
                oracle.put("orders", key, rows[-1].payload.decode())
            p.engine.apply(*p.write(rows))
            want = {canonical(row["g"]): [canonical(row)] for row in oracle.rows(query)}
            assert p.state()["j"] == want
        assert kept(p) == 1
    oracle.close()


REFUSED = {
    "SELECT key, COUNT(DISTINCT payload) FROM orders GROUP BY key": "DISTINCT",
    "SELECT payload ->> 'g' AS g, group_concat(key) FROM orders GROUP BY g":
        "the aggregate group_concat",
    "SELECT payload ->> 'g' AS g, key, COUNT(*) FROM orders GROUP BY g": "no such column: key",
    "SELECT payload ->> 'g' AS g, COUNT(*) FROM orders WHERE timestamp > unixepoch() GROUP BY g":
        "the clock",
    "SELECT upper(payload ->> 'g'), COUNT(*) FROM orders GROUP BY payload ->> 'g'": "not a term",
    "SELECT o.key, SUM(o.payload ->> 'a' * u.payload ->> 'b') FROM orders o JOIN users u"
    " ON u.key = o.payload ->> 'u' GROUP BY o.key": "reads several references",
    "SELECT payload ->> 'g' AS g, COUNT(*) FROM orders GROUP BY g ORDER BY 2": "ORDER BY",
    "SELECT u.key AS k, COUNT(*) FROM orders o LEFT JOIN users u ON u.key = o.payload ->> 'u'"
    " GROUP BY k": "the optional side",
    "SELECT o.key AS k, COUNT(*) FROM orders o LEFT JOIN users u ON u.key = o.payload ->> 'u'"
    " LEFT JOIN products p ON p.key = u.payload ->> 'p' GROUP BY k": "of a LEFT JOIN",
    'SELECT payload ->> \'g\' AS g, "count"(*) FROM orders GROUP BY g': "in quotes",
    "SELECT payload ->> 'n' + 1 * 2 AS g, COUNT(*) FROM orders GROUP BY payload ->> 'n' + 1":
        "term",
}  # fmt: skip


@pytest.mark.parametrize(("query", "reason"), REFUSED.items())
def test_what_is_not_kept_says_why(query: str, reason: str) -> None:
    with pytest.raises(NotPlain, match=reason):
        grouped_plan("j", query, 0, TOPICS, IndexRegistry())


def test_a_term_is_taken_only_where_it_stands_alone() -> None:
    query = """SELECT payload ->> 'g' AS g, 2 * COUNT(*) AS n, max(1, COUNT(*)) AS m FROM orders
        GROUP BY g HAVING g <> 'x' AND payload ->> 'g' > 'a'"""
    with pytest.raises(NotPlain, match="no such column"):
        grouped_plan("j", query, 0, TOPICS, IndexRegistry())
    plan = grouped_plan("j", query.split(" AND ")[0], 0, TOPICS, IndexRegistry())
    assert [a.text for a in plan.aggregates] == ["COUNT(*)"]
