"""A loopback HTTP server that behaves as badly as a test asks it to.

`ScriptedServer` answers each request by the next scripted `Reply`, else by its default. On it stand
`WebhookReceiver` (records what a sink delivers) and `Upstream` (an API that a source polls).
Handlers run on one thread per connection; everything recorded is guarded by one condition.
"""

import json
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from tests.harness.ports import free_port
from tests.harness.waiting import SLOW


@dataclass(frozen=True)
class Request:
    """One request as it arrived. `at` is monotonic seconds; header names are lower case."""

    number: int
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    at: float

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Reply:
    """What to do with a request.

    `cut_after`: announce the whole body, send that many bytes, hang up. `reset`: hang up with RST
    and no answer. `hang`: never answer (until the server is closed). `delay_s`: wait before
    answering.
    """

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    cut_after: int | None = None
    reset: bool = False
    hang: bool = False


def json_reply(value: Any, status: int = 200) -> Reply:
    return Reply(
        status, json.dumps(value, ensure_ascii=False).encode(), {"Content-Type": "application/json"}
    )


class ScriptedServer:
    """Keeps one loopback port for life; `down` and `up` close and reopen the listener."""

    def __init__(self, default: Callable[[Request], Reply] | None = None) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.default: Callable[[Request], Reply] = default or (lambda _request: Reply())
        self.requests: list[Request] = []
        self._script: deque[Reply] = deque()
        self._changed = threading.Condition()
        self._release = threading.Event()
        self._open: set[socket.socket] = set()
        self._server: ThreadingHTTPServer | None = None
        self._thread: threading.Thread | None = None
        self.up()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # -- control -----------------------------------------------------------------------------------

    def up(self) -> None:
        """Listen (again) on the same port."""
        if self._server is not None:
            return
        self._release.clear()
        self._server = _Server(self)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), daemon=True
        )
        self._thread.start()

    def down(self) -> None:
        """Stop listening and cut every open connection: the next connect is refused."""
        if self._server is None or self._thread is None:
            return
        self._release.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)
        self._server = None
        with self._changed:
            connections = list(self._open)
        for conn in connections:
            _shutdown(conn)

    def close(self) -> None:
        self.down()

    def then(self, *replies: Reply) -> None:
        """Queue replies for the next requests; after them the default answers again."""
        with self._changed:
            self._script.extend(replies)

    def always(self, reply: Reply) -> None:
        """From now on the default is this reply."""
        self.default = lambda _request: reply

    # -- looking -----------------------------------------------------------------------------------

    def seen(self) -> list[Request]:
        """The requests so far, in order of arrival (of their last byte)."""
        with self._changed:
            return list(self.requests)

    def wait_requests(self, count: int, timeout_s: float = 10.0) -> list[Request]:
        """The requests so far, once there are at least `count`."""
        deadline = time.monotonic() + timeout_s * SLOW
        with self._changed:
            while len(self.requests) < count:
                left = deadline - time.monotonic()
                assert left > 0, f"{len(self.requests)} of {count} requests in {timeout_s} s"
                self._changed.wait(left)
            return list(self.requests)

    def wait_hung_up(self, timeout_s: float = 10.0) -> None:
        """Until all that a client which is gone has sent was read to its end."""
        deadline = time.monotonic() + timeout_s * SLOW
        quiet = 0
        while quiet < 3:  # a connection that waits to be accepted is in no list
            assert time.monotonic() < deadline, f"a connection is open after {timeout_s} s"
            with self._changed:
                quiet = 0 if self._open else quiet + 1
            time.sleep(0.03)

    # -- called by the handler threads -------------------------------------------------------------

    def _take(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[Request, Reply]:
        with self._changed:
            request = Request(len(self.requests), method, path, headers, body, time.monotonic())
            self.requests.append(request)
            reply = self._script.popleft() if self._script else None
            self._changed.notify_all()
        return request, reply if reply is not None else self.default(request)

    def _answering(self, request: Request, reply: Reply) -> None:
        """Hook: the reply is about to be written."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = 256

    def __init__(self, owner: ScriptedServer) -> None:
        self.owner = owner
        super().__init__(("127.0.0.1", owner.port), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Quiet: clients that hang up are part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self.server.owner._changed:
            self.server.owner._open.add(self.connection)

    def finish(self) -> None:
        with self.server.owner._changed:
            self.server.owner._open.discard(self.connection)
        super().finish()

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""

    def _handle(self) -> None:
        owner = self.server.owner
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self._body(headers)
        if body is None:
            self.close_connection = True  # the sender died in the middle: nothing was asked
            return
        request, reply = owner._take(self.command, self.path, headers, body)
        if reply.delay_s:
            owner._release.wait(reply.delay_s)
        if reply.hang:
            owner._release.wait()
            self.close_connection = True
        elif reply.reset:
            self._reset()
        else:
            # Before the answer: the next delivery of a key may arrive as soon as it is written.
            owner._answering(request, reply)
            self._answer(reply)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _handle

    def _body(self, headers: Mapping[str, str]) -> bytes | None:
        if headers.get("transfer-encoding", "").lower() != "chunked":
            size = int(headers.get("content-length", 0))
            body = self.rfile.read(size)
            return body if len(body) == size else None
        whole = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            whole += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return whole

    def _answer(self, reply: Reply) -> None:
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        if reply.status not in (204, 304):
            self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        self.wfile.write(reply.body if reply.cut_after is None else reply.body[: reply.cut_after])
        if reply.cut_after is not None:
            self.wfile.flush()
            _shutdown(self.connection)
            self.close_connection = True

    def _reset(self) -> None:
        # Linger 0 makes close() send RST. The file objects hold the socket open, so they go first.
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.rfile.close()
        self.connection.close()


def _shutdown(conn: socket.socket) -> None:
    try:
        conn.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass


class WebhookReceiver(ScriptedServer):
    """Records deliveries. `delivered` are those it answered with 2xx, in order of arrival."""

    def __init__(self) -> None:
        self._accepted: list[Request] = []
        super().__init__()

    def _answering(self, request: Request, reply: Reply) -> None:
        if 200 <= reply.status < 300:
            with self._changed:
                self._accepted.append(request)
                self._changed.notify_all()

    def delivered(self, path: str | None = None) -> list[Request]:
        """Deliveries answered with 2xx, in order of the answer."""
        with self._changed:
            return [r for r in self._accepted if path is None or r.path == path]


class Upstream(ScriptedServer):
    """An API whose `records` are served as JSON, under `field` if that is set; scripted faults come
    first.

    `headers_required` makes it answer 401 unless every named header has the given value.
    """

    def __init__(self, records: list[Any] | None = None, field: str = "") -> None:
        self.records: list[Any] = records or []
        self.field = field
        self.headers_required: dict[str, str] = {}
        super().__init__(self._serve)

    def _serve(self, request: Request) -> Reply:
        for name, value in self.headers_required.items():
            if request.headers.get(name.lower()) != value:
                return json_reply({"error": "unauthorized"}, 401)
        with self._changed:
            records = list(self.records)
        return json_reply({self.field: records} if self.field else records)

    def serve(self, records: list[Any]) -> None:
        """Serve these records from the next request on."""
        with self._changed:
            self.records = list(records)

    def wait_polls(self, more: int, timeout_s: float = 10.0) -> None:
        """Wait until `more` further requests have come in, counted from now."""
        self.wait_requests(len(self.seen()) + more, timeout_s)
