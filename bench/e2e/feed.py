"""An upstream for the benchmarks of polls: answers made beforehand, a note of each arrival.

Serves on threads of the benchmark's own process: what the daemon uses is measured from outside.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from bench.e2e.daemon import free_port

Answer = Callable[[str, int], bytes]
"""Path and number of the request (from 0, over all paths) -> body."""


class Feed:
    """`arrivals` are (path, monotonic seconds) in order."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.arrivals: list[tuple[str, float]] = []
        self.port = free_port()
        self._changed = threading.Condition()

    def arrived(self, path: str) -> int:
        with self._changed:
            self.arrivals.append((path, time.monotonic()))
            self._changed.notify_all()
            return len(self.arrivals) - 1

    def wait(self, count: int, timeout_s: float = 300) -> None:
        """Wait for the arrival of request number `count`, counted from 1."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self.arrivals) >= count, timeout_s):
                raise TimeoutError(f"{len(self.arrivals)} of {count} requests")


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 1024
    """The default of 5 makes the kernel drop connections when 200 sources start in one second."""


@contextmanager
def feed(answer: Answer) -> Iterator[Feed]:
    """Serve `answer` on a loopback port."""
    made = Feed(answer)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # head and body in one write

        def do_GET(self) -> None:
            body = made.answer(self.path, made.arrived(self.path))
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    server = _Server(("127.0.0.1", made.port), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
