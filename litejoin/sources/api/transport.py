"""Sends one HTTP request and reads its answer, within limits of time and size.

`HttpTransport` is called on a pool thread, one request at a time, by `exchange`; tests and the
replay of recorded answers put another `Transport` in its place. Owns connections, limits (time in
total, bytes after decompression) and the words for what went wrong below HTTP. Never follows a
redirect, never retries an answer, never logs; knows nothing of records or credentials.
"""

import base64
import logging
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Protocol
from urllib.parse import unquote

import urllib3
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    NameResolutionError,
    NewConnectionError,
    ProtocolError,
    ProxyError,
    ReadTimeoutError,
    SSLError,
)
from urllib3.response import BaseHTTPResponse

from litejoin.errors import PollError
from litejoin.plain_files import check_plain
from litejoin.plan.nodes_api import ApiTlsPlan
from litejoin.sources.api.connections import Watch, watched_pools
from litejoin.sources.api.decode import Decoder
from litejoin.sources.api.words import cause, printable

# urllib3 logs the URLs it asks, and those may hold tokens; what matters of it is in our errors.
logging.getLogger("urllib3").setLevel(logging.CRITICAL)

READ_BYTES = 256 * 1024
"""Most one read takes from the socket: small against a body, large against a syscall."""
ERROR_BODY_BYTES = 64 * 1024
"""What is read of an answer that is no 2xx: enough to tell what it says."""
MAX_ORIGINS = 8
"""Kept connections of one source: the API, its token endpoint, a few more."""
BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Request:
    """What is sent. `url` is complete and may hold secrets."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes | None = None


@dataclass(slots=True)
class Response:
    """What came back. Header names are lower case; several of one name are joined by a comma."""

    status: int
    headers: Mapping[str, str]
    body: bytearray

    @property
    def content_type(self) -> str:
        return printable(self.headers.get("content-type", "none"))[:60]


class Transport(Protocol):
    """Where requests go. `send` blocks; `expire` and `close` may come from any thread."""

    def send(self, request: Request) -> Response:
        """The answer, whatever its status. Raises PollError when there is none."""
        ...

    def expire(self) -> None:
        """Cut the running request: it took longer than the timeout in total."""
        ...

    def close(self) -> None:
        """Cut the running request for good and free the connections."""
        ...


class HttpTransport:
    """The network. One request at a time over kept connections."""

    def __init__(
        self, timeout_ms: int, max_bytes: int, tls: ApiTlsPlan, proxy: str | None = None
    ) -> None:
        """Raises PollError when a certificate file cannot be read."""
        _check_files(tls)
        self._timeout_s = timeout_ms / 1000
        self._max_bytes = max_bytes
        self._watch = Watch()
        options: dict[str, Any] = {"maxsize": 1, **_tls_options(tls)}
        self._manager = (
            urllib3.ProxyManager(
                proxy, num_pools=MAX_ORIGINS, proxy_headers=_proxy_headers(proxy), **options
            )
            if proxy
            else urllib3.PoolManager(num_pools=MAX_ORIGINS, **options)
        )
        pools: tuple[type[HTTPConnectionPool], type[HTTPSConnectionPool]]
        pools = watched_pools(self._watch)
        self._manager.pool_classes_by_scheme = {"http": pools[0], "https": pools[1]}

    def send(self, request: Request) -> Response:
        self._watch.start()
        place = _place(request.url)
        try:
            answer = self._open(request)
            try:
                return self._read(answer)
            finally:
                # Only a body read to its end leaves the connection in order for the next request.
                if answer.length_remaining not in (0, None) or not answer.closed:
                    answer.close()
                answer.release_conn()
        except PollError:
            raise
        except Exception as error:
            # urllib3 lets errors of http.client and ssl through when `expire` cuts its socket.
            raise PollError(self._explain(error, place)) from None
        finally:
            self._watch.stop()

    def expire(self) -> None:
        self._watch.cut(f"no complete answer within {self._timeout_s:g} s")

    def close(self) -> None:
        self._watch.cut("stopped", for_good=True)
        self._manager.clear()

    def _open(self, request: Request) -> BaseHTTPResponse:
        for attempt in (1, 2):
            self._watch.connected = False
            try:
                return self._manager.urlopen(
                    request.method,
                    request.url,
                    body=request.body,
                    headers=dict(request.headers),
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

    def _read(self, answer: BaseHTTPResponse) -> Response:
        headers = {name.lower(): ", ".join(answer.headers.getlist(name)) for name in answer.headers}
        ok = 200 <= answer.status < 300
        limit = self._max_bytes if ok else min(self._max_bytes, ERROR_BODY_BYTES)
        decoder = Decoder(headers.get("content-encoding", ""), answer.length_remaining, limit)
        while chunk := answer.read1(READ_BYTES, decode_content=False):
            decoder.feed(chunk)
            if decoder.size > limit:
                if not ok:
                    break
                raise PollError(f"the response is larger than max_response_bytes ({limit:,} bytes)")
        if ok:
            self._check_whole(answer, decoder)
        body = decoder.body()
        if body.startswith(BOM):
            del body[: len(BOM)]
        return Response(answer.status, headers, body)

    def _check_whole(self, answer: BaseHTTPResponse, decoder: Decoder) -> None:
        if self._watch.reason:  # a cut connection without a length just ends
            raise PollError(self._watch.reason)
        if answer.length_remaining:
            raise PollError("the connection closed before the response ended")
        if answer.status != HTTPStatus.NO_CONTENT:
            decoder.finish()

    def _explain(self, error: Exception, place: str) -> str:
        if self._watch.reason:
            return self._watch.reason
        if isinstance(error, ProxyError):
            return f"the proxy failed: {cause(error)}"
        if isinstance(error, NameResolutionError):
            return f"cannot resolve the host of {place}"
        if isinstance(error, NewConnectionError):  # before its base, the timeout
            return f"cannot connect to {place}: {cause(error)}"
        if isinstance(error, (ConnectTimeoutError, ReadTimeoutError, TimeoutError)):
            return f"no complete answer within {self._timeout_s:g} s"
        if isinstance(error, SSLError):
            return f"TLS with {place} failed: {cause(error)}"
        if isinstance(error, (ProtocolError, ConnectionError)):
            return f"the connection broke before the response ended: {cause(error)}"
        if isinstance(error, (HTTPError, OSError)):
            return f"the request failed: {cause(error)}"
        return f"the request failed: {type(error).__name__}"


def _place(url: str) -> str:
    parts = urllib3.util.parse_url(url)
    return f"{parts.host}:{parts.port}" if parts.port else str(parts.host)


def userinfo(auth: str) -> str:
    """The value of a basic Authorization header for the `user:password` of a URL."""
    return "Basic " + base64.b64encode(unquote(auth).encode()).decode()


def _proxy_headers(proxy: str) -> dict[str, str]:
    auth = urllib3.util.parse_url(proxy).auth
    return {"Proxy-Authorization": userinfo(auth)} if auth else {}


def _check_files(tls: ApiTlsPlan) -> None:
    """urllib3 reads them when it connects, and its errors name neither the file nor the key."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    names = "tls.ca_file"
    try:
        check_plain(tls.ca_file)
        if tls.ca_file is not None:
            context.load_verify_locations(tls.ca_file)
        names = "tls.cert_file and tls.key_file"
        check_plain(tls.cert_file, tls.key_file)
        if tls.cert_file is not None:
            context.load_cert_chain(tls.cert_file, tls.key_file, password=lambda: b"")
    except (OSError, ssl.SSLError) as error:
        raise PollError(f"{names} cannot be used: {cause(error)}") from None


def _tls_options(tls: ApiTlsPlan) -> dict[str, Any]:
    options: dict[str, Any] = {}
    if tls.ca_file:
        options["ca_certs"] = tls.ca_file
    if tls.cert_file:
        options |= {"cert_file": tls.cert_file, "key_file": tls.key_file}
    if not tls.verify:
        # It is what the config says; a warning at each request tells nobody more.
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        options |= {"cert_reqs": "CERT_NONE", "assert_hostname": False}
    return options
