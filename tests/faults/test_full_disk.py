"""Data on a disk that is really full (semantics 2): nothing is acknowledged that is not kept, and
what was waiting goes on by itself once there is room. The same of a replica's disk.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from tests.faults.test_process_replication import Shop
from tests.harness.configs import Listener, push_config
from tests.harness.fixtures import Launcher
from tests.harness.ingest import IngestClient, message
from tests.harness.process import LITEJOIN
from tests.harness.small_disk import SmallDisk, small_disk
from tests.harness.sse import snapshot
from tests.harness.waiting import eventually

JOIN = {"rows": "SELECT key, payload ->> '$.n' AS n FROM t"}
TEXT = "x" * 4000


@pytest.fixture
def folder() -> Iterator[Path]:
    """Short: Litestream's control socket has at most 100 bytes of its path."""
    with TemporaryDirectory(prefix="lj", ignore_cleanup_errors=True) as base:
        yield Path(base)


@pytest.fixture
def disk(folder: Path) -> Iterator[SmallDisk]:
    with small_disk(folder) as made:
        yield made


@pytest.fixture
def launch(folder: Path, disk: SmallDisk) -> Iterator[Launcher]:
    launcher = Launcher(folder)
    yield launcher
    launcher.close()


class Story:
    """A pipeline whose data is on the disk; `acked` is what it has confirmed."""

    def __init__(self, launch: Launcher, disk: SmallDisk, **storage: Any) -> None:
        self.at = Listener()
        self.acked: dict[str, int] = {}
        config = push_config(
            self.at, JOIN,
            storage={"data_dir": str(disk.path / "data"), "shard_count": 2, **storage},
        )  # fmt: skip
        self.pipeline = launch.prepare(
            config, health_url=self.at.health, env=disk.env, name="pipeline"
        )
        command = [*LITEJOIN, "run", "-c", self.pipeline.file.name]
        self.pipeline.command = disk.command(command, self.pipeline.work_dir)
        self.pipeline.start()

    def put(self, number: int, keys: int = 5) -> int:
        """Send a new version of each key; the status."""
        rows = [message("t", f"k{n}", {"n": number, "text": TEXT}) for n in range(keys)]
        with IngestClient(self.at.url, timeout_s=20) as client:
            status = client.offer(rows).status
        if status == 200:
            self.acked |= {f"k{n}": number for n in range(keys)}
        return status

    def takes(self, number: int) -> bool:
        return self.put(number, keys=40) == 200

    def is_right(self) -> bool:
        """Everything acked is in the join: no older version, and none that was refused."""
        shown = {r["key"]: r["rows"][0]["n"] for r in snapshot(self.at.url, "rows").results}
        assert shown == self.acked
        return True


@pytest.mark.slow
@pytest.mark.parametrize("synchronous", ["normal", "full"])
def test_a_full_disk_never_acks_and_is_waited_for(
    launch: Launcher, disk: SmallDisk, synchronous: str
) -> None:
    # Without the reserve, which would stop intake while there still is room.
    story = Story(launch, disk, synchronous=synchronous, min_free_space="1B", warn_free_space="1B")
    number = 0
    for _ in range(3):
        number += 1
        assert story.put(number) == 200
        disk.fill()
        statuses = []
        # What is left in pages and logs that are there already may still be used.
        while statuses[-5:] != [503] * 5:
            number += 1
            statuses.append(story.put(number, keys=40))
            assert set(statuses) <= {200, 503}, "503 asks the sender to come again, nothing else"
            assert len(statuses) < 500
        story.pipeline.assert_running()
        disk.free()

        number += 1
        eventually(partial(story.takes, number), 20)
        eventually(story.is_right, 30)
    story.pipeline.restart()
    eventually(story.is_right, 30)
    assert story.put(number + 1) == 200
    assert story.pipeline.stop() == 0


@pytest.mark.slow
def test_a_disk_that_fills_up_stops_intake_before_it_is_full(
    launch: Launcher, disk: SmallDisk
) -> None:
    if not disk.is_real:
        # The stand-in has no size; that the reserve is kept is told by the real disk below it.
        story = Story(launch, disk, min_free_space="1000000GB")
        assert story.put(1) == 503
        return
    story = Story(launch, disk, min_free_space="4MB", warn_free_space="6MB")
    assert story.put(1) == 200
    disk.fill()
    eventually(lambda: story.put(2) == 503, 10)
    disk.free()
    eventually(lambda: story.put(3) == 200, 10)
    eventually(story.is_right, 30)
    assert story.pipeline.stop() == 0


@pytest.mark.slow
def test_a_replica_whose_disk_is_full_is_told_and_caught_up_with(
    launch: Launcher, disk: SmallDisk
) -> None:
    replica = disk.path / "replica"
    shop = Shop(launch, replica_url=f"file://{replica}")
    command = [*LITEJOIN, "run", "-c", shop.pipeline.file.name]
    shop.pipeline.command = disk.command(command, shop.pipeline.work_dir)
    shop.start()
    shop.push(5)
    shop.copied()
    away = disk.path / "away"
    if disk.is_real:
        disk.fill()
    else:  # no library is loaded into Litestream
        replica.rename(away)
        replica.write_text("full")
    shop.push(10)
    eventually(lambda: shop.health()["status"] == "degraded", timeout_s=40)
    reasons = shop.health()["reasons"]
    assert any("has not been copied for" in reason for reason in reasons), reasons
    shop.push(10)  # it never holds up the pipeline
    eventually(partial(shop.agrees_with, shop.oracle))
    shop.pipeline.assert_running()
    if disk.is_real:
        disk.free()
    else:
        replica.unlink()
        away.rename(replica)
    eventually(lambda: shop.health()["status"] == "ok", timeout_s=60)
    shop.copied()
    shop.pipeline.kill()
    shop.comes_back()
    assert shop.pipeline.stop() == 0
