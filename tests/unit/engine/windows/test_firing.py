"""Windows close when time has passed their end: each once, over exactly its messages."""

from pathlib import Path
from typing import Any

import pytest

from litejoin.config.spans import MAX_SPANS
from litejoin.engine.windows.window import MAX_FIRINGS
from tests.differential.window_pipeline import Sent, WindowPipeline, message
from tests.unit.plan.documents import plan_of

COUNT = "SELECT count(*) AS n, sum(payload ->> '$.v') AS total FROM orders"


def pipeline(tmp_path: Path, *, start_ms: int = 0, **keys: Any) -> WindowPipeline:
    defaults = {"name": "w", "topic": "orders", "sink": "out", "query": COUNT}
    fields = "\n".join(f"    {key}: {value}" for key, value in {**defaults, **keys}.items())
    plan = plan_of(
        "sources:\n  - {name: in, type: http, topics: [orders], config: {addr: '127.0.0.1:8080'}}\n"
        f"windows:\n  -\n{fields}\nsinks:\n  - {{name: out, type: stdout}}\n"
        "  - {name: late, type: stdout}\n"
    )
    return WindowPipeline(tmp_path / "data", plan.windows, start_ms=start_ms)


def at(second: float, key: str = "k", **payload: Any) -> Sent:
    """A message with an event time in seconds, ingested at 0."""
    return message(key, 0, at=int(second * 1000) / 1000, **payload)


def spans(bodies: list[dict[str, Any]]) -> list[tuple[str, str, Any]]:
    """(start, end, first row) of results; times without the date."""
    return [
        (
            b["window"]["start"][11:-5],
            b["window"]["end"][11:-5],
            b["rows"][0] if b["rows"] else None,
        )
        for b in bodies
    ]


TUMBLING = {"type": "tumbling", "size": "10s"}
EVENT = {"time_path": "at", "time_format": "unix_s"}


def test_what_validate_warns_of_is_what_one_transaction_takes() -> None:
    assert MAX_SPANS == MAX_FIRINGS


def test_an_ingestion_time_window_fires_once_when_the_wall_clock_passes_its_end(
    tmp_path: Path,
) -> None:
    pipe = pipeline(tmp_path, **TUMBLING)
    pipe.send(message("a", 1_000, v=1), message("a", 9_999, v=2), message("b", 10_000, v=4))
    pipe.pass_time(10_000)
    assert pipe.bodies() == []
    pipe.pass_time(100)
    pipe.pass_time(1_000)
    assert spans(pipe.bodies()) == [("00:00:00", "00:00:10", {"n": 2, "total": 3})]
    pipe.pass_time(60_000)
    assert len(pipe.bodies()) == 2
    pipe.close()


def test_every_message_counts_not_only_the_latest_of_its_key(tmp_path: Path) -> None:
    pipe = pipeline(tmp_path, **TUMBLING, **EVENT)
    pipe.send(at(1, v=1), at(2, v=1), at(3, v=1))
    pipe.send(at(10, v=1))
    assert spans(pipe.bodies()) == [("00:00:00", "00:00:10", {"n": 3, "total": 3})]
    pipe.close()


def test_a_window_waits_for_its_lateness(tmp_path: Path) -> None:
    pipe = pipeline(tmp_path, **TUMBLING, **EVENT, allowed_lateness="5s")
    pipe.send(at(3, v=1))
    pipe.send(at(14.999, v=1))
    assert pipe.bodies() == []
    pipe.send(at(9, v=1), at(15, v=1))
    assert spans(pipe.bodies()) == [("00:00:00", "00:00:10", {"n": 2, "total": 2})]
    pipe.close()


def test_sliding_windows_overlap_and_start_before_the_first_message(tmp_path: Path) -> None:
    pipe = pipeline(tmp_path, type="sliding", size="10s", slide="5s", **EVENT)
    pipe.send(at(12, v=1), at(17, v=2))
    pipe.send(at(100, v=0))
    assert spans(pipe.bodies()) == [
        ("00:00:05", "00:00:15", {"n": 1, "total": 1}),
        ("00:00:10", "00:00:20", {"n": 2, "total": 3}),
        ("00:00:15", "00:00:25", {"n": 1, "total": 2}),
    ]
    pipe.close()


