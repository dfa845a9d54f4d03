"""Fetching only what is new: lookback, full sweeps beside it, and what each may delete."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.harness.fixtures import Launcher
from tests.harness.process import run_command
from tests.harness.scripted import Reply, Request, ScriptedServer, json_reply
from tests.harness.sse import Subscriber
from tests.harness.waiting import eventually
from tests.services.rig import Feeds
from tests.services.service import query

BEGAN = datetime(2026, 3, 1, tzinfo=UTC)


def at(seconds: int) -> str:
    return (BEGAN + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


class Ledger(ScriptedServer):
    """Rows with the time of their last edit; `?since=` shows those from that time on."""

    def __init__(self) -> None:
        self.rows = {n: {"id": n, "updated_at": at(n), "v": 0} for n in range(1, 9)}
        super().__init__(self._serve)

    def _serve(self, request: Request) -> Reply:
        since = query(request).get("since", "")
        rows = [row for row in list(self.rows.values()) if str(row["updated_at"]) >= since]
        return json_reply({"rows": rows})

    def edit(self, number: int, seconds: int) -> None:
        self.rows[number] = {"id": number, "updated_at": at(seconds), "v": seconds}

    def asked(self, start: int = 0) -> list[str]:
        """What each request asked for; empty: everything."""
        return [query(request).get("since", "") for request in self.seen()[start:]]


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    with Ledger() as server:
        yield server


def source(ledger: Ledger, sweep: str | None, lookback: str = "0s") -> dict[str, Any]:
    watermark = {
        "strategy": "timestamp", "path": "updated_at", "param": "since", "lookback": lookback
    }  # fmt: skip
    api = {
        "url": f"{ledger.url}/rows", "interval": "60ms", "key_path": "id", "response_path": "rows",
        "watermark": watermark, "retry": {"max_attempts": 1},
    }  # fmt: skip
    if sweep is not None:
        api |= {"detect_deletes": True, "full_sweep_interval": sweep}
    return {"name": "ledger-api", "type": "api", "topic": "ledger", "api": api}


def settle(feeds: Feeds, ledger: Ledger) -> None:
    want = {str(n): row for n, row in ledger.rows.items()}
    eventually(lambda: feeds.topic("ledger") == want, 30)


def test_rows_of_the_lookback_are_asked_for_again_and_not_told_again(
    launch: Launcher, ledger: Ledger
) -> None:
    feeds = Feeds(launch, [source(ledger, None, lookback="3s")])
    settle(feeds, ledger)
    eventually(lambda: at(8 - 3) in ledger.asked(), 30)
    with Subscriber(feeds.at.url, "ledger") as stream:
        feeds.wait_polls("ledger-api", 3)
        ledger.edit(6, 6)  # an edit that came late, inside the lookback
        stream.wait_results(1)
        ledger.edit(2, 20)
        stream.wait_results(2)
        eventually(lambda: at(20 - 3) in ledger.asked(), 30)
        feeds.wait_polls("ledger-api", 3)
        assert [r["key"] for r in stream.results()] == ["6", "2"]
    assert "" not in ledger.asked(1)


def test_a_watermark_survives_kill_9_and_repeats_nothing(launch: Launcher, ledger: Ledger) -> None:
    feeds = Feeds(launch, [source(ledger, None)])
    settle(feeds, ledger)
    eventually(lambda: at(8) in ledger.asked(), 30)
    asked = len(ledger.seen())
    feeds.pipeline.restart()
    with Subscriber(feeds.at.url, "ledger") as stream:
        feeds.wait_polls("ledger-api")
        ledger.edit(1, 30)
        stream.wait_results(1)
        assert [r["key"] for r in stream.results()] == ["1"]
    # The watermark may have been on its way to the disk; it was never ahead of what is there.
    assert set(ledger.asked(asked)) <= {at(8), at(30)}


def test_only_a_full_sweep_deletes(launch: Launcher, ledger: Ledger) -> None:
    """A poll that shows only what is new says nothing of what is gone."""
    feeds = Feeds(launch, [source(ledger, "2s")])
    settle(feeds, ledger)
    for gone in (3, 8):
        with Subscriber(feeds.at.url, "ledger") as stream:
            start = len(ledger.seen())
            del ledger.rows[gone]
            stream.wait_results(1, timeout_s=30)
            asked = ledger.asked(start)
            assert [(r["op"], r["key"]) for r in stream.results()] == [("delete", str(gone))]
            assert "" in asked, "deleted without a sweep"
    settle(feeds, ledger)
    assert at(8) in ledger.asked()


def test_between_sweeps_nothing_is_deleted(launch: Launcher, ledger: Ledger) -> None:
    feeds = Feeds(launch, [source(ledger, "1h")])
    settle(feeds, ledger)
    with Subscriber(feeds.at.url, "ledger") as stream:
        eventually(lambda: at(8) in ledger.asked(), 30)
        start = len(ledger.seen())
        del ledger.rows[3]
        feeds.wait_polls("ledger-api", 5)
        ledger.edit(1, 40)
        stream.wait_results(1)
        assert [(r["op"], r["key"]) for r in stream.results()] == [("upsert", "1")]
        assert "" not in ledger.asked(start)
    assert "3" in feeds.topic("ledger")


def test_a_probe_beside_it_asks_as_the_next_poll_would(launch: Launcher, ledger: Ledger) -> None:
    """`litejoin poll` against the stored state: with its watermark, and without moving it."""
    feeds = Feeds(launch, [source(ledger, "1h")])
    settle(feeds, ledger)
    eventually(lambda: at(8) in ledger.asked(), 30)
    assert feeds.pipeline.stop() == 0
    ledger.edit(1, 50)
    del ledger.rows[3]
    for _ in range(2):
        start = len(ledger.seen())
        done = run_command(
            "poll", "-c", feeds.pipeline.file.name, "ledger-api", work_dir=feeds.pipeline.work_dir
        )
        assert done.returncode == 0, done.stderr
        assert "0 created, 1 updated, 0 deleted, 1 unchanged" in done.stdout
        assert ledger.asked(start) == [at(8)]
    feeds.pipeline.start()
    eventually(lambda: feeds.topic("ledger")["1"]["v"] == 50, 30)
