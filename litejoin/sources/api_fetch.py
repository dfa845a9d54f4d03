"""One HTTP request of an api source: the body of a 2xx answer, or a PollError that says why not.

Called by `litejoin.sources.api` on a pool thread. Owns the connection, the limits (time in total,
bytes after decompression) and the words for what went wrong. Never follows a redirect, never
retries an answer, never logs; knows nothing of records.
"""

import logging
import socket
import zlib
from http import HTTPStatus
from threading import Lock
from typing import Any

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    NameResolutionError,
    NewConnectionError,
    ProtocolError,
    ReadTimeoutError,
    SSLError,
)
from urllib3.response import BaseHTTPResponse

from litejoin import __version__
from litejoin.errors import PollError
from litejoin.plan.nodes import ApiSourcePlan

# urllib3 logs the URLs it asks, and those may hold tokens; what matters of it is in our errors.
logging.getLogger("urllib3").setLevel(logging.CRITICAL)

READ_BYTES = 256 * 1024
"""Most one read takes from the socket: small against a body, large against a syscall."""
REASON_CHARS = 300
"""Longest text from outside that gets into a log line."""
BOM = b"\xef\xbb\xbf"


class Fetcher:
    """Fetches the pages of one source over one kept connection, one request at a time.

    `fetch` blocks and belongs on a pool thread; `abort` may come from any thread.
    """

    def __init__(self, plan: ApiSourcePlan) -> None:
        self._plan = plan
        self._timeout_s = plan.timeout_ms / 1000
        url = urllib3.util.parse_url(plan.url)
        self._target = url.request_uri
        self._place = f"{url.host}:{url.port}" if url.port else str(url.host)
        self._headers = _headers(plan, url.auth)
        self._watch = _Watch()
        pool = _HttpsPool if url.scheme == "https" else _HttpPool
        host = (url.host or "").strip("[]")
        self._pool: HTTPConnectionPool = pool(host, url.port, maxsize=1, watch=self._watch)

    def fetch(self) -> tuple[bytearray, str]:
        """The decoded body and its content type. Raises PollError; nothing else."""
        self._watch.start()
        try:
            response = self._request()
            try:
                return self._read(response)
            finally:
                # Only a body read to its end leaves the connection in order for the next request.
                if response.length_remaining not in (0, None) or not response.closed:
                    response.close()
                response.release_conn()
        except PollError:
            raise
        except Exception as error:
            # urllib3 lets errors of http.client and ssl through when `abort` cuts its socket.
            raise PollError(self._explain(error)) from None
        finally:
            self._watch.stop()

    def expire(self) -> None:
        """Cut a request that took longer than the timeout in total."""
        self._watch.cut(f"no complete answer within {self._timeout_s:g} s")

    def abort(self) -> None:
        """Cut the running request, if any; no other will start."""
        self._watch.cut("stopped", for_good=True)

    def close(self) -> None:
        """Abort, and free the connection."""
        self.abort()
        self._pool.close()

    def _request(self) -> BaseHTTPResponse:
        for attempt in (1, 2):
            self._watch.connected = False
            try:
                return self._pool.urlopen(
                    self._plan.method,
                    self._target,
                    body=None if self._plan.body is None else self._plan.body.encode(),
                    headers=self._headers,
                    retries=False,
                    redirect=False,
                    preload_content=False,
                    decode_content=False,
                    timeout=urllib3.Timeout(total=self._timeout_s),
                )
            except ProtocolError:
                # A kept connection that the server closed at the same moment: once more, afresh.
                if attempt == 2 or self._watch.connected or self._watch.reason:
                    raise
        raise AssertionError("unreachable")

    def _read(self, response: BaseHTTPResponse) -> tuple[bytearray, str]:
        content_type = printable(response.headers.get("content-type", "none"))[:60]
        if not 200 <= response.status < 300:
            raise PollError(_explain_status(response))
        if response.status == HTTPStatus.NO_CONTENT:
            raise PollError("HTTP 204 No Content where records were expected")
        if response.status == HTTPStatus.PARTIAL_CONTENT:
            raise PollError("HTTP 206 Partial Content where the whole list was expected")
        body = bytearray()
        decoder = _Decoder(response.headers.get("content-encoding", ""))
        limit = self._plan.max_response_bytes
        while chunk := response.read1(READ_BYTES, decode_content=False):
            decoder.feed(chunk, body, limit)
            if len(body) > limit:
                raise PollError(f"the response is larger than max_response_bytes ({limit:,} bytes)")
        if self._watch.reason:  # a cut connection without a length just ends
            raise PollError(self._watch.reason)
        if response.length_remaining:
            raise PollError("the connection closed before the response ended")
        decoder.finish()
        if body.startswith(BOM):
            del body[: len(BOM)]
        return body, content_type

    def _explain(self, error: Exception) -> str:
        if self._watch.reason:
            return self._watch.reason
        if isinstance(error, NameResolutionError):
            return f"cannot resolve the host of {self._place}"
        if isinstance(error, NewConnectionError):  # before its base, the timeout
            return f"cannot connect to {self._place}: {_cause(error)}"
        if isinstance(error, (ConnectTimeoutError, ReadTimeoutError, TimeoutError)):
            return f"no complete answer within {self._timeout_s:g} s"
        if isinstance(error, SSLError):
            return f"TLS with {self._place} failed: {_cause(error)}"
        if isinstance(error, (ProtocolError, ConnectionError)):
            return f"the connection broke before the response ended: {_cause(error)}"
        if isinstance(error, (HTTPError, OSError)):
            return f"the request failed: {_cause(error)}"
        return f"the request failed: {type(error).__name__}"


