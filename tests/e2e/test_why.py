"""`litejoin why`: the inputs of a result, told beside a running pipeline and after it."""

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.harness.configs import Listener, http_sink, push_config
from tests.harness.fixtures import Launcher
from tests.harness.ingest import IngestClient, message
from tests.harness.process import Pipeline, clean_environment
from tests.harness.scripted import Reply, WebhookReceiver
from tests.harness.waiting import eventually

JOINS: dict[str, Any] = {
    "named": "SELECT o.key AS id, u.payload ->> '$.name' AS name FROM orders o"
    " LEFT JOIN users u ON o.payload ->> '$.user' = u.key WHERE o.payload ->> '$.n' > 0",
    "counts": "SELECT payload ->> '$.user' AS usr, count(*) AS n FROM orders GROUP BY 1",
    "first": "SELECT key, payload FROM orders ORDER BY key LIMIT 1",
    "all": "SELECT * FROM users",
}


def why(pipeline: Pipeline, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "litejoin", "why", *arguments, "-c", pipeline.file.name],
        cwd=pipeline.work_dir, env=clean_environment(), capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip


def answers(pipeline: Pipeline, key: str) -> dict[str, dict[str, Any]]:
    done = why(pipeline, "hook", key, "--format", "json")
    assert done.returncode == 0, done.stderr
    return {answer["join"]: answer for answer in json.loads(done.stdout)}


def inputs(answer: dict[str, Any]) -> set[tuple[str, str]]:
    return {(entry["topic"], entry["key"]) for entry in answer["inputs"]}


@pytest.fixture
def pipeline(launch: Launcher, receiver: WebhookReceiver) -> Pipeline:
    at = Listener()
    receiver.default = lambda r: Reply(500 if r.json["key"] == "o2" else 200)
    config = push_config(
        at, JOINS, topics=["orders", "users"], sinks=[http_sink(f"{receiver.url}/hook")],
        delivery={"guarantee": "at_least_once", "dlq": {"retry_interval": "5m"}},
    )  # fmt: skip
    pipeline = launch(config, at.health)
    rows = {"o1": "u1", "o2": "u1", "o3": "u9", "5": "u1"}
    with IngestClient(at.url) as client:
        client.send(
            [message("users", "u1", {"name": "Ann"})]
            + [message("orders", key, {"user": user, "n": 1}) for key, user in rows.items()]
        )
        eventually(lambda: len(receiver.requests) >= 8)
        client.send([message("orders", "o3", None)])
    eventually(lambda: any(r.json["op"] == "delete" for r in receiver.requests))
    return pipeline


def test_it_names_the_rows_a_result_was_made_of(pipeline: Pipeline) -> None:
    named = answers(pipeline, "o1")["named"]
    assert inputs(named) == {("orders", "o1"), ("users", "u1")}
    assert named["rows"] == [{"id": "o1", "name": "Ann"}]
    assert named["delivery"] == "done"
    assert {tuple(entry["sources"]) for entry in named["inputs"]} == {("in",)}
    assert all(entry["timestamp"].endswith("Z") for entry in named["inputs"])
    grouped = answers(pipeline, "u1")
    assert inputs(grouped["counts"]) == {("orders", "o1"), ("orders", "o2"), ("orders", "5")}
    assert inputs(grouped["all"]) == {("users", "u1")}
    assert inputs(answers(pipeline, "5")["named"]) == {("orders", "5"), ("users", "u1")}
    first = answers(pipeline, "5")["first"]
    assert (first["inputs"], first["topics"]) == ([], ["orders"])
    assert "LIMIT" in first["note"]


def test_it_says_what_became_of_the_result(pipeline: Pipeline) -> None:
    queued = answers(pipeline, "o2")["named"]
    assert queued["delivery"].startswith("in the dead-letter queue after 1 attempts: HTTP 500")
    gone = answers(pipeline, "o3")["named"]
    assert (gone["op"], gone["rows"], gone["inputs"]) == ("delete", [], [])
    text = why(pipeline, "hook", "o3").stdout
    assert 'named "o3": deleted at' in text
    assert "none now" in text


def test_a_key_cannot_move_the_cursor_of_a_terminal(
    launch: Launcher, receiver: WebhookReceiver
) -> None:
    at, key = Listener(), "k\x9b2J\u202e"
    config = push_config(
        at, {"all": JOINS["all"]}, topics=["users"], sinks=[http_sink(f"{receiver.url}/hook")]
    )
    pipeline = launch(config, at.health)
    with IngestClient(at.url) as client:
        client.send([message("users", key, {"name": "Ann"})])
    eventually(lambda: len(receiver.requests) == 1)
    text = why(pipeline, "hook", key).stdout
    assert 'all "k\\u009b2J\\u202e": result at' in text
    assert all(line.isprintable() for line in text.split("\n"))


def test_it_works_when_the_pipeline_is_stopped(pipeline: Pipeline) -> None:
    running = answers(pipeline, "o1")
    pipeline.stop()
    assert answers(pipeline, "o1") == running
    nothing = why(pipeline, "hook", "nobody")
    assert (nothing.returncode, nothing.stdout) == (1, "")
    assert "no result of 'nobody' for hook" in nothing.stderr
    unknown = why(pipeline, "pigeon", "o1")
    assert unknown.returncode == 2
    assert "no join or window writes to 'pigeon'; sinks: hook" in unknown.stderr


WINDOWS: list[dict[str, Any]] = [
    {"name": "by_user", "partition_by": "user", "query": "SELECT count(*) AS n FROM orders"},
    {"name": "users", "key_column": "usr",
     "query": "SELECT payload ->> '$.user' AS usr, count(*) AS n FROM orders GROUP BY 1"},
]  # fmt: skip


def test_a_window_names_the_messages_of_its_span(
    launch: Launcher, receiver: WebhookReceiver
) -> None:
    at = Listener()
    span = {"type": "tumbling", "topic": "orders", "size": "1h", "emit": "update", "sink": "hook"}
    brief = {**span, "name": "brief", "size": "1s", "emit": "close",
             "query": "SELECT count(*) AS n FROM orders"}  # fmt: skip
    config = push_config(
        at, {}, topics=["orders"], sinks=[http_sink(f"{receiver.url}/hook")],
        windows=[*({**span, **window} for window in WINDOWS), brief],
    )  # fmt: skip
    pipeline = launch(config, at.health)
    with IngestClient(at.url) as client:
        rows = {"o1": "u1", "o2": "u1", "o3": "u2"}
        client.send([message("orders", key, {"user": user}) for key, user in rows.items()])
    eventually(lambda: any(r.json["query"] == "brief" for r in receiver.delivered()))
    mine = answers(pipeline, "u1")
    assert inputs(mine["by_user"]) == {("orders", "o1"), ("orders", "o2")}
    assert mine["by_user"]["window"]["start"].endswith(":00:00.000Z")
    assert mine["by_user"]["inputs"][0]["sources"] == ["in"]
    assert inputs(mine["users"]) == {("orders", key) for key in rows}
    assert "of which the key's rows are a part" in mine["users"]["note"]
    closed = answers(pipeline, "null")["brief"]
    assert inputs(closed) <= {("orders", key) for key in rows}
    assert len(closed["inputs"]) == closed["rows"][0]["n"]
    text = why(pipeline, "hook", "u1").stdout
    assert "  window    20" in text
    assert why(pipeline, "nobody", "u1").returncode == 2
