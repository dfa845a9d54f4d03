"""A replicated pipeline loses files and gets them back: what it then has is what was copied, and
every result is what plain SQLite says of it (semantics 5 to 7, 12, 13).

Real pipelines, a real Litestream, replicas in a directory.
"""

import asyncio
import json
import os
import random
import shutil
import signal
import sqlite3
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import urllib3

from litejoin.replica import control
from litejoin.replica.binary import require_litestream
from tests.faults.test_process_kill import JOINS
from tests.harness.configs import Listener, push_config
from tests.harness.fixtures import Launcher
from tests.harness.ingest import IngestClient, message
from tests.harness.object_stores import BUCKET, Fault, StoreServer
from tests.harness.process import Pipeline, run_command
from tests.harness.results import Delivered, difference, snapshot_state
from tests.harness.sse import Subscriber, snapshot
from tests.harness.waiting import eventually
from tests.reference.oracle import Oracle

SHARDS = 3


@pytest.fixture
def launch() -> Iterator[Launcher]:
    """In short paths: Litestream's control socket has at most 100 bytes of it, or is left out."""
    with TemporaryDirectory(prefix="lj", ignore_cleanup_errors=True) as base:
        launcher = Launcher(Path(base))
        yield launcher
        launcher.close()


class Shop:
    """A replicated pipeline, and the oracle of what was sent to it."""

    def __init__(self, launch: Launcher, name: str = "", **replication: Any) -> None:
        self.at = Listener()
        self.replica = launch.base_dir / "replica"
        settings = {
            "enabled": True,
            "mode": "embedded",
            "replica_url": f"file://{self.replica}",
            "sync_interval": "200ms",
            **replication,
        }
        config = push_config(self.at, JOINS, storage={"shard_count": SHARDS}, replication=settings)
        self.pipeline = launch.prepare(config, name=name, health_url=self.at.health)
        self.data = self.pipeline.work_dir / "data"
        self.oracle = Oracle(("orders", "users"))
        self.random = random.Random(8)
        self.version = 0

    def start(self) -> "Shop":
        self.pipeline.start()
        return self

    def push(self, requests: int = 20) -> None:
        with IngestClient(self.at.url) as client:
            for _ in range(requests):
                rows = [self._row() for _ in range(self.random.randrange(1, 20))]
                client.send(rows)
                for row in rows:
                    payload = row["payload"]
                    text = None if payload is None else json.dumps(payload)
                    self.oracle.put(row["topic"], row["key"], text)

    def _row(self) -> dict[str, Any]:
        self.version += 1
        number = self.random.randrange(40)
        if self.random.random() < 0.15:
            return message(self.random.choice(["orders", "users"]), f"k{number}", None)
        if self.random.random() < 0.7:
            user = f"k{self.random.randrange(40)}"
            return message("orders", f"k{number}", {"user_id": user, "v": self.version})
        return message("users", f"k{number}", {"v": self.version})

    def health(self) -> dict[str, Any]:
        body = urllib3.request("GET", self.at.health, retries=False, timeout=5.0).data
        found: dict[str, Any] = json.loads(body)
        return found

    def replication(self) -> dict[str, Any]:
        found: dict[str, Any] = self.health()["replication"]
        return found

    def metric(self, name: str) -> float:
        text = urllib3.request("GET", f"{self.at.url}/metrics", retries=False).data.decode()
        [line] = [each for each in text.splitlines() if each.startswith(f"{name} ")]
        return float(line.split()[1])

    def litestream(self) -> int:
        """The process id of its Litestream."""
        return int(eventually(lambda: self.replication()["pid"]))

    def copied(self) -> None:
        """Have everything written so far at the replica."""

        async def sync() -> None:
            for path in sorted(self.data.glob("*.db")):
                await control.sync(self.data / "litestream.sock", path, 10)

        eventually(lambda: (self.data / "litestream.sock").exists())
        asyncio.run(sync())

    def lose(self, *names: str) -> None:
        """Files of the data directory, or all of it."""
        if not names:
            shutil.rmtree(self.data)
        for name in names:
            for path in self.data.glob(f"{name}*"):
                path.unlink()

    def stored(self) -> Oracle:
        """An oracle of what the topics hold now."""
        oracle = Oracle(("orders", "users"))
        for topic in ("orders", "users"):
            done = run_command(
                "query", f"SELECT key, payload FROM {topic}", "-c", self.pipeline.file.name,
                "--format", "json", work_dir=self.pipeline.work_dir,
            )  # fmt: skip
            assert done.returncode == 0, done
            for row in json.loads(done.stdout):
                oracle.put(topic, row["key"], row["payload"])
        return oracle

    def agrees_with(self, oracle: Oracle) -> bool:
        """Every join says what the oracle says."""
        for name, query in JOINS.items():
            got = snapshot_state(snapshot(self.at.url, name).results).get(name, {})
            want = oracle.groups(query)
            assert got == want, f"{name}: {difference(got, want)}"
        return True

    def comes_back(self) -> None:
        """Started without its files it has everything again, from the replica."""
        self.lose()
        self.start()
        eventually(partial(self.agrees_with, self.oracle))


