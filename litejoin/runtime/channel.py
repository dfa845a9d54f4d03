"""The bounded channel between sources and the flush thread; the `Intake` of all sources.

Sources put row batches in on the event loop; the flush thread takes everything that waits, so
batches grow with the backlog and an idle pipeline flushes at once. Those who were just answered
mostly send again at once: the flush thread may wait for them a moment, so that all share one
transaction and its syncs. When the channel is full, pushes are refused (503), polls wait. Knows
nothing of SQLite.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from litejoin.errors import LiteJoinError, OverloadedError

MAX_BATCHES = 1_000
"""Row batches (requests, polls) that may wait. The monitor's msgCh counts them."""

MAX_BYTES = 16 * 1024 * 1024
"""Bytes that may wait, whatever their number: bounds memory under large bodies."""

FLUSH_BYTES = 8 * 1024 * 1024
"""Most bytes of one flush: a transaction that keeps its pages in the cache."""

TopicNumbers = Callable[[Sequence[str]], list[int]]
"""The catalogue numbers of topics. Raises BadRowError."""


@dataclass(slots=True)
class Pending:
    """A row batch and the future of its ack."""

    batch: bytes
    rows: int
    ack: asyncio.Future[None]
    piecewise: bool = False
    """Store the rows of sound shards when those of another are refused."""


class Channel:
    """Thread-safe between one event loop and one flush thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, topic_numbers: TopicNumbers) -> None:
        self._loop = loop
        self._topic_numbers = topic_numbers
        self._waiting: deque[Pending] = deque()
        self._bytes = 0
        self._changed = threading.Condition()
        self._room = asyncio.Event()
        self._refusal: str | None = "starting"
        self.held: str | None = None
        """Why nothing but deletions is taken in at the moment."""
        self._stopped = False
        self._refused = 0
        self._senders = 0
        """Batches of the last flush, and those that had come by its end: how many are likely to
        come."""
        self._wanted = 1
        """Batches that `take` waits for."""
        self.submitted = 0
        """Batches taken in so far. Any thread may read it."""

    # -- the sources' side, on the event loop

    def topic_number(self, name: str) -> int:
        """See `Intake`."""
        return self._topic_numbers((name,))[0]

    def topic_numbers(self, names: Sequence[str]) -> list[int]:
        """See `PushIntake`."""
        return self._topic_numbers(names)

    def submit(
        self, batch: bytes, rows: int, *, piecewise: bool = False, frees: bool = False
    ) -> Awaitable[None]:
        """See `Intake`. Raises OverloadedError while starting, draining, held or full. `frees`: the
        rows are deletions of retention, which are taken while it is held.
        """
        refusal = self._refusal or (None if frees else self.held)
        if refusal:
            raise OverloadedError(f"the pipeline is {refusal}", retry_after_s=1)
        if self._is_full(len(batch)):
            self._refused += 1
            raise OverloadedError(
                f"{len(self._waiting)} batches wait to be written", retry_after_s=1
            )
        ack: asyncio.Future[None] = self._loop.create_future()
        with self._changed:
            self._waiting.append(Pending(batch, rows, ack, piecewise))
            self._bytes += len(batch)
            self.submitted += 1
            if len(self._waiting) >= self._wanted:
                self._changed.notify()
        return ack

    async def room(self, *, frees: bool = False) -> None:
        """See `Intake`; `frees` as for `submit`."""
        while self._refusal or (self.held and not frees) or self._is_full(0):
            self._room.clear()
            await self._room.wait()

    def hold(self, why: str) -> None:
        """Take in nothing but deletions until `release`."""
        self.held = why

    def release(self) -> None:
        """Let in again what `held` kept out."""
        self.held = None
        self._room.set()

    def _is_full(self, more: int) -> bool:
        # A batch that is larger than the bound by itself is taken when nothing else waits.
        return len(self._waiting) >= MAX_BATCHES or (
            self._bytes > 0 and self._bytes + more > MAX_BYTES
        )

    def open(self) -> None:
        """Take batches from now on."""
        self._refusal = None
        self._room.set()

    def refuse(self, why: str) -> None:
        """Refuse new batches; those that wait are still written."""
        self._refusal = why

    def __len__(self) -> int:
        return len(self._waiting)

    def figures(self) -> dict[str, int]:
        """For /metrics: what waits, what may wait, what found no room. Any thread."""
        return {
            "batches": len(self._waiting),
            "capacity_batches": MAX_BATCHES,
            "bytes": self._bytes,
            "capacity_bytes": MAX_BYTES,
            "refused": self._refused,
        }

    # -- the flush thread's side

    def take(self, gather_s: float = 0.0) -> list[Pending]:
        """Everything that waits, at most FLUSH_BYTES; blocks while nothing does. Empty: stopped.

        `gather_s`: once there is something, the longest to wait for the senders of the last flush.
        """
        with self._changed:
            while not self._waiting and not self._stopped:
                self._changed.wait()
            if gather_s > 0:
                self._gather(gather_s)
            taken: list[Pending] = []
            size = 0
            while self._waiting and (
                not taken or size + len(self._waiting[0].batch) <= FLUSH_BYTES
            ):
                taken.append(self._waiting.popleft())
                size += len(taken[-1].batch)
            self._bytes -= size
        if taken and not self._room.is_set():
            self._loop.call_soon_threadsafe(self._room.set)
        return taken

    def _gather(self, at_most_s: float) -> None:
        self._wanted = self._senders
        self._changed.wait_for(
            lambda: len(self._waiting) >= self._wanted or self._stopped, at_most_s
        )
        self._wanted = 1

    def acknowledge(self, items: list[Pending], failed: dict[int, LiteJoinError]) -> None:
        """Resolve the acks of a flush; `failed` maps positions in `items` to what went wrong."""
        self._senders = len(items) + len(self._waiting)
        self._loop.call_soon_threadsafe(_resolve, items, failed)

    def stop(self) -> None:
        """Let `take` return what waits and then nothing, for ever."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()


def _resolve(items: list[Pending], failed: dict[int, LiteJoinError]) -> None:
    for position, item in enumerate(items):
        if item.ack.done():
            continue
        error = failed.get(position)
        if error is None:
            item.ack.set_result(None)
        else:
            item.ack.set_exception(error)
