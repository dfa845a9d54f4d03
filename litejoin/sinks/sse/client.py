"""One subscriber's side of the hub: what it wants, what waits for it, and how far it has got.

A client is either attached (the hub offers it every chunk of its channel) or behind (it reads the
log itself, at its own pace). The buffer of an attached client is bounded: when it is full the
client falls behind, loses what was buffered and reads it from the log instead. Event loop only.
"""

import asyncio
from collections import deque

from litejoin.sinks.sse.params import Filter

BUFFER_BYTES = 256 * 1024
"""What waits for one client; chunks are shared by all clients of a channel."""


class Client:
    """Made by the hub; used by the handler of its request."""

    def __init__(self, wanted: Filter) -> None:
        self.filter = wanted
        self.pos = 0
        """Everything wanted up to here was handed to the connection."""
        self.attached = False
        self.ended = False
        """The connection is gone, or the server is closing."""
        self.sending_since: float | None = None
        """Loop time at which the send in progress began."""
        self.task: asyncio.Task[object] | None = None
        self._chunks: deque[tuple[bytes, int]] = deque()
        self._buffered = 0
        self._news: asyncio.Future[None] | None = None

    def offer(self, chunk: bytes, pos: int) -> bool:
        """Take a chunk that covers the log up to `pos`; False: the buffer is full, detach me."""
        if self._buffered + len(chunk) > BUFFER_BYTES and self._chunks:
            self._chunks.clear()
            self._buffered = 0
            self.attached = False
            self.wake()
            return False
        self._chunks.append((chunk, pos))
        self._buffered += len(chunk)
        self.wake()
        return True

    def take(self) -> bytes:
        """Everything that waits, as one piece; b"" when nothing does."""
        if not self._chunks:
            return b""
        self.pos = self._chunks[-1][1]
        if len(self._chunks) == 1:
            piece = self._chunks.popleft()[0]
        else:
            piece = b"".join(chunk for chunk, _ in self._chunks)
            self._chunks.clear()
        self._buffered = 0
        return piece

    async def news(self) -> None:
        """Wait until there is something to take, or the client fell behind, or it ended."""
        if self._chunks or not self.attached or self.ended:
            return
        self._news = asyncio.get_running_loop().create_future()
        await self._news

    def wake(self) -> None:
        """Let `news` return."""
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    def end(self) -> None:
        """No more is sent."""
        self.ended = True
        self.wake()
