"""Hostile and unlucky clients of /ingest: nobody is harmed, memory stays flat, no half batch."""

import asyncio
import dataclasses
import gzip
import itertools
import random
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import zstandard

from litejoin.errors import OverloadedError
from tests.unit.runtime.serving import (
    LIMITS,
    ROW,
    Client,
    FakeIntake,
    Serving,
    ask,
    get,
    plan,
    post,
    serving,
)

MIB = 1 << 20
SLACK_KIB = 12 * 1024
"""Growth that is no leak: the allocator's arenas, buffers of the test's own clients."""


def resident_kib() -> int:
    status = Path("/proc/self/status").read_text("ascii")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))


class PeakMemory:
    """The highest resident size above that at the start, sampled by a thread."""

    def __enter__(self) -> "PeakMemory":
        self.peak_kib = 0
        self._start = resident_kib()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._stop.wait(0.002):
            self.peak_kib = max(self.peak_kib, resident_kib() - self._start)

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join()


async def count_connections(server: Serving) -> int:
    return sum(len(rules.connections) for rules in server.listeners._all_rules())


def wait_until_empty(server: Serving) -> None:
    end = time.monotonic() + 10
    while server.call(count_connections(server)):
        assert time.monotonic() < end, "connections stay"
        time.sleep(0.01)


def sized_head(size: int) -> bytes:
    return f"POST /ingest HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size}\r\n\r\n".encode()


CHUNKED_HEAD = b"POST /ingest HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"


