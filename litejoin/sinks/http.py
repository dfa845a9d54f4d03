"""Sends each result to a URL as a JSON body (webhooks).

`max_in_flight` threads, each with one kept-alive connection (urllib3). Redirects are not followed
and at most RESPONSE_BYTES of an answer are read. Every request carries the result's id as
`webhook-id` and
`Idempotency-Key`: the receiver can tell a repetition from a new result.

    answer                                         outcome
    2xx                                            delivered
    408, 425, 429, 5xx, timeout, no connection     retry (Retry-After is honoured)
    3xx, any other 4xx (410 too)                   reject
"""

import asyncio
import contextlib
import socket
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    LocationParseError,
    NewConnectionError,
    ProtocolError,
    ReadTimeoutError,
)
from urllib3.util import Url, make_headers, parse_url

from litejoin import __version__
from litejoin.clock import Clock, SystemClock
from litejoin.errors import SinkError
from litejoin.plan.nodes import HttpSinkPlan
from litejoin.records import Result
from litejoin.sinks.base import DELIVERED, Outcome
from litejoin.sinks.workers import Workers

RESPONSE_BYTES = 64 * 1024
"""Read of an answer; the rest is not worth keeping a connection for."""

ERROR_CHARS = 200
"""Of the answer's body in an error text."""

GRACE_MS = 1_000
"""An answer that drips in is cut this long after the timeout."""

RETRIED_STATUS = frozenset((408, 425, 429))

SHORTEST_SECRET = 6
"""Header values shorter than this are not blanked in error texts: they would blank ordinary words.
"""


class HttpSink:
    """A webhook receiver."""

    def __init__(self, plan: HttpSinkPlan, clock: Clock | None = None) -> None:
        self.name = plan.name
        self.max_in_flight = plan.max_in_flight
        self._plan = plan
        self._clock = clock or SystemClock()
        self._posters: list[_Poster] = []
        self._workers: Workers[_Poster, Result, Outcome] | None = None

    async def open(self) -> None:
        """Raises SinkError for a URL or header that can never be sent."""
        url = _checked_url(self._plan)
        _check_headers(self._plan)
        self._workers = Workers(
            f"lj-sink-{self.name}",
            self.max_in_flight,
            lambda: self._add_poster(url),
            lambda poster, result: poster.post(result),
        )

    def _add_poster(self, url: Url) -> "_Poster":
        poster = _Poster(self._plan, url, self._clock)
        self._posters.append(poster)
        return poster

    async def deliver(self, result: Result) -> Outcome:
        """POST one result."""
        assert self._workers is not None
        # The timeout bounds each read, so an answer that drips byte by byte could last for ever.
        cut_s = (self._plan.timeout_ms + GRACE_MS) / 1000
        watch = asyncio.get_running_loop().call_later(cut_s, self._cut_overdue)
        try:
            return await self._workers.submit(result)
        finally:
            watch.cancel()

    def _cut_overdue(self) -> None:
        now_ms = self._clock.monotonic_ms()
        for poster in self._posters:
            if 0 < poster.overdue_ms <= now_ms:
                poster.abort()

    async def close(self) -> None:
        """Cut what is in flight and let the threads go."""
        if self._workers is not None:
            self._workers.stop()
        for poster in self._posters:
            poster.abort()


