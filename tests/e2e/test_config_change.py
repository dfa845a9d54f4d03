"""A pipeline that starts again with another config over the same data."""

import json
import subprocess
import sys
from pathlib import Path

import apsw
import pytest

from tests.harness.configs import Listener, poll_config, push_config, sse_sink
from tests.harness.fixtures import Launcher
from tests.harness.ingest import IngestClient, message
from tests.harness.process import Pipeline
from tests.harness.scripted import Upstream
from tests.harness.sse import Subscriber, snapshot
from tests.harness.waiting import eventually

FIRST = {"all": "SELECT key, payload ->> '$.v' AS v FROM t"}


def filled(launch: Launcher, at: Listener) -> Pipeline:
    """A stopped pipeline whose topic t holds k0..k9, with v = 0..9."""
    pipeline = launch(push_config(at, FIRST), at.health, name="p")
    with IngestClient(at.url) as client:
        client.send([message("t", f"k{i}", {"v": i, "w": 1}) for i in range(10)])
    eventually(lambda: len(snapshot(at.url, "all").results) == 10)
    assert pipeline.stop() == 0
    return pipeline


def again(launch: Launcher, at: Listener, joins: dict[str, str]) -> Pipeline:
    return launch(push_config(at, joins), at.health, name="p")


def test_a_join_that_is_added_sees_the_rows_that_are_there(launch: Launcher) -> None:
    at = Listener()
    filled(launch, at)
    again(launch, at, FIRST | {"big": "SELECT key, payload ->> '$.v' AS v FROM t WHERE v > 6"})
    eventually(lambda: {r["key"] for r in snapshot(at.url, "big").results} == {"k7", "k8", "k9"})
    assert len(snapshot(at.url, "all").results) == 10


def test_a_changed_query_emits_what_differs_and_deletes_what_left(launch: Launcher) -> None:
    at = Listener()
    filled(launch, at)
    position = snapshot_position(launch, at)
    again(launch, at, {"all": "SELECT key, payload ->> '$.v' AS v FROM t WHERE v < 9"})
    with Subscriber(at.url, "all", last_event_id=position) as stream:
        result = stream.wait_results(1)[0]
        assert (result["key"], result["op"]) == ("k9", "delete")
        with IngestClient(at.url) as client:
            client.send(message("t", "k0", {"v": 5}))
        assert stream.wait_results(2)[1]["rows"] == [{"key": "k0", "v": 5}]
    assert len(snapshot(at.url, "all").results) == 9


def test_a_source_with_another_topic_fills_it(launch: Launcher, upstream: Upstream) -> None:
    at = Listener()
    upstream.serve([{"id": n} for n in range(5)])
    api = {"url": upstream.url, "interval": "50ms", "key_path": "id", "detect_deletes": True}

    def poll(topic: str, wanted: set[str]) -> None:
        config = poll_config(at, api, {"all": f"SELECT key FROM {topic}"}, topic=topic)
        pipeline = launch(config, at.health, name="p")
        eventually(lambda: {r["key"] for r in snapshot(at.url, "all").results} == wanted)
        assert pipeline.stop() == 0

    poll("items", {"0", "1", "2", "3", "4"})
    upstream.serve([{"id": n} for n in range(1, 5)])
    poll("things", {"1", "2", "3", "4"})
    poll("items", {"1", "2", "3", "4"})


def snapshot_position(launch: Launcher, at: Listener) -> str:
    """The log position at the end of the first config, by starting it once more."""
    pipeline = again(launch, at, FIRST)
    position = snapshot(at.url, "all").position
    assert pipeline.stop() == 0
    return position


def test_a_changed_column_reaches_every_key(launch: Launcher) -> None:
    at = Listener()
    filled(launch, at)
    again(launch, at, {"all": "SELECT key, payload ->> '$.w' AS w FROM t"})
    wanted = {f"k{i}": [{"key": f"k{i}", "w": 1}] for i in range(10)}
    eventually(lambda: {r["key"]: r["rows"] for r in snapshot(at.url, "all").results} == wanted)


def test_a_removed_join_is_gone_and_the_others_stay(launch: Launcher) -> None:
    at = Listener()
    filled(launch, at)
    again(launch, at, {"other": "SELECT key FROM t"})
    assert snapshot(at.url, "all").status in (400, 404)
    eventually(lambda: len(snapshot(at.url, "other").results) == 10)
    assert {r["query"] for r in snapshot(at.url, "*").results} == {"other"}


def test_a_silent_change_is_shown_and_not_delivered(launch: Launcher) -> None:
    at = Listener()
    filled(launch, at)
    position = snapshot_position(launch, at)
    query = "SELECT key, payload ->> '$.v' AS v FROM t WHERE v < 5"
    joins = {"all": {"query": query, "on_change": "silent"}}
    again(launch, at, joins)
    assert {r["key"] for r in snapshot(at.url, "all").results} == {f"k{i}" for i in range(5)}
    with Subscriber(at.url, "all", last_event_id=position) as stream:
        with IngestClient(at.url) as client:
            client.send([message("t", "k0", {"v": 50}), message("t", "k1", {"v": 4})])
        told = {r["key"]: r["op"] for r in stream.wait_results(2)}
        assert told == {"k0": "delete", "k1": "upsert"}
    with Subscriber(at.url, "all", replay=True) as stream:
        assert {r["key"] for r in stream.wait_results(4)} == {"k1", "k2", "k3", "k4"}


SLOW = """SELECT key, payload ->> '$.w' AS w, length(replace(replace(replace(
    hex(zeroblob(600000 + length(key))), '00', '01'), '01', '10'), '10', '00')) - 1200004 AS zero
    FROM t"""
"""A tenth of a second for each row."""