def test_a_session_ends_when_nothing_came_for_its_gap(tmp_path: Path) -> None:
    pipe = pipeline(tmp_path, type="session", gap="10s", partition_by="user", **EVENT)
    pipe.send(at(0, user="a", v=1), at(5, user="b", v=1), at(10, user="a", v=1))
    pipe.send(at(21, user="c", v=1))
    assert [(b["key"], *spans([b])[0]) for b in pipe.bodies()] == [
        ("b", "00:00:05", "00:00:15", {"n": 1, "total": 1}),
        ("a", "00:00:00", "00:00:20", {"n": 2, "total": 2}),
    ]
    pipe.close()


def test_a_message_between_two_sessions_makes_them_one(tmp_path: Path) -> None:
    pipe = pipeline(tmp_path, type="session", gap="10s", allowed_lateness="30s", **EVENT)
    pipe.send(at(0, v=1), at(15, v=1))
    pipe.send(at(8, v=1))
    pipe.send(at(60, v=1))
    assert spans(pipe.bodies()) == [("00:00:00", "00:00:25", {"n": 3, "total": 3})]
    pipe.close()


def test_a_late_message_is_dropped_and_counted(tmp_path: Path) -> None:
    pipe = pipeline(tmp_path, **TUMBLING, **EVENT)
    pipe.send(at(1, v=1))
    pipe.send(at(30, v=1))
    pipe.send(at(9.999, v=100))
    pipe.send(at(50, v=1))
    assert [row for _, _, row in spans(pipe.bodies())] == [
        {"n": 1, "total": 1},
        {"n": 1, "total": 1},
    ]
    assert pipe.engine.windows_health()["w"]["late"] == 1
    pipe.close()


def test_a_late_message_updates_its_window(tmp_path: Path) -> None:
    pipe = pipeline(tmp_path, **TUMBLING, **EVENT, on_late="update")
    pipe.send(at(1, v=1))
    pipe.send(at(12, v=1))
    pipe.send(at(9, v=5))
    bodies = pipe.bodies()
    assert spans(bodies) == [
        ("00:00:00", "00:00:10", {"n": 1, "total": 1}),
        ("00:00:00", "00:00:10", {"n": 2, "total": 6}),
    ]
    assert bodies[0]["seq"] < bodies[1]["seq"]
    pipe.send(at(40, v=0))
    pipe.send(at(2, v=9))
    assert len(pipe.bodies()) == 3
    pipe.close()


def test_a_late_message_goes_to_its_sink(tmp_path: Path) -> None:
    pipe = pipeline(tmp_path, **TUMBLING, **EVENT, on_late="sink", late_sink="late")
    pipe.send(at(30, v=1))
    pipe.send(at(9, "slow", v=100))
    pipe.send(message("bad", 5, v=1))
    late = [body for body in pipe.bodies() if body["query"] == "w.late"]
    assert [body["key"] for body in late] == ["slow", "bad"]
    assert late[0]["rows"] == [
        {"key": "slow", "payload": '{"at": 9.0, "v": 100}', "timestamp_ms": 9_000, "reason": "late"}
    ]
    assert late[1]["rows"][0]["reason"] == "there is no event time"
    pipe.close()


def test_the_first_moment_of_an_open_window_is_not_late_beside_one_that_is(tmp_path: Path) -> None:
    pipe = pipeline(tmp_path, **TUMBLING, **EVENT, on_late="sink", late_sink="late")
    pipe.send(at(30, v=1))
    pipe.send(at(29.999, "slow", v=100), at(30, v=1))
    pipe.send(at(40, v=0))
    assert pipe.engine.windows_health()["w"]["late"] == 1
    late = [body["key"] for body in pipe.bodies() if body["query"] == "w.late"]
    assert late == ["slow"]
    fired = spans([body for body in pipe.bodies() if body["query"] == "w"])
    assert fired == [("00:00:30", "00:00:40", {"n": 2, "total": 2})]
    pipe.close()


