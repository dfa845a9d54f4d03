"""A payload that is no JSON is in no partition; the windows that need none take the message in."""

from pathlib import Path

import pytest

from litejoin.plan.nodes import WindowPlan
from tests.differential.window_pipeline import Sent, WindowPipeline, message
from tests.unit.engine.windows.test_firing import TUMBLING, pipeline

COUNT = "SELECT count(*) AS n FROM orders"
BAD = Sent("bad", "{not json", 1_500)
REASON = "the payload is not JSON"

KINDS = {
    "tumbling": TUMBLING,
    "sliding": {"type": "sliding", "size": "20s", "slide": "10s"},
    "read": {**TUMBLING, "query": "SELECT count(DISTINCT key) AS n FROM orders"},
    "session": {"type": "session", "gap": "5s"},
    "updated": {**TUMBLING, "emit": "update"},
    "late": {**TUMBLING, "on_late": "update", "allowed_lateness": "1s"},
}


def plan(tmp_path: Path, name: str, **keys: str) -> WindowPlan:
    pipe = pipeline(tmp_path / f"plan-{name}", **{"query": COUNT, **keys, "name": name})
    pipe.close()
    (found,) = pipe.plans
    return found


def counts(pipe: WindowPipeline, name: str) -> list[tuple[object, int]]:
    """Key and count of each result of a window."""
    return [(b["key"], b["rows"][0]["n"]) for b in pipe.bodies() if b["query"] == name]


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_windows_of_a_partition_leave_it_out(tmp_path: Path, kind: str) -> None:
    parted = {**KINDS[kind], "partition_by": "g"}
    sink = {"on_late": "sink", "late_sink": "late"} if "on_late" not in parted else {}
    plans = [plan(tmp_path, "all", **TUMBLING), plan(tmp_path, "by", **parted, **sink)]
    pipe = WindowPipeline(tmp_path / "data", plans)
    pipe.send(message("good", 1_000, g="a"), BAD, message("good", 2_000))
    pipe.pass_time(60_000)
    assert counts(pipe, "all") == [(None, 3)]
    assert set(counts(pipe, "by")) == {(None, 1), ("a", 1)}
    told = "window by: left out, as it cannot be evaluated with: key 'bad' at"
    assert pipe.failures == [f"{told} 1970-01-01T00:00:01.500Z: {REASON}"]
    if sink:
        (refused,) = [b["rows"][0] for b in pipe.bodies() if b["query"] == "by.late"]
        assert refused == {
            "key": "bad", "payload": "{not json", "timestamp_ms": 1_500, "reason": REASON,
        }  # fmt: skip
    health = pipe.engine.windows_health()
    assert [health[name]["left_out"] for name in ("all", "by")] == [0, 1]
    assert [health[name]["refused"] for name in ("all", "by")] == [0, 0]
    pipe.close()


@pytest.mark.parametrize("kind", KINDS)
def test_a_late_one_is_told_of_and_not_counted_as_late(tmp_path: Path, kind: str) -> None:
    plans = [
        plan(tmp_path, "all", **TUMBLING),
        plan(tmp_path, "by", **KINDS[kind], partition_by="g"),
    ]
    pipe = WindowPipeline(tmp_path / "data", plans)
    pipe.pass_time(60_000)
    before = pipe.bodies()
    pipe.send(BAD)
    assert pipe.bodies() == before
    assert len(pipe.failures) == 1 and "key 'bad'" in pipe.failures[0]
    health = pipe.engine.windows_health()
    assert [health[name]["late"] for name in ("all", "by")] == [1, 0]
    assert [health[name]["left_out"] for name in ("all", "by")] == [0, 1]
    pipe.close()


def test_one_that_is_held_already_is_in_no_partition_that_is_new(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    every = plan(tmp_path, "all", **TUMBLING, allowed_lateness="30s")
    pipe = WindowPipeline(tmp_path / "data", [every])
    pipe.send(message("good", 1_000, g="a"), BAD, message("good", 2_000, g="a"))
    parted = plan(tmp_path, "by", **TUMBLING, partition_by="g", allowed_lateness="30s")
    pipe.close()
    pipe.plans = [every, parted]
    pipe.open()
    pipe.pass_time(60_000)
    assert counts(pipe, "all") == [(None, 3)]
    assert counts(pipe, "by") == [("a", 2)]
    assert "partition_by g leaves messages out that are held and no JSON: 1" in caplog.text
    pipe.close()
