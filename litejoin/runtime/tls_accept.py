"""Accepts the connections of a TLS listener, and bounds those whose handshake is not over.

An asyncio server tells a protocol of its connection when the handshake is done: clients that never
finish theirs, or never begin, were bounded by nothing but the time that one may take. Made by
`Listeners`, one for each listening socket. Beyond the bound the oldest handshake gives way: a
client that means it needs a few round trips, one that does not stays where it is.
"""

import asyncio
import errno
import logging
import socket
import ssl

from litejoin.runtime.http_connection import Connection, ConnectionRules

log = logging.getLogger("litejoin.http")

ACCEPTED_AT_ONCE = 64
"""Then the rest of the event loop has its turn."""

REFUSED_AT_ONCE = 16
"""Handshakes that may be under way when all connections are taken: these clients are told so."""

PAUSE_S = 1.0
"""After the process or the machine has run out of files or buffers."""
OUT_OF_FILES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class TlsAcceptor:
    """On the event loop; the listening socket stays its owner's."""

    def __init__(
        self, sock: socket.socket, context: ssl.SSLContext, rules: ConnectionRules
    ) -> None:
        self._sock, self._context, self._rules = sock, context, rules
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._listen()

    def close(self) -> None:
        """Accept no more, and cut the handshakes that are under way. Safe to call twice."""
        if self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock)
        if self._timer is not None:
            self._timer.cancel()
        for handshake in tuple(self._rules.handshakes):
            handshake.cancel()

    def _listen(self) -> None:
        self._loop.add_reader(self._sock, self._accept)

    def _accept(self) -> None:
        for _ in range(ACCEPTED_AT_ONCE):
            try:
                sock, _ = self._sock.accept()
            except OSError as error:
                if error.errno in OUT_OF_FILES:
                    log.warning("http: %s; accepts again in %g s", error.strerror, PAUSE_S)
                    self._loop.remove_reader(self._sock)
                    self._timer = self._loop.call_later(PAUSE_S, self._listen)
                return  # what else is wrong is so with that connection
            self._begin(sock)

    def _begin(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        handshakes, rules = self._rules.handshakes, self._rules

        def ended(task: asyncio.Task[bool]) -> None:
            handshakes.pop(task, None)
            if task.cancelled() or not task.result():
                sock.close()

        task = self._loop.create_task(self._shake(sock))
        handshakes[task] = None
        task.add_done_callback(ended)
        may = max(REFUSED_AT_ONCE, rules.max_connections - len(rules.connections))
        while len(handshakes) > may:
            oldest = next(iter(handshakes))
            del handshakes[oldest]
            oldest.cancel()

    async def _shake(self, sock: socket.socket) -> bool:
        """False when the client did not make it."""
        try:
            await self._loop.connect_accepted_socket(
                lambda: Connection(self._rules, self._loop),
                sock,
                ssl=self._context,
                ssl_handshake_timeout=self._rules.header_timeout_s,
            )
        except OSError:
            return False
        return True