def test_a_session_that_starts_earlier_takes_in_none_of_a_closed_one_and_none_that_was_late(
    tmp_path: Path,
) -> None:
    pipe = pipeline(tmp_path, type="session", gap="10s", partition_by="user", **EVENT)
    pipe.send(at(0, user="a", v=1), at(5, user="a", v=10), at(6, user="open", v=0))
    pipe.send(at(15, user="clock", v=0))
    pipe.send(at(4, user="a", v=100))
    pipe.send(at(12, user="a", v=1_000))
    pipe.send(at(3, user="a", v=10_000))
    pipe.send(at(60, user="clock", v=0))
    assert spans([body for body in pipe.bodies() if body["key"] == "a"]) == [
        ("00:00:00", "00:00:15", {"n": 2, "total": 11}),
        ("00:00:03", "00:00:22", {"n": 2, "total": 11_000}),
    ]
    assert pipe.engine.windows_health()["w"]["late"] == 1
    pipe.close()


def test_a_message_whose_session_would_end_at_the_watermark_is_late(tmp_path: Path) -> None:
    pipe = pipeline(tmp_path, type="session", gap="10s", allowed_lateness="5s", **EVENT)
    pipe.send(at(40, v=1))
    pipe.send(at(25, v=100))
    pipe.send(at(25.001, v=1_000))
    pipe.send(at(55, v=0))
    assert spans(pipe.bodies()) == [
        ("00:00:25", "00:00:35", {"n": 1, "total": 1_000}),
        ("00:00:40", "00:00:50", {"n": 1, "total": 1}),
    ]
    assert pipe.engine.windows_health()["w"]["late"] == 1
    pipe.close()


def test_a_message_at_most_the_gap_away_extends_a_session_that_came_before(tmp_path: Path) -> None:
    pipe = pipeline(tmp_path, type="session", gap="10s", allowed_lateness="30s", **EVENT)
    pipe.send(at(20, v=1))
    pipe.send(at(30, v=1))
    pipe.send(at(10, v=1))
    pipe.send(at(40.001, v=1))
    pipe.send(at(100, v=1))
    assert spans(pipe.bodies()) == [
        ("00:00:10", "00:00:40", {"n": 3, "total": 3}),
        ("00:00:40", "00:00:50", {"n": 1, "total": 1}),
    ]
    pipe.close()


def test_a_late_session_is_shown_for_as_long_again_as_it_was_open(tmp_path: Path) -> None:
    pipe = pipeline(tmp_path, type="session", gap="10s", on_late="update", **EVENT)
    pipe.send(at(40, v=1))
    pipe.send(at(20, v=100))
    assert pipe.bodies() == []
    pipe.send(at(20.001, v=1_000))
    assert spans(pipe.bodies()) == [("00:00:20", "00:00:30", {"n": 1, "total": 1_000})]
    assert pipe.engine.windows_health()["w"]["late"] == 2
    pipe.close()


def test_a_session_that_is_taken_back_leaves_a_later_one_current(tmp_path: Path) -> None:
    pipe = pipeline(
        tmp_path, type="session", gap="10s", on_late="update", allowed_lateness="40s", **EVENT
    )
    pipe.send(at(8, v=1), at(19, v=1), at(40, v=1))
    pipe.send(at(90, v=1))
    pipe.send(at(14, v=1))
    assert [(b["op"], *spans([b])[0][:2]) for b in pipe.bodies()[3:]] == [
        ("delete", "00:00:19", "00:00:29"),
        ("upsert", "00:00:08", "00:00:29"),
    ]
    assert [span[:2] for span in spans(pipe.current())] == [("00:00:40", "00:00:50")]
    pipe.close()