@pytest.mark.parametrize("on_change", ["emit", "silent"])
def test_kill_9_in_the_middle_of_computing_anew_changes_nothing(
    launch: Launcher, on_change: str
) -> None:
    at = Listener()
    first = filled(launch, at)
    position = snapshot_position(launch, at)
    joins = {"all": {"query": SLOW, "on_change": on_change}}
    changed = launch.prepare(push_config(at, joins), health_url=at.health, name="p").spawn()
    state = first.work_dir / "data" / "state.db"
    eventually(lambda: is_rebuilding(state) and is_being_written(state))
    changed.kill()
    assert is_rebuilding(state)
    changed.start(timeout_s=30)
    wanted = {f"k{i}": [{"key": f"k{i}", "w": 1, "zero": 0}] for i in range(10)}
    assert {r["key"]: r["rows"] for r in snapshot(at.url, "all").results} == wanted
    with Subscriber(at.url, "all", last_event_id=position) as stream:
        with IngestClient(at.url) as client:
            client.send(message("t", "k3", {"w": 2}))
        expected = 11 if on_change == "emit" else 1
        last = stream.wait_results(expected)[-1]
        assert (last["key"], last["rows"][0]["w"]) == ("k3", 2)


def is_being_written(state: Path) -> bool:
    """Somebody else is in the middle of a transaction."""
    probe = apsw.Connection(str(state))
    try:
        probe.execute("BEGIN IMMEDIATE")
        return False
    except apsw.BusyError:
        return True
    finally:
        probe.close()


def is_rebuilding(state: Path) -> bool:
    """A join is noted as one whose stored results were made with another definition."""
    reader = apsw.Connection(str(state))
    try:
        return bool(reader.execute("SELECT value <> '[]' FROM meta WHERE name = 'rebuilding'").get)
    finally:
        reader.close()


def test_a_join_that_comes_back_is_right_about_what_happened_meanwhile(launch: Launcher) -> None:
    at = Listener()
    filled(launch, at)
    without = again(launch, at, {"other": "SELECT key FROM t"})
    with IngestClient(at.url) as client:
        client.send([message("t", "k0", None), message("t", "k1", {"v": 100})])
    eventually(lambda: len(snapshot(at.url, "other").results) == 9)
    assert without.stop() == 0
    again(launch, at, FIRST)
    wanted = {"k1": 100} | {f"k{i}": i for i in range(2, 10)}
    eventually(
        lambda: {r["key"]: r["rows"][0]["v"] for r in snapshot(at.url, "all").results} == wanted
    )


def test_a_new_sink_sees_nothing_of_a_join_that_had_the_name_before(
    launch: Launcher, tmp_path: Path
) -> None:
    at = Listener()
    filled(launch, at)
    assert again(launch, at, {"other": "SELECT key FROM t"}).stop() == 0
    late = {"name": "late", "type": "file", "config": {"path": str(tmp_path / "late.jsonl")}}
    one = {"all": "SELECT key, payload ->> '$.v' AS v FROM t WHERE key = 'k1'"}
    launch(push_config(at, one, sinks=[sse_sink(at), late]), at.health, name="p")
    eventually(lambda: (tmp_path / "late.jsonl").exists() and delivered(tmp_path) != [])
    with IngestClient(at.url) as client:
        client.send(message("t", "k1", {"v": -1}))
    eventually(lambda: ("k1", -1) in delivered(tmp_path))
    assert delivered(tmp_path) == [("k1", 1), ("k1", -1)]


def delivered(folder: Path) -> list[tuple[str, int]]:
    """Keys and values of the results in late.jsonl."""
    lines = (folder / "late.jsonl").read_text().splitlines()
    return [(result["key"], result["rows"][0]["v"]) for result in map(json.loads, lines)]


@pytest.mark.slow
def test_a_vacuum_of_a_stopped_pipeline_gives_back_what_a_removed_join_held(
    launch: Launcher,
) -> None:
    at = Listener()
    joins = FIRST | {"wide": "SELECT key || printf('%0900d', 0) AS key FROM t"}
    pipeline = launch(push_config(at, joins), at.health, name="p")
    state = pipeline.work_dir / "data" / "state.db"
    with IngestClient(at.url) as client:
        for first in range(0, 6_000, 2_000):
            client.send([message("t", f"k{i}", {"v": i}) for i in range(first, first + 2_000)])
    eventually(lambda: len(snapshot(at.url, "wide", limit="100000").results) == 6_000, 30)
    assert pipeline.stop() == 0
    pipeline = again(launch, at, FIRST)
    before = {r["key"]: r for r in snapshot(at.url, "all", limit="100000").results}
    assert len(before) == 6_000
    assert pipeline.stop() == 0
    size = state.stat().st_size
    assert sqlite_of(state, "PRAGMA freelist_count") > 1_000

    sqlite_of(state, "VACUUM")
    assert state.stat().st_size < size - 1_000 * 4096
    again(launch, at, FIRST)
    assert {r["key"]: r for r in snapshot(at.url, "all", limit="100000").results} == before
    with IngestClient(at.url) as client:
        client.send(message("t", "k0", {"v": -1}))
    eventually(
        lambda: {"key": "k0", "v": -1} in snapshot(at.url, "all", keys="k0").results[0]["rows"]
    )


def sqlite_of(path: Path, sql: str) -> int:
    """Run a statement as the command line of SQLite does, in a program of its own."""
    script = (
        "import sqlite3, sys; print(sqlite3.connect(sys.argv[1]).execute(sys.argv[2]).fetchone())"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(path), sql], capture_output=True, text=True, check=True
    )
    return int((done.stdout.strip("(,)\n") or "0").replace("None", "0"))