@pytest.fixture
def s3() -> Iterator[StoreServer]:
    server = StoreServer("s3")
    yield server
    server.stop()


def gone(pid: int) -> bool:
    """No such process any more, or only its remains."""
    try:
        return " Z " in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True


def test_a_lost_directory_comes_back_with_everything_a_clean_stop_had_copied(
    launch: Launcher,
) -> None:
    shop = Shop(launch).start()
    shop.push()
    assert shop.pipeline.stop() == 0
    assert "replication: everything is at the replica" in shop.pipeline.log()
    shop.comes_back()
    assert shop.replication()["restored"]["lost_flushes"] == 0
    shop.push(5)
    eventually(partial(shop.agrees_with, shop.oracle))
    for name in ("litestream.yml", "catalogue.db", "shard-0000.db", "state.db", "dlq.db"):
        assert (shop.data / name).stat().st_mode & 0o777 == 0o600, name


def test_kill_9_and_a_lost_disk_lose_nothing_that_was_copied(launch: Launcher) -> None:
    shop = Shop(launch).start()
    shop.push()
    shop.copied()
    litestream = shop.litestream()
    shop.pipeline.kill()
    # It must not outlive its LiteJoin.
    eventually(lambda: gone(litestream), timeout_s=15)
    shop.comes_back()
    assert shop.litestream() != litestream


def test_after_kill_9_the_next_start_does_not_run_beside_the_old_litestream(
    launch: Launcher,
) -> None:
    shop = Shop(launch).start()
    for _ in range(3):
        shop.push(5)
        before = shop.litestream()
        shop.pipeline.restart()
        assert shop.litestream() != before
        eventually(lambda pid=before: gone(pid))
    shop.push(5)
    assert shop.pipeline.stop() == 0
    shop.comes_back()


OLD = [
    ["shard-0000.db", "shard-0002.db", "dlq.db"],
    ["state.db", "shard-0000.db", "catalogue.db"],
    ["state.db", "dlq.db", "shard-0000.db", "shard-0001.db"],
]


@pytest.mark.parametrize("old", OLD, ids=" ".join)
def test_files_of_different_moments_make_one_right_directory(
    launch: Launcher, old: list[str]
) -> None:
    shop = Shop(launch).start()
    with Subscriber(shop.at.url, replay=True) as stream:
        shop.push()
        assert shop.pipeline.stop() == 0
        told = stream.results()
    earlier = launch.base_dir / "earlier"
    shutil.copytree(shop.replica, earlier)
    shop.start()
    with Subscriber(shop.at.url) as stream:
        shop.push()
        shop.push(1)
        eventually(partial(shop.agrees_with, shop.oracle))
        last_seen = stream.last_id
        assert shop.pipeline.stop() == 0
        told += stream.results()
    for name in old:
        shutil.rmtree(shop.replica / name)
        shutil.copytree(earlier / name, shop.replica / name)
    shop.lose()
    shop.start()
    stored = shop.stored()
    eventually(partial(shop.agrees_with, stored))
    with Subscriber(shop.at.url, last_event_id=last_seen) as stream:
        # Who was connected may have seen results that are lost, and is told to begin anew.
        stream.wait(lambda s: s.named("reset"))
    shop.push(10)
    eventually(partial(shop.agrees_with, shop.stored()))
    bodies = {result["id"]: result for result in told}
    for result in snapshot(shop.at.url, "*").results:
        before = bodies.get(result["id"], result)
        assert before["rows"] == result["rows"], "one id for two results"


