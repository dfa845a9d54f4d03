"""Subscribers that are cut at random while the server is killed (semantics 10).

Every key is written once, so a result that is missed or doubled cannot hide behind a later one.
`LITEJOIN_TEST_KILLS` sets the kills (default 10), `LITEJOIN_SEED` replays a run.
"""

import os
import random
import threading
from functools import partial
from http.client import HTTPException
from typing import Any

import pytest
import urllib3

from tests.harness.configs import Listener, push_config
from tests.harness.fixtures import Launcher
from tests.harness.ingest import IngestClient, message
from tests.harness.sse import Subscriber, snapshot
from tests.harness.waiting import eventually

KILLS = int(os.environ.get("LITEJOIN_TEST_KILLS", "10"))
SEED = os.environ.get("LITEJOIN_SEED")
FOLLOWERS = 8

JOINS = {
    "rows": "SELECT key, payload FROM t",
    "odd": "SELECT key, payload FROM t WHERE payload % 2",
}


class Follower:
    """A subscriber that is cut and resumes with the last id it was sent."""

    def __init__(self, url: str, join: str) -> None:
        self.ids: list[str] = []
        self.keys: list[str] = []
        self.resumed = 0
        self._url, self._join = url, join
        self._stream: Subscriber | None = Subscriber(url, join)
        self._stream.wait(lambda stream: stream.last_id)
        self._last_id = ""

    def cut(self) -> None:
        """Hang up, wherever the stream is, and keep what came."""
        stream, self._stream = self._stream, None
        if stream is None:
            return
        stream.close()
        self._last_id = stream.last_id
        for event in stream.named("join_result"):
            self.ids.append(event.id)
            if event.json["query"] == "rows":
                self.keys.append(event.json["key"])
        assert stream.named("reset") == []

    def resume(self) -> None:
        self._stream = Subscriber(self._url, self._join, last_event_id=self._last_id)
        assert self._stream.status == 200
        self.resumed += 1

    def reconnect(self) -> bool:
        """Cut and resume; False: the server is gone."""
        self.cut()
        try:
            self.resume()
        except (OSError, HTTPException):
            return False
        return True

    def has(self, key: str) -> bool:
        assert self._stream is not None
        return key in self.keys or any(r["key"] == key for r in self._stream.results("rows"))


class Writer:
    """Posts batches of new keys until the server breaks the connection."""

    def __init__(self, url: str) -> None:
        self.acked: list[str] = []
        self.unknown: list[str] = []
        self._url, self._count = url, 0

    def run(self) -> None:
        with IngestClient(self._url, timeout_s=10) as client:
            while True:
                self.unknown = [f"k{self._count + n}" for n in range(5)]
                self._count += 5
                try:
                    self._post(client)
                except urllib3.exceptions.HTTPError:
                    return

    def settle(self) -> None:
        """Send the batch of unknown outcome again, as a caller without an ack does."""
        with IngestClient(self._url) as client:
            self._post(client)

    def _post(self, client: IngestClient) -> None:
        client.send([message("t", key, int(key[1:])) for key in self.unknown])
        self.acked += self.unknown
        self.unknown = []


@pytest.mark.slow
def test_subscribers_cut_at_random_while_the_server_is_killed_miss_and_repeat_nothing(
    launch: Launcher,
) -> None:
    seed = int(SEED or random.SystemRandom().randrange(2**32))
    print(f"replay with LITEJOIN_SEED={seed}")
    dice, at = random.Random(seed), Listener()
    pipeline = launch(push_config(at, JOINS, storage={"shard_count": 2}), at.health)
    followers = [Follower(at.url, "rows" if n % 2 else "*") for n in range(FOLLOWERS)]
    writer = Writer(at.url)
    for _ in range(KILLS):
        load = threading.Thread(target=writer.run, daemon=True)
        killer = threading.Timer(dice.uniform(0.05, 0.6), pipeline.kill)
        load.start()
        killer.start()
        while killer.is_alive() and dice.choice(followers).reconnect():
            pass
        killer.join()
        load.join(15)
        assert not load.is_alive()
        pipeline.start(40)
        writer.settle()
        for follower in followers:
            follower.cut()
            follower.resume()
    for follower in followers:
        eventually(partial(follower.has, writer.acked[-1]), 30)
        follower.cut()
    print(f"{len(writer.acked)} keys, resumed {sum(f.resumed for f in followers)} times")
    wanted = sorted(writer.acked)
    assert len(wanted) > 5 * KILLS
    for follower in followers:
        assert sorted(follower.keys) == wanted
        assert len(set(follower.ids)) == len(follower.ids)
    shown: Any = snapshot(at.url, "rows", limit="1000000").results
    assert sorted(result["key"] for result in shown) == wanted
    assert pipeline.stop() == 0
