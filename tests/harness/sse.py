"""A browser's EventSource as a test needs it: a thread that reads, and lists that can be waited on.

Follows the event-stream format of the HTML standard: comments, multi-line data, `id`, `event`,
`retry`. Unlike a browser it never reconnects by itself: a test says when, and with which
`Last-Event-ID`.
"""

import http.client
import json
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from tests.harness.waiting import SLOW

_ESTABLISHED = "01"  # state column of /proc/net/tcp


@dataclass(frozen=True)
class Event:
    """One event. `id` is the last id of the stream at that moment, as the standard has it."""

    name: str
    data: str
    id: str

    @property
    def json(self) -> Any:
        return json.loads(self.data)


class Subscriber:
    """One open `GET /subscribe`. Close it, or use it in a `with`."""

    def __init__(
        self,
        url: str,
        join: str = "*",
        *,
        last_event_id: str | None = None,
        replay: bool = False,
        key: str | None = None,
    ) -> None:
        self.url = url
        parts = urlsplit(url)
        self._conn = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
        path = f"/subscribe?join={quote(join)}" + ("&replay=true" if replay else "")
        path += f"&key={quote(key)}" if key is not None else ""
        headers = {"Accept": "text/event-stream"}
        if last_event_id is not None:
            headers["Last-Event-ID"] = last_event_id
        self._conn.request("GET", path, headers=headers)
        # Kept because http.client lets go of it when the answer announces that the connection will
        # close.
        self._sock: socket.socket | None = self._conn.sock
        self._response = self._conn.getresponse()
        self.status = self._response.status
        self.content_type = self._response.headers.get("Content-Type", "")
        self.events: list[Event] = []
        self.comments: list[tuple[float, str]] = []
        self.closed = False
        self.last_id = last_event_id or ""
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._read, daemon=True)
        if self.status == 200:
            self._thread.start()
        else:
            self.refusal = self._response.read().decode("utf-8", "replace")
            self.close()

    def __enter__(self) -> "Subscriber":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        if self._sock is not None:
            try:
                self._sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        if self._thread.is_alive():
            self._thread.join(5)
        self._response.close()
        self._conn.close()

    # -- looking -----------------------------------------------------------------------------------

    def results(self, join: str | None = None) -> list[dict[str, Any]]:
        """The result objects so far, of one join or of all."""
        with self._changed:
            events = list(self.events)
        found = [event.json for event in events if event.name == "join_result"]
        return [r for r in found if join is None or r["query"] == join]

    def named(self, name: str) -> list[Event]:
        with self._changed:
            return [event for event in self.events if event.name == name]

    def wait(self, check: Callable[["Subscriber"], Any], timeout_s: float = 10.0) -> Any:
        """Wait until `check(self)` is truthy, looking again after each event."""
        deadline = time.monotonic() + timeout_s * SLOW
        while True:
            value = check(self)
            if value:
                return value
            with self._changed:
                left = deadline - time.monotonic()
                if left <= 0 or (self.closed and not check(self)):
                    tail = [f"{e.id} {e.name} {e.data[:200]}" for e in self.events[-10:]]
                    state = "stream ended" if self.closed else "timeout"
                    raise AssertionError(f"{state} after {len(self.events)} events, last: {tail}")
                self._changed.wait(min(left, 0.05))

    def wait_results(
        self, count: int, join: str | None = None, timeout_s: float = 10.0
    ) -> list[dict[str, Any]]:
        """The results so far, once there are at least `count`."""
        self.wait(lambda s: len(s.results(join)) >= count, timeout_s)
        return self.results(join)

    def wait_closed(self, timeout_s: float = 10.0) -> None:
        """Wait until the server ended the stream."""
        deadline = time.monotonic() + timeout_s * SLOW
        with self._changed:
            while not self.closed:
                left = deadline - time.monotonic()
                assert left > 0, "stream still open"
                self._changed.wait(left)

    # -- reading (own thread) ----------------------------------------------------------------------

    def _read(self) -> None:
        name = ""
        data: list[str] = []
        try:
            while True:
                raw = self._response.readline()
                if not raw:
                    break
                line = raw.decode("utf-8").rstrip("\n").rstrip("\r")
                if not line:
                    if data:
                        self._emit(name or "message", "\n".join(data))
                    name, data = "", []
                    continue
                field, _, value = line.partition(":")
                value = value.removeprefix(" ")
                if field == "":
                    self.comments.append((time.monotonic(), value))
                elif field == "event":
                    name = value
                elif field == "data":
                    data.append(value)
                elif field == "id" and "\0" not in value:
                    self.last_id = value
        except (OSError, ValueError, http.client.HTTPException):
            pass  # closed by us or cut by the server: both are the end of this stream
        with self._changed:
            self.closed = True
            self._changed.notify_all()

    def _emit(self, name: str, data: str) -> None:
        with self._changed:
            self.events.append(Event(name, data, self.last_id))
            self._changed.notify_all()


class DeafSubscriber:
    """Subscribes and never reads, with the smallest receive buffer that the kernel gives."""

    def __init__(self, port: int, join: str) -> None:
        self._conn = socket.socket()
        self._conn.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._conn.settimeout(10)
        self._conn.connect(("127.0.0.1", port))
        request = f"GET /subscribe?join={join} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n"
        self._conn.sendall(request.encode())
        self._own = self._conn.getsockname()

    def __enter__(self) -> "DeafSubscriber":
        return self

    def __exit__(self, *exc: object) -> None:
        self._conn.close()

    def is_cut(self) -> bool:
        """True once the server has closed its end. We would learn of it only by reading on."""
        ours, servers = (f"{address[1]:04X}" for address in (self._own, self._conn.getpeername()))
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            _, local, remote, state, *_ = line.split()
            if local.endswith(f":{servers}") and remote.endswith(f":{ours}"):
                return state != _ESTABLISHED
        return True


@dataclass(frozen=True)
class Snapshot:
    """What `GET /snapshot` answered, and the position to subscribe from."""

    status: int
    position: str
    results: Any


def snapshot(url: str, join: str = "*", **query: str) -> Snapshot:
    """`GET /snapshot?join=...`; `from` is passed as `from_`."""
    parts = urlsplit(url)
    conn = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
    try:
        more = "".join(f"&{name.rstrip('_')}={quote(value)}" for name, value in query.items())
        conn.request("GET", f"/snapshot?join={quote(join)}{more}")
        response = conn.getresponse()
        body = response.read()
        try:
            parsed = json.loads(body)
        except ValueError:
            parsed = body.decode("utf-8", "replace")
        return Snapshot(response.status, response.headers.get("LiteJoin-Position", ""), parsed)
    finally:
        conn.close()
