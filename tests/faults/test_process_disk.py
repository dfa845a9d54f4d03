"""EIO and ENOSPC on writes and syncs of each data file, under a whole pipeline (semantics 2)."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import urllib3

from tests.harness.configs import Listener, http_sink, push_config, sse_sink
from tests.harness.failing_disk import FailingDisk, Fault
from tests.harness.fixtures import Launcher
from tests.harness.ingest import IngestClient, message
from tests.harness.process import Pipeline
from tests.harness.scripted import Reply, WebhookReceiver
from tests.harness.sse import snapshot
from tests.harness.waiting import eventually


class Story:
    """A pipeline on a failing disk; `acked` is what it has confirmed."""

    def __init__(
        self, launch: Launcher, receiver: WebhookReceiver, folder: Path, files: str
    ) -> None:
        self.at, self.receiver = Listener(), receiver
        self.disk = FailingDisk(folder, files)
        self.acked: dict[str, int] = {}
        self.config: dict[str, Any] = push_config(
            self.at, {"rows": "SELECT key, payload ->> '$.n' AS n FROM t"},
            sinks=[http_sink(f"{receiver.url}/hook"), sse_sink(self.at)],
            storage={"shard_count": 2},
            delivery={"guarantee": "at_least_once", "dlq": {"retry_interval": "100ms"}},
        )  # fmt: skip
        self.pipeline: Pipeline = launch(self.config, self.at.health, env=self.disk.env)

    def put(self, first: int, count: int) -> list[int]:
        """Send numbers one by one and return the statuses; 0: the connection broke."""
        statuses = []
        with IngestClient(self.at.url, timeout_s=10) as client:
            for number in range(first, first + count):
                try:
                    status = client.offer([message("t", f"k{number}", {"n": number})]).status
                except urllib3.exceptions.HTTPError:
                    status = 0
                statuses.append(status)
                if status == 200:
                    self.acked[f"k{number}"] = number
                if status == 0:
                    return statuses
        return statuses

    def is_right(self) -> bool:
        """Everything acked is in the join and was delivered."""
        shown = {r["key"]: r["rows"][0]["n"] for r in snapshot(self.at.url, "rows").results}
        missing = self.acked.items() - shown.items()
        assert not missing, f"acked and not there: {missing}"
        delivered = {r.json["key"] for r in self.receiver.delivered()}
        assert self.acked.keys() <= delivered
        return True


@pytest.mark.slow
@pytest.mark.parametrize(
    ("files", "fault"),
    [(files, fault)
     for files in ("/shard-", "/state.db", "/dlq.db")
     # A sync that finds the disk full has lost pages that were written: as bad as EIO.
     for fault in (Fault.EIO_ON_SYNC, Fault.EIO_ON_WRITE, Fault.FULL_ON_SYNC)],
)  # fmt: skip
def test_an_io_error_ends_the_process_and_loses_nothing_acked(
    launch: Launcher, receiver: WebhookReceiver, tmp_path: Path, files: str, fault: Fault
) -> None:
    story = Story(launch, receiver, tmp_path, files)
    story.put(0, 20)
    story.disk.set(fault)
    story.put(20, 200)
    assert story.pipeline.wait_exit(20) != 0, "it must not go on with a file in an unknown state"
    story.disk.set(Fault.NONE)
    story.pipeline.start(40)
    eventually(story.is_right, 30)
    assert "Traceback" not in story.pipeline.errors() or "fatal" in story.pipeline.log()


@pytest.mark.slow
@pytest.mark.parametrize("files", ["/shard-", "/state.db", "/dlq.db"])
def test_a_full_disk_is_waited_for_without_a_restart(
    launch: Launcher, receiver: WebhookReceiver, tmp_path: Path, files: str
) -> None:
    story = Story(launch, receiver, tmp_path, files)
    story.put(0, 20)
    receiver.default = lambda r: Reply(500 if r.json["seq"] % 2 else 200)
    story.disk.set(Fault.FULL_ON_WRITE)
    statuses = story.put(20, 30)
    assert set(statuses) <= {200, 503}, "503 asks the sender to come again, nothing else"
    if files == "/shard-":
        assert 503 in statuses
        told = story.pipeline.log().count("no space left for shards")
        assert 0 < told < statuses.count(503), "not a line for every push"
    story.pipeline.assert_running()
    story.disk.set(Fault.NONE)
    receiver.default = lambda _: Reply()
    eventually(partial(story.put, 50, 1), 5)
    eventually(lambda: story.put(100, 1) == [200], 20)
    eventually(story.is_right, 30)
    assert story.pipeline.stop() == 0