def pieces_of_50_mb(chunked: bool) -> Iterator[bytes]:
    piece = b" " * 65_536
    for _ in range(50 * MIB // len(piece)):
        yield b"10000\r\n" + piece + b"\r\n" if chunked else piece


@pytest.mark.parametrize("chunked", [False, True])
def test_50_mb_bodies_are_refused_and_memory_stays_flat(chunked: bool) -> None:
    def send(port: int) -> int:
        with Client(port) as client:
            client.send(CHUNKED_HEAD if chunked else sized_head(50 * MIB))
            for piece in pieces_of_50_mb(chunked):
                client.send(piece)
            return client.reply().status

    with serving() as server:
        assert ask(server.port, post(ROW)).status == 200
        with PeakMemory() as memory, ThreadPoolExecutor(6) as pool:
            assert list(pool.map(send, [server.port] * 6)) == [413] * 6
        assert (
            memory.peak_kib < SLACK_KIB + 6 * LIMITS.max_body_bytes * (2 if chunked else 0) // 1024
        )
        assert ask(server.port, post(ROW)).status == 200
        assert len(server.intake.rows) == 2
        wait_until_empty(server)


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_bombs_are_refused_before_they_unfold(coding: str) -> None:
    zeros = bytes(64 * MIB)
    bomb = gzip.compress(zeros) if coding == "gzip" else zstandard.compress(zeros)
    del zeros
    assert len(bomb) < 100_000
    with serving() as server:
        assert ask(server.port, post(ROW)).status == 200
        with PeakMemory() as memory:
            for _ in range(5):
                reply = ask(server.port, post(bomb, f"Content-Encoding: {coding}"))
                assert reply.status == 413
        # zstd unfolds in steps of at most 8 MiB.
        assert memory.peak_kib < SLACK_KIB + (3 * 8 * 1024 if coding == "zstd" else 0)


@pytest.mark.parametrize("seed", range(4))
def test_garbage_harms_nobody(seed: int) -> None:
    chance = random.Random(seed)
    with serving() as server:
        for _ in range(60):
            with Client(server.port) as client:
                client.send(chance.randbytes(chance.randrange(1, 2_000)))
                client.sock.shutdown(socket.SHUT_WR)
                answer = client.rest()
                assert answer == b"" or answer.startswith(b"HTTP/1.1 4")
        assert ask(server.port, post(ROW)).json() == {"accepted": 1}
        assert len(server.intake.rows) == 1


@pytest.mark.parametrize("seed", range(4))
def test_mutated_requests_are_answered_or_cut(seed: int, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever is accepted was complete; nothing fails in a way we did not foresee."""
    chance = random.Random(seed)
    originals = [
        post(ROW, "Content-Type: application/json", "Idempotency-Key: k"),
        post(gzip.compress(ROW), "Content-Encoding: gzip"),
        CHUNKED_HEAD + b"%x\r\n%b\r\n0\r\n\r\n" % (len(ROW), ROW),
        get("/health") + post(ROW),
    ]
    accepted = 0
    with serving() as server:
        for number in range(80):
            request = bytearray(originals[number % len(originals)])
            for _ in range(chance.randrange(1, 4)):
                at = chance.randrange(len(request))
                end = at + chance.randrange(0, 5)
                request[at:end] = chance.choice(
                    [b"", b"\r\n", b"\n", b"\0", b"0", b"9", b":", b"{", b'"', b"\xff", b" "]
                )
            with Client(server.port) as client:
                client.send(bytes(request))
                client.sock.shutdown(socket.SHUT_WR)
                accepted += client.rest().count(b'{"accepted":1}')
        assert ask(server.port, post(ROW)).status == 200
        assert len(server.intake.rows) <= accepted + 1
    assert "Traceback" not in caplog.text


def test_concurrent_clients_lose_nothing() -> None:
    def client_of(number: int) -> int:
        accepted = 0
        with Client(server.port) as client:
            for n in range(100):
                row = b'{"topic":"orders","key":"c%d-%d","payload":%d}' % (number, n, n)
                client.send(post(b"[" + row + b"]"))
                accepted += client.reply().json()["accepted"]
        return accepted

    with serving() as server, ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(client_of, range(16))) == 1_600
        keys = {row.key for row in server.intake.rows}
    assert len(keys) == 1_600


def test_under_overload_exactly_the_acknowledged_rows_are_taken() -> None:
    turns = itertools.count()

    async def sometimes() -> None:
        await asyncio.sleep(0)
        if next(turns) % 3:
            raise OverloadedError("full", retry_after_s=1)

    def client_of(number: int) -> set[bytes]:
        taken = set()
        with Client(server.port) as client:
            for n in range(60):
                key = b"c%d-%d" % (number, n)
                client.send(post(b'{"topic":"orders","key":"%b","payload":1}' % key))
                reply = client.reply()
                assert reply.status in (200, 503)
                if reply.status == 200:
                    taken.add(key)
        return taken

    with serving(intake=FakeIntake(outcome=sometimes)) as server, ThreadPoolExecutor(8) as pool:
        taken = set().union(*pool.map(client_of, range(8)))
        assert {row.key for row in server.intake.rows} == taken
    assert 0 < len(taken) < 480


def reset(client: Client) -> None:
    """Close so that the other side sees a reset."""
    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.sock.close()


@pytest.mark.parametrize("leave", [reset, lambda client: client.sock.close()])
def test_clients_that_leave_at_any_moment(
    leave: Callable[[Client], None], caplog: pytest.LogCaptureFixture
) -> None:
    request = post(ROW) * 3
    with serving() as server:
        for cut in range(0, len(request), 7):
            client = Client(server.port)
            client.send(request[:cut])
            leave(client)
        wait_until_empty(server)
        assert ask(server.port, post(ROW)).status == 200
    assert "Traceback" not in caplog.text


def test_slow_clients_do_not_keep_others_out() -> None:
    limits = dataclasses.replace(LIMITS, header_timeout_ms=300)
    with serving(server=plan(limits=limits)) as server:
        slow = [Client(server.port) for _ in range(LIMITS.max_connections)]
        for number, client in enumerate(slow):
            client.send(post(ROW)[: 10 + number])
        with Client(server.port) as client:
            assert client.reply().status == 503
        end = time.monotonic() + 5
        while ask(server.port, post(ROW)).status != 200:
            assert time.monotonic() < end
            time.sleep(0.02)
        for client in slow:
            assert client.rest().startswith(b"HTTP/1.1 408")
            client.sock.close()
        assert len(server.intake.rows) == 1


def test_many_rows_in_many_shapes_stay_within_memory() -> None:
    """The same full-size body again and again: nothing of one request outlives it."""
    row = b'{"topic":"orders","key":"o%06d","payload":"{\\"amount\\": %d}"}'
    body = b"[" + b",".join(row % (n, n) for n in range(9_000)) + b"]"
    with serving() as server:

        def run(times: int) -> int:
            for _ in range(times):
                assert ask(server.port, post(body)).json() == {"accepted": 9_000}
                server.intake.rows.clear()
            return resident_kib()

        run(5)
        before = run(3)
        assert run(15) - before < SLACK_KIB
