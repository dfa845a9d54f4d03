"""Subscribers over real sockets: cut at random, slow, gone without a word, under load."""

import asyncio
import random
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from litejoin.plan.nodes import Address
from litejoin.runtime.server import Listeners
from litejoin.sinks.sse.hub import SseHub
from litejoin.sinks.sse.snapshot import SnapshotApp
from litejoin.sinks.sse.subscribe import SubscribeApp
from litejoin.store.log import ResultLog
from litejoin.store.signal import LogSignal
from tests.harness.sse import Subscriber
from tests.harness.waiting import eventually
from tests.unit.delivery.harness import EPOCH, make_plan
from tests.unit.store.state_writer import StateWriter

ADDRESS = Address("127.0.0.1", 0)


class Server:
    """A hub behind real listeners, on a loop in a thread of its own; `put` writes from the test."""

    def __init__(self, folder: Path) -> None:
        self.writer = StateWriter(folder / "state.db", "orders")
        self.hub = SseHub(["orders"], [], 500)
        self._folder = folder
        self._started = threading.Event()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._thread.start()
        assert self._started.wait(10)

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._signal = LogSignal(self.writer.head)
        plan = replace(make_plan(self._folder, [], []).server, addr=ADDRESS)
        listeners = Listeners(plan, lambda: {"status": "ok"})
        listeners.add(ADDRESS, "GET", "/subscribe", SubscribeApp(self.hub), "subscribe")
        listeners.add(ADDRESS, "GET", "/snapshot", SnapshotApp(self.hub), "subscribe")
        bounds = await listeners.start()
        self.url = bounds[0].url
        self.hub.open(ResultLog(self.writer.path, "shop", EPOCH), self._signal)
        self._started.set()
        await self._stop.wait()
        await self.hub.close()
        await listeners.stop(1.0)

    def put(self, key: int, value: object) -> int:
        pos = self.writer.put("orders", key, {"id": key, "n": value})
        self._loop.call_soon_threadsafe(self._signal.publish, pos)
        return pos

    def clients(self) -> object:
        return self.hub.health()["clients"]

    def close(self) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        self.writer.close()
        assert not self._thread.is_alive()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    yield server
    server.close()


def seqs(stream: Subscriber) -> list[int]:
    return [result["seq"] for result in stream.results()]


def test_subscribers_cut_at_random_under_load_see_every_change_once(server: Server) -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    rng = random.Random(seed)
    streams = [Subscriber(server.url) for _ in range(8)]
    seen: list[list[int]] = [[] for _ in streams]
    for n in range(1_500):
        server.put(n % 40, n)
        if rng.random() < 0.03:
            which = rng.randrange(len(streams))
            streams[which].close()
            seen[which] += seqs(streams[which])
            streams[which] = Subscriber(server.url, last_event_id=streams[which].last_id)
    for which, stream in enumerate(streams):
        before = seen[which]  # may hold the last one, when the last cut came after it
        stream.wait(lambda s, before=before: 1_500 in before + seqs(s))
        seen[which] += seqs(stream)
        stream.close()
    assert all(found == list(range(1, 1_501)) for found in seen)
    eventually(lambda: server.clients() == 0)


def test_a_client_that_reads_nothing_holds_no_memory_and_hurts_nobody(server: Server) -> None:
    stuck = socket.create_connection((ADDRESS.host, int(server.url.rsplit(":", 1)[1])))
    stuck.sendall(b"GET /subscribe?join=* HTTP/1.1\r\nHost: localhost\r\n\r\n")
    well = Subscriber(server.url)
    eventually(lambda: server.clients() == 2)
    payload = "x" * 4_000
    for n in range(3_000):
        server.put(n % 50, payload)
    well.wait(lambda s: 3_000 in seqs(s), 30)
    assert len(well.results()) == 3_000
    assert max(client._buffered for client in server.hub._clients) <= 300_000
    stuck.close()
    well.close()
    eventually(lambda: server.clients() == 0)


def test_a_client_that_vanishes_is_forgotten_without_a_write(server: Server) -> None:
    streams = [Subscriber(server.url) for _ in range(20)]
    eventually(lambda: server.clients() == 20)
    for stream in streams:
        stream.close()
    eventually(lambda: server.clients() == 0)


def test_stopping_ends_the_streams_at_once(server: Server) -> None:
    stream = Subscriber(server.url)
    server.put(1, "before")
    stream.wait(lambda s: seqs(s) == [1])
    started = time.monotonic()
    server._loop.call_soon_threadsafe(server._stop.set)
    stream.wait_closed(5)
    server._thread.join(10)
    assert time.monotonic() - started < 3
    stream.close()


def test_an_error_is_json_with_a_status(server: Server) -> None:
    refused = Subscriber(server.url, join="nope")
    assert refused.status == 400
    assert "orders" in refused.refusal
