"""Delivery as the runtime sees it: every sink that has a cursor, started, watched and stopped
together.

Made by the runtime after the engine has recovered. Each sink has its own dispatcher, cursor and
part of the dead-letter queue, so a dead sink delays nobody but itself. SSE has no place here: each
subscriber keeps its own cursor (`Last-Event-ID`).

A sink that is new to the pipeline starts at position 0 of the log, which holds at least every
current result: it gets the state as it is and then every change.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from functools import partial
from random import Random

from litejoin.clock import Clock, SteadyClock
from litejoin.delivery.batches import BatchDispatcher
from litejoin.delivery.cleanup import clean_forever
from litejoin.delivery.dispatcher import Dispatcher
from litejoin.delivery.feed import Feed, Route
from litejoin.delivery.keeper import Keeper
from litejoin.delivery.ledger import Ledger, Size
from litejoin.delivery.outcomes import Settler
from litejoin.delivery.retry import Retrier
from litejoin.plan.nodes import Plan, SinkPlan
from litejoin.records import rfc3339
from litejoin.sinks.base import BatchSink, LogReader, LogSignal, Sink

RETRIES_PER_LOOK = 64
"""Entries of the queue taken at a time; their bodies are held in memory."""

HOLD_MS = 500
MAX_HOLD_MS = 30_000
"""First and longest pause before a batch sink is offered the same batch again."""

DRAIN_POLL_S = 0.01

CLOSE_S = 3.0
"""How long the sinks may take to close: longer than a batch waits for a lock. One whose disk or
pipe hangs must not keep the cursors from being written, nor the process from ending."""

MAX_COUNTED = 10_000
"""Log positions that /health scans for the results of a sink: about a millisecond."""

log = logging.getLogger("litejoin.delivery")


class Delivery:
    """All dispatchers of a pipeline. Event loop only; files are written on a thread of its own."""

    def __init__(
        self,
        plan: Plan,
        reader: LogReader,
        signal: LogSignal,
        clock: Clock,
        sinks: Mapping[str, Sink],
        *,
        on_fatal: Callable[[Exception], None],
        random: Random | None = None,
    ) -> None:
        """`reader` is delivery's from here on: read on the event loop, closed with it. `sinks`: the
        running sinks by name, without SSE. `on_fatal` is called on the event loop
        when the process must end (an I/O error on dlq.db or a log that cannot be read).
        """
        self._plan = plan
        self._reader = reader
        self._signal = signal
        self._clock = SteadyClock(clock)
        self._sinks = sinks
        self._on_fatal = on_fatal
        self._random = random or Random()
        durable = plan.storage.synchronous == "full"
        dlq = plan.delivery.dlq
        ledger = partial(
            Ledger, dlq.path, durable=durable, is_replicated=plan.replication is not None
        )
        self._keeper = Keeper(ledger, on_fatal)
        self._dispatchers = {s.name: self._dispatcher(s) for s in plan.sinks if self._is_routed(s)}
        self._retriers: dict[str, Retrier] = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Open dlq.db and the sinks, and deliver until closed.

        Raises SinkError of a sink that can never work, StartRefusedError for a foreign dlq.db.
        """
        await self._keeper.open(self._reader.epoch)
        joins = {name: self._joins_of(name) for name in self._dispatchers}
        done = await self._keeper.route(joins, self._signal.head)
        latest_ms = self._clock.now_ms() + self._plan.delivery.dlq.max_backoff_ms
        await self._keeper.read(lambda ledger: ledger.clamp_retries(latest_ms))
        for dispatcher in self._dispatchers.values():
            await dispatcher.sink.open()
        for name, dispatcher in self._dispatchers.items():
            dispatcher.feed.done = done[name]
            self._start(dispatcher.start(self._keeper.durable.get(name, 0)))
            retrier = Retrier(name, self._keeper, self._clock, dispatcher, RETRIES_PER_LOOK)
            dispatcher.settler.on_enqueue = retrier.poke
            self._retriers[name] = retrier
            self._start([asyncio.create_task(retrier.run())])
        stats = {name: d.settler.stats for name, d in self._dispatchers.items()}
        cleaning = clean_forever(self._plan.delivery.dlq, self._keeper, self._clock, stats)
        self._start([asyncio.create_task(cleaning)])

    async def drain(self, deadline_s: float) -> dict[str, int]:
        """Deliver what is in the log and every retry that is due, at most for `deadline_s` seconds.

        The engine must have stopped. Returns the results left over by sink (none: everything went);
        with at_least_once the next start sends them.
        """
        try:
            async with asyncio.timeout(deadline_s):
                ends = asyncio.get_running_loop().time() + deadline_s
                await asyncio.gather(*(self._drained(name, ends) for name in self._dispatchers))
        except TimeoutError:
            log.warning("joiner: sinks did not take everything within %g s", deadline_s)
        left = {name: d.left_over() for name, d in self._dispatchers.items()}
        return {name: count for name, count in left.items() if count}

    async def close(self) -> None:
        """Stop sending, close the sinks, write the cursors. What is in flight is sent again next
        time.
        """
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(_closed(d.sink) for d in self._dispatchers.values()))
        await self._keeper.close()
        self._reader.close()

    def low_watermark(self) -> int:
        """Every sink's cursor is on disk up to here: trim the log no further. Any thread."""
        durable = self._keeper.durable
        return min((durable.get(name, 0) for name in self._dispatchers), default=self._signal.head)

    def pending(self) -> int:
        """Log positions that the slowest sink is behind."""
        return max((d.feed.lag(d.cursor) for d in self._dispatchers.values()), default=0)

    def poke(self) -> None:
        """Look for due retries now: time was moved, or the queue was changed in this process."""
        for retrier in self._retriers.values():
            retrier.poke()

    def health(self) -> dict[str, dict[str, object]]:
        """By sink: `status`, `reason` when degraded, counters, how far behind, queue size."""
        return {name: self._sink_health(name) for name in self._dispatchers}

    def _sink_health(self, name: str) -> dict[str, object]:
        dispatcher = self._dispatchers[name]
        stats, size = dispatcher.settler.stats, self._keeper.sizes.get(name, Size())
        reason = ""
        now_ms = self._clock.now_ms()
        throttled_until_ms = stats.throttled_until_ms or 0
        if stats.stopped:
            reason = f"stopped: {stats.stopped}; it goes on after a restart or `litejoin dlq retry`"
        elif dispatcher.feed.blocked:
            reason = "dead-letter queue is full; new results wait in the log"
        elif throttled_until_ms > now_ms:
            reason = f"throttled by the receiver until {rfc3339(throttled_until_ms)}"
        elif stats.failing:
            reason = f"{stats.failing} failed attempts since the last success: {stats.last_error}"
        elif size.entries:
            reason = f"{size.entries} results in the dead-letter queue"
        return {
            "status": "degraded" if reason else "ok",
            **({"reason": reason} if reason else {}),
            "delivered": stats.delivered,
            "failed": stats.failed,
            "retries": stats.retries,
            "dropped": stats.dropped,
            "expired": stats.expired,
            "superseded": self._keeper.superseded.get(name, 0),
            "lag": dispatcher.feed.lag(dispatcher.cursor),
            "lag_results": self._lag_results(dispatcher),
            "lag_s": self._lag_s(dispatcher, now_ms),
            "dlq_entries": size.entries,
            "dlq_bytes": size.bytes,
            "last_success": _time(stats.last_success_ms),
            "last_error": stats.last_error,
            "throttled_until": _time(max(throttled_until_ms, now_ms), now_ms),
        }

    def _lag_results(self, dispatcher: Dispatcher | BatchDispatcher) -> int:
        """Results without an outcome; far behind, the log positions: an upper bound."""
        lag = dispatcher.feed.lag(dispatcher.cursor)
        return dispatcher.left_over() if 0 < lag <= MAX_COUNTED else lag

    def _lag_s(self, dispatcher: Dispatcher | BatchDispatcher, now_ms: int) -> float:
        """Age of the oldest result without an outcome."""
        emitted_ms = dispatcher.feed.oldest_ms(dispatcher.cursor)
        return 0.0 if emitted_ms is None else max(0, now_ms - emitted_ms) / 1000

    async def _drained(self, name: str, ends: float) -> None:
        """Until nothing is left that can go before the event loop's time `ends`."""
        dispatcher, retrier = self._dispatchers[name], self._retriers[name]
        now = asyncio.get_running_loop().time
        retrier.rounds_without_work = 0
        while not (dispatcher.is_idle and retrier.rounds_without_work or dispatcher.stopped):
            if dispatcher.settler.throttled_s() > ends - now():
                return
            if not dispatcher.is_idle:
                retrier.rounds_without_work = 0
            retrier.poke()
            await asyncio.sleep(DRAIN_POLL_S)

    def _start(self, tasks: list[asyncio.Task[None]]) -> None:
        for task in tasks:
            task.add_done_callback(self._ended)
        self._tasks += tasks

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._on_fatal(error if isinstance(error, Exception) else RuntimeError(repr(error)))

    def _is_routed(self, sink: SinkPlan) -> bool:
        return sink.name in self._sinks and bool(self._joins_of(sink.name))

    def _joins_of(self, sink: str) -> frozenset[str]:
        return frozenset(self._plan.results_of(sink))

    def _dispatcher(self, plan: SinkPlan) -> Dispatcher | BatchDispatcher:
        sink, dlq = self._sinks[plan.name], self._plan.delivery.dlq
        at_least_once = plan.guarantee == "at_least_once"
        sharing = sum(s.guarantee == "at_least_once" and s.type != "sse" for s in self._plan.sinks)
        route = Route(
            sink=plan.name,
            joins=self._joins_of(plan.name),
            hidden_deletes=frozenset(j.name for j in self._plan.joins if j.on_delete == "ignore"),
            at_least_once=at_least_once,
            # Equal parts, so that one dead sink cannot fill the queue of the others.
            queue_bytes=dlq.max_size_bytes // max(1, sharing),
        )
        feed = Feed(route, self._reader, self._signal, self._keeper)
        settler = Settler(plan.name, at_least_once, dlq, self._keeper, self._clock, self._random)
        if isinstance(sink, BatchSink):
            hold_ms = _hold_ms if at_least_once else None
            return BatchDispatcher(sink, feed, settler, self._keeper, hold_ms=hold_ms)
        return Dispatcher(sink, feed, settler, self._keeper)


async def _closed(sink: Sink) -> None:
    try:
        async with asyncio.timeout(CLOSE_S):
            await sink.close()
    except TimeoutError:
        log.warning("joiner: sink %s did not close within %g s; it is left", sink.name, CLOSE_S)
    except Exception:  # a broken sink must not take the cursors of the others with it
        log.exception("joiner: sink %s raised while closing", sink.name)


def _time(unix_ms: int | None, none_at: int | None = None) -> str | None:
    """RFC 3339, None when there is no time or it is `none_at`."""
    return None if unix_ms is None or unix_ms == none_at else rfc3339(unix_ms)


def _hold_ms(failures: int) -> int:
    return min(MAX_HOLD_MS, HOLD_MS << min(failures - 1, 10))
