"""Tries the entries of the dead-letter queue again when they fall due. One task a sink.

Asks the ledger for due entries, hands them to the dispatcher, waits for their outcomes, asks again.
The queue is looked at every POLL_S even when nothing is due here, because `litejoin dlq retry`
changes it from another process.
"""

import asyncio
from collections.abc import Sequence
from typing import Protocol

from litejoin.clock import SteadyClock
from litejoin.delivery.keeper import Keeper
from litejoin.delivery.ledger import Entry

POLL_S = 1.0

BUSY_S = 0.05
"""Pause when a due entry's key is busy with a newer result."""


BY_HAND_MS = 0
"""Retry time of an entry that `litejoin dlq retry` has chosen."""


class Resender(Protocol):
    """The dispatcher of the sink."""

    @property
    def is_held(self) -> bool:
        """True while the receiver wants nothing: at all, or for some time."""
        ...

    @property
    def held_at_ms(self) -> int:
        """When it said so, in Unix milliseconds."""
        ...

    def resume(self) -> None:
        """Send again all the same."""
        ...

    def begin_look(self) -> None:
        """Due entries are about to be read: what is delivered from now on outdates them."""
        ...

    def retry(self, entry: Entry) -> "asyncio.Future[None] | None":
        """Start a retry; None when the key is busy or the entry is outdated."""
        ...

    def end_look(self) -> None:
        """The due entries were handed over."""
        ...


class Retrier:
    """The retry loop of one sink."""

    def __init__(
        self, sink: str, keeper: Keeper, clock: SteadyClock, resender: Resender, limit: int
    ) -> None:
        self._sink = sink
        self._keeper = keeper
        self._clock = clock
        self._resender = resender
        self._limit = limit
        self._poked = asyncio.Event()
        self.rounds_without_work = 0
        """Consecutive looks that found nothing due: how a drain knows that it is done."""

    def poke(self) -> None:
        """Look at once: an entry was added, or time was moved."""
        self._poked.set()

    async def run(self) -> None:
        """Retry until cancelled."""
        while True:
            self._poked.clear()
            pause_s = await self._round()
            try:
                async with asyncio.timeout(pause_s):
                    await self._poked.wait()
            except TimeoutError:
                pass

    async def _round(self) -> float:
        """One look; returns the seconds until the next."""
        self._resender.begin_look()
        entries, next_ms = await self._due()
        if self._resender.is_held:
            by_hand = any(entry.next_retry_at_ms == BY_HAND_MS for entry in entries)
            if not by_hand and not await self._is_asked_to_go_on():
                self._resender.end_look()
                self.rounds_without_work += 1
                return POLL_S
            self._resender.resume()
        started = [f for entry in entries if (f := self._resender.retry(entry)) is not None]
        self._resender.end_look()
        if entries:
            self.rounds_without_work = 0
            await asyncio.gather(*started)
            return 0.0 if started else BUSY_S
        self.rounds_without_work += 1
        wait_s = POLL_S if next_ms is None else (next_ms - self._clock.now_ms()) / 1000
        return min(POLL_S, max(0.001, wait_s))

    async def _due(self) -> tuple[Sequence[Entry], int | None]:
        if not self._keeper.has_entries(self._sink):
            # Another process only changes entries, it never adds one: none here means none at all.
            return [], None
        now_ms = self._clock.now_ms()
        due = await self._keeper.read(lambda ledger: ledger.due(self._sink, now_ms, self._limit))
        await self._keeper.measure()  # `litejoin dlq purge` may have taken some out
        return due

    async def _is_asked_to_go_on(self) -> bool:
        """`litejoin dlq retry` was said since then; nothing need be in the queue."""
        asked_ms = await self._keeper.read(lambda ledger: ledger.asked_to_go_on_ms(self._sink))
        return asked_ms > self._resender.held_at_ms