class _Watch:
    """The socket of the running request, so that another thread can cut it.

    A timeout of the socket alone would restart with every byte that trickles in.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._socket: socket.socket | None = None
        self._running = False
        self._stopped = ""
        self.reason = ""
        self.connected = False

    def start(self) -> None:
        with self._lock:
            self._running = True
            self.reason = self._stopped
        if self.reason:
            raise PollError(self.reason)

    def stop(self) -> None:
        with self._lock:
            self._running = False

    def opened(self, sock: socket.socket) -> None:
        with self._lock:
            self.connected = True
            self._socket = sock
            if self.reason:
                self._shut()

    def cut(self, reason: str, *, for_good: bool = False) -> None:
        with self._lock:
            if for_good:
                self._stopped = reason
            if self._running and not self.reason:
                self.reason = reason
                self._shut()

    def _shut(self) -> None:
        if self._socket is None:
            return
        try:
            # Not SSLSocket.shutdown: that would take the session away under the reading thread.
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
        except OSError:
            self._socket = None  # closed already: the reader has its error


class _HttpConnection(HTTPConnection):
    """Tells the watch about its socket before anything is sent."""

    def __init__(self, *args: Any, watch: _Watch, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._watch = watch

    def _new_conn(self) -> socket.socket:
        sock = super()._new_conn()
        self._watch.opened(sock)
        return sock


class _HttpsConnection(HTTPSConnection):
    """The same over TLS; the handshake is under watch, too."""

    def __init__(self, *args: Any, watch: _Watch, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._watch = watch

    def _new_conn(self) -> socket.socket:
        sock = super()._new_conn()
        self._watch.opened(sock)
        return sock

    def connect(self) -> None:
        super().connect()
        if isinstance(self.sock, socket.socket):
            self._watch.opened(self.sock)


class _HttpPool(HTTPConnectionPool):
    ConnectionCls = _HttpConnection


class _HttpsPool(HTTPSConnectionPool):
    ConnectionCls = _HttpsConnection


class _Decoder:
    """Content-Encoding undone chunk by chunk, never further than one byte over the limit."""

    def __init__(self, encoding: str) -> None:
        name = encoding.strip().lower()
        if name not in ("", "identity", "gzip", "x-gzip"):
            raise PollError(f"content encoding {printable(name)[:60]!r} was not asked for")
        self._gzip = zlib.decompressobj(31) if "gzip" in name else None

    def feed(self, chunk: bytes, body: bytearray, limit: int) -> None:
        if self._gzip is None:
            body += chunk
            return
        try:
            while chunk and len(body) <= limit:
                if self._gzip.eof:  # a gzip file may have several members
                    self._gzip = zlib.decompressobj(31)
                body += self._gzip.decompress(chunk, limit + 1 - len(body))
                chunk = self._gzip.unconsumed_tail or self._gzip.unused_data
        except zlib.error as error:
            raise PollError(f"the response is not the gzip it says it is: {error}") from None

    def finish(self) -> None:
        if self._gzip is not None and not self._gzip.eof:
            raise PollError("the gzip of the response is cut off")


def _headers(plan: ApiSourcePlan, auth: str | None) -> dict[str, str]:
    """What is sent; the config's own headers replace ours whatever their case."""
    headers = {
        "Accept": "application/json",
        "Accept-Encoding": "gzip",
        "User-Agent": f"litejoin/{__version__}",
    }
    if plan.body is not None:
        headers["Content-Type"] = "application/json"
    if auth:
        headers |= {k.title(): v for k, v in urllib3.make_headers(basic_auth=auth).items()}
    given = {name.lower() for name in plan.headers}
    ours = {name: value for name, value in headers.items() if name.lower() not in given}
    return ours | {name: str(value) for name, value in plan.headers.items()}


def _explain_status(response: BaseHTTPResponse) -> str:
    try:
        text = f"HTTP {response.status} {HTTPStatus(response.status).phrase}"
    except ValueError:
        text = f"HTTP {response.status}"
    if 300 <= response.status < 400 and "location" in response.headers:
        target = urllib3.util.parse_url(response.headers["location"])
        where = f" to {printable(target.host)[:100]}" if target.host else ""
        return f"{text}{where}: redirects are not followed"
    return text


def _cause(error: BaseException) -> str:
    """The innermost reason, without addresses of objects or the request's URL."""
    inner: BaseException = error
    while (inner.__cause__ or inner.__context__) is not None:
        inner = inner.__cause__ or inner.__context__ or inner
    if isinstance(inner, OSError) and inner.strerror:
        return printable(inner.strerror)
    return printable(f"{type(inner).__name__}: {inner}" if str(inner) else type(inner).__name__)


def printable(text: str) -> str:
    """Text from outside for one log line: control characters and bidi marks escaped, cut."""
    safe = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return safe[:REASON_CHARS]
