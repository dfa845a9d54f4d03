"""Real listeners for tests: an event loop in a thread, a fake intake, raw sockets outside."""

import asyncio
import json
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvloop

from litejoin.clock import ManualClock
from litejoin.errors import BadRowError
from litejoin.plan.nodes import Address, HttpSourcePlan, Secret, ServerLimits, ServerPlan, Token
from litejoin.records import Row, unpack_rows
from litejoin.runtime.server import Bound, Listeners
from litejoin.sources.http import HttpSource

LIMITS = ServerLimits(
    max_body_bytes=1 << 20,
    max_rows=10_000,
    max_depth=64,
    max_key_bytes=512,
    max_row_bytes=1 << 20,
    max_connections=50,
    max_sse_clients=10,
    header_timeout_ms=10_000,
    idle_timeout_ms=60_000,
)
FREE = Address("127.0.0.1", 0)
TOKENS = (
    Token(Secret("ingest-token"), frozenset({"ingest"})),
    Token(Secret("admin-token"), frozenset({"admin"})),
    Token(Secret("reader-token"), frozenset({"subscribe"})),
)


def plan(**changes: Any) -> ServerPlan:
    """A server plan on a free loopback port."""
    values: dict[str, Any] = {
        "addr": FREE,
        "tokens": (),
        "tls_cert_file": None,
        "tls_key_file": None,
        "cors_origins": (),
        "limits": LIMITS,
    }
    return ServerPlan(**values | changes)


@dataclass
class FakeIntake:
    """Takes rows at once, or does what `outcome` says."""

    outcome: Callable[[], Awaitable[None]] | None = None
    allowed: frozenset[str] | None = None
    topics: dict[str, int] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    batches: int = 0

    def topic_number(self, name: str) -> int:
        if self.allowed is not None and name not in self.allowed:
            raise BadRowError(f"topic {name!r} does not exist")
        return self.topics.setdefault(name, len(self.topics) + 1)

    def topic_numbers(self, names: Sequence[str]) -> list[int]:
        for place, name in enumerate(names):
            if self.allowed is not None and name not in self.allowed:
                raise BadRowError(f"topic {name!r} does not exist", row=place)
        return [self.topic_number(name) for name in names]

    async def submit(self, batch: bytes, rows: int, *, piecewise: bool = False) -> None:
        self.batches += 1
        if self.outcome is not None:
            await self.outcome()
        found = list(unpack_rows(batch))
        assert len(found) == rows
        self.rows += found

    async def room(self) -> None:
        raise AssertionError("a push never waits for room")


@dataclass
class Serving:
    """Running listeners."""

    listeners: Listeners
    bounds: list[Bound]
    loop: asyncio.AbstractEventLoop
    intake: FakeIntake
    clock: ManualClock

    @property
    def port(self) -> int:
        return self.bounds[0].actual.port

    def call(self, work: Awaitable[Any]) -> Any:
        """Run something on the listeners' loop and wait for it."""

        async def run() -> Any:
            return await work

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(10)


@contextmanager
def serving(
    *,
    intake: FakeIntake | None = None,
    health: Callable[[], dict[str, object]] = lambda: {"status": "ok"},
    topics: tuple[str, ...] = (),
    add: Callable[[Listeners], None] = lambda _: None,
    server: ServerPlan | None = None,
) -> Iterator[Serving]:
    """Listeners with `POST /ingest` on the server's address, stopped at the end."""
    server = server or plan()
    intake = intake or FakeIntake()
    clock = ManualClock()
    loop = uvloop.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="listeners")
    thread.start()
    listeners = Listeners(server, health, clock)
    source = HttpSource((HttpSourcePlan("in", topics, server.addr),), intake, server.limits, clock)
    listeners.add(server.addr, "POST", "/ingest", source.ingest, "ingest")
    add(listeners)
    started = Serving(listeners, [], loop, intake, clock)
    try:
        started.bounds = started.call(listeners.start())
        yield started
    finally:
        started.call(listeners.stop(2.0))
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


@dataclass(frozen=True)
class Reply:
    """One HTTP answer as it came over the wire."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """A raw connection: sends any bytes, reads answers one by one."""

    def __init__(self, port: int, timeout_s: float = 10.0) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout_s)
        self._buffer = b""

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *exc: object) -> None:
        self.sock.close()

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def read(self) -> bytes:
        """More bytes; b"" at the end or when the server cut the connection."""
        try:
            return self.sock.recv(65_536)
        except ConnectionError:
            return b""

    def until(self, mark: bytes) -> bytes:
        while mark not in self._buffer:
            more = self.read()
            assert more, f"closed before {mark!r}: {self._buffer!r}"
            self._buffer += more
        head, _, self._buffer = self._buffer.partition(mark)
        return head

    def reply(self) -> Reply:
        """The next answer, its body by content-length, by chunks or up to the end."""
        head = self.until(b"\r\n\r\n").decode()
        first, *lines = head.split("\r\n")
        headers = {name.lower(): value for name, _, value in (ln.partition(": ") for ln in lines)}
        status = int(first.split(" ")[1])
        if headers.get("transfer-encoding") == "chunked":
            body = b""
            while size := int(self.until(b"\r\n"), 16):
                body += self.exactly(size)
                self.until(b"\r\n")
            self.until(b"\r\n")
        elif status in (100, 204):
            body = b""
        elif "content-length" in headers:
            body = self.exactly(int(headers["content-length"]))
        else:
            body = self.rest()
        return Reply(status, headers, body)

    def exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            more = self.read()
            assert more, "closed inside a body"
            self._buffer += more
        body, self._buffer = self._buffer[:size], self._buffer[size:]
        return body

    def rest(self) -> bytes:
        """Everything up to the end of the connection."""
        while more := self.read():
            self._buffer += more
        rest, self._buffer = self._buffer, b""
        return rest

    def closed(self) -> bool:
        """Whether nothing comes any more but the end of the connection."""
        return self.rest() == b""


def post(body: bytes, *headers: str, path: str = "/ingest", host: str = "localhost") -> bytes:
    """The bytes of a POST."""
    lines = [f"POST {path} HTTP/1.1", f"Host: {host}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def get(path: str, *headers: str, host: str = "localhost", method: str = "GET") -> bytes:
    """The bytes of a GET."""
    return "\r\n".join([f"{method} {path} HTTP/1.1", f"Host: {host}", *headers, "", ""]).encode()


def ask(port: int, request: bytes) -> Reply:
    """One request on its own connection."""
    with Client(port) as client:
        client.send(request)
        return client.reply()


ROW = b'{"topic":"orders","key":"o1","payload":{"amount":45.0}}'
