"""kill -9 at every sync that one batch makes, one after another.

A batch is one request that touches both topics and every shard. The process is killed before its
first sync, the next time before its second, and so on, until it lives through all of them: shards,
marks, state.db, dlq.db and the sqlite sink's file, each of which must be synced. After each death
everything acked is there, the joins are the oracle's, and every sink converges.
"""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import urllib3

from tests.faults.test_process_sinks import JOIN, RETRY, agrees, check_order, last_rows, table_rows
from tests.harness.configs import Listener, http_sink, push_config, sse_sink
from tests.harness.failing_disk import FailingDisk, Fault
from tests.harness.fixtures import Launcher
from tests.harness.ingest import IngestClient, message
from tests.harness.results import difference, snapshot_state
from tests.harness.scripted import WebhookReceiver
from tests.harness.sse import snapshot
from tests.harness.waiting import eventually
from tests.reference.oracle import Oracle

SHARDS = 3
MOST_SYNCS = 60
"""Far more than a batch makes: the search must end by living through one."""


def batch(number: int) -> list[dict[str, Any]]:
    """Rows of both topics in all shards: new, changed and deleted ones."""
    rows = [message("orders", f"o{n}", {"user_id": f"u{n % 3}", "v": number}) for n in range(8)]
    rows += [message("users", f"u{n}", {"v": number}) for n in range(3)]
    gone = number % 8
    return [
        *rows,
        message("orders", f"o{gone}", None),
        message("orders", f"once{number}", {"v": 0}),
    ]


class Story:
    """The pipeline, and what it has confirmed; `files`: those whose syncs count (all)."""

    def __init__(
        self, launch: Launcher, receiver: WebhookReceiver, folder: Path, files: str = ""
    ) -> None:
        self.at, self.receiver, self.table = Listener(), receiver, folder / "out.db"
        self.disk = FailingDisk(folder, files or str(folder))
        sinks: list[dict[str, Any]] = [
            http_sink(f"{receiver.url}/hook", max_in_flight=4),
            {"name": "table", "type": "sqlite", "config": {"path": str(self.table)}},
            sse_sink(self.at),
        ]
        config = push_config(
            self.at, {"joined": JOIN}, topics=["orders", "users"], sinks=sinks,
            storage={"shard_count": SHARDS}, delivery={"guarantee": "at_least_once", "dlq": RETRY},
        )  # fmt: skip
        self.oracle = Oracle(("orders", "users"))
        self.pipeline = launch(config, self.at.health, env=self.disk.env)
        self.lives: list[int] = [0]

    def send(self, rows: list[dict[str, Any]]) -> bool:
        """Whether the batch was acked; what a killed process leaves unanswered is not."""
        with IngestClient(self.at.url, timeout_s=20) as client:
            try:
                client.send(rows)
            except urllib3.exceptions.HTTPError:
                return False
        return True

    def note(self, rows: list[dict[str, Any]]) -> None:
        for row in rows:
            text = None if row["payload"] is None else json.dumps(row["payload"])
            self.oracle.put(row["topic"], row["key"], text)

    def converged(self) -> bool:
        """Snapshot, webhook receiver and sqlite table show what plain SQLite makes of the rows."""
        want: dict[str, tuple[str, ...]] = self.oracle.groups(JOIN)
        shown = snapshot_state(snapshot(self.at.url, "joined").results).get("joined", {})
        assert not difference(shown, want)
        told = last_rows([request.json for request in self.receiver.delivered()])
        assert not difference(told, want)
        return agrees(lambda: table_rows(self.table), want)

    def sinks_are_idle(self) -> bool:
        """Every cursor has reached the end of the log and is about to be on disk."""
        with IngestClient(self.at.url) as client:
            sinks = client.get("/health").body["sinks"]
        return all(not sinks[name]["lag"] for name in ("hook", "table"))


@pytest.mark.slow
def test_a_kill_at_any_sync_of_a_batch_loses_and_repeats_nothing_wrongly(
    launch: Launcher, receiver: WebhookReceiver, tmp_path: Path
) -> None:
    story = Story(launch, receiver, tmp_path)
    story.note(batch(0))
    assert story.send(batch(0))
    eventually(story.converged, 20)
    killed = 0
    for syncs in range(1, MOST_SYNCS + 1):
        rows = batch(syncs)
        story.disk.set(Fault.KILL_AT_SYNC, syncs)
        acked = story.send(rows)
        survived = acked and outlives(story)
        if survived:
            break
        story.pipeline.wait_exit(20)
        killed += 1
        receiver.wait_hung_up()
        story.lives.append(len(receiver.seen()))
        story.disk.set(Fault.NONE)
        story.pipeline.start(40)
        if not acked:
            assert story.send(rows), "a caller without an ack sends again"
        story.note(rows)
        eventually(story.converged, 30)
    print(f"killed at each of {killed} syncs, then {story.disk.syncs_left()} were left")
    assert killed >= SHARDS + 2, "each shard, state.db and dlq.db are synced"
    assert killed < MOST_SYNCS, "no batch was lived through"
    story.note(batch(killed + 1))
    story.disk.set(Fault.NONE)
    eventually(story.converged, 30)
    taken = receiver.delivered()
    ends = [*story.lives, len(receiver.seen())]
    check_order(
        [[r.json for r in taken if a <= r.number < b] for a, b in zip(ends, ends[1:], strict=False)]
    )
    assert story.pipeline.stop() == 0
    story.oracle.close()


@pytest.mark.parametrize("files", ["/shard-", "/marks", "/state.db", "/dlq.db", "/out.db"])
def test_a_batch_syncs_each_file(
    launch: Launcher, receiver: WebhookReceiver, tmp_path: Path, files: str
) -> None:
    """What a kill leaves in the system's cache a power loss takes away, so each must be synced."""
    story = Story(launch, receiver, tmp_path, files)
    assert story.send(batch(0))
    eventually(story.sinks_are_idle, 20)
    story.disk.set(Fault.KILL_AT_SYNC, 1)
    acked = story.send(batch(1))
    story.pipeline.wait_exit(20)
    assert not (acked and files == "/shard-"), "acked before it was synced"


def outlives(story: Story) -> bool:
    """Wait for the end of the batch's work: every sink has its results, or the process is dead."""

    def ended() -> bool:
        if story.pipeline.exit_code is not None:
            return True
        try:
            return story.sinks_are_idle()
        except urllib3.exceptions.HTTPError:
            return False

    eventually(partial(ended), 20)
    eventually(lambda: story.pipeline.exit_code is not None or quiet(story), 5)
    return story.pipeline.exit_code is None


def quiet(story: Story) -> bool:
    """True when no sync came for half a second: delivery keeps its cursors every 100 ms."""
    before = story.disk.syncs_left()
    try:
        eventually(lambda: story.disk.syncs_left() != before, 0.5)
    except AssertionError:
        return True
    return False