class _Poster:
    """One thread's connection."""

    def __init__(self, plan: HttpSinkPlan, url: Url, clock: Clock) -> None:
        self._plan = plan
        self._clock = clock
        self._url = url
        self._target = url.request_uri
        self._headers = {
            "User-Agent": f"litejoin/{__version__}",
            "Content-Type": "application/json",
            **({"Authorization": _basic(url.auth)} if url.auth else {}),
            **plan.headers,
        }
        self._socket: socket.socket | None = None
        self.overdue_ms = 0
        """Monotonic time after which the request in flight is cut; 0: none is."""
        timeout_s = plan.timeout_ms / 1000
        self._pool = _pool(url, urllib3.Timeout(connect=timeout_s, read=timeout_s), self)

    def post(self, result: Result) -> Outcome:
        """Send and judge. Blocking, at most a little longer than the timeout; never raises."""
        body = result.body()
        headers = self._headers | {"webhook-id": result.id, "Idempotency-Key": result.id}
        connections = self._pool.num_connections
        self.overdue_ms = self._clock.monotonic_ms() + self._plan.timeout_ms
        try:
            try:
                return self._attempt(body, headers)
            except ProtocolError:
                if self._pool.num_connections != connections:
                    raise
                # The receiver closed a kept-alive connection just as it was used again. The request
                # names its id, so sending it once more on a fresh connection is safe.
                return self._attempt(body, headers)
        except Exception as error:  # the contract: a fault of the receiver is an outcome
            return Outcome("retry", self._describe(error))
        finally:
            self.overdue_ms = 0

    def connected(self, connection_socket: socket.socket | None) -> None:
        """The pool has opened a connection."""
        self._socket = connection_socket

    def abort(self) -> None:
        """Cut the connection from another thread: a blocked read ends at once."""
        if self._socket is not None:
            with contextlib.suppress(OSError, ValueError):
                # Not SSLSocket.shutdown: that would take the TLS state away under the reading
                # thread.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def _attempt(self, body: bytes, headers: Mapping[str, str]) -> Outcome:
        response = self._pool.urlopen(
            self._plan.method, self._target, body=body, headers=headers, retries=False,
            redirect=False, preload_content=False, assert_same_host=False,
        )  # fmt: skip
        answer = _drain(response)
        return self._judge(response.status, response.headers, answer)

    def _judge(self, status: int, headers: Mapping[str, str], answer: bytes) -> Outcome:
        if 200 <= status < 300:
            return DELIVERED
        if 300 <= status < 400:
            return Outcome(
                "reject", f"HTTP {status}: redirects are not followed; use the final URL"
            )
        error = f"HTTP {status}: {self._excerpt(answer)}".rstrip(": ")
        if status in RETRIED_STATUS or status >= 500:
            return Outcome("retry", error, self._retry_after_s(headers.get("Retry-After")))
        return Outcome("reject", error)

    def _excerpt(self, answer: bytes) -> str:
        text = answer[: ERROR_CHARS * 4].decode("utf-8", "replace")
        for value in self._plan.headers.values():
            if len(value) >= SHORTEST_SECRET:
                text = text.replace(str(value), "***")
        return " ".join(text[:ERROR_CHARS].split())

    def _retry_after_s(self, value: str | None) -> float | None:
        if value is None:
            return None
        if value.strip().isdecimal():
            return float(value)
        try:
            moment = parsedate_to_datetime(value)
            return max(0.0, moment.timestamp() - self._clock.now_ms() / 1000)
        except (ValueError, OverflowError):
            return None

    def _describe(self, error: Exception) -> str:
        # Never urllib3's own text: it repeats the URL, which may carry a token.
        place = f"{self._url.host}:{self._pool.port}"
        cause = error.__cause__ or error
        if isinstance(error, ReadTimeoutError):
            return f"{place} gave no answer within {self._plan.timeout_ms / 1000:g} s"
        if isinstance(error, NewConnectionError):  # a subclass of the next, so asked first
            return f"no connection to {place}: {getattr(cause, 'strerror', None) or 'refused'}"
        if isinstance(error, ConnectTimeoutError):
            return f"no connection to {place} within {self._plan.timeout_ms / 1000:g} s"
        if isinstance(error, ProtocolError):
            return f"{place} closed the connection without an answer"
        if isinstance(error, HTTPError):
            return f"{place}: {type(error).__name__}: {cause}".replace(self._target, "...")
        return f"{place}: {type(error).__name__}"


def _basic(user_and_password: str) -> str:
    return make_headers(basic_auth=user_and_password)["authorization"]


def _drain(response: urllib3.BaseHTTPResponse) -> bytes:
    """Up to RESPONSE_BYTES of the body. The status counts, whatever becomes of the rest."""
    answer = b""
    try:
        answer = response.read(RESPONSE_BYTES + 1, decode_content=False)
    except (HTTPError, OSError):
        response.close()
        return answer
    if len(answer) > RESPONSE_BYTES:
        response.close()
    else:
        response.release_conn()
    return answer[:RESPONSE_BYTES]


def _pool(url: Url, timeout: urllib3.Timeout, poster: _Poster) -> urllib3.HTTPConnectionPool:
    pool_class = (
        urllib3.HTTPSConnectionPool if url.scheme == "https" else urllib3.HTTPConnectionPool
    )
    pool = pool_class(url.host or "", url.port, timeout=timeout, maxsize=1)
    base: Any = HTTPSConnection if url.scheme == "https" else HTTPConnection

    class Tracked(base):  # type: ignore[misc]
        """Tells its poster which socket to cut."""

        def connect(self) -> None:
            super().connect()
            poster.connected(self.sock)

    pool.ConnectionCls = Tracked
    return pool


def _checked_url(plan: HttpSinkPlan) -> Url:
    try:
        url = parse_url(plan.url)
    except LocationParseError:
        url = Url()
    if url.scheme not in ("http", "https") or not url.host:
        raise SinkError(
            f"sink {plan.name}: the url is not an http(s) URL with a host",
            hint="write it as https://host/path",
        )
    return url


def _check_headers(plan: HttpSinkPlan) -> None:
    for name, value in plan.headers.items():
        if not name.isascii() or any(c in "\r\n\0" or ord(c) > 255 for c in name + value):
            raise SinkError(f"sink {plan.name}: header {name!r} cannot be sent: control characters")
