"""One HTTP request and its answer, seen from the application: ASGI's `receive` and `send`.

The connection makes one per request, feeds it the body and runs the application in it. Requests of
one connection run one after another. Never parses and never decides when a connection is over.
"""

import asyncio
import logging
from http import HTTPStatus
from typing import Protocol

from litejoin.errors import LiteJoinError
from litejoin.runtime.http_answers import App, Message, Scope, answer_error, send_answer
from litejoin.runtime.http_budget import BodyBudget

log = logging.getLogger("litejoin.http")

BUFFERED_BODY_BYTES = 64 * 1024
"""Body bytes that wait for the application before the connection stops reading."""

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def status_line(status: int) -> bytes:
    """`HTTP/1.1 200 OK` and the line end."""
    return f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n".encode()


STATUS_LINES = {status.value: status_line(status.value) for status in HTTPStatus}
BODILESS = frozenset({204, 304})


class ClientGoneError(OSError):
    """An answer cannot be sent any more."""


class Wire(Protocol):
    """What a request needs of its connection."""

    def write(self, data: bytes) -> None:
        """Queue bytes for the client."""
        ...

    def abort(self) -> None:
        """Cut the connection: the answer cannot be completed."""
        ...

    async def writable(self) -> None:
        """Wait while more than the high-water mark is queued."""
        ...

    def want_body(self) -> None:
        """Go on reading: the application takes what was buffered."""
        ...

    def hold_body(self) -> None:
        """Stop reading: enough is buffered."""
        ...

    def answered(self) -> None:
        """The answer is complete."""
        ...

    def date_header(self) -> bytes:
        """The `date` header line of this second."""
        ...


