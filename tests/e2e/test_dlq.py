"""`litejoin dlq` beside a running pipeline, and on its file when it is stopped."""

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

KEYS = ("a", "b", "c", "d")


def said(pipeline: Pipeline, *arguments: str) -> tuple[str, str]:
    """What the command wrote, and what it said beside that."""
    done = subprocess.run(
        [sys.executable, "-m", "litejoin", "dlq", *arguments, "-c", pipeline.file.name],
        cwd=pipeline.work_dir, env=clean_environment(), capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def dlq(pipeline: Pipeline, *arguments: str) -> str:
    return said(pipeline, *arguments)[0]


def entries(pipeline: Pipeline, *filters: str) -> dict[str, dict[str, Any]]:
    listed = json.loads(dlq(pipeline, "list", "--format", "json", *filters))
    return {entry["key"]: entry for entry in listed}


@pytest.fixture
def pipeline(launch: Launcher, receiver: WebhookReceiver) -> Pipeline:
    """One whose receiver refuses everything; each of KEYS waits in the queue."""
    at = Listener()
    receiver.always(Reply(500, b"no"))
    config = push_config(
        at, {"rows": "SELECT key, payload FROM t"}, sinks=[http_sink(f"{receiver.url}/hook")],
        delivery={"guarantee": "at_least_once", "dlq": {"retry_interval": "5m"}},
    )  # fmt: skip
    pipeline = launch(config, at.health)
    with IngestClient(at.url) as client:
        client.send([message("t", key, {"n": 1}) for key in KEYS])
    eventually(lambda: pipeline.log().count("dlq: enqueued result for sink hook") == len(KEYS))
    eventually(lambda: entries(pipeline).keys() == set(KEYS))
    return pipeline


def test_each_action_works_while_the_pipeline_runs(
    pipeline: Pipeline, receiver: WebhookReceiver
) -> None:
    found = entries(pipeline)
    assert found["a"] | {"id": "", "next_retry_at": "", "created_at": ""} == {
        "id": "", "sink": "hook", "join": "rows", "key": "a", "attempts": 1, "next_retry_at": "",
        "created_at": "", "error": "HTTP 500: no",
    }  # fmt: skip
    refused = {r.json["key"]: r.body.decode() for r in receiver.seen()}
    assert dlq(pipeline, "show", found["b"]["id"]).splitlines()[-1] == refused["b"]
    receiver.always(Reply())
    dlq(pipeline, "retry", "--key", "a")
    eventually(lambda: [r.json["key"] for r in receiver.delivered()] == ["a"])
    assert receiver.delivered()[0].body.decode() == refused["a"], "byte for byte"
    eventually(lambda: entries(pipeline).keys() == {"b", "c", "d"})
    dlq(pipeline, "purge", found["b"]["id"])
    assert entries(pipeline).keys() == {"c", "d"}
    dlq(pipeline, "retry", "--sink", "hook", "--join", "rows", "--older-than", "0s")
    eventually(lambda: {r.json["key"] for r in receiver.delivered()} == {"a", "c", "d"})
    eventually(lambda: entries(pipeline) == {})


def test_each_action_works_when_the_pipeline_is_stopped(
    pipeline: Pipeline, receiver: WebhookReceiver
) -> None:
    assert pipeline.stop() == 0
    receiver.always(Reply())
    found = entries(pipeline)
    assert found.keys() == set(KEYS)
    assert json.loads(dlq(pipeline, "show", "--key", "c").splitlines()[-1])["key"] == "c"
    dlq(pipeline, "purge", "--key", "a")
    dlq(pipeline, "retry", "--key", "d")
    assert entries(pipeline).keys() == {"b", "c", "d"}
    pipeline.start()
    eventually(lambda: [r.json["key"] for r in receiver.delivered()] == ["d"])
    eventually(lambda: entries(pipeline).keys() == {"b", "c"})


def test_a_retry_says_that_nobody_sends_to_a_sink_that_was_renamed(pipeline: Pipeline) -> None:
    assert pipeline.stop() == 0
    pipeline.file.write_text(pipeline.file.read_text().replace("hook\n", "other\n"))
    assert "nothing is sent to hook, which the config does not use: 4" in said(pipeline, "retry")[1]
    pipeline.file.write_text(pipeline.file.read_text().replace("other\n", "hook\n"))
    assert "nothing is sent" not in said(pipeline, "retry")[1]
