"""One client connection: bytes to requests, answers to bytes, and every limit on a client.

An asyncio protocol on httptools' parser, which refuses ambiguous framing (both lengths, doubled
lengths, bare LF). Owned here: sizes of head and body, timeouts, keep-alive, pipelining, refusals
before the application runs. `Listeners` makes one per accepted socket and calls `check_deadlines`
about every second.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import unquote

import httptools

from litejoin.errors import LiteJoinError, OverloadedError, RequestError
from litejoin.runtime.http_answers import App, Scope
from litejoin.runtime.http_budget import BodyBudget
from litejoin.runtime.http_head import (
    HEAD_BYTES,
    HEADER_COUNT,
    REQUEST_LINE_BYTES,
    body_beside_upgrade,
    head_too_large,
    headless_scope,
    refuse_repeated,
    split_target,
    trailer_too_large,
)
from litejoin.runtime.http_request import Request

PIPELINED_REQUESTS = 64
"""Requests of one client that may wait for their turn; those behind them are not answered."""

MIN_BODY_BYTES_PER_S = 1024
"""A body must arrive at this rate, averaged over the header timeout: slower is an attack."""

LINGER_S = 5.0
"""How long a refused client may go on sending before it is cut. Closing at once would make its
kernel throw the answer away together with the connection."""


@dataclass(slots=True)
class ConnectionRules:
    """What the connections of one listener share."""

    app: App
    max_body_bytes: int
    max_connections: int
    header_timeout_s: float
    idle_timeout_s: float
    bodies: BodyBudget
    """Shared by all listeners of the process."""
    scheme: str = "http"
    date_line: bytes = b""
    """The `date` header of this second; renewed by the listener."""
    draining: bool = False
    """The listener stops: every answer closes its connection."""
    connections: "set[Connection]" = field(default_factory=set)
    handshakes: "dict[asyncio.Task[bool], None]" = field(default_factory=dict)
    """Of TLS, those under way, the oldest first: they become connections when they are done."""
    on_empty: Callable[[], None] = lambda: None
    """Called when the last connection is gone."""


class Connection(asyncio.Protocol):
    """The protocol of one accepted socket."""

    __slots__ = (
        "_body_deadline",
        "_client",
        "_deadline",
        "_expects_continue",
        "_head_bytes",
        "_head_counted",
        "_headers",
        "_in_head",
        "_lingering",
        "_loop",
        "_paused",
        "_parser",
        "_reading",
        "_refused",
        "_request",
        "_rules",
        "_server",
        "_transport",
        "_url",
        "_waiting",
        "_writable",
        "_write_deadline",
    )

    def __init__(self, rules: ConnectionRules, loop: asyncio.AbstractEventLoop) -> None:
        self._rules = rules
        self._loop = loop
        self._parser: Any = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._client: tuple[str, int] | None = None
        self._server: tuple[str, int] | None = None
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._expects_continue = False
        self._in_head = False
        """Between the first byte of a request and the end of its headers."""
        self._head_bytes = 0
        """Of the current head; in a body: bytes since the last one that was content."""
        self._head_counted = True
        self._reading: Request | None = None
        """The request whose body is being received."""
        self._request: Request | None = None
        """The request that is being answered."""
        self._waiting: deque[Request] = deque()
        self._refused = False
        """Nothing more is parsed on this connection."""
        self._lingering = False
        self._paused = False
        self._writable: asyncio.Future[None] | None = None
        self._deadline = 0.0
        self._body_deadline = 0.0
        self._write_deadline = 0.0

    # asyncio: the connection and its bytes.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client connected."""
        self._transport = cast(asyncio.Transport, transport)
        self._client = address_pair(transport.get_extra_info("peername"))
        self._server = address_pair(transport.get_extra_info("sockname"))
        self._deadline = self._loop.time() + self._rules.idle_timeout_s
        self._rules.connections.add(self)
        if len(self._rules.connections) > self._rules.max_connections:
            self._refuse_connection()

    def _refuse_connection(self) -> None:
        """Without lingering: a flood of refused connections must not stay."""
        self._refused = True
        request = self._make_request(headless_scope(), keep_alive=False)
        request.body_complete = True
        request.fail(OverloadedError(f"more than {self._rules.max_connections} connections"))
        self._start(request)

    def data_received(self, data: bytes) -> None:
        """More bytes of the client; all parser callbacks run in here."""
        if self._refused:
            return
        if self._reading is None and not self._in_head:
            self._begin_head(counted=True)
        self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._refused = True  # we speak no other protocol; the request itself is answered
        except httptools.HttpParserError as error:
            self._refuse(RequestError(f"malformed HTTP: {error}", status=400))
        if self._head_bytes > HEAD_BYTES + REQUEST_LINE_BYTES and not self._refused:
            self._refuse(head_too_large() if self._in_head else trailer_too_large())

    def _begin_head(self, *, counted: bool) -> None:
        self._in_head = True
        self._head_counted = counted
        self._head_bytes = 0
        self._deadline = self._loop.time() + self._rules.header_timeout_s

    def eof_received(self) -> bool:
        """The client sends no more. A complete request is still answered, a stream ends."""
        request = self._request
        if request is None or not request.body_complete or request.started:
            return False
        if self._rules.scheme == "https":
            return False  # TLS has no half-closed connections
        self._refused = True
        request.keep_alive = False
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is over."""
        self._rules.connections.discard(self)
        for request in (self._request, *self._waiting):
            if request is not None:
                request.lose()
        self._waiting.clear()
        self._release_writer()
        self._transport = None
        self._parser = None  # it holds our callbacks: a cycle that would wait for the collector
        if not self._rules.connections:
            self._rules.on_empty()

    def pause_writing(self) -> None:
        """The client reads more slowly than we write."""
        self._writable = self._loop.create_future()
        self._write_deadline = self._loop.time() + self._rules.idle_timeout_s

    def resume_writing(self) -> None:
        """The client has caught up."""
        self._release_writer()

    def _release_writer(self) -> None:
        self._write_deadline = 0.0
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._writable = None

    # httptools: the parts of a request.

    def on_message_begin(self) -> None:
        """A request begins, perhaps behind another one in the same packet."""
        if not self._in_head:
            self._begin_head(counted=False)
        self._url = b""
        self._headers = []
        self._expects_continue = False

    def on_url(self, url: bytes) -> None:
        """A part of the request target."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header; those behind a chunked body are dropped."""
        if self._reading is None and len(self._headers) <= HEADER_COUNT:
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """The head is complete: refuse the request or let the application have it."""
        self._in_head = False
        if self._refused:
            return
        try:
            scope, has_body = self._check_head()
        except RequestError as fault:
            self._refuse(fault)
            return
        self._head_bytes = 0
        keep_alive = self._parser.should_keep_alive() and not self._parser.should_upgrade()
        request = self._make_request(scope, keep_alive=keep_alive)
        self._reading = request
        if has_body:
            self._body_deadline = self._loop.time() + self._rules.header_timeout_s
        if self._request is None:
            self._start(request)
        elif len(self._waiting) < PIPELINED_REQUESTS:
            self._pause()
            self._waiting.append(request)
        else:
            self._refused = True
            self._waiting[-1].keep_alive = False

    def _check_head(self) -> tuple[Scope, bool]:
        """The ASGI scope of the head, and whether a body follows. Raises RequestError."""
        if len(self._url) > REQUEST_LINE_BYTES:
            raise RequestError(f"request target over {REQUEST_LINE_BYTES} bytes", status=414)
        headers = self._headers
        if len(headers) > HEADER_COUNT:
            raise head_too_large()
        # One that came behind another request in the same packet has not been counted.
        if self._head_bytes > HEAD_BYTES or not self._head_counted:
            if sum(len(name) + len(value) + 4 for name, value in headers) > HEAD_BYTES:
                raise head_too_large()
        version = self._parser.get_http_version()
        if version not in ("1.1", "1.0"):
            raise RequestError(f"HTTP/{version} is not spoken here", status=505)
        fields = dict(headers)
        if len(fields) != len(headers):
            refuse_repeated(headers)
        has_body = self._check_framing(fields)
        if has_body and self._parser.should_upgrade():
            raise body_beside_upgrade()
        method = self._parser.get_method().decode("ascii")
        raw_path, query = split_target(self._url, method)
        path = raw_path.decode("ascii")
        scope = {
            "type": "http",
            "asgi": ASGI_VERSION,
            "http_version": version,
            "method": method,
            "scheme": self._rules.scheme,
            "path": unquote(path) if "%" in path else path,
            "raw_path": raw_path,
            "query_string": query,
            "root_path": "",
            "headers": headers,
            "client": self._client,
            "server": self._server,
        }
        return scope, has_body

    def _check_framing(self, fields: dict[bytes, bytes]) -> bool:
        """Whether a body follows. The parser has refused what is ambiguous before this runs."""
        length = fields.get(b"content-length")
        if length is not None and int(length) > self._rules.max_body_bytes:
            raise self._body_too_large()
        coding = fields.get(b"transfer-encoding")
        if coding is not None and coding.strip().lower() != b"chunked":
            raise RequestError("only the transfer encoding chunked is known", status=501)
        expected = fields.get(b"expect")
        if expected is not None and expected.lower() != b"100-continue":
            raise RequestError("the only known Expect is 100-continue", status=417)
        self._expects_continue = expected is not None
        return coding is not None or (length is not None and int(length) > 0)

    def on_body(self, data: bytes) -> None:
        """A part of the body."""
        request = self._reading
        if request is None or self._refused:
            return
        self._head_bytes = 0
        now = self._loop.time()
        latest = now + self._rules.header_timeout_s
        earned = len(data) / MIN_BODY_BYTES_PER_S
        self._body_deadline = min(latest, max(self._body_deadline, now) + earned)
        if not request.add_body(data):
            held_mb = self._rules.bodies.max_bytes >> 20
            self._refuse(OverloadedError(f"{held_mb} MiB of bodies are being taken in"))
        elif request.body_bytes > self._rules.max_body_bytes:
            self._refuse(self._body_too_large())

    def on_message_complete(self) -> None:
        """The request is complete."""
        if self._reading is not None and not self._refused:
            self._reading.end_body()
        self._reading = None

    # Answering, one request after another.

    def _make_request(self, scope: Scope, *, keep_alive: bool) -> Request:
        return Request(
            self,
            scope,
            keep_alive=keep_alive and not self._rules.draining,
            expects_continue=self._expects_continue,
            bodies=self._rules.bodies,
        )

    def _start(self, request: Request) -> None:
        self._request = request
        request.task = self._loop.create_task(request.run(self._rules.app))

    def _refuse(self, fault: LiteJoinError, *, silent: bool = False) -> None:
        """Parse no more; answer with the fault when its turn comes, then close.

        `silent`: the client has stopped sending, so that there is nothing to linger for.
        """
        self._refused = True
        self._in_head = False
        reading, self._reading = self._reading, None
        if reading is None:
            reading = self._make_request(headless_scope(), keep_alive=False)
            if self._request is None:
                self._start(reading)
            else:
                self._waiting.append(reading)
        reading.fail(fault)
        reading.body_complete = silent

    def _body_too_large(self) -> RequestError:
        return RequestError(f"body over {self._rules.max_body_bytes} bytes", status=413)

    def answered(self) -> None:
        """The current request's answer is written: go on with the next one, wait or close."""
        request, self._request = self._request, None
        if self._transport is None or request is None:
            return
        if not request.keep_alive or self._rules.draining:
            self._close(unread=not request.body_complete)
        elif self._waiting:
            self._start(self._waiting.popleft())
        else:
            self._resume()
            if not self._in_head and self._reading is None:
                self._deadline = self._loop.time() + self._rules.idle_timeout_s

    def _close(self, *, unread: bool) -> None:
        """Close after the answer; with unread input the client first gets time to read it."""
        transport = self._transport
        self._refused = True
        self._waiting.clear()
        if transport is None:
            return
        if not unread:
            transport.close()
            return
        if transport.can_write_eof():
            transport.write_eof()
        self._resume()
        self._lingering = True
        self._deadline = self._loop.time() + LINGER_S

    # What requests need of the connection.

    def write(self, data: bytes) -> None:
        """Queue bytes for the client."""
        if self._transport is not None:
            self._transport.write(data)

    def abort(self) -> None:
        """Cut the connection."""
        if self._transport is not None:
            self._transport.abort()

    async def writable(self) -> None:
        """Wait while the client is behind."""
        if self._writable is not None:
            await self._writable

    def want_body(self) -> None:
        """Go on reading."""
        self._resume()

    def hold_body(self) -> None:
        """Stop reading."""
        self._pause()

    def date_header(self) -> bytes:
        """The `date` header line of this second."""
        return self._rules.date_line

    def _pause(self) -> None:
        if not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def _resume(self) -> None:
        if self._paused and self._transport is not None:
            # The client's time starts anew: it could not know that nobody read.
            self._deadline = self._loop.time() + self._rules.header_timeout_s
            self._body_deadline = self._deadline
            self._paused = False
            self._transport.resume_reading()

    # Time.

    def check_deadlines(self, now: float) -> None:
        """Cut or refuse a client that took too long. Called about every second."""
        if self._transport is None:
            return
        if self._write_deadline and now > self._write_deadline:
            self.abort()
        elif self._lingering:
            if now > self._deadline:
                self.abort()
        elif self._in_head:
            if not self._paused and now > self._deadline:
                self._refuse(
                    RequestError("the request head took too long", status=408), silent=True
                )
        elif self._reading is not None:
            if not self._paused and now > self._body_deadline:
                self._refuse(
                    RequestError("the request body came too slowly", status=408), silent=True
                )
        elif self._request is None and now > self._deadline:
            self._transport.close()

    # The end of the listener.

    def finish(self) -> None:
        """Close when idle; else after the answer that is being made."""
        if self._request is None and self._transport is not None and not self._lingering:
            self._transport.close()
        elif self._request is not None:
            self._request.keep_alive = False

    def cut(self) -> "asyncio.Task[None] | None":
        """End at once, whatever is going on; the task that was cancelled, if there is one."""
        request = self._request
        self.abort()
        if request is None or request.task is None:
            return None
        request.task.cancel()
        return request.task


ASGI_VERSION = {"version": "3.0", "spec_version": "2.3"}


def address_pair(name: Any) -> tuple[str, int] | None:
    """Host and port of a socket name."""
    return (name[0], name[1]) if isinstance(name, tuple) and len(name) >= 2 else None