class Request:
    """A request being received or answered."""

    __slots__ = (
        "_bodies",
        "_body",
        "_buffered",
        "_chunked",
        "_fault",
        "_head",
        "_held",
        "_news",
        "_taken",
        "body_bytes",
        "body_complete",
        "complete",
        "expects_continue",
        "gone",
        "keep_alive",
        "scope",
        "started",
        "task",
        "wire",
    )

    def __init__(
        self,
        wire: Wire,
        scope: Scope,
        *,
        keep_alive: bool,
        expects_continue: bool,
        bodies: BodyBudget,
    ) -> None:
        self.wire = wire
        self.scope = scope
        self.keep_alive = keep_alive
        self.expects_continue = expects_continue
        self.body_bytes = 0
        self.body_complete = False
        self.started = False
        """The head of the answer is written."""
        self.complete = False
        """The whole answer is written."""
        self.gone = False
        """The client is."""
        self.task: asyncio.Task[None] | None = None
        self._bodies = bodies
        self._held = 0
        """Body bytes taken from the budget: until the answer, since the application has them."""
        self._body: list[bytes] = []
        self._buffered = 0
        self._taken = False
        """The last part of the body was given out; after it only a disconnect comes."""
        self._head: Message | None = None
        self._chunked = False
        self._fault: LiteJoinError | None = None
        self._news: asyncio.Future[None] | None = None

    # What the connection tells the request.

    def add_body(self, data: bytes) -> bool:
        """More of the body; nobody needs it once the answer is on its way.

        False: there is no room for it in the budget, it was dropped.
        """
        if self.started or self._fault is not None:
            return True
        if not self._bodies.take(len(data)):
            return False
        self._held += len(data)
        self.body_bytes += len(data)
        self._body.append(data)
        self._buffered += len(data)
        if self._buffered > BUFFERED_BODY_BYTES:
            self.wire.hold_body()
        self._wake()
        return True

    def end_body(self) -> None:
        """The body is complete."""
        self.body_complete = True
        self._wake()

    def fail(self, fault: LiteJoinError) -> None:
        """The request cannot be read on: the application sees the fault at its next receive."""
        if self._fault is None:
            self._fault = fault
            self._drop_body()
            self.keep_alive = False
        self._wake()

    def lose(self) -> None:
        """The client is gone: nothing is written any more, and `receive` says so."""
        self.gone = True
        self._drop_body()
        self._wake()

    def _drop_body(self) -> None:
        self._body.clear()
        self._bodies.give_back(self._held)
        self._held = 0

    # What the application sees.

    async def run(self, app: App) -> None:
        """Run the application to the end of the answer, whatever it does."""
        try:
            if self._fault is not None:
                raise self._fault
            await app(self.scope, self.receive, self.send)
        except ClientGoneError:
            pass  # nobody is there to be told
        except LiteJoinError as refused:
            await self._give_up(refused)
        except Exception as error:
            log.exception("http: %s %s failed", self.scope["method"], printable(self.scope["path"]))
            await self._give_up(error)
        finally:
            self._drop_body()
            # It refers to us by its traceback, and to the parts of a body in the frames of it: a
            # cycle that would wait for the collector with megabytes.
            self._fault = None
            if not self.complete:
                self.wire.abort()

    async def _give_up(self, error: Exception) -> None:
        if not self.started and not self.gone:
            await send_answer(self.send, answer_error(error))

    async def receive(self) -> Message:
        """The next part of the body, then `http.disconnect`. Raises the fault of a bad body."""
        while True:
            if self._fault is not None and not self.started:
                raise self._fault
            if self.gone or self.complete:
                return {"type": "http.disconnect"}
            if self._body or (self.body_complete and not self._taken):
                return self._take_body()
            if self.expects_continue:
                self.expects_continue = False
                self.wire.write(CONTINUE)
            self.wire.want_body()
            self._news = asyncio.get_running_loop().create_future()
            await self._news

    def _take_body(self) -> Message:
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body.clear()
        self._buffered = 0
        self._taken = self.body_complete
        return {"type": "http.request", "body": body, "more_body": not self.body_complete}

    def _wake(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    async def send(self, message: Message) -> None:
        """ASGI's send. The head waits for the first part of the body: one write, one packet.

        Raises ClientGoneError (an OSError), so that a handler that streams comes to its end.
        """
        if self.gone:
            raise ClientGoneError("the client is gone")
        if self.complete:
            return
        if message["type"] == "http.response.start":
            if self.started:
                raise RuntimeError("a second head for one answer")
            self._head = message
            return
        body: bytes = message.get("body", b"")
        more: bool = message.get("more_body", False)
        parts = [] if self.started else self._start(body, more)
        if self.scope["method"] != "HEAD":
            self._add_part(parts, body, more)
        if parts:
            self.wire.write(parts[0] if len(parts) == 1 else b"".join(parts))
        if not more:
            self.complete = True
            self._wake()
            self.wire.answered()
        else:
            await self.wire.writable()

    def _add_part(self, parts: list[bytes], body: bytes, more: bool) -> None:
        if not self._chunked:
            if body:
                parts.append(body)
            return
        if body:
            parts += (b"%x\r\n" % len(body), body, b"\r\n")
        if not more:
            parts.append(b"0\r\n\r\n")

    def _start(self, body: bytes, more: bool) -> list[bytes]:
        """The lines of the head, in front of the first part of the body."""
        assert self._head is not None, "http.response.body before http.response.start"
        self.started = True
        self._body.clear()
        status: int = self._head["status"]
        lines = [STATUS_LINES[status], self.wire.date_header()]
        sized = status in BODILESS
        for name, value in self._head.get("headers", ()):
            sized = sized or name == b"content-length"
            lines += (name, b": ", value, b"\r\n")
        if not sized and not more:
            lines.append(b"content-length: %d\r\n" % len(body))
        elif not sized and self.scope["http_version"] == "1.1":
            self._chunked = True
            lines.append(b"transfer-encoding: chunked\r\n")
        elif not sized:
            self.keep_alive = False
        if not self.body_complete:
            self.keep_alive = False  # the rest of the body would be read as the next request
        if not self.keep_alive:
            lines.append(b"connection: close\r\n")
        elif self.scope["http_version"] == "1.0":
            lines.append(b"connection: keep-alive\r\n")
        lines.append(b"\r\n")
        return lines


def printable(text: str) -> str:
    """A client's text for the log: one line, no control characters, not endless."""
    return text[:200].encode("unicode_escape").decode()
