"""A message that a window's query cannot be run over is left out and told of; the others count."""

import random
from pathlib import Path

import apsw
import pytest

from litejoin.clock import ManualClock
from litejoin.engine.windows import faults, query
from litejoin.engine.windows.faults import CarefulQuery, find_by_number, find_faults
from litejoin.engine.windows.query import DEADLINE_MS, SpanQuery
from litejoin.engine.windows.spans import Span
from litejoin.errors import QueryError
from tests.differential.window_pipeline import Sent, WindowPipeline
from tests.unit.engine.windows.test_firing import EVENT, TUMBLING, at, pipeline, spans

COUNT = "SELECT count(*) AS n, sum(json_array_length(payload ->> '$.l')) AS total FROM orders"
SLIDING = {"type": "sliding", "size": "20s", "slide": "10s"}


def test_a_message_that_makes_more_rows_than_memory_holds_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(query, "MAX_BYTES", 5_000)
    items = (
        "SELECT o.key AS k, o.payload AS p, e.value AS v"
        " FROM orders o, json_each(o.payload, '$.l') e"
    )
    pipe = pipeline(tmp_path, **TUMBLING, **EVENT, query=items)
    pipe.send(at(1, "good", l=[1, 2]), at(2, "many", l=[0] * 100))
    pipe.send(at(100, l=[]))
    results = [body for body in pipe.bodies() if body["query"] == "w"]
    assert [[row["k"] for row in body["rows"]] for body in results] == [["good", "good"]]
    (failure,) = pipe.failures
    assert "key 'many'" in failure
    assert "the rows of one span have more than" in failure


@pytest.mark.parametrize("seed", range(20))
def test_exactly_the_messages_that_fail_alone_are_found(seed: int) -> None:
    rng = random.Random(seed)
    times = sorted(rng.randrange(rng.choice([1, 50, 10**6])) for _ in range(rng.randrange(1, 200)))
    messages = list(enumerate(times))
    bad = set(rng.sample(range(len(messages)), rng.choice([0, 1, 5, len(messages)]) % 200))
    bad &= set(range(len(messages)))

    def within(span: Span, numbers: range) -> list[int]:
        return [n for n, ms in messages if span.start_ms <= ms < span.end_ms and n in numbers]

    def fails(span: Span, numbers: range) -> str | None:
        return next((f"no {n}" for n in within(span, numbers) if n in bad), None)

    span = Span(0, 10**6)
    found = find_faults(span, fails, lambda part: within(part, faults.ALL))
    assert {(each.time_ms, each.number, each.reason) for each in found} == {
        (times[n], n, f"no {n}") for n in bad
    }
    assert {f.number for f in find_by_number(span, fails, [n for n, _ in messages])} == bad


def test_nothing_is_found_where_a_query_fails_without_messages() -> None:
    assert find_faults(Span(0, 10), lambda span, numbers: "always", lambda span: [1]) == []
    assert find_by_number(Span(0, 10), lambda span, numbers: "always", []) == []


@pytest.mark.parametrize(
    "keys",
    [
        TUMBLING,
        {**TUMBLING, "partition_by": "g"},
        {"type": "session", "gap": "5s"},
        {"type": "session", "gap": "5s", "partition_by": "g"},
        {"type": "tumbling", "size": "24h", "timezone": "Europe/Berlin"},  # its first start, too
    ],
)
def test_the_others_count_and_each_is_told_of_once(tmp_path: Path, keys: dict[str, str]) -> None:
    pipe = pipeline(
        tmp_path, **keys, **EVENT, query=COUNT, on_late="sink", late_sink="late",
        start_ms=10 * 86_400_000,
    )  # fmt: skip
    pipe.send(at(1, "good", l="[1,2]", g="a"), at(2, "bad", l="[", g="a"))
    pipe.send(at(2, "worse", l="]", g="a"))
    pipe.send(at(10 * 86_400, l="[]", g="b"))
    results = [body for body in pipe.bodies() if body["query"] == "w"]
    assert [body["rows"] for body in results] == [[{"n": 1, "total": 2}]]
    refused = [body["rows"][0] for body in pipe.bodies() if body["query"] == "w.late"]
    assert [(row["key"], row["timestamp_ms"], row["reason"]) for row in refused] == [
        ("bad", 2_000, "malformed JSON"), ("worse", 2_000, "malformed JSON"),
    ]  # fmt: skip
    assert refused[0]["payload"] == '{"at": 2.0, "l": "[", "g": "a"}'
    assert pipe.failures == [
        "window w: left out, as it cannot be evaluated with: key 'bad' at 1970-01-01T00:00:02.000Z:"
        " malformed JSON; key 'worse' at 1970-01-01T00:00:02.000Z: malformed JSON"
    ]
    assert pipe.engine.windows_health()["w"]["left_out"] == 2
    pipe.close()


@pytest.mark.parametrize("partition", [None, "g"])
@pytest.mark.parametrize("query", [COUNT, COUNT.replace("count(*)", "count(DISTINCT key)")])
def test_a_sliding_window_tells_of_it_once_with_panes_and_without(
    tmp_path: Path, query: str, partition: str | None
) -> None:
    keys = SLIDING if partition is None else {**SLIDING, "partition_by": partition}
    pipe = pipeline(tmp_path, **keys, **EVENT, query=query)
    pipe.send(at(1, "good", l="[1,2]", g="a"), at(12, "bad", l="[", g="a"))
    pipe.send(at(60, l="[]", g="b"))
    assert spans(pipe.bodies()) == [
        ("23:59:50", "00:00:10", {"n": 1, "total": 2}),
        ("00:00:00", "00:00:20", {"n": 1, "total": 2}),
        ("00:00:10", "00:00:30", {"n": 0, "total": None}),
    ]
    assert len(pipe.failures) == 1 and "key 'bad'" in pipe.failures[0]
    assert pipe.engine.windows_health()["w"]["read_again"] == 0
    pipe.close()


