"""A join may read other joins: their queries stand in for their names."""

from litejoin.plan.nodes import JoinPlan
from tests.unit.plan.documents import SOURCES, findings_of, plan_of

TOTALS = """\
  - name: totals
    sink: out
    key_column: u
    result_key: user_id
    query: SELECT CAST(payload ->> '$.u' AS TEXT) AS u, count(*) AS n FROM orders GROUP BY 1;
"""


def reader(query: str) -> JoinPlan:
    text = SOURCES + "joins:\n" + TOTALS + f"  - {{name: r, sink: out, query: {query!r}}}\n"
    return plan_of(text).joins[1]


def test_a_change_reaches_the_reader_through_the_other_joins_query() -> None:
    join = reader("SELECT u.key, t.n FROM users u LEFT JOIN totals t ON t.user_id = u.key")
    assert join.strategy == "delta"
    assert {r.topic: r.through for r in join.references} == {
        "users": "by key",
        "orders": "through users.key",
    }
    assert join.query.startswith("SELECT u.key")
    assert join.full_sql.startswith('WITH "totals"("user_id", "n") AS (\nSELECT CAST(')


def test_a_query_with_its_own_tables_can_read_a_join() -> None:
    join = reader("WITH big AS (SELECT * FROM totals WHERE n > 1) SELECT user_id, n FROM big")
    assert join.strategy == "delta"
    assert [r.topic for r in join.references] == ["orders"]


def test_a_change_of_the_other_join_changes_the_reader() -> None:
    query = "SELECT user_id FROM totals"
    other = SOURCES + "joins:\n" + TOTALS.replace("count(*)", "sum(1)")
    other += f"  - {{name: r, sink: out, query: {query}}}\n"
    assert plan_of(other).joins[1].definition != reader(query).definition


def test_a_reader_of_a_join_that_follows_the_clock_follows_it_too() -> None:
    recent = "SELECT key FROM orders WHERE timestamp > strftime('%s', 'now') - 60"
    for emit_expired in (False, True):
        text = SOURCES + "joins:\n"
        text += f"  - {{name: recent, sink: out, emit_expired: {emit_expired},"
        text += f' query: "{recent}"}}\n'
        text += "  - {name: mid, sink: out, query: SELECT key FROM recent}\n"
        text += "  - {name: n, sink: out, query: SELECT count(*) AS n FROM mid}\n"
        text += "  - {name: other, sink: out, query: SELECT key FROM orders}\n"
        told = {join.name: join.emit_expired for join in plan_of(text).joins}
        followers = dict.fromkeys(("recent", "mid", "n"), emit_expired)
        assert told == {**followers, "other": False}


def test_a_reason_is_placed_in_the_readers_own_text() -> None:
    join = reader("SELECT user_id FROM totals ORDER BY n LIMIT 3")
    (reason,) = join.reasons
    assert reason.message == "LIMIT without a key"
    assert reason.place is not None
    text = "  - {name: r, sink: out, query: 'SELECT user_id FROM totals ORDER BY n LIMIT 3'}"
    assert reason.place.column == text.index("LIMIT") + 1


def test_a_topic_goes_before_a_join_of_its_name() -> None:
    text = SOURCES + "joins:\n  - {name: users, sink: out, query: SELECT key FROM orders}\n"
    text += "  - {name: r, sink: out, query: SELECT key FROM users}\n"
    assert [r.topic for r in plan_of(text).joins[1].references] == ["users"]


def test_joins_in_a_circle_are_refused() -> None:
    text = SOURCES + "joins:\n  - {name: a, sink: out, query: SELECT key FROM b}\n"
    text += "  - {name: b, sink: out, query: SELECT key FROM c}\n"
    text += "  - {name: c, sink: out, query: SELECT key FROM a}\n"
    messages = [f.message for f in findings_of(text) if f.code == "LJ220"]
    assert messages[0] == "joins read one another in a circle: a -> b -> c -> a"
    assert len(messages) == 3
