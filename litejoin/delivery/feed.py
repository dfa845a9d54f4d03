"""The results log as one sink sees it: its joins only, in order, and only while there is room for
more.

Used by the dispatchers. Reads short stretches on the event loop: a read of READ_ROWS results takes
about a millisecond, less than a hop to another thread under load.
"""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass

from litejoin.delivery.keeper import Keeper
from litejoin.delivery.ledger import Size
from litejoin.records import Result, ResultOp
from litejoin.sinks.base import LogReader, LogSignal

READ_ROWS = 256

FULL_POLL_S = 0.25
"""How often a sink with a full queue looks whether there is room again."""

log = logging.getLogger("litejoin.delivery")


@dataclass(frozen=True, slots=True)
class Route:
    """Which results belong to a sink, and how much of its queue it may fill."""

    sink: str
    joins: frozenset[str]
    hidden_deletes: frozenset[str]
    """Joins with `on_delete: ignore`."""
    at_least_once: bool
    queue_bytes: int

    def takes(self, result: Result) -> bool:
        """False for a delete that nobody wants to hear of."""
        return result.op is not ResultOp.DELETE or result.query not in self.hidden_deletes


class Feed:
    """Hands out the results of one sink."""

    def __init__(self, route: Route, reader: LogReader, signal: LogSignal, keeper: Keeper) -> None:
        self._route = route
        self._reader = reader
        self._signal = signal
        self._keeper = keeper
        self.blocked = False
        """True while the sink's part of the dead-letter queue is full."""
        self.done: Mapping[str, int] = {}
        """Of joins that the sink has up to some position: see delivery.routes."""

    async def next(self, after: int, limit: int) -> tuple[list[Result], int]:
        """Wait for results after a position; returns at most `limit` and the position covered."""
        await self._signal.wait(after)
        await self._keeper.room()
        if self._route.at_least_once:
            await self._queue_room()
        joins, upto = self._stretch(after)
        results, reached = self._reader.read(after, limit, joins, upto=upto)
        if not results:
            await asyncio.sleep(0)  # a long stretch of other joins' results must not hold the loop
        return [r for r in results if self._route.takes(r)], reached

    def late(self, cursor: int) -> frozenset[str]:
        """The joins that catch up: the sink has what follows the cursor of others already."""
        joins = self._stretch(cursor)[0]
        return joins if joins != self._route.joins else frozenset()

    def _stretch(self, after: int) -> tuple[frozenset[str], int]:
        """The joins whose results are to be read next, and up to where they are all."""
        ahead = [done for done in self.done.values() if done > after]
        if not ahead:
            return self._route.joins, self._signal.head
        behind = frozenset(j for j in self._route.joins if self.done.get(j, 0) <= after)
        return behind, min(self._signal.head, *ahead)

    @property
    def pipeline(self) -> str:
        """Pipeline name and epoch."""
        return self._reader.pipeline

    @property
    def epoch(self) -> str:
        """The epoch that positions belong to."""
        return self._reader.epoch

    def is_ahead(self, result: Result, reached: int) -> bool:
        """True for an entry of the queue that a restart will read from the log once more.

        Sent before that, it would overtake the older results of its key that come again with it.
        When the queue is full nothing is read, so entries must go as they are.
        """
        is_ours = result.pipeline == self._reader.pipeline
        reached = max(reached, self.done.get(result.query, 0))
        return is_ours and result.pos > reached and not self.blocked

    def at_head(self, reached: int) -> bool:
        """True when nothing is left to read."""
        return reached >= self._signal.head

    def behind(self, cursor: int) -> int:
        """Results after a cursor. Scans them: for the last words at a shutdown only."""
        starts: dict[int, list[str]] = {}
        for join in self._route.joins:
            starts.setdefault(max(cursor, self.done.get(join, 0)), []).append(join)
        return sum(self._reader.count(start, joins) for start, joins in starts.items())

    def oldest_ms(self, cursor: int) -> int | None:
        """When the first result after a cursor was emitted; None: it is not near, or is none."""
        joins, upto = self._stretch(cursor)
        results, _ = self._reader.read(cursor, 1, joins, upto=upto)
        return results[0].emit_at_ms if results else None

    def lag(self, cursor: int) -> int:
        """Log positions between a cursor and the head, other joins' included."""
        return max(0, self._signal.head - cursor)

    async def _queue_room(self) -> None:
        while self._used() >= self._route.queue_bytes:
            if not self.blocked:
                log.warning(
                    "dlq: full for sink %s (%d bytes): it takes no new results until there is room;"
                    " they wait in the results log",
                    self._route.sink, self._used(),
                )  # fmt: skip
            self.blocked = True
            await self._keeper.measure()
            await asyncio.sleep(FULL_POLL_S)
        self.blocked = False

    def _used(self) -> int:
        return self._keeper.sizes.get(self._route.sink, Size()).bytes
