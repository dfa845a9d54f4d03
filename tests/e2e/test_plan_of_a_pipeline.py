"""`litejoin plan` beside a daemon: both show one plan, and a data directory tells what changes."""

import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import urllib3

from tests.harness.configs import CONFORMANCE, Listener, push_config, sse_sink, substitute
from tests.harness.fixtures import Launcher
from tests.harness.ingest import IngestClient, message
from tests.harness.process import Pipeline, run_command
from tests.harness.sse import snapshot
from tests.harness.waiting import eventually

JOINS = {
    "named": "SELECT o.key, u.payload ->> '$.name' AS n FROM orders o"
    " LEFT JOIN users u ON u.key = o.payload ->> '$.u'",
    "large": "SELECT key, payload ->> '$.v' AS v FROM orders WHERE v > 5",
}


def config(at: Listener, joins: dict[str, str] = JOINS, **sections: Any) -> dict[str, Any]:
    sinks = [sse_sink(at), {"name": "log", "type": "stdout"}]
    return push_config(at, joins, topics=["orders", "users"], sinks=sinks, name="shop", **sections)


def filled(launch: Launcher, at: Listener) -> Pipeline:
    """A running pipeline with results that its sink has taken."""
    pipeline = launch(config(at), at.health, name="p")
    with IngestClient(at.url) as client:
        client.send([message("users", f"u{i}", {"name": f"n{i}"}) for i in range(3)])
        client.send([message("orders", f"o{i}", {"u": f"u{i % 3}", "v": i}) for i in range(10)])
    eventually(lambda: len(snapshot(at.url, "named").results) == 10)
    eventually(lambda: compared(pipeline)["changes"] == [])
    return pipeline


def plan(pipeline: Pipeline, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return run_command(
        "plan", "-c", pipeline.file.name, *arguments,
        work_dir=pipeline.work_dir, env=pipeline.env,
    )  # fmt: skip


def compared(pipeline: Pipeline) -> dict[str, Any]:
    done = plan(pipeline, "--diff-data-dir", "--format", "json")
    assert done.returncode == 0, done.stderr
    tree: dict[str, Any] = json.loads(done.stdout)
    return tree


def contents(directory: Path) -> dict[str, str]:
    """What every file of a directory holds."""
    files = (path for path in sorted(directory.rglob("*")) if path.is_file())
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.parametrize("name", ["02-orders-users", "03-windows", "07-multiway-aggregate"])
def test_the_daemon_runs_the_plan_that_plan_shows(launch: Launcher, name: str) -> None:
    ingest, live = Listener(), Listener()
    text = (CONFORMANCE / f"{name}.yaml").read_text()
    replacements = {
        old: new
        for old, new in ((":8080", ingest.addr), (":9100", live.addr))
        if old in text and f"127.0.0.1{old}" not in text
    } | {
        f"127.0.0.1{old}": new
        for old, new in ((":8080", ingest.addr), (":9100", live.addr))
        if f"127.0.0.1{old}" in text
    }
    admin = Listener()
    text = f"{substitute(text, replacements)}\nserver: {{addr: '{admin.addr}'}}\n"
    pipeline = launch(text, admin.health, file_name=f"{name}.yaml")
    served = urllib3.request("GET", f"{admin.url}/plan")
    shown = plan(pipeline, "--format", "json")
    assert served.status == 200
    assert served.data.decode() == shown.stdout
    health = urllib3.request("GET", admin.health).json()
    assert health["config_hash"] == json.loads(shown.stdout)["config_hash"]
    strategies = {join["name"]: join["strategy"] for join in json.loads(shown.stdout)["joins"]}
    running = {n: j["strategy"] for n, j in health["joins"].items() if "strategy" in j}
    assert strategies.items() <= running.items()


def test_the_plan_is_for_the_admin_and_hides_secrets(launch: Launcher) -> None:
    at = Listener()
    tokens = {"tokens": [{"token": "${ADMIN}", "scopes": ["admin"]}, "ingest-secret-1"]}
    secret = "admin-secret-1"
    sections = {"server": {"auth": tokens}}
    pipeline = launch(config(at, **sections), at.health, env={"ADMIN": secret})
    assert urllib3.request("GET", f"{at.url}/plan").status == 401
    headers = {"Authorization": f"Bearer {secret}"}
    served = urllib3.request("GET", f"{at.url}/plan", headers=headers)
    assert served.data.decode() == plan(pipeline, "--format", "json").stdout
    assert b"-secret-1" not in served.data


def test_a_running_directory_is_read_without_a_trace_and_has_no_changes(launch: Launcher) -> None:
    pipeline = filled(launch, Listener())
    data = pipeline.work_dir / "data"
    before = contents(data)
    done = plan(pipeline, "--diff-data-dir", "--detailed-exitcode")
    assert contents(data) == before
    assert (done.returncode, done.stderr) == (0, "")
    assert f"process {pipeline.pid} (pipeline shop) seems to use" in " ".join(done.stdout.split())
    assert done.stdout.endswith("no changes\n")
    pipeline.assert_running()


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_directory_that_nobody_uses_is_read_without_a_trace(launch: Launcher, end: str) -> None:
    pipeline = filled(launch, Listener())
    getattr(pipeline, end)()
    data = pipeline.work_dir / "data"
    before = contents(data)
    done = plan(pipeline, "--diff-data-dir", "--detailed-exitcode")
    assert contents(data) == before
    assert (done.returncode, done.stderr) == (0, "")
    assert "seems to use" not in done.stdout


def test_what_the_comparison_announces_is_what_the_start_does(launch: Launcher) -> None:
    at = Listener()
    first = filled(launch, at)
    assert first.stop() == 0
    joins = {"named": JOINS["named"].replace("AS n", "AS who"), "fresh": "SELECT key FROM users"}
    changed = config(at, joins, retention={"duration": "1h"})
    again = launch.prepare(changed, name="p", health_url=at.health)
    announced = compared(again)
    assert {(c["change"], c["part"], c["name"]) for c in announced["changes"]} == {
        ("changed", "join", "named"), ("added", "join", "fresh"), ("removed", "join", "large"),
    }  # fmt: skip
    assert announced["built"]["joins"] == ["fresh", "named"]
    assert announced["built"]["shards"] == [
        "make the time index of orders in 8 shards", "make the time index of users in 8 shards",
    ]  # fmt: skip
    assert announced["refused"] == []
    again.start()
    assert len(snapshot(at.url, "fresh").results) == 3
    assert snapshot(at.url, "named").results[0]["rows"][0].keys() == {"key", "who"}
    assert snapshot(at.url, "large").status in (400, 404)
    eventually(lambda: compared(again)["changes"] == [])
    assert compared(again)["built"]["shards"] == []


def test_what_the_comparison_calls_refused_is_refused(launch: Launcher) -> None:
    at = Listener()
    assert filled(launch, at).stop() == 0
    again = launch.prepare(config(at, storage={"shard_count": 3}), name="p", health_url=at.health)
    announced = compared(again)
    (refusal,) = announced["refused"]
    assert "was made with shard_count 8, not 3" in refusal["message"]
    assert again.run_to_exit() == 4
    assert refusal["message"] in again.errors()
