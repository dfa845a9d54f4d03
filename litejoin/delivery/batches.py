"""Delivers the results of one sink that takes them in batches and in log order (sqlite, stdout).

One batch is in flight at a time. What a batch sink cannot take now (`retry`) is offered again, in
its place, until it can: such a sink fails as a whole (disk full, file locked), so nothing behind
would get through either, and order and the sink's own position stay simple. With best_effort it is
dropped. After `stop` nothing is offered until a restart or `dlq retry`. A destination that has lost
what it had gets it again.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence

from litejoin.delivery.feed import Feed
from litejoin.delivery.keeper import Keeper
from litejoin.delivery.ledger import Entry
from litejoin.delivery.outcomes import THROTTLE_LOOK_S, Settler
from litejoin.delivery.progress import Progress
from litejoin.records import Result
from litejoin.sinks.base import DELIVERED, AskedSink, BatchSink, LateSink, Outcome

AGAIN_S = 0.1
"""Pause after a sink has said how far it is: it may say so with every batch."""

log = logging.getLogger("litejoin.delivery")


class BatchDispatcher:
    """One batch sink's pump. Event loop only; the same face as Dispatcher."""

    def __init__(
        self,
        sink: BatchSink,
        feed: Feed,
        settler: Settler,
        keeper: Keeper,
        *,
        hold_ms: Callable[[int], int] | None,
    ) -> None:
        self.sink = sink
        self.feed = feed
        self.settler = settler
        self._keeper = keeper
        self._hold_ms = hold_ms
        """Milliseconds to wait after n failures; None: best_effort, do not hold."""
        self._progress = Progress(0)
        self._sending = asyncio.Lock()
        self._going = asyncio.Event()
        self._going.set()

    @property
    def cursor(self) -> int:
        """Every result up to here has an outcome."""
        return self._progress.cursor

    @property
    def is_idle(self) -> bool:
        """True when everything in the log has an outcome and no retry is in flight."""
        return not self._sending.locked() and self.feed.at_head(self._progress.reached)

    @property
    def stopped(self) -> bool:
        """True when the receiver has asked for no more."""
        return bool(self.settler.stats.stopped)

    @property
    def is_held(self) -> bool:
        """True while the receiver wants nothing: at all, or for some time (Retry-After)."""
        return self.settler.is_held

    @property
    def held_at_ms(self) -> int:
        """When it said so, in Unix milliseconds."""
        return self.settler.stats.held_at_ms

    def resume(self) -> None:
        """Try again although the receiver wants nothing."""
        self.settler.resume()
        self._going.set()

    def left_over(self) -> int:
        """Results of the log without an outcome. Scans the log: at a shutdown only."""
        return self.feed.behind(self._progress.cursor) - self._progress.ended_ahead

    def start(self, cursor: int) -> list[asyncio.Task[None]]:
        """Start delivering after `cursor`; the tasks run until cancelled."""
        stored = self.sink.position(self.feed.epoch)
        if stored is not None:
            # The sink's file may be older than our cursor: restored, or deleted to be rebuilt.
            cursor = min(cursor, stored)
            self.feed.done = {}  # it knows by itself what it has
        elif isinstance(self.sink, LateSink):
            self.sink.expect(self.feed.late(cursor))
        self._progress = Progress(cursor)
        return [asyncio.create_task(self._pump())]

    def begin_look(self) -> None:
        """Nothing to do: `retry` takes its turn between batches, and the ledger is asked in
        between.
        """

    def end_look(self) -> None:
        """Nothing to do."""

    def retry(self, entry: Entry) -> "asyncio.Future[None] | None":
        """Send an entry of the queue again, between two batches."""
        if self.feed.is_ahead(entry.result, self._progress.reached):
            return None
        return asyncio.ensure_future(self._resend(entry))

    async def _resend(self, entry: Entry) -> None:
        async with self._sending:
            if self.stopped or await self._is_outdated(entry):
                return
            outcomes = await self._offer([entry.result], self._deliver_one)
            self.settler.retried(entry, outcomes[0])

    async def _is_outdated(self, entry: Entry) -> bool:
        """A newer result of the key may have been delivered since the entry was read."""
        return await self._keeper.read(lambda ledger: ledger.is_gone(entry))

    async def _deliver_one(self, results: Sequence[Result]) -> Sequence[Outcome]:
        return [await self.sink.deliver(result) for result in results]

    async def _pump(self) -> None:
        if isinstance(self.sink, AskedSink):
            await self._ask(self.sink)
        while True:
            await self._going.wait()
            results, reached = await self.feed.next(self._progress.reached, self.sink.max_batch)
            async with self._sending:
                for result in results:
                    self._progress.begin(result.pos)
                self._progress.reach(reached)
                if self.stopped and self._hold_ms is None:
                    self._pass_over(results)
                elif results:
                    await self._hold(min(self.settler.throttled_s(), THROTTLE_LOOK_S))
                    await self._send(results)
                if self.stopped and self._hold_ms is not None:
                    self._going.clear()
                self._keeper.advance(self.sink.name, self._progress.cursor, 0)

    async def _ask(self, sink: AskedSink) -> None:
        """What the destination has lost comes again at once, and not only with the next result."""
        async with self._sending:
            try:
                outcome = await sink.ask(self.feed.pipeline)
            except Exception:
                log.exception("joiner: sink %s raised", self.sink.name)
                return
            if outcome.again_from is not None:
                self._begin_again(outcome)

    async def _send(self, results: list[Result]) -> None:
        """Offer a batch until every result of it has an outcome."""
        failures = 0
        while results:
            outcomes = await self._offer(results, self.sink.deliver_batch)
            lost = next((o for o in outcomes if o.again_from is not None), None)
            if lost is not None:
                await asyncio.sleep(AGAIN_S)
                if self._begin_again(lost):
                    return
                continue
            if outcomes.count(DELIVERED) == len(results):
                self.settler.settle_delivered(results)
                self._progress.end_all()  # only this batch is in flight
                self._keeper.advance(self.sink.name, self._progress.cursor, len(results))
                return
            taken = self._count_taken(outcomes)
            for result, outcome in zip(results[:taken], outcomes[:taken], strict=True):
                self.settler.settle(result, outcome)
                self._progress.end(result.pos)
            self._keeper.advance(self.sink.name, self._progress.cursor, taken)
            results = results[taken:]
            failures = 0 if taken else failures + 1
            if results and self._hold_ms is not None:
                self.settler.held(results[0], outcomes[taken], max(1, failures))
                await self._hold(self._hold_ms(max(1, failures)) / 1000)

    async def _hold(self, pause_s: float) -> None:
        """Wait before the next offer, and as long as the receiver asks (Retry-After)."""
        while pause_s > 0:
            await asyncio.sleep(pause_s)
            pause_s = min(self.settler.throttled_s(), THROTTLE_LOOK_S)

    def _begin_again(self, lost: Outcome) -> bool:
        """Go back to where the destination is; False when that is not behind us."""
        assert lost.again_from is not None
        if lost.again_from >= self._progress.cursor:
            return False
        log.info(
            "joiner: sink %s: %s; it is offered what follows position %d",
            self.sink.name, lost.error, lost.again_from,
        )  # fmt: skip
        self.feed.done = {}
        self._progress = Progress(lost.again_from)
        return True

    def _pass_over(self, results: list[Result]) -> None:
        """The receiver wanted no more, and best_effort keeps nothing for later."""
        for result in results:
            self.settler.skip(result)
            self._progress.end(result.pos)

    def _count_taken(self, outcomes: Sequence[Outcome]) -> int:
        if self._hold_ms is None:
            return len(outcomes)
        return next((n for n, o in enumerate(outcomes) if o.status == "retry"), len(outcomes))

    async def _offer(
        self,
        results: Sequence[Result],
        deliver: Callable[[Sequence[Result]], Coroutine[object, object, Sequence[Outcome]]],
    ) -> Sequence[Outcome]:
        try:
            return await deliver(results)
        except Exception as error:  # a broken sink must not end its own delivery
            log.exception("joiner: sink %s raised", self.sink.name)
            return [Outcome("retry", f"{type(error).__name__}: {error}")] * len(results)
