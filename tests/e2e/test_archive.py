"""The archive of a running pipeline: expired rows become Parquet files, and the files tell all."""

import json
import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import urllib3

from litejoin._ext.route import shard_of
from litejoin.archive.duck import load_duckdb
from tests.harness.fixtures import Launcher
from tests.harness.ingest import IngestClient, message
from tests.harness.ports import free_port
from tests.harness.process import REPOSITORY, Pipeline
from tests.harness.sse import snapshot
from tests.harness.waiting import eventually

HOUR_S = 3600


def tiered(port: int, **archive: object) -> dict[str, Any]:
    address = f"127.0.0.1:{port}"
    return {
        "name": "shop",
        "server": {"addr": address},
        "storage": {
            "data_dir": "./data",
            "shard_count": 2,
            "archive": {"enabled": True, "compaction_interval": "200ms", **archive},
        },
        "retention": {"duration": "1h"},
        "sources": [{"name": "push", "type": "http", "topics": ["orders"],
                     "config": {"addr": address}}],
        "joins": [{"name": "all", "query": "SELECT key, payload FROM orders", "sink": "live"}],
        "sinks": [{"name": "live", "type": "sse", "config": {"addr": address}}],
    }  # fmt: skip


def health(pipeline: Pipeline) -> Mapping[str, Any]:
    return dict(json.loads(urllib3.request("GET", pipeline.health_url).data))


def children(pipeline: Pipeline) -> list[int]:
    text = Path(f"/proc/{pipeline.pid}/task/{pipeline.pid}/children").read_text()
    return [int(child) for child in text.split()]


def archived(work_dir: Path) -> set[tuple[str, str]]:
    files = [str(path) for path in work_dir.glob("data/archive/t*/*/*.parquet")]
    if not files:
        return set()
    duckdb: Any = load_duckdb()
    sql = "SELECT key, payload FROM read_parquet(?)"
    return set(duckdb.sql(sql, params=[files]).fetchall())


def test_expired_rows_become_files_and_leave_the_results(launch: Launcher) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    pipeline = launch(tiered(port), f"{url}/health")
    now_s = int(time.time())
    old = [message("orders", f"old{n}", {"n": n}, now_s - 2 * HOUR_S) for n in range(50)]
    new = [message("orders", f"new{n}", {"n": n}, now_s) for n in range(5)]
    with IngestClient(url) as client:
        client.send(old + new)
    eventually(lambda: health(pipeline).get("archive", {}).get("rows") == 50)
    eventually(lambda: len(snapshot(url).results) == 5)
    assert archived(pipeline.work_dir) == {(f"old{n}", f'{{"n": {n}}}') for n in range(50)}
    shown = health(pipeline)
    assert shown["status"] == "ok"
    assert shown["archive"]["waiting_files"] == 0
    assert shown["archive"]["written"] == shown["archive"]["moved"] == 50

    pipeline.restart()
    with IngestClient(url) as client:
        client.send([message("orders", "late", {"n": 1}, now_s - 3 * HOUR_S)])
    eventually(lambda: health(pipeline).get("archive", {}).get("rows") == 51)
    assert len(archived(pipeline.work_dir)) == 51
    assert pipeline.stop() == 0


def test_a_quarantined_shard_does_not_hold_up_the_others(launch: Launcher) -> None:
    port = free_port()
    pipeline = launch(tiered(port), f"http://127.0.0.1:{port}/health")
    keys = [f"k{number}" for number in range(20)]
    sound = [key for key in keys if shard_of(key.encode(), 2) == 0]
    with IngestClient(f"http://127.0.0.1:{port}") as client:
        client.send([message("orders", key, {"v": 1}) for key in keys])
        assert pipeline.stop() == 0
        (pipeline.work_dir / "data" / "shard-0001.db").write_bytes(b"")
        pipeline.start()
        old = int(time.time()) - 2 * HOUR_S
        client.send([message("orders", key, {"v": 2}, old) for key in sound])
    eventually(lambda: health(pipeline)["archive"]["moved"] == len(sound), 20)
    assert {key for key, _ in archived(pipeline.work_dir)} == set(sound)
    assert health(pipeline)["archive"]["reasons"] == []


def test_a_worker_that_dies_is_started_again(launch: Launcher) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    pipeline = launch(tiered(port), f"{url}/health")
    old_s = int(time.time()) - 2 * HOUR_S
    with IngestClient(url) as client:
        for n in range(3):
            client.send([message("orders", f"k{n}", {"n": n}, old_s)])
            eventually(lambda rows=n + 1: health(pipeline).get("archive", {}).get("rows") == rows)
            for child in children(pipeline):
                os.kill(child, signal.SIGKILL)
    assert len(archived(pipeline.work_dir)) == 3
    pipeline.assert_running()


def test_without_duckdb_rows_stay_and_the_reason_says_what_to_install(
    launch: Launcher, tmp_path: Path
) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    (tmp_path / "lacking").mkdir()
    (tmp_path / "lacking/duckdb.py").write_text("raise ModuleNotFoundError('no duckdb')")
    env = {"PYTHONPATH": f"{tmp_path / 'lacking'}:{REPOSITORY}"}
    pipeline = launch(tiered(port), f"{url}/health", env=env)
    with IngestClient(url) as client:
        client.send([message("orders", "old", 1, int(time.time()) - 2 * HOUR_S)])
    reason = (
        "archive: storage.archive needs the package duckdb (no duckdb)"
        " (pip install 'litejoin[archive]')"
    )
    eventually(lambda: health(pipeline)["reasons"] == [reason])
    assert f"WARN  {reason}\n" in pipeline.log()
    assert len(snapshot(url).results) == 1
