"""A TCP relay in front of a server, which can be cut, and be slow; the server keeps what it has."""

import asyncio
import ssl
import threading
from collections.abc import Coroutine
from typing import Any

from tests.harness.ports import free_port

CHUNK_BYTES = 65_536


class Relay:
    """Relays 127.0.0.1:`port` to 127.0.0.1:`target`, on a thread of its own. `tls`: to clients."""

    def __init__(
        self, target: int, port: int | None = None, tls: ssl.SSLContext | None = None
    ) -> None:
        self._tls = tls
        self.target, self.port = target, port or free_port()
        self.delay_s = 0.0
        """How long each piece of data waits, in both directions."""
        self._loop = asyncio.new_event_loop()
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.restore()

    def cut(self) -> None:
        """Reset every connection and refuse new ones."""
        self._do(self._cut())

    def restore(self) -> None:
        """Take connections again."""
        self._do(self._listen())

    def close(self) -> None:
        self._do(self._cut())
        if self._tls is not None:
            # A handshake that had begun becomes a connection that nobody has ended.
            self._do(asyncio.sleep(0.2))
            self._do(self._cut())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(
            self._taken, "127.0.0.1", self.port, ssl=self._tls
        )

    async def _cut(self) -> None:
        if self._server is not None:
            # Accept no more, and let what was accepted in this round attach itself: asyncio drops a
            # connection of a server that was closed meanwhile without closing its socket.
            for listening in self._server.sockets:
                self._loop.remove_reader(listening.fileno())
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            self._server.close()
            self._server = None
        # Connections that were taken a moment ago come to light in the next rounds.
        while running := asyncio.all_tasks() - {asyncio.current_task()}:
            for writer in self._writers:
                writer.transport.abort()
            await asyncio.wait(running, timeout=0.1)
        await asyncio.sleep(0.01)  # transports close in a round of their own

    async def _taken(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        both = {writer, back}
        self._writers |= both
        try:
            await asyncio.gather(self._pump(reader, back), self._pump(there, writer))
        finally:
            self._writers -= both
            for each in both:
                each.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(CHUNK_BYTES):
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        writer.transport.abort()