def test_of_sessions_the_newest_results_stay_current(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("litejoin.engine.windows.results.MAX_CURRENT", 2)
    pipe = pipeline(tmp_path, type="session", gap="10s", partition_by="user", **EVENT)
    pipe.send(at(1, user="a", v=1), at(2, user="b", v=1), at(3, user="c", v=1))
    pipe.send(at(60, user="clock", v=1))
    assert len(pipe.bodies()) == 3
    assert [body["key"] for body in pipe.current()] == ["b", "c"]
    pipe.close()


def test_a_whole_real_is_the_key_of_its_integer(tmp_path: Path) -> None:
    pipe = pipeline(tmp_path, **TUMBLING, **EVENT, partition_by="user")
    pipe.send(at(1, user=5.0, v=1), at(2, user=5.5, v=1))
    pipe.send(at(10, user=0, v=1))
    assert [repr(body["key"]) for body in pipe.bodies()] == ["5", "5.5"]
    pipe.close()


def test_an_infinite_sum_is_a_number_that_json_readers_take_for_infinite(tmp_path: Path) -> None:
    pipe = pipeline(tmp_path, **TUMBLING, **EVENT, partition_by="user")
    pipe.send(at(1, user="a", v=1e308), at(2, user="a", v=1e308))
    pipe.send(at(3, user="b", v=-1e308), at(4, user="b", v=-1e308))
    pipe.send(at(10, user="c", v=1))
    totals = {body["key"]: body["rows"][0]["total"] for body in pipe.bodies()}
    assert totals == {"a": float("inf"), "b": float("-inf")}
    pipe.close()


def test_a_span_whose_messages_may_be_gone_is_not_brought_up_to_date(tmp_path: Path) -> None:
    pipe = pipeline(tmp_path, type="sliding", size="10s", slide="5s", **EVENT, on_late="update")
    pipe.send(at(22, v=1), at(27, v=1), at(40, v=1))
    pipe.pass_time(2_000)
    fired = len(pipe.bodies())
    pipe.send(at(28, v=10))
    # Spans are updated for as long again as they were open: that from 20 to 30 just no more.
    assert spans(pipe.bodies()[fired:]) == [("00:00:25", "00:00:35", {"n": 2, "total": 11})]
    pipe.close()


def test_a_restart_brings_no_span_up_to_date_without_messages_that_are_gone(
    tmp_path: Path,
) -> None:
    pipe = pipeline(tmp_path, **TUMBLING, **EVENT, on_late="update", idle_timeout="20s")
    pipe.send(at(1, v=1), at(2, v=1), at(11, v=1))
    pipe.pass_time(100_000)
    pipe.pass_time(2_000)
    fired = spans(pipe.bodies())
    assert [span[:2] for span in fired] == [("00:00:00", "00:00:10"), ("00:00:10", "00:00:20")]
    pipe.reopen()
    pipe.send(at(12, v=100))
    assert spans(pipe.bodies()) == fired
    pipe.close()


def test_a_late_message_that_bridges_two_sent_sessions_takes_their_results_back(
    tmp_path: Path,
) -> None:
    pipe = pipeline(
        tmp_path, type="session", gap="10s", on_late="update", allowed_lateness="20s", **EVENT
    )
    pipe.send(at(0, v=1), at(15, v=1))
    pipe.send(at(46, v=1))
    assert [s[:2] for s in spans(pipe.bodies())] == [
        ("00:00:00", "00:00:10"),
        ("00:00:15", "00:00:25"),
    ]
    pipe.send(at(8, v=1))
    assert [(b["op"], *spans([b])[0]) for b in pipe.bodies()[2:]] == [
        ("delete", "00:00:15", "00:00:25", None),
        ("upsert", "00:00:00", "00:00:25", {"n": 3, "total": 3}),
    ]
    pipe.close()


@pytest.mark.parametrize(
    "time", ['"9999-12-31T23:59:59Z"', "253402300799", "-1", '"soon"', "null", "{}", "1e400"]
)
def test_an_unusable_time_is_refused_and_moves_nothing(tmp_path: Path, time: str) -> None:
    pipe = pipeline(tmp_path, **TUMBLING, time_path="at")
    pipe.send(at(1, v=1), Sent("bad", f'{{"at": {time}}}', 0))
    pipe.send(at(2, v=1))
    assert pipe.bodies() == []
    assert pipe.engine.windows_health()["w"]["refused"] == 1
    pipe.close()


def test_an_idle_source_lets_the_wall_clock_close_windows(tmp_path: Path) -> None:
    pipe = pipeline(tmp_path, **TUMBLING, **EVENT, idle_timeout="20s")
    pipe.send(at(1, v=1))
    pipe.pass_time(19_999)
    assert pipe.bodies() == []
    pipe.pass_time(1)
    assert spans(pipe.bodies()) == [("00:00:00", "00:00:10", {"n": 1, "total": 1})]
    pipe.close()


def test_results_as_they_change_and_no_repetition_at_the_end(tmp_path: Path) -> None:
    pipe = pipeline(tmp_path, **TUMBLING, **EVENT, emit="update")
    pipe.send(at(1, v=1))
    pipe.send(at(2, v=1))
    pipe.send(at(10, v=5))
    assert spans(pipe.bodies()) == [
        ("00:00:00", "00:00:10", {"n": 1, "total": 1}),
        ("00:00:00", "00:00:10", {"n": 2, "total": 2}),
        ("00:00:10", "00:00:20", {"n": 1, "total": 5}),
    ]
    pipe.close()


def test_a_sliding_window_sends_every_change_of_every_span(tmp_path: Path) -> None:
    pipe = pipeline(tmp_path, type="sliding", size="10s", slide="5s", **EVENT, emit="update")
    pipe.send(at(6, v=1))
    pipe.send(at(11, v=2))
    pipe.send(at(40, v=0))
    early, late = {"n": 1, "total": 1}, {"n": 2, "total": 3}
    bodies = pipe.bodies()
    assert spans(bodies)[:4] == [
        ("00:00:00", "00:00:10", early),
        ("00:00:05", "00:00:15", early),
        ("00:00:05", "00:00:15", late),
        ("00:00:10", "00:00:20", {"n": 1, "total": 2}),
    ]
    assert {s[0] for s in spans(bodies)[4:]} == {"00:00:35", "00:00:40"}
    assert [b["seq"] for b in bodies] == sorted({b["seq"] for b in bodies})
    pipe.close()


def test_a_session_sends_every_change_while_it_lasts(tmp_path: Path) -> None:
    pipe = pipeline(tmp_path, type="session", gap="10s", **EVENT, emit="update")
    pipe.send(at(1, v=1))
    pipe.send(at(8, v=2))
    pipe.send(at(40, v=0))
    assert spans(pipe.bodies()) == [
        ("00:00:01", "00:00:11", {"n": 1, "total": 1}),
        ("00:00:01", "00:00:18", {"n": 2, "total": 3}),
        ("00:00:40", "00:00:50", {"n": 1, "total": 0}),
    ]
    pipe.close()


def test_the_snapshot_shows_the_newest_window_only(tmp_path: Path) -> None:
    query = "SELECT payload ->> '$.user' AS user, count(*) AS n FROM orders GROUP BY 1"
    pipe = pipeline(tmp_path, **TUMBLING, **EVENT, query=query, key_column="user")
    pipe.send(at(1, user="a"), at(2, user="b"), at(11, user="b"))
    pipe.send(at(20, user="c"))
    assert [(b["key"], b["window"]["start"][17:19]) for b in pipe.bodies()] == [
        ("a", "00"), ("b", "00"), ("b", "10"),
    ]  # fmt: skip
    assert [b["key"] for b in pipe.current()] == ["b"]
    pipe.close()


def test_a_restart_resumes_open_windows_and_repeats_no_closed_one(tmp_path: Path) -> None:
    pipe = pipeline(tmp_path, **TUMBLING, **EVENT)
    pipe.send(at(1, v=1), at(11, v=1))
    pipe.reopen()
    pipe.write([at(12, v=1)])  # stored, and the process dies before it is applied
    pipe.reopen()
    pipe.send(at(20, v=1))
    pipe.reopen()
    pipe.fire()
    assert spans(pipe.bodies()) == [
        ("00:00:00", "00:00:10", {"n": 1, "total": 1}),
        ("00:00:10", "00:00:20", {"n": 2, "total": 2}),
    ]
    pipe.close()


def test_a_query_that_fails_over_no_message_alone_is_reported(tmp_path: Path) -> None:
    query = "SELECT sum(payload ->> '$.v') AS n FROM orders"
    pipe = pipeline(tmp_path, **TUMBLING, **EVENT, query=query)
    pipe.send(at(1, v=2**62), at(2, v=2**62))
    pipe.send(at(11, v=1))
    pipe.send(at(21, v=1))
    assert len(pipe.failures) == 1 and "integer overflow" in pipe.failures[0]
    assert "from 1970-01-01T00:00:00.000Z to 1970-01-01T00:00:10.000Z" in pipe.failures[0]
    assert [row for _, _, row in spans(pipe.bodies())] == [{"n": 1}]
    pipe.close()
