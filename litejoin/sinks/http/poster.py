"""One thread's connection to a receiver: sends, reads the answer, and can be cut from outside.

urllib3 opens the connection, with TLS and all. A thread has one, so there is no pool. A request is
written in one piece and its answer read by `reader`: with urllib3 and http.client the two were half
of the time of a delivery. Redirects are not followed. Blocking; never raises.
"""

import contextlib
import errno
import logging
import socket
import ssl
from typing import Any

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError

from litejoin.clock import Clock
from litejoin.errors import SinkError
from litejoin.plain_files import check_plain
from litejoin.plan.nodes import HttpSinkPlan
from litejoin.sinks.base import Outcome
from litejoin.sinks.http.answers import Judge
from litejoin.sinks.http.reader import AnswerReader, UnreadableAnswerError
from litejoin.sinks.http.request import Target

log = logging.getLogger("litejoin.http")

Delivery = tuple[str, bytes]
"""The id that names a request, and its body."""

LOST = (UnreadableAnswerError, OSError)
"""The connection ended, or what came over it is no HTTP."""


class Poster:
    """Used by one thread; `overdue_ms`, `cut` and `abort` by the event loop as well."""

    def __init__(
        self, plan: HttpSinkPlan, target: Target, tls: ssl.SSLContext | None, clock: Clock
    ) -> None:
        self._plan = plan
        self._target = target
        self._clock = clock
        self._judge = Judge(plan, clock)
        self._socket: socket.socket | None = None
        self._reader = AnswerReader()
        self.overdue_ms = 0
        """Monotonic time after which the request in flight is cut; 0: none is."""
        self._was_cut = False
        self._connection = _connection(target, plan.timeout_ms / 1000, tls, self)

    def post(self, delivery: Delivery) -> Outcome:
        """Send and judge. At most a little longer than the timeout."""
        request = self._target.request(*delivery, self._clock)
        self._was_cut = False
        self.overdue_ms = self._clock.monotonic_ms() + self._plan.timeout_ms
        try:
            is_kept = self._is_kept()
            try:
                return self._attempt(request)
            except TimeoutError:
                raise
            except LOST:
                if not is_kept or self._was_cut:
                    raise
                # The receiver closed a kept-alive connection just as it was used again. The request
                # names its id, so sending it once more on a fresh connection is safe.
                return self._attempt(request)
        except Exception as error:  # the contract: a fault of the receiver is an outcome
            unsent = isinstance(error, (NewConnectionError, ConnectTimeoutError))
            return Outcome("retry", self._describe(error), uncertain=not unsent)
        finally:
            self.overdue_ms = 0

    def connected(self, connection_socket: socket.socket | None) -> None:
        """A connection was opened."""
        self._socket = connection_socket
        self._reader = AnswerReader()

    def abort(self) -> None:
        """Cut the connection from another thread: a blocked read ends at once."""
        self._was_cut = True
        if self._socket is not None:
            with contextlib.suppress(OSError, ValueError):
                # Not SSLSocket.shutdown: that would take the TLS state away under the reading
                # thread.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def close(self) -> None:
        """Nothing more is posted. On the poster's own thread."""
        self._connection.close()

    def _is_kept(self) -> bool:
        """Whether there is a connection from before; one that was closed meanwhile is let go.

        Without this look a delivery takes a seventh less time, and a request may go to a receiver
        that has closed, so that it is sent twice.
        """
        if self._connection.sock is None:
            return False
        if self._connection.is_connected:
            return True
        self._connection.close()
        return False

    def _attempt(self, request: bytes) -> Outcome:
        reader = self._exchange(request)
        if not reader.is_reusable:
            self._connection.close()
        complete = reader.complete and not self._was_cut
        return self._judge.outcome(reader.code, reader.retry_after, reader.body, complete=complete)

    def _exchange(self, request: bytes) -> AnswerReader:
        try:
            if self._connection.sock is None:
                self._connection.connect()
            self._send(request)
            self._reader.read(self._connection.sock)
        except BaseException:
            self._connection.close()
            raise
        return self._reader

    def _send(self, request: bytes) -> None:
        try:
            self._connection.sock.sendall(request)
        except OSError as error:
            # One that answers before it has read everything, and closes, may still be heard.
            if error.errno not in (errno.EPIPE, errno.ECONNRESET):
                raise

    def _describe(self, error: Exception) -> str:
        # Never urllib3's own text: it repeats the URL, which may carry a token.
        place = f"{self._target.url.host}:{self._connection.port}"
        cause = error.__cause__ or error
        if isinstance(error, TimeoutError):
            return f"{place} gave no answer within {self._plan.timeout_ms / 1000:g} s"
        if isinstance(error, NewConnectionError):
            return f"no connection to {place}: {getattr(cause, 'strerror', None) or 'refused'}"
        if isinstance(error, ConnectTimeoutError):
            return f"no connection to {place} within {self._plan.timeout_ms / 1000:g} s"
        if isinstance(error, (HTTPError, ssl.SSLError)):
            text = f"{place}: {type(error).__name__}: {cause}".replace(self._target.path, "...")
            return self._judge.blanked(text)
        if isinstance(error, UnreadableAnswerError):
            return f"{place}: {error}"
        if isinstance(error, LOST):
            return f"{place} closed the connection without an answer"
        return f"{place}: {type(error).__name__}"


def _connection(
    target: Target, timeout_s: float, tls: ssl.SSLContext | None, poster: Poster
) -> HTTPConnection:
    """One that connects when it is first used, and whenever it was closed."""
    host, port = (target.url.host or "").strip("[]"), target.url.port
    options: dict[str, Any] = {"timeout": timeout_s}
    base: Any = HTTPConnection
    if target.url.scheme == "https":
        base, options["ssl_context"] = HTTPSConnection, tls

    class Tracked(base):  # type: ignore[misc]
        """Tells its poster which socket to cut."""

        def connect(self) -> None:
            super().connect()
            poster.connected(self.sock)

    connection: HTTPConnection = Tracked(host, port, **options)
    return connection


def tls_context(plan: HttpSinkPlan) -> ssl.SSLContext:
    """TLS 1.2 or newer, verified unless the sink says otherwise. Raises SinkError."""
    tls = plan.tls
    try:
        check_plain(tls.ca_file, tls.cert_file, tls.key_file)
        context = ssl.create_default_context(cafile=str(tls.ca_file) if tls.ca_file else None)
        if tls.cert_file is not None:
            context.load_cert_chain(tls.cert_file, tls.key_file)
    except (OSError, ssl.SSLError) as error:
        raise SinkError(
            f"sink {plan.name}: the certificates of `tls` cannot be read: {error}",
            hint="they are PEM files; the key belongs to the certificate",
        ) from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if not tls.verify:
        log.warning("sink %s: the receiver's certificate is not verified (tls.verify)", plan.name)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