def test_a_lost_shard_that_comes_back_older_is_used_and_its_loss_is_told(
    launch: Launcher,
) -> None:
    shop = Shop(launch).start()
    shop.push()
    assert shop.pipeline.stop() == 0
    earlier = launch.base_dir / "earlier"
    shutil.copytree(shop.replica, earlier)
    shop.start()
    with Subscriber(shop.at.url, replay=True) as stream:
        shop.push()
        eventually(partial(shop.agrees_with, shop.oracle))
        assert shop.pipeline.stop() == 0
        delivered = Delivered().take(stream.results())
    shutil.rmtree(shop.replica)
    shutil.copytree(earlier, shop.replica)
    shop.lose("shard-0001.db")
    shop.start()
    restored = shop.replication()["restored"]
    assert restored["lost_flushes"] > 0
    assert "shard-0001.db lost commits: flush" in shop.pipeline.log()
    assert shop.health()["shards"]["quarantined"] == {}
    stored = shop.stored()
    eventually(partial(shop.agrees_with, stored))
    # What was told of the rows that are gone is taken back, by results that follow the others.
    last = max(r["seq"] for r in snapshot(shop.at.url).results)
    with Subscriber(shop.at.url, last_event_id=stream.last_id) as more:
        more.wait(lambda s: any(r["seq"] >= last for r in s.results()))
        assert not more.named("reset")
        delivered.take(more.results())
    for name, query in JOINS.items():
        assert delivered.state(name) == stored.groups(query), name


def test_a_new_directory_never_writes_over_the_replica_of_another(launch: Launcher) -> None:
    shop = Shop(launch, "one").start()
    shop.push(3)
    assert shop.pipeline.stop() == 0
    other = Shop(launch, "two", restore_on_boot=False)
    before = sorted(str(p) for p in shop.replica.rglob("*"))
    other.pipeline.start()  # an empty directory and restore_on_boot: false: it begins anew...
    other.pipeline.kill()
    assert other.pipeline.run_to_exit() == 4
    assert "is not the directory that the replica was made from" in other.pipeline.errors()
    assert before


@pytest.mark.parametrize("lost", ["shard-0001.db", "state.db"])
def test_a_file_that_is_gone_without_its_log_is_not_restored_beside_that_log(
    launch: Launcher, lost: str
) -> None:
    shop = Shop(launch).start()
    shop.push(3)
    assert shop.pipeline.stop() == 0
    (shop.data / lost).unlink()
    listing = sorted(p.name for p in shop.data.iterdir())
    assert shop.pipeline.run_to_exit() == 4
    assert f"{lost} is missing, but {lost}-wal is there" in shop.pipeline.errors()
    assert sorted(p.name for p in shop.data.iterdir()) == listing
    (shop.data / f"{lost}-wal").unlink()
    shop.start()
    eventually(partial(shop.agrees_with, shop.oracle))


def test_an_empty_directory_waits_for_a_replica_that_cannot_be_asked(launch: Launcher) -> None:
    shop = Shop(launch, replica_url=f"sftp://nobody@127.0.0.1:{Listener().port}/backups")
    shop.pipeline.env |= {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "not-to-be-told"}
    assert shop.pipeline.run_to_exit(60) == 4
    assert "whether the replica has its data is not known" in shop.pipeline.errors()
    assert not list(shop.data.glob("*.db"))
    written = (shop.data / "litestream.yml").read_text()
    assert "not-to-be-told" not in written + shop.pipeline.output()


