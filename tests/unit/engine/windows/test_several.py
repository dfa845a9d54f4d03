"""Several windows on one topic, changed configs, and what a poison message does to panes."""

from dataclasses import replace
from pathlib import Path

from litejoin.plan.nodes import WindowPlan
from litejoin.store.log import ResultLog
from tests.differential.window_pipeline import WindowPipeline, message
from tests.unit.engine.windows.test_firing import EVENT, TUMBLING, at, pipeline, spans


def plans_of(tmp_path: Path) -> list[WindowPlan]:
    """A tumbling, a sliding, a session and an ingestion-time window."""
    kinds = {
        "t": {**TUMBLING, **EVENT},
        "s": {"type": "sliding", "size": "20s", "slide": "10s", **EVENT},
        "p": {"type": "session", "gap": "5s", "partition_by": "user", **EVENT},
        "i": TUMBLING,
    }
    found = []
    for name, keys in kinds.items():
        pipe = pipeline(tmp_path / name, name=name, **keys)
        found += pipe.plans
        pipe.close()
    return found


def test_windows_of_one_topic_share_a_buffer_by_time_path(tmp_path: Path) -> None:
    pipe = WindowPipeline(tmp_path / "all", plans_of(tmp_path))
    pipe.send(at(1, user="a", v=1), at(2, user="b", v=2), at(14, user="a", v=4))
    pipe.send(at(40, user="c", v=0))
    pipe.pass_time(10_100)
    by_window: dict[str, list[object]] = {}
    for body in pipe.bodies():
        by_window.setdefault(body["query"], []).append(body["rows"][0]["total"])
    assert by_window == {"t": [3, 4], "s": [3, 7, 4], "p": [1, 2, 4], "i": [7]}
    tables = pipe.engine.state.connection.execute("SELECT count(*) FROM window_streams").get
    assert tables == 2
    pipe.close()


def test_each_window_waits_for_its_own_idle_timeout(tmp_path: Path) -> None:
    hasty = pipeline(tmp_path / "h", name="hasty", **TUMBLING, **EVENT, idle_timeout="10s")
    patient = pipeline(tmp_path / "p", name="patient", **TUMBLING, **EVENT, idle_timeout="1h")
    pipe = WindowPipeline(tmp_path / "both", [*hasty.plans, *patient.plans])
    hasty.close()
    patient.close()
    pipe.send(at(1, v=1))
    pipe.pass_time(60_000)
    pipe.send(at(9, v=10))
    pipe.send(at(70, v=0))
    totals = {body["query"]: body["rows"][0]["total"] for body in pipe.bodies()}
    assert totals == {"hasty": 1, "patient": 11}
    health = pipe.engine.windows_health()
    assert (health["hasty"]["late"], health["patient"]["late"]) == (1, 0)
    pipe.close()


def test_what_a_removed_window_kept_is_dropped(tmp_path: Path) -> None:
    pipe = WindowPipeline(tmp_path / "all", plans_of(tmp_path))
    pipe.send(at(1, user="a", v=1))
    pipe.send(at(40, user="a", v=1))
    pipe.plans = [plan for plan in pipe.plans if plan.name == "i"]
    pipe.reopen()
    tables = "SELECT name FROM sqlite_schema WHERE name GLOB 'window_[0-9]*' AND type = 'table'"
    names = [row[0] for row in pipe.engine.state.connection.execute(tables)]
    assert len(names) == 1
    pipe.close()


def test_a_new_query_applies_to_windows_that_are_open(tmp_path: Path) -> None:
    pipe = pipeline(tmp_path, type="sliding", size="20s", slide="10s", **EVENT)
    pipe.send(at(1, v=1), at(12, v=2))
    changed = "SELECT count(*) AS n, 10 * sum(payload ->> '$.v') AS total FROM orders"
    again = pipeline(tmp_path / "other", type="sliding", size="20s", slide="10s", query=changed,
                     **EVENT)  # fmt: skip
    pipe.plans = again.plans
    again.close()
    pipe.reopen()
    pipe.send(at(60, v=0))
    assert [row for _, _, row in spans(pipe.bodies())] == [
        {"n": 1, "total": 1},
        {"n": 2, "total": 30},
        {"n": 1, "total": 20},
    ]
    pipe.close()


