"""A running pipeline with an object store: files are copied, leave this machine, and are read."""

import json
import os
import shutil
import signal
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import urllib3

from litejoin.runtime.metrics.catalogue import ARCHIVE
from tests.e2e.test_archive import HOUR_S, health, tiered
from tests.harness.fixtures import Launcher
from tests.harness.ingest import IngestClient, message
from tests.harness.object_stores import CREDENTIALS, PROVIDERS, Fault, StoreServer
from tests.harness.ports import free_port
from tests.harness.process import Pipeline, run_command
from tests.harness.waiting import eventually


@pytest.fixture(scope="module", params=PROVIDERS)
def each_server(request: pytest.FixtureRequest) -> Iterator[StoreServer]:
    server = StoreServer(request.param)
    yield server
    server.stop()


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[StoreServer]:
    """An empty store of S3's kind."""
    server = StoreServer("s3")
    yield server
    server.stop()


def start(launch: Launcher, server: StoreServer, **archive: object) -> Pipeline:
    port = free_port()
    config = tiered(port, cloud=server.config, **archive)
    return launch(config, f"http://127.0.0.1:{port}/health")


def send_old(pipeline: Pipeline, prefix: str, count: int) -> None:
    old_s = int(time.time()) - 2 * HOUR_S
    with IngestClient(pipeline.health_url.removesuffix("/health")) as client:
        client.send([message("orders", f"{prefix}{n}", {"n": n}, old_s) for n in range(count)])


def local_files(pipeline: Pipeline) -> dict[str, bytes]:
    root = pipeline.work_dir / "data/archive"
    return {str(path.relative_to(root)): path.read_bytes() for path in root.glob("t*/*/*.parquet")}


def parquet(server: StoreServer) -> dict[str, bytes]:
    objects = server.objects().items()
    return {name: data for name, data in objects if name.endswith(".parquet")}


def copies(pipeline: Pipeline) -> Mapping[str, Any]:
    return dict(health(pipeline)["archive"]["copies"])


def keys_asked(pipeline: Pipeline) -> list[str]:
    done = run_command(
        "query", "SELECT key FROM orders ORDER BY key", "-c", "pipeline.yaml",
        "--format", "json", work_dir=pipeline.work_dir,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [row["key"] for row in json.loads(done.stdout)]


def test_copied_files_leave_this_machine_and_are_still_asked(
    launch: Launcher, each_server: StoreServer
) -> None:
    pipeline = start(launch, each_server, local_retention="1ms")
    send_old(pipeline, "k", 30)
    eventually(lambda: health(pipeline)["archive"].get("rows") == 30, 30)
    eventually(lambda: copies(pipeline)["uploads"] > 0 and not local_files(pipeline), 30)
    assert keys_asked(pipeline) == sorted(f"k{n}" for n in range(30))
    shown = health(pipeline)
    assert shown["status"] == "ok"
    assert shown["archive"]["uploaded_bytes"] > 0 == shown["archive"]["local_bytes"]
    metrics = urllib3.request("GET", pipeline.health_url.replace("/health", "/metrics")).data
    assert [metric.name for metric in ARCHIVE if f"\n{metric.name} ".encode() not in metrics] == []
    plan = run_command(
        "plan", "-c", "pipeline.yaml", "--format", "json", work_dir=pipeline.work_dir
    )
    for secret in ("very-secret", CREDENTIALS["azure"]["account_key"]):
        assert secret not in json.dumps(shown) + pipeline.output() + plan.stdout
    # Stopped, too.
    assert pipeline.stop() == 0
    assert len(keys_asked(pipeline)) == 30


def test_a_store_that_is_down_keeps_files_here_and_is_named(
    launch: Launcher, server: StoreServer
) -> None:
    pipeline = start(launch, server, local_retention="1ms")
    eventually(lambda: health(pipeline)["archive"].get("rows") == 0, 30)
    server.fail(Fault.SAY_500)
    send_old(pipeline, "a", 10)
    eventually(lambda: health(pipeline)["status"] == "degraded", 30)
    (reason,) = health(pipeline)["reasons"]
    assert reason.startswith("archive: s3 bucket rows at http://127.0.0.1:")
    # Compaction goes on meanwhile, and nothing is deleted.
    send_old(pipeline, "b", 10)
    eventually(lambda: health(pipeline)["archive"].get("rows") == 20, 30)
    assert len(keys_asked(pipeline)) == 20
    assert local_files(pipeline)
    server.heal()
    eventually(lambda: health(pipeline)["status"] == "ok" and not local_files(pipeline), 60)
    assert len(keys_asked(pipeline)) == 20


def test_a_kill_in_the_middle_of_an_upload_loses_nothing(
    launch: Launcher, server: StoreServer
) -> None:
    pipeline: Pipeline | None = None
    killed: list[str] = []

    def kill_at(method: str) -> None:
        if method == "PUT" and pipeline and not killed:
            killed.append(method)
            os.kill(pipeline.pid, signal.SIGKILL)

    server.on_request(kill_at)
    pipeline = start(launch, server)
    send_old(pipeline, "k", 20)
    eventually(lambda: killed, 30)
    pipeline.wait_exit()
    pipeline.start()
    eventually(lambda: copies(pipeline)["uploads"] == 1, 30)
    assert parquet(server) == local_files(pipeline) != {}
    assert len(keys_asked(pipeline)) == 20


def test_a_new_disk_begins_with_the_copied_manifest(launch: Launcher, server: StoreServer) -> None:
    pipeline = start(launch, server)
    send_old(pipeline, "a", 20)
    eventually(lambda: any("manifest-" in name for name in server.objects()), 30)
    eventually(lambda: copies(pipeline)["uploads"] > 0, 30)
    eventually(lambda: len(server.objects()) > 1, 30)
    assert pipeline.stop() == 0
    shutil.rmtree(pipeline.work_dir / "data/archive")
    # Nothing is archived beside objects that nobody knows of.
    server.fail(Fault.SAY_500)
    pipeline.start()
    send_old(pipeline, "b", 5)
    eventually(lambda: health(pipeline)["reasons"], 30)
    assert local_files(pipeline) == {}
    server.heal()
    eventually(lambda: health(pipeline)["archive"].get("rows") == 25, 60)
    assert "the copy in the object store is used" in pipeline.log()
    assert keys_asked(pipeline) == sorted(
        [*(f"a{n}" for n in range(20)), "b0", "b1", "b2", "b3", "b4"]
    )
    eventually(lambda: copies(pipeline)["uploads"] > 0 and not health(pipeline)["reasons"], 30)


def test_a_copier_that_dies_is_started_again(launch: Launcher, server: StoreServer) -> None:
    killed: list[int] = []

    def kill_copier(method: str) -> None:
        if method == "PUT" and not killed:
            for process in Path("/proc").glob("[0-9]*/cmdline"):
                parts = process.read_bytes().split(b"\0")
                parent = (process.parent / "stat").read_text().rpartition(")")[2].split()[1]
                if b"litejoin.archive.copier" in parts and int(parent) == pipeline.pid:
                    killed.append(int(process.parent.name))
                    os.kill(killed[0], signal.SIGKILL)

    pipeline = start(launch, server)
    server.on_request(kill_copier)
    send_old(pipeline, "k", 20)
    eventually(lambda: killed and copies(pipeline)["uploads"] == 1, 30)
    assert parquet(server) == local_files(pipeline) != {}
    pipeline.assert_running()