def test_nothing_is_copied_before_it_is_known_whose_the_replica_is(
    launch: Launcher, s3: StoreServer
) -> None:
    options = "region=us-east-1&force-path-style=true"
    shop = Shop(launch, replica_url=f"s3://{BUCKET}/shop?endpoint={s3.endpoint}&{options}")
    shop.pipeline.env |= {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
    shop.start()
    shop.push(3)
    assert shop.pipeline.stop() == 0
    s3.fail(Fault.SAY_403)
    shop.start()
    shop.push(3)
    assert (shop.replication()["status"], shop.replication()["pid"]) == ("degraded", None)
    s3.heal()
    eventually(lambda: shop.replication()["status"] == "ok", timeout_s=60)
    shop.copied()
    shop.pipeline.kill()
    shop.comes_back()


def test_a_litestream_that_is_killed_is_started_again_and_misses_nothing(
    launch: Launcher,
) -> None:
    shop = Shop(launch).start()
    for _ in range(2):
        shop.push(10)
        before = shop.litestream()
        os.kill(before, signal.SIGKILL)
        shop.push(10)
        eventually(lambda pid=before: shop.replication()["pid"] not in (None, pid))
    assert shop.replication()["restarts"] == 2
    eventually(lambda: shop.metric("litejoin_replication_up") == 1)
    assert shop.metric("litejoin_replication_restarts_total") == 2
    eventually(lambda: shop.health()["status"] == "ok")
    assert shop.pipeline.stop() == 0
    shop.comes_back()


def test_a_replica_that_cannot_be_written_is_told_and_caught_up_with(launch: Launcher) -> None:
    shop = Shop(launch).start()
    shop.push(5)
    away = launch.base_dir / "away"
    shop.copied()
    shop.replica.rename(away)
    shop.replica.write_text("full")
    shop.push(5)
    eventually(lambda: shop.health()["status"] == "degraded", timeout_s=30)
    reasons = shop.health()["reasons"]
    assert any("has not been copied for" in reason for reason in reasons), reasons
    shop.push(5)  # a replica that is away never holds up the pipeline
    shop.replica.unlink()
    away.rename(shop.replica)
    eventually(lambda: shop.health()["status"] == "ok", timeout_s=60)
    assert shop.pipeline.stop() == 0
    shop.comes_back()


def test_a_foreign_reader_that_holds_a_transaction_does_not_stop_the_copies(
    launch: Launcher,
) -> None:
    shop = Shop(launch).start()
    shop.push(5)
    reader = sqlite3.connect(shop.data / "shard-0000.db", isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM batches").fetchall()
    shop.push(40)
    shop.copied()
    done = run_command(
        "restore", "-c", shop.pipeline.file.name, "--to", "drill", "--verify", "--format", "json",
        work_dir=shop.pipeline.work_dir,
    )  # fmt: skip
    assert done.returncode == 0, done
    reader.close()
    assert shop.pipeline.stop() == 0
    shop.comes_back()


def test_a_sidecar_is_told_how_to_start_and_seen_when_it_runs(launch: Launcher) -> None:
    shop = Shop(launch, mode="sidecar").start()
    log = shop.pipeline.log()
    [line] = [each for each in log.splitlines() if "for a litestream beside: " in each]
    command = line.partition("beside: ")[2].split()
    assert shop.replication()["litestream"] == "not seen"
    sidecar = launch.prepare(
        "{}", name="sidecar", command=[str(require_litestream()), *command[1:]]
    ).spawn()
    shop.push()
    eventually(lambda: shop.replication()["litestream"] == "running")
    shop.copied()
    shop.push()
    assert shop.pipeline.stop() == 0
    sidecar.signal(signal.SIGTERM)
    sidecar.wait_exit()
    shop.comes_back()


def restored_to(pipeline: Pipeline, *more: str) -> dict[str, Any]:
    """The report of a drill."""
    done = run_command(
        "restore", "-c", pipeline.file.name, "--to", "drill", "--format", "json", *more,
        work_dir=pipeline.work_dir,
    )  # fmt: skip
    assert done.returncode == 0, done
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_bucket_brings_back_what_was_copied_and_is_waited_for(
    launch: Launcher, s3: StoreServer
) -> None:
    options = "region=us-east-1&force-path-style=true"
    shop = Shop(launch, replica_url=f"s3://{BUCKET}/shop?endpoint={s3.endpoint}&{options}")
    shop.pipeline.env |= {
        "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "not-to-be-told"
    }  # fmt: skip
    shop.start()
    shop.push()
    shop.copied()
    s3.fail(Fault.SAY_403)
    shop.push()
    eventually(lambda: "degraded" in shop.replication()["status"], timeout_s=40)
    s3.heal()
    eventually(lambda: shop.replication()["status"] == "ok", timeout_s=60)
    assert shop.pipeline.stop() == 0
    assert "not-to-be-told" not in shop.pipeline.output()
    shop.comes_back()


def test_a_drill_beside_the_running_pipeline_verifies_what_it_brings_back(
    launch: Launcher,
) -> None:
    shop = Shop(launch).start()
    shop.push()
    shop.copied()
    found = restored_to(shop.pipeline, "--verify")
    assert [each["problem"] for each in found["verified"]] == [""] * (SHARDS + 2)
    state = next(each for each in found["verified"] if each["file"] == "state.db")
    counts = sum(len(shop.oracle.groups(query)) for query in JOINS.values())
    assert state["figures"]["results"] == counts
    assert 0 <= found["restored"]["rpo_s"] < 60
    shop.pipeline.assert_running()
    shop.push(3)
    shop.agrees_with(shop.oracle)
