"""`litejoin tap`: what a running pipeline does, line by line, without slowing it down."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import urllib3

from tests.harness.configs import Listener, push_config
from tests.harness.fixtures import Launcher
from tests.harness.ingest import IngestClient, message
from tests.harness.process import Pipeline, clean_environment, run_command
from tests.harness.sse import snapshot
from tests.harness.waiting import eventually

JOINS = {
    "named": "SELECT o.key AS id, u.payload ->> '$.name' AS name FROM orders o"
    " JOIN users u ON o.payload ->> '$.u' = u.key",
    "all-users": "SELECT key FROM users",
}


def started(launch: Launcher, at: Listener, **sections: Any) -> Pipeline:
    return launch(push_config(at, JOINS, topics=["orders", "users"], **sections), at.health)


@contextmanager
def tapping(pipeline: Pipeline, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    """A tap that watches; killed at the end if it still runs."""
    process = subprocess.Popen(
        [sys.executable, "-m", "litejoin", "tap", "-c", pipeline.file.name, *arguments],
        cwd=pipeline.work_dir, env=clean_environment(), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("watching http://127.0.0.1:")
        yield process
    finally:
        process.kill()
        process.communicate()


ADMIN = {"Authorization": "Bearer admin-token-of-this-test"}


def send(at: Listener, *rows: Any) -> None:
    with IngestClient(at.url) as client:
        client.send(list(rows))


def test_it_shows_changes_and_results_in_order(launch: Launcher) -> None:
    at = Listener()
    pipeline = started(launch, at)
    with tapping(pipeline, "--format", "json", "--limit", "7") as tap:
        send(at, message("users", "u1", {"name": "Ann", "big": 2**70}))
        send(at, message("orders", "o1", {"u": "u1"}))
        eventually(lambda: len(snapshot(at.url, "named").results) == 1)
        send(at, message("users", "u1", {"name": "Bea"}))
        eventually(lambda: "Bea" in str(snapshot(at.url, "named").results))
        send(at, message("orders", "o1", None))
        out, _ = tap.communicate(timeout=20)
    assert tap.returncode == 0
    lines = [json.loads(line) for line in out.splitlines()]
    topics = [(x["topic"], x["key"], x["op"], x.get("payload")) for x in lines if "topic" in x]
    assert topics[:3] == [
        ("users", "u1", "created", {"name": "Ann", "big": 2**70}),
        ("orders", "o1", "created", {"u": "u1"}),
        ("users", "u1", "updated", {"name": "Bea"}),
    ]
    results = [(x["query"], x["key"], x["op"], x["rows"]) for x in lines if "query" in x]
    # Two writes may be evaluated at once: what is certain is the order of each key.
    assert ("all-users", "u1", "upsert", [{"key": "u1"}]) in results
    assert [result for result in results if result[0] == "named"][:2] == [
        ("named", "o1", "upsert", [{"id": "o1", "name": "Ann"}]),
        ("named", "o1", "upsert", [{"id": "o1", "name": "Bea"}]),
    ]
    order = [line.get("topic", line.get("query")) for line in lines]
    assert order.index("users") < order.index("all-users")


def test_names_choose_what_is_shown(launch: Launcher) -> None:
    at = Listener()
    pipeline = started(launch, at)
    with tapping(pipeline, "named", "--limit", "2") as tap:
        send(
            at, message("users", "u1", {"name": "A\x1b[31m"}), message("orders", "o1", {"u": "u1"})
        )
        eventually(lambda: len(snapshot(at.url, "named").results) == 1)
        send(at, message("users", "u1", None))
        out, _ = tap.communicate(timeout=20)
    first, second = out.splitlines()
    assert first[9:].startswith("~ => named")
    assert "o1" in first and "\x1b" not in first
    assert second[9:].split() == ["-", "=>", "named", "o1"]


def test_a_name_that_is_none_is_refused_with_those_there_are(launch: Launcher) -> None:
    at = Listener()
    pipeline = started(launch, at)
    done = run_command(
        "tap", "-c", pipeline.file.name, "ordres", work_dir=pipeline.work_dir, env=pipeline.env
    )
    assert done.returncode == 1
    assert "ordres" in done.stderr
    assert "all-users, named, orders, users" in done.stderr


def test_the_token_of_the_config_is_used_and_needed(launch: Launcher) -> None:
    at = Listener()
    token = ADMIN["Authorization"].split()[1]
    tokens = [{"token": token, "scopes": ["admin", "ingest"]}]
    pipeline = started(launch, at, server={"auth": {"tokens": tokens}})
    assert urllib3.request("GET", f"{at.url}/tap").status == 401
    with tapping(pipeline, "users", "--limit", "1") as tap:
        row = message("users", "u1", {"name": "Ann"})
        assert urllib3.request("POST", f"{at.url}/ingest", json=row, headers=ADMIN).status == 200
        out, _ = tap.communicate(timeout=20)
    assert 'users              u1             {"name": "Ann"}' in out


def test_no_pipeline_is_one_line_that_says_what_to_do(launch: Launcher) -> None:
    at = Listener()
    pipeline = launch.prepare(push_config(at, JOINS), health_url=at.health)
    done = run_command(
        "tap", "-c", pipeline.file.name, work_dir=pipeline.work_dir, env=pipeline.env
    )
    assert done.returncode == 1
    assert f"no pipeline answers at {at.url}" in done.stderr
    assert "is it running?" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_another_pipeline_at_the_address_is_not_shown(launch: Launcher) -> None:
    at = Listener()
    pipeline = started(launch, at)
    options = ["-c", pipeline.file.name, "--set", "name=second"]
    done = run_command("tap", *options, work_dir=pipeline.work_dir, env=pipeline.env)
    assert done.returncode == 1
    assert done.stderr == (
        f"litejoin: LJ-ERR: at {at.url} is the pipeline pipeline, not second"
        " (the log of second says where it listens: --url, or server.addr for good)\n"
    )
    with tapping(pipeline, "--set", "name=second", "--url", at.url, "--limit", "1") as tap:
        send(at, message("users", "u1", {}))
        tap.communicate(timeout=20)
    assert tap.returncode == 0


def test_a_watcher_that_reads_nothing_costs_no_result_and_no_memory(launch: Launcher) -> None:
    at = Listener()
    pipeline = started(launch, at)
    padding = "x" * 1000
    with tapping(pipeline, "--format", "json") as tap:
        tap.send_signal(signal.SIGSTOP)
        with IngestClient(at.url) as client:
            for batch in range(100):
                client.send([message("users", f"u{batch}-{i}", {"p": padding}) for i in range(500)])
        eventually(lambda: len(snapshot(at.url, "all-users", limit="60000").results) == 50_000)
        assert pipeline.rss_mb() < 200
        tap.send_signal(signal.SIGCONT)
        send(at, message("users", "last", {"name": "end"}))
        seen, skipped = 0, 0
        assert tap.stdout is not None
        for line in tap.stdout:
            event = json.loads(line)
            skipped += event.get("skipped", 0)
            seen += 1
            if event.get("topic") == "users" and event["key"] == "last":
                break
        assert skipped > 0
        assert seen + skipped > 50_000
    assert pipeline.stop() == 0


def test_it_ends_with_the_pipeline(launch: Launcher) -> None:
    at = Listener()
    pipeline = started(launch, at)
    with tapping(pipeline) as tap:
        assert pipeline.stop() == 0
        tap.communicate(timeout=20)
        assert tap.returncode == 0
