"""Joins that name windows: which columns they see, how plans show it, what is refused."""

import json

import pytest

from litejoin.plan.explain_json import plan_tree
from litejoin.plan.explain_text import plan_text
from litejoin.plan.over_windows import relation_columns, relation_query
from tests.unit.plan.documents import SOURCES, findings_of, plan_of

WINDOWS = """
windows:
  - {name: per-user, type: tumbling, size: 1m, topic: orders, sink: out, key_column: user,
     query: "SELECT payload ->> '$.user' AS user, count(*) AS n FROM orders GROUP BY 1"}
"""


def config(*queries: str, windows: str = WINDOWS) -> str:
    joins = "".join(
        f"  - {{name: j{number}, sink: out, query: {json.dumps(query)}}}\n"
        for number, query in enumerate(queries)
    )
    return SOURCES + windows + f"joins:\n{joins}"


def test_a_window_has_the_columns_of_its_query_and_those_of_its_results() -> None:
    assert relation_columns(("user", "n")) == (
        "user", "n", "key", "payload", "timestamp", "timestamp_ms", "window_start_ms",
        "window_end_ms",
    )  # fmt: skip
    assert relation_columns(("KEY", "timestamp")) == (
        "KEY", "timestamp", "payload", "timestamp_ms", "window_start_ms", "window_end_ms",
    )  # fmt: skip


def test_a_column_that_no_json_path_can_name_is_left_out() -> None:
    assert relation_columns(('a"b', "a\\b", "it's", "count(*)"))[:2] == ("it's", "count(*)")
    text = relation_query("w", ('a"b', "it's", "count(*)"))
    assert """payload ->> '$."it''s"', payload ->> '$."count(*)"'""" in text


def test_a_join_over_a_window_is_incremental_and_says_how() -> None:
    plan = plan_of(config('SELECT u.key, w.n FROM users u JOIN "per-user" w ON w.user = u.key'))
    (join,), (window,) = plan.joins, plan.windows
    assert (join.strategy, join.windows) == ("delta", ("per-user",))
    assert [(r.topic, r.through) for r in join.references] == [
        ("users", "by key"), ("per-user", "through users.key"),
    ]  # fmt: skip
    assert window.read_by == ("j0",)
    assert [index.path for index in window.indexes] == ["$.user"]
    assert [topic.name for topic in plan.topics] == ["orders", "users"]
    assert plan.unsupported == ()


def test_a_window_is_read_through_other_joins() -> None:
    plan = plan_of(
        config('SELECT user, n FROM "per-user" WHERE n > 1', "SELECT user FROM j0 WHERE n > 2")
    )
    assert plan.windows[0].read_by == ("j0", "j1")


def test_plan_shows_who_reads_a_window_and_no_name_of_ours() -> None:
    plan = plan_of(config('SELECT u.key, w.n FROM users u JOIN "per-user" w ON w.key = u.key'))
    text = plan_text(plan, [])
    assert "its current results are read by j0; lj:1 key map on $.key (j0)" in text
    assert ":results" not in text
    tree = json.loads(json.dumps(plan_tree(plan, [])))
    assert tree["windows"][0]["read_by"] == ["j0"]
    assert tree["joins"][0]["references"][1]["topic"] == "per-user"


@pytest.mark.parametrize(
    ("query", "message", "word"),
    [
        ('SELECT w.key, w.nn FROM "per-user" w', "nn", "w.nn"),
        ('SELECT key FROM "per-user:results"', "per-user:results", '"per-user:results"'),
    ],
)
def test_what_a_window_does_not_have_is_an_error_at_its_place(
    query: str, message: str, word: str
) -> None:
    (finding,) = findings_of(config(query))
    assert message in finding.message
    line = config(query).splitlines()[finding.line - 1]
    assert json.dumps(word)[1:-1] in line[finding.column - 1 :]


def test_a_window_that_cannot_be_used_has_one_finding_however_many_read_it() -> None:
    broken = WINDOWS.replace("count(*)", "count(")
    findings = findings_of(config('SELECT key, n FROM "per-user"', windows=broken))
    assert ["/windows/0/query"] == [finding.pointer for finding in findings]


@pytest.mark.parametrize("other", ["visits", "j0"])
def test_a_window_reads_its_topic_only_so_no_circle_can_come_about(other: str) -> None:
    windows = (
        WINDOWS
        + f"""\
  - {{name: visits, type: session, gap: 1m, topic: orders, sink: out,
     query: SELECT count(*) AS n FROM {other}}}
"""
    )
    found = findings_of(config("SELECT key, n FROM visits", windows=windows))
    messages = [each.message for each in found if each.pointer.startswith("/windows/1")]
    assert any("reads its own topic" in message for message in messages)
