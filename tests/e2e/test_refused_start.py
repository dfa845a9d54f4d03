"""A start that fails for what no restart mends ends with 4: docs/howto/run-as-a-service.md tells
systemd to leave it there. What may be well later is waited for.
"""

from pathlib import Path
from typing import Any

import pytest

from litejoin.store.sqlite import open_database
from tests.harness.configs import Listener, push_config
from tests.harness.fixtures import Launcher
from tests.harness.ingest import IngestClient, message
from tests.harness.waiting import eventually

ROWS = {"rows": "SELECT key, payload FROM t"}
CLOSED = "127.0.0.1:1"

SINKS: dict[str, tuple[dict[str, Any], str]] = {
    "no folder": ({"type": "file", "config": {"path": "gone/out.jsonl"}}, "there is no folder"),
    "no package": ({"type": "custom", "uses": "pigeons", "config": {}}, "has a sink 'pigeons'"),
    "no database": ({"type": "sqlite", "config": {"path": "text.db"}}, "is not a database"),
    "no connection string": (
        {"type": "postgres", "config": {"dsn": "no string"}}, "is not a connection string",
    ),
    "no certificate": (
        {"type": "http", "config": {"url": f"https://{CLOSED}/", "tls": {"ca_file": "gone.pem"}}},
        "the certificates of `tls` cannot be read",
    ),
    "no setting of Kafka": (
        {"type": "kafka",
         "config": {"brokers": CLOSED, "topic": "t", "options": {"linger.ms": "soon"}}},
        "kafka: Invalid value",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SINKS)
def test_a_sink_that_can_never_work_ends_the_start_for_good(launch: Launcher, name: str) -> None:
    sink, reason = SINKS[name]
    pipeline = launch.prepare(push_config(Listener(), ROWS, sinks=[{"name": "s", **sink}]))
    (pipeline.work_dir / "text.db").write_text("no database, however long one waits")
    assert pipeline.run_to_exit() == 4
    assert reason in pipeline.errors()


def test_a_dead_letter_queue_that_cannot_be_made_does_too(launch: Launcher) -> None:
    config = push_config(
        Listener(), ROWS, sinks=[{"name": "s", "type": "stdout"}],
        delivery={"dlq": {"path": "text/dlq.db"}},
    )  # fmt: skip
    pipeline = launch.prepare(config)
    (pipeline.work_dir / "text").write_text("no folder")
    assert pipeline.run_to_exit() == 4
    assert "cannot be used as dead-letter queue" in pipeline.errors()


def test_certificates_of_a_source_that_cannot_be_read_do_too(launch: Launcher) -> None:
    api = {"url": f"https://{CLOSED}/", "interval": "1s", "key_path": "id",
           "tls": {"ca_file": "gone.pem"}}  # fmt: skip
    config = push_config(Listener(), ROWS, sinks=[{"name": "s", "type": "stdout"}])
    config["sources"].append({"name": "orders", "type": "api", "topic": "orders", "api": api})
    pipeline = launch.prepare(config)
    assert pipeline.run_to_exit() == 4
    assert "api-source orders: tls.ca_file cannot be used" in pipeline.errors()


def test_a_file_that_is_locked_is_waited_for(launch: Launcher, tmp_path: Path) -> None:
    at, path = Listener(), tmp_path / "out.db"
    other = open_database(path)
    other.execute("CREATE TABLE theirs(n); BEGIN EXCLUSIVE").fetchall()
    sink = {"name": "s", "type": "sqlite", "config": {"path": str(path)}}
    pipeline = launch(push_config(at, ROWS, sinks=[sink]), at.health)
    with IngestClient(at.url) as client:
        client.send([message("t", "a", {"n": 1})])
    eventually(lambda: "cannot be opened now: database is locked" in pipeline.output())
    other.execute("COMMIT")
    eventually(
        lambda: (
            other.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'rows'").fetchone()
            == (1,)
            and other.execute("SELECT key FROM rows").fetchall() == [("a",)]
        )
    )
    other.close()
    assert pipeline.stop() == 0
