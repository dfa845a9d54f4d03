"""Wakes the readers of the results log when it has grown.

The evaluator's thread announces a new head with `loop.call_soon_threadsafe(signal.publish, head)`
after its commit; dispatchers and the SSE hub wait for it on the event loop. Holds no results:
readers read the log, so a missed or repeated announcement costs nothing.
"""

import asyncio


class LogSignal:
    """The last announced head and those who wait for the next. Event loop only."""

    def __init__(self, head: int = 0) -> None:
        self._head = head
        self._next: asyncio.Future[None] | None = None

    @property
    def head(self) -> int:
        """The last position announced."""
        return self._head

    def publish(self, head: int) -> None:
        """Announce a head; one that is not greater than the last is ignored."""
        if head <= self._head:
            return
        self._head = head
        if self._next is not None and not self._next.done():
            self._next.set_result(None)
        self._next = None

    async def wait(self, after: int) -> int:
        """Return the head as soon as it is greater than `after`; at once if it is already."""
        while self._head <= after:
            if self._next is None:
                self._next = asyncio.get_running_loop().create_future()
            # All waiters share the future: one that is cancelled must not cancel it for the others.
            await asyncio.shield(self._next)
        return self._head
