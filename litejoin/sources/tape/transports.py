"""Stand-ins for the network of an api source: one that keeps what it hears, one that repeats it.

Both are `Transport`s, called on pool threads. A replayed request is found by its method, its URL
and its body, all redacted as when they were recorded; several answers to one request come in their
order, then again from the first. A request that moves with the time (a watermark, a time slice)
gets the next answer that its path had.
"""

from collections import defaultdict
from collections.abc import Iterable
from threading import Lock

from litejoin.errors import PollError
from litejoin.sources.api.transport import Request, Response, Transport
from litejoin.sources.tape.fixture import Exchange, FixtureWriter
from litejoin.sources.tape.redact import Redactor


class RecordingTransport:
    """Sends through another transport, and keeps every answer that came."""

    def __init__(self, inner: Transport, writer: FixtureWriter, redactor: Redactor) -> None:
        self._inner = inner
        self._writer = writer
        self._redactor = redactor

    def send(self, request: Request) -> Response:
        response = self._inner.send(request)
        redact = self._redactor
        self._writer.add(
            Exchange(
                request.method,
                redact.url(request.url),
                _body(redact, request),
                response.status,
                redact.headers(response.headers),
                redact.body(bytes(response.body)),
            )
        )
        return response

    def expire(self) -> None:
        self._inner.expire()

    def close(self) -> None:
        self._inner.close()


class ReplayTransport:
    """Answers from a recording; nothing leaves the machine."""

    def __init__(self, exchanges: Iterable[Exchange], redactor: Redactor) -> None:
        self._redactor = redactor
        self._lock = Lock()
        self._exact: defaultdict[tuple[str, ...], _Answers] = defaultdict(_Answers)
        self._near: defaultdict[tuple[str, ...], _Answers] = defaultdict(_Answers)
        for exchange in exchanges:
            exact = (exchange.method, exchange.url, exchange.request or "")
            self._exact[exact].add(exchange)
            self._near[_near(exchange.method, exchange.url)].add(exchange)

    def send(self, request: Request) -> Response:
        url = self._redactor.url(request.url)
        exact = (request.method, url, _body(self._redactor, request) or "")
        with self._lock:
            answers = self._exact.get(exact) or self._near.get(_near(request.method, url))
            if answers is None:
                raise PollError(f"the recording has no answer to {request.method} {url[:200]}")
            found = answers.next()
        return Response(found.status, dict(found.headers), bytearray(found.body))

    def expire(self) -> None:
        """Nothing takes long here."""

    def close(self) -> None:
        """Nothing is open."""


class _Answers:
    """The answers to one request, in the order they came; then again from the first."""

    def __init__(self) -> None:
        self._answers: list[Exchange] = []
        self._next = 0

    def add(self, exchange: Exchange) -> None:
        self._answers.append(exchange)

    def next(self) -> Exchange:
        found = self._answers[self._next % len(self._answers)]
        self._next += 1
        return found


def _near(method: str, url: str) -> tuple[str, ...]:
    return method, url.partition("?")[0]


def _body(redactor: Redactor, request: Request) -> str | None:
    if request.body is None:
        return None
    return redactor.body(request.body).decode("utf-8", "replace")
