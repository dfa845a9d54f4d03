"""A loopback server below HTTP: a script writes the bytes of each answer, at its own pace.

For what `ScriptedServer` cannot say: one byte a second, chunks without end, headers that never end.
"""

import socket
import threading
from collections.abc import Callable, Iterator
from typing import Self

from tests.harness.ports import free_port

Script = Callable[[bytes], Iterator[bytes | float]]
"""Takes the request's head; yields bytes to send and seconds to wait, until the client hangs up."""


class RawServer:
    """Answers every connection's first request by `script`; `requests` counts them."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.requests = 0
        self.hung_up = 0
        """Clients that were gone before the script was over."""
        self.sent = 0
        """Bytes written so far, all connections together."""
        self._stopped = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", free_port()), backlog=64)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stopped.set()
        self._listener.close()

    def _accept(self) -> None:
        while not self._stopped.is_set():
            try:
                conn, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(conn,), daemon=True).start()

    def _serve(self, conn: socket.socket) -> None:
        with conn:
            try:
                head = b""
                while b"\r\n\r\n" not in head:
                    chunk = conn.recv(65536)
                    if not chunk:
                        return
                    head += chunk
                self.requests += 1
                for step in self.script(head):
                    if isinstance(step, float):
                        if self._stopped.wait(step):
                            return
                    else:
                        conn.sendall(step)
                        self.sent += len(step)
            except OSError:
                self.hung_up += 1


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


def drip_body(_head: bytes) -> Iterator[bytes | float]:
    """A body of 10,000 bytes, ten a second: never idle, never done."""
    yield HEAD + b"Content-Length: 10000\r\n\r\n["
    while True:
        yield b" "
        yield 0.1


def drip_head(_head: bytes) -> Iterator[bytes | float]:
    """A header that grows by one byte at a time."""
    yield HEAD + b"X-Slow: "
    while True:
        yield b"a"
        yield 0.1


def endless_chunks(_head: bytes) -> Iterator[bytes | float]:
    """Chunks of blanks without end, as fast as they are taken."""
    yield HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    while True:
        yield b"10000\r\n" + b" " * 0x10000 + b"\r\n"


def endless_headers(_head: bytes) -> Iterator[bytes | float]:
    """Header lines without end."""
    yield HEAD
    for number in range(10_000_000):
        yield b"X-%d: y\r\n" % number


def bad_chunk(_head: bytes) -> Iterator[bytes | float]:
    """A chunk size that is no number."""
    yield HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n[]\r\n0\r\n\r\n"


def cut_chunk(_head: bytes) -> Iterator[bytes | float]:
    """A whole JSON document, but the last chunk never comes."""
    yield HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n[]\r\n"


def not_http(_head: bytes) -> Iterator[bytes | float]:
    """An SSH server."""
    yield b"SSH-2.0-OpenSSH_9.2\r\n"


def two_lengths(_head: bytes) -> Iterator[bytes | float]:
    """Two Content-Length headers that differ."""
    yield HEAD + b"Content-Length: 2\r\nContent-Length: 40\r\n\r\n[]"