def test_other_spans_start_anew(tmp_path: Path) -> None:
    pipe = pipeline(tmp_path, **TUMBLING, **EVENT)
    pipe.send(at(1, v=1))
    pipe.send(at(11, v=1))
    pipe.plans = [replace(pipe.plans[0], size_ms=60_000)]
    pipe.reopen()
    pipe.send(at(70, v=1))
    assert [s[:2] for s in spans(pipe.bodies())] == [
        ("00:00:00", "00:00:10"),
        ("00:00:00", "00:01:00"),
    ]
    pipe.close()


def test_a_new_window_sends_nothing_of_spans_that_ended_before(tmp_path: Path) -> None:
    pipe = pipeline(tmp_path, name="s", type="sliding", size="40s", slide="10s", **EVENT)
    for second in range(0, 75, 5):
        pipe.send(at(second, v=1))
        pipe.pass_time(1_100)
    added = pipeline(tmp_path / "other", name="t", **EVENT, type="tumbling", size="20s")
    pipe.plans = [*pipe.plans, *added.plans]
    added.close()
    pipe.reopen()
    pipe.fire()
    # Of [20 s, 40 s) the buffer has only what the sliding window still needs.
    assert {body["query"] for body in pipe.bodies()} == {"s"}
    pipe.send(at(80, v=1))
    found = [body for body in pipe.bodies() if body["query"] == "t"]
    assert [row for _, _, row in spans(found)] == [{"n": 3, "total": 3}]
    pipe.close()


def test_a_new_partition_is_that_of_messages_from_before_too(tmp_path: Path) -> None:
    pipe = pipeline(tmp_path, name="all", **TUMBLING, **EVENT)
    by_user = pipeline(tmp_path / "u", name="by", **TUMBLING, **EVENT, partition_by="user")
    both, alone = [*pipe.plans, *by_user.plans], pipe.plans
    by_user.close()
    pipe.send(at(1, user="a", v=1), at(2, v=1))
    pipe.plans = both
    pipe.reopen()
    pipe.send(at(3, user="a", v=1))
    pipe.plans = alone
    pipe.reopen()  # messages come without their partition
    pipe.send(at(4, user="b", v=1))
    pipe.plans = both
    pipe.reopen()
    pipe.send(at(10, user="z", v=1))
    counted = {b["key"]: b["rows"][0]["n"] for b in pipe.bodies() if b["query"] == "by"}
    assert counted == {"a": 2, "b": 1, None: 1}
    pipe.close()


def test_panes_go_on_without_a_message_that_they_cannot_hold(tmp_path: Path) -> None:
    query = "SELECT count(*) AS n, sum(json_array_length(payload ->> '$.l')) AS total FROM orders"
    pipe = pipeline(tmp_path, type="sliding", size="20s", slide="10s", query=query, **EVENT)
    pipe.send(at(1, l="[1,2]"), at(2, l="["))
    pipe.send(at(31, l="[1]"))
    (told,) = pipe.failures
    assert "left out" in told and "malformed JSON" in told
    pipe.send(at(55, l="[1,2,3]"))
    pipe.send(at(90, l="[]"))
    assert [row for _, _, row in spans(pipe.bodies())] == [
        {"n": 1, "total": 2}, {"n": 1, "total": 2}, {"n": 1, "total": 1}, {"n": 1, "total": 1},
        {"n": 1, "total": 3}, {"n": 1, "total": 3},
    ]  # fmt: skip
    assert pipe.engine.windows_health()["w"]["read_again"] == 0
    pipe.close()


def test_results_of_two_windows_of_a_key_do_not_replace_each_other(tmp_path: Path) -> None:
    pipe = pipeline(tmp_path, **TUMBLING, **EVENT, partition_by="user")
    pipe.send(at(1, user="a", v=1), at(11, user="a", v=1))
    pipe.send(message("end", 0, at=99, user="z", v=0))
    reader = ResultLog(pipe.store.layout.state, "test", pipe.store.epoch)
    first, second = reader.read(0, 10)[0]
    reader.close()
    assert first.key == second.key == '"a"'
    assert first.identity != second.identity
    assert first.id != second.id
    pipe.close()
