"""What the api source's tests share: a scripted HTTP server, and an intake and state in memory."""

import asyncio
import gzip
import json
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from litejoin.clock import ManualClock
from litejoin.errors import LiteJoinError
from litejoin.plan.nodes import ApiSourcePlan, Secret
from litejoin.records import Row, RowKind, unpack_rows
from litejoin.sources.api import ApiSource

Answer = Callable[[socket.socket], bool]
"""Writes one response; True when the connection stays open."""

TOPIC, STATE = 3, 8


def answer(
    body: bytes = b"", status: str = "200 OK", headers: Sequence[str] = (), cut: int = 0
) -> Answer:
    """A response with its length; `cut` leaves out that many bytes at its end."""
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    text = "\r\n".join(head).encode() + body

    def write(conn: socket.socket) -> bool:
        conn.sendall(text[: len(text) - cut])
        return cut == 0

    return write


def records(*values: Any, path: str = "") -> Answer:
    body: Any = list(values)
    return answer(json.dumps({path: body} if path else body).encode())


def raw(text: bytes) -> Answer:
    """Bytes as they are, then the connection closes."""

    def write(conn: socket.socket) -> bool:
        conn.sendall(text)
        return False

    return write


def zipped(body: bytes, cut: int = 0) -> Answer:
    packed = gzip.compress(body)
    return answer(packed[: len(packed) - cut], headers=["Content-Encoding: gzip"])


def until_closed(first: bytes, again: bytes, released: threading.Event) -> Answer:
    """`first`, then `again` for ever: a piece every 10 ms, until the client or the test ends."""

    def write(conn: socket.socket) -> bool:
        conn.sendall(first)
        while not released.wait(0.01):
            conn.sendall(again)
        return False

    return write


class Upstream(socketserver.ThreadingTCPServer):
    """Answers each request with the next answer of the script; the last one repeats."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.script: list[Answer] = [records()]
        self.requests: list[bytes] = []
        self.connections = 0
        self.asked = threading.Event()
        self.released = threading.Event()

    async def next_request(self) -> None:
        """Wait until a request has come."""
        assert await asyncio.to_thread(self.asked.wait, 10)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/records?token=s3cret"

    def handle_error(self, request: object, client_address: object) -> None:
        """The client went away: what the faults provoke."""


class _Connection(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        server = self.server
        assert isinstance(server, Upstream)
        server.connections += 1
        while head := self.head():
            server.requests.append(head)
            server.asked.set()
            write = server.script.pop(0) if len(server.script) > 1 else server.script[0]
            if not write(self.request):
                return

    def head(self) -> bytes:
        """One request with its body."""
        text = b""
        while b"\r\n\r\n" not in text:
            part = self.request.recv(65536)
            if not part:
                return b""
            text += part
            if text[:1] == b"\x16":  # the hello of TLS
                return text
        head, _, body = text.partition(b"\r\n\r\n")
        length = 0
        for line in head.split(b"\r\n"):
            name, _, value = line.partition(b":")
            length = int(value) if name.lower() == b"content-length" else length
        while len(body) < length:
            body += self.request.recv(65536)
        return head + b"\r\n\r\n" + body


@contextmanager
def serving() -> Iterator[Upstream]:
    server = Upstream()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.released.set()
        server.shutdown()
        server.server_close()
        thread.join()


class Store:
    """Intake and SourceState over two dicts, as the shards would keep them."""

    number = STATE

    def __init__(self) -> None:
        self.topic: dict[bytes, Row] = {}
        self.state: dict[bytes, Row] = {}
        self.log: list[Row] = []
        """Topic rows in the order they became durable."""
        self.batches: list[list[Row]] = []
        self.started = False
        self.failures: list[tuple[LiteJoinError | BaseException | None, int]] = []
        """For the next submits: what to raise (None: nothing), and how many rows were durable."""
        self.waits = 0
        self.other_topics: dict[str, list[bytes]] = {}

    def topic_number(self, name: str) -> int:
        assert name == "orders"
        return TOPIC

    async def submit(self, batch: bytes, rows: int, *, piecewise: bool = False) -> None:
        unpacked = list(unpack_rows(batch))
        assert len(unpacked) == rows
        error, durable = self.failures.pop(0) if self.failures else (None, rows)
        await asyncio.sleep(0)
        self.batches.append(unpacked)
        for row in unpacked[: rows if error is None else durable]:
            self._write(row)
        if error is not None:
            raise error

    def _write(self, row: Row) -> None:
        assert row.table == (TOPIC if row.kind <= RowKind.DELETE else STATE)
        table = self.topic if row.table == TOPIC else self.state
        if row.table == TOPIC:
            self.log.append(row)
        if row.kind in (RowKind.UPSERT, RowKind.STATE_UPSERT):
            table[row.key] = row
        else:
            table.pop(row.key, None)

    async def room(self) -> None:
        self.waits += 1
        await asyncio.sleep(0)

    async def hashes(self) -> Sequence[tuple[bytes, bytes]]:
        return [(key, row.extra) for key, row in self.state.items()]

    async def payloads(self, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        return [self.state[key].payload if key in self.state else None for key in keys]

    async def parents(self, topic: str) -> Sequence[bytes]:
        return self.other_topics.get(topic, [])

    def is_new(self) -> bool:
        return not self.started

    async def mark_started(self) -> None:
        self.started = True

    def values(self) -> dict[str, Any]:
        """The topic as parsed JSON by key."""
        return {key.decode(): json.loads(row.payload) for key, row in self.topic.items()}


PLAN = ApiSourcePlan(
    name="orders-api",
    topic="orders",
    url="",
    method="GET",
    interval_ms=1000,
    key_path=("id",),
    response_path="",
    change_detection="diff",
    detect_deletes=True,
    timeout_ms=5000,
    initial_snapshot=True,
    headers={"X-Token": Secret("h1dden")},
    body=None,
    max_consecutive_failures=3,
    ignore_fields=(),
    max_response_bytes=1_000_000,
)


class World:
    """One source over a scripted upstream; `restart` makes a new source over what is durable."""

    def __init__(self, upstream: Upstream, **changes: Any) -> None:
        self.upstream = upstream
        self.plan = replace(PLAN, **{"url": upstream.url, **changes})
        self.store = Store()
        self.clock = ManualClock()
        self.executor = ThreadPoolExecutor(2)
        self.source = self.restart()

    def restart(self) -> ApiSource:
        self.source = ApiSource(self.plan, self.store, self.store, self.clock, self.executor)
        return self.source

    async def poll(self, *values: Any) -> list[tuple[str, str]]:
        """One poll of these records; the topic's changes as (kind, key)."""
        if values:
            self.upstream.script = [records(*values)]
        before = len(self.store.log)
        await self.source.poll()
        return [(row.kind.name, row.key.decode()) for row in self.store.log[before:]]


@contextmanager
def world(**changes: Any) -> Iterator[World]:
    with serving() as upstream:
        made = World(upstream, **changes)
        try:
            yield made
        finally:
            upstream.released.set()
            made.source.close()
            made.executor.shutdown()
