"""What joins see of windows: the current results, through restarts, changed configs, full disks."""

from pathlib import Path
from typing import Any

import apsw
import pytest

from litejoin.errors import StorageFullError
from litejoin.plan.nodes import Plan
from tests.differential.window_pipeline import Sent, WindowPipeline
from tests.unit.engine.windows.test_firing import at
from tests.unit.plan.documents import plan_of

CONFIG = """
sources:
  - {name: in, type: http, topics: [orders, users], config: {addr: '127.0.0.1:8080'}}
windows:
  - {name: w, type: tumbling, size: SIZE, topic: orders, time_path: at, time_format: unix_s,
     sink: out, key_column: user, query: "SELECT payload ->> '$.user' AS user, count(*) AS n
     FROM orders GROUP BY 1"}
joins:
  - {name: j, sink: out, query: 'SELECT w.user, w.n, u.payload AS name, w.window_start_ms AS start
     FROM w LEFT JOIN users u ON u.key = w.user'}
  - {name: total, sink: out, query: 'SELECT 1 AS one, sum(n) AS n FROM w'}
sinks: [{name: out, type: stdout}]
"""


def plan(size: str = "10s", *, joins: bool = True) -> Plan:
    text = CONFIG.replace("SIZE", size)
    if not joins:
        text = text[: text.index("joins:")] + text[text.index("sinks:") :]
    return plan_of(text)


def opened(root: Path, made: Plan | None = None) -> WindowPipeline:
    made = made or plan()
    return WindowPipeline(root, made.windows, joins=made.joins, topics=made.topics)


def configured(pipe: WindowPipeline, made: Plan) -> None:
    """Restart with another config."""
    pipe.plans, pipe.joins, pipe.topics = made.windows, made.joins, made.topics
    pipe.reopen()


def shown(pipe: WindowPipeline, query: str = "j") -> dict[Any, Any]:
    pipe.settle()
    rows = [(b["key"], b["rows"][0]) for b in pipe.current() if b["query"] == query]
    return {key: row["n"] for key, row in rows}


def test_a_join_follows_what_the_window_shows(tmp_path: Path) -> None:
    pipe = opened(tmp_path)
    pipe.send(at(1, user="a"), at(2, user="a"), at(3, user="b"))
    assert shown(pipe) == {}
    pipe.send(at(11, user="b"))
    assert shown(pipe) == {"a": 2, "b": 1}
    assert shown(pipe, "total") == {1: 3}
    pipe.send(Sent("b", '"Bea"', 0, "users"))
    pipe.send(at(25, user="c"))
    assert shown(pipe) == {"b": 1}
    deleted = [b for b in pipe.bodies() if b["query"] == "j" and b["op"] == "delete"]
    assert [b["key"] for b in deleted] == ["a"]
    named = [b["rows"][0] for b in pipe.bodies() if b["query"] == "j" and b["key"] == "b"]
    assert [(row["name"], row["start"]) for row in named if row][-1] == ('"Bea"', 10_000)
    pipe.close()


def test_what_fired_before_the_crash_could_be_evaluated_reaches_the_join(tmp_path: Path) -> None:
    pipe = opened(tmp_path)
    pipe.send(at(1, user="a"))
    pipe.write([at(12, user="b")])
    pipe.reopen()
    pipe.fire()
    assert shown(pipe) == {"a": 1}
    changes, messages, seq = pipe.write([at(23, user="c")])
    pipe.engine.apply(changes, seq, messages)  # taken in, not fired
    pipe.reopen()
    assert shown(pipe) == {"b": 1}
    pipe.close()


def test_a_join_that_is_new_starts_from_what_the_window_shows(tmp_path: Path) -> None:
    pipe = opened(tmp_path, plan(joins=False))
    pipe.send(at(1, user="a"), at(2, user="b"))
    pipe.send(at(12, user="a"))
    configured(pipe, plan())
    assert shown(pipe) == {"a": 1, "b": 1}
    pipe.send(at(22, user="a"))
    assert shown(pipe) == {"a": 1}
    configured(pipe, plan(joins=False))
    names = "SELECT count(*) FROM sqlite_schema WHERE name GLOB 't[0-9]*'"
    assert pipe.engine.state.connection.execute(names).get == 0
    pipe.close()


def test_results_of_spans_that_are_no_more_leave_the_join(tmp_path: Path) -> None:
    pipe = opened(tmp_path)
    pipe.send(at(1, user="a"))
    pipe.send(at(12, user="b"))
    assert shown(pipe) == {"a": 1}
    configured(pipe, plan("30s"))
    assert shown(pipe) == {}
    pipe.send(at(31, user="z"))
    assert shown(pipe) == {"a": 1, "b": 1}
    pipe.close()


def test_a_failed_commit_leaves_joins_and_windows_as_they_were(tmp_path: Path) -> None:
    pipe = opened(tmp_path)
    pipe.send(at(1, user="a"), at(2, user="b"))
    changes, messages, seq = pipe.write([at(12, user="c")])
    pipe.engine.apply(changes, seq, messages)
    for _ in range(2):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pipe.engine.state, "commit", full)
            with pytest.raises(StorageFullError):
                pipe.engine.fire_windows(None)
    assert shown(pipe) == {}
    pipe.fire()
    assert shown(pipe) == {"a": 1, "b": 1}
    pipe.send(at(23, user="d"))
    assert shown(pipe) == {"c": 1}
    pipe.close()


def full(*_: Any) -> None:
    raise apsw.FullError("database or disk is full")


def test_a_flipped_bit_in_a_row_that_joins_read_is_not_served(tmp_path: Path) -> None:
    pipe = opened(tmp_path)
    pipe.send(at(1, user="a"), at(2, user="b"))
    pipe.send(at(12, user="c"))
    number = next(iter(pipe.engine._windows.relations.numbers.values()))  # type: ignore[union-attr]
    pipe.engine.state.connection.execute(
        f"UPDATE t{number} SET payload = replace(payload, ':1', ':9')"
    )
    changes, messages, seq = pipe.write([Sent("a", '"Ann"', 0, "users")])
    applied = pipe.engine.apply(changes, seq, messages)
    assert any("checksum" in text for text in applied.failures)
    assert {row["n"] for b in pipe.bodies() if b["query"] == "j" for row in b["rows"]} == {1}
    pipe.close()