def test_panes_made_anew_from_the_buffer_leave_it_out(tmp_path: Path) -> None:
    pipe = pipeline(tmp_path, **SLIDING, **EVENT)
    pipe.send(at(1, "good", l="[1,2]"), at(1, "bad", l="["), at(2, "good", l="[3]"))
    pipe.close()
    again = pipeline(tmp_path, **SLIDING, **EVENT, query=COUNT)
    again.send(at(60, l="[]"))
    assert [row for _, _, row in spans(again.bodies())] == [{"n": 2, "total": 3}] * 2
    assert len(again.failures) == 1 and "key 'bad'" in again.failures[0]
    assert again.engine.windows_health()["w"]["read_again"] == 0
    again.close()


def test_many_are_reported_in_one_line(tmp_path: Path) -> None:
    pipe = pipeline(tmp_path, **SLIDING, **EVENT, query=COUNT)
    pipe.send(*(at(1, f"bad{number}", l="[") for number in range(500)), at(1, l="[7]"))
    pipe.send(at(60, l="[]"))
    assert [row for _, _, row in spans(pipe.bodies())] == [{"n": 1, "total": 1}] * 2
    (told,) = pipe.failures
    assert told.endswith("; and 497 more")
    pipe.close()


def test_what_was_told_in_a_transaction_that_is_undone_is_told_again(tmp_path: Path) -> None:
    pipe = pipeline(tmp_path, **TUMBLING, **EVENT, query=COUNT, on_late="sink", late_sink="late")
    pipe.send(at(1, "bad", l="["))
    pipe.send_on_full_disk(at(11, l="[]"))
    assert [b["key"] for b in pipe.bodies() if b["query"] == "w.late"] == ["bad"]
    pipe.close()


def opened(tmp_path: Path, clock: ManualClock, query: str) -> CarefulQuery:
    path = tmp_path / "messages.db"
    db = apsw.Connection(str(path))
    db.execute("CREATE TABLE b(time_ms, n, key, payload)")
    db.execute("INSERT INTO b VALUES(1, 1, 'k', '{}'), (2, 2, 'k', '[')")
    db.close()
    return CarefulQuery(
        lambda leaves_out: SpanQuery(
            path, "orders", "b", None, query, ("n",), clock, leaves_out=leaves_out
        ),
        clock,
    )


def test_the_search_ends_when_it_takes_too_long(tmp_path: Path) -> None:
    clock = ManualClock(0)
    query = opened(tmp_path, clock, "SELECT json(payload) AS n FROM orders")
    fails = query.in_time(lambda span, numbers: None)
    assert fails(Span(0, 1), faults.ALL) is None
    clock.advance(DEADLINE_MS + 1)
    with pytest.raises(QueryError, match="too long"):
        fails(Span(0, 1), faults.ALL)
    query.close()


def test_a_window_that_fails_for_too_many_messages_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faults, "MAX_KNOWN", 0)
    query = opened(tmp_path, ManualClock(0), "SELECT json(payload) AS n FROM orders")
    with pytest.raises(QueryError, match="more than 0 messages"):
        query.rows(Span(0, 10), None)
    query.close()


def test_messages_that_are_needed_no_more_are_forgotten(tmp_path: Path) -> None:
    query = opened(tmp_path, ManualClock(0), "SELECT json(payload) AS n FROM orders")
    assert query.rows(Span(0, 10), None) == [("{}",)]
    assert [each.key for each in query.take_told()] == ["k"]
    assert query.rows(Span(0, 10), None) == [("{}",)] and query.take_told() == []
    query.forget(3)
    assert query.rows(Span(0, 10), None) == [("{}",)] and len(query.take_told()) == 1
    query.close()


def test_a_deadline_is_no_fault_of_a_message(tmp_path: Path) -> None:
    clock = ManualClock(0)
    endless = (
        "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) AS n"
        " FROM c, orders"
    )
    query = opened(tmp_path, clock, endless)
    clock.advance(0)
    started = iter([0, *[DEADLINE_MS + 1] * 100])
    clock.monotonic_ms = lambda: next(started)  # type: ignore[method-assign]
    with pytest.raises(QueryError, match="interrupted"):
        query.rows(Span(0, 10), None)
    query.close()


def test_a_large_partitioned_window_long_after_the_last_one_is_not_overdue(tmp_path: Path) -> None:
    pipe: WindowPipeline = pipeline(tmp_path, **TUMBLING, **EVENT, partition_by="g")
    pipe.clock.advance(10 * DEADLINE_MS)
    pipe.send(*(Sent("k", f'{{"at": 1, "g": {n % 10}, "v": 1}}', 0) for n in range(20_000)))
    pipe.send(at(11, g="end", v=0))
    assert [body["rows"][0]["n"] for body in pipe.bodies()] == [2_000] * 10
    assert pipe.failures == []
    pipe.close()
