"""The one thread that writes dlq.db, seen from the event loop.

Dispatchers push changes and cursors here and go on; every COMMIT_INTERVAL_S, or COMMIT_CHANGES
changes, they are committed in one transaction, so a sync of the disk is shared by many results and
never blocks the loop. What is pushed together is committed together. A full disk keeps the changes
and stops the dispatchers (`room`); an I/O error is fatal.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import apsw

from litejoin.delivery.ledger import Change, Enqueue, Ledger, Size
from litejoin.delivery.routes import Done, settle_routes
from litejoin.errors import StorageIOError

COMMIT_INTERVAL_S = 0.1
"""Longest time an outcome waits for its commit: what a kill -9 makes delivery send again."""

COMMIT_CHANGES = 500
"""Outcomes that are committed without waiting for the interval."""

MAX_PENDING = 5_000
"""Outcomes in memory when the disk does not keep up or is full; then dispatchers wait."""

CHARS_PER_OUTCOME = 16 * 1024
"""A queued result that waits for its commit counts as one outcome more for so much of its rows."""

FULL_RETRY_S = 1.0

log = logging.getLogger("litejoin.delivery")

T = TypeVar("T")


class Keeper:
    """Batches changes of the ledger. All methods on the event loop."""

    def __init__(self, open_ledger: Callable[[], Ledger], on_fatal: Callable[[Exception], None]):
        self._open_ledger = open_ledger
        self._on_fatal = on_fatal
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="lj-delivery")
        self._ledger: Ledger | None = None
        self._changes: list[Change] = []
        self._cursors: dict[str, int] = {}
        self._outcomes = 0
        self._committing = asyncio.Lock()
        self._pushed = asyncio.Event()
        self._urgent = asyncio.Event()
        self._roomy = asyncio.Event()
        self._roomy.set()
        self._task: asyncio.Task[None] | None = None
        self._flushes: set[asyncio.Task[None]] = set()
        """Those under way: the event loop itself holds its tasks by weak references only."""
        self.durable: dict[str, int] = {}
        """Cursors as they are on disk: the results log may be trimmed behind them."""
        self.sizes: dict[str, Size] = {}
        self.superseded: dict[str, int] = {}
        self.full = False
        self._queued: set[str] = set()
        self._is_broken = False
        """A commit had an I/O error and may be on disk all the same: never write again."""

    async def open(self, epoch: str) -> dict[str, int]:
        """Open the file and return the stored cursors. Raises StartRefusedError and apsw.Error."""
        self._ledger = await self._call(self._open_ledger)
        self.durable = await self._call(self._ledger.cursors, epoch)
        self.sizes = await self._call(self._ledger.sizes)
        self._queued = set(self.sizes)
        self._task = asyncio.create_task(self._commit_forever())
        return dict(self.durable)

    async def route(self, joins: Mapping[str, Collection[str]], head: int) -> dict[str, Done]:
        """Once after `open`: note the joins of each sink; returns what it has of each already.
        The cursor of a sink that has a new one goes back.
        """
        done, self.durable = await self.read(lambda ledger: settle_routes(ledger, joins, head))
        return done

    def advance(self, sink: str, pos: int, outcomes: int = 1) -> None:
        """Every result of the sink up to `pos` has an outcome; `outcomes` of them are new."""
        if self._cursors.get(sink, self.durable.get(sink)) != pos:
            self._cursors[sink] = pos
            self._note(outcomes)

    def push(self, change: Change) -> None:
        """Add a change; it is durable no later than a cursor that is pushed after it."""
        self._changes.append(change)
        weight = 1
        if isinstance(change, Enqueue):
            self._queued.add(change.entry.sink)
            weight += len(change.entry.result.rows) // CHARS_PER_OUTCOME
        self._note(weight)

    def has_entries(self, sink: str) -> bool:
        """False: certainly nothing of the sink waits in the queue, on disk or on its way there."""
        return sink in self._queued

    def _note(self, outcomes: int) -> None:
        self._outcomes += outcomes
        self._pushed.set()
        if self._outcomes >= COMMIT_CHANGES:
            self._urgent.set()
        if self._outcomes >= MAX_PENDING:
            self._roomy.clear()

    async def room(self) -> None:
        """Wait until outcomes can be remembered again."""
        await self._roomy.wait()

    async def read(self, function: Callable[[Ledger], T]) -> T:
        """Run `function` on the ledger's thread, after everything pushed so far was committed."""
        await self.flush()
        assert self._ledger is not None
        return await self._call(function, self._ledger)

    async def measure(self) -> None:
        """Look at the sizes again, for what another process has changed."""
        self._measured(await self.read(Ledger.sizes))

    def _measured(self, sizes: dict[str, Size]) -> None:
        self.sizes = sizes
        on_their_way = {c.entry.sink for c in self._changes if isinstance(c, Enqueue)}
        self._queued = set(sizes) | on_their_way

    async def flush(self) -> None:
        """Commit what was pushed. A failure is reported as usual, not raised.

        It goes on when its caller is cancelled: the ledger's thread cannot be stopped, and what
        has become of the changes must be noted.
        """
        flushing = asyncio.create_task(self._flush())
        self._flushes.add(flushing)
        flushing.add_done_callback(self._flushes.discard)
        await asyncio.shield(flushing)

    async def _flush(self) -> None:
        async with self._committing:
            await self._commit()

    async def close(self) -> None:
        """Commit the rest and close the file."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._ledger is not None:
            await self.flush()
            await self._call(self._ledger.close)
        self._thread.shutdown(wait=False)

    async def _commit_forever(self) -> None:
        while True:
            await self._pushed.wait()
            try:
                async with asyncio.timeout(COMMIT_INTERVAL_S if not self.full else FULL_RETRY_S):
                    await self._urgent.wait()
            except TimeoutError:
                pass
            await self.flush()

    async def _commit(self) -> None:
        changes, cursors, outcomes = self._changes, self._cursors, self._outcomes
        self._pushed.clear()
        self._urgent.clear()
        if self._is_broken or not (changes or cursors):
            return
        self._changes, self._cursors, self._outcomes = [], {}, 0
        assert self._ledger is not None
        try:
            superseded, sizes = await self._call(
                _commit_and_measure, self._ledger, cursors, changes
            )
        except apsw.Error as error:
            self._changes = changes + self._changes
            self._cursors = cursors | self._cursors
            self._outcomes += outcomes
            self._failed(error)
            return
        self.full = False
        self.durable.update(cursors)
        self._measured(sizes)
        for sink, entry_id in superseded:
            self.superseded[sink] = self.superseded.get(sink, 0) + 1
            log.debug(
                "dlq: superseded result %s for sink %s: a newer one was delivered", entry_id, sink
            )
        if self._outcomes < MAX_PENDING:
            self._roomy.set()

    def _failed(self, error: apsw.Error) -> None:
        if isinstance(error, (apsw.FullError, apsw.BusyError)):
            if not self.full:
                log.error(
                    "dlq: cannot write dlq.db: %s; delivery goes on when it can be written", error
                )
            self.full = True
            self._roomy.clear()
            self._pushed.set()
            return
        self._roomy.clear()
        self._is_broken = True
        extended = getattr(error, "extendedresult", 0)
        self._on_fatal(StorageIOError(f"dlq.db: {error}", extended=extended))

    async def _call(self, function: Callable[..., T], *args: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *args)


def _commit_and_measure(
    ledger: Ledger, cursors: dict[str, int], changes: list[Change]
) -> tuple[list[tuple[str, str]], dict[str, Size]]:
    return ledger.commit(cursors, changes), ledger.sizes()
