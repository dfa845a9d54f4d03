"""Delivers the results of one sink that takes them one by one (http).

A pump reads the log, max_in_flight workers send. Results of one key stand in a lane: one is in
flight, the others wait behind it, so a key is never overtaken by itself while other keys pass.
Retries of the dead-letter queue enter the same lanes, only when their key is idle. While the
receiver wants nothing the workers wait, each with a result, and retries go back to the queue.
"""

import asyncio
import logging
from collections import deque
from dataclasses import dataclass

from litejoin.delivery.feed import READ_ROWS, Feed
from litejoin.delivery.keeper import Keeper
from litejoin.delivery.ledger import Entry
from litejoin.delivery.outcomes import THROTTLE_LOOK_S, Settler
from litejoin.delivery.progress import Progress
from litejoin.records import Result
from litejoin.sinks.base import Outcome, Sink

WAITING_PER_WORKER = 8
"""Results read ahead of the workers, few enough to hold in memory. The next are read when half of
them are done: often enough that no worker idles, and a read of the log is for many."""

WAITING_CHARS = 4 * 1024 * 1024
"""Of rows read ahead, from which on no more are read: large results fill memory before they are
many."""

MAX_SPAN = 10_000
"""Results past the oldest unfinished one: what a crash sends again when one request hangs."""

LaneKey = tuple[str, str]

log = logging.getLogger("litejoin.delivery")


@dataclass(slots=True)
class Job:
    """One result to send; `entry` and `done` are set for a retry."""

    result: Result
    entry: Entry | None = None
    done: "asyncio.Future[None] | None" = None


class Dispatcher:
    """One sink's pump, workers and retries. Event loop only."""

    def __init__(self, sink: Sink, feed: Feed, settler: Settler, keeper: Keeper) -> None:
        self.sink = sink
        self.feed = feed
        self.settler = settler
        self._keeper = keeper
        self._progress = Progress(0)
        self._lanes: dict[LaneKey, deque[Job] | None] = {}
        """Busy keys, and what waits behind the result in flight (None: nothing yet)."""
        self._ready: asyncio.Queue[Job] = asyncio.Queue()
        self._pending = self._pending_chars = 0
        self._most = WAITING_PER_WORKER * sink.max_in_flight
        self._room = asyncio.Event()
        self._going = asyncio.Event()
        """Clear while the receiver wants nothing and what there is waits (at_least_once)."""
        self._going.set()
        self._newest: dict[LaneKey, int] | None = None
        """While the retrier looks at the queue: newest position of each key that was delivered, or
        may have been, meanwhile."""

    @property
    def cursor(self) -> int:
        """Every result up to here has an outcome."""
        return self._progress.cursor

    @property
    def is_idle(self) -> bool:
        """True when everything in the log has an outcome and no retry is in flight."""
        return not self._lanes and not self._progress.span and self.feed.at_head(self._reached)

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
        """Try again although the receiver wants nothing: somebody said `dlq retry`."""
        self.settler.resume()
        self._going.set()

    @property
    def _reached(self) -> int:
        return self._progress.reached

    def left_over(self) -> int:
        """Results of the log without an outcome. Scans the log: at a shutdown only."""
        return self.feed.behind(self._progress.cursor) - self._progress.ended_ahead

    def start(self, cursor: int) -> list[asyncio.Task[None]]:
        """Start delivering after `cursor`; the tasks run until cancelled."""
        self._progress = Progress(cursor)
        workers = [asyncio.create_task(self._work()) for _ in range(self.sink.max_in_flight)]
        return [asyncio.create_task(self._pump()), *workers]

    def retry(self, entry: Entry) -> "asyncio.Future[None] | None":
        """Send an entry of the queue again, unless its key is busy or has moved on."""
        key = (entry.result.query, entry.result.identity)
        newest = self._newest.get(key, -1) if self._newest else -1
        if key in self._lanes or newest >= entry.result.pos:
            return None
        if self.feed.is_ahead(entry.result, self._reached):
            return None
        job = Job(entry.result, entry, asyncio.get_running_loop().create_future())
        self._enter(job)
        return job.done

    def begin_look(self) -> None:
        """Due entries are about to be read: what is delivered from now on outdates them."""
        self._newest = {}

    def end_look(self) -> None:
        """The due entries were handed over."""
        self._newest = None

    async def _pump(self) -> None:
        while True:
            while not self._has_room() or self._progress.span >= MAX_SPAN:
                self._room.clear()
                await self._room.wait()
            limit = min(READ_ROWS, self._most - self._pending)
            results, reached = await self.feed.next(self._progress.reached, limit)
            for result in results:
                self._progress.begin(result.pos)
                self._enter(Job(result))
            self._progress.reach(reached)
            self._keeper.advance(self.sink.name, self._progress.cursor, 0)

    def _has_room(self) -> bool:
        return self._pending <= self._most // 2 and self._pending_chars < WAITING_CHARS

    def _enter(self, job: Job) -> None:
        key = (job.result.query, job.result.identity)
        self._pending += 1
        self._pending_chars += len(job.result.rows)
        if key not in self._lanes:
            self._lanes[key] = None
            self._ready.put_nowait(job)
            return
        lane = self._lanes[key]
        if lane is None:
            self._lanes[key] = deque((job,))
        else:
            lane.append(job)

    def _leave(self, result: Result) -> None:
        key = (result.query, result.identity)
        self._pending -= 1
        self._pending_chars -= len(result.rows)
        if self._has_room():
            self._room.set()
        lane = self._lanes[key]
        if lane:
            self._ready.put_nowait(lane.popleft())
        else:
            del self._lanes[key]

    async def _work(self) -> None:
        while True:
            job = await self._ready.get()
            if job.entry is not None and self.is_held:
                self._give_back(job)
                continue
            await self._turn()
            if self.stopped and not self.settler.at_least_once:
                self._pass_over(job)
                continue
            self._book(job, await self._send(job.result))

    async def _turn(self) -> None:
        """Wait while the receiver wants nothing."""
        await self._going.wait()
        while (wait_s := self.settler.throttled_s()) > 0:
            await asyncio.sleep(min(wait_s, THROTTLE_LOOK_S))
            await self._going.wait()

    def _pass_over(self, job: Job) -> None:
        self.settler.skip(job.result)
        self._progress.end(job.result.pos)
        self._keeper.advance(self.sink.name, self._progress.cursor)
        self._leave(job.result)

    async def _send(self, result: Result) -> Outcome:
        try:
            return await self.sink.deliver(result)
        except Exception as error:  # a broken sink must not take its worker, nor its order, with it
            log.exception("joiner: sink %s raised while sending %s", self.sink.name, result.id)
            return Outcome("retry", f"{type(error).__name__}: {error}", uncertain=True)

    def _give_back(self, job: Job) -> None:
        """Leave a retry in the queue for now: the retrier waits for its end."""
        if job.done is not None:
            job.done.set_result(None)
        self._leave(job.result)

    def _book(self, job: Job, outcome: Outcome) -> None:
        result, key = job.result, (job.result.query, job.result.identity)
        may_be_there = outcome.status == "delivered" or outcome.uncertain
        if may_be_there and self._newest is not None:
            self._newest[key] = result.pos
        if job.entry is None:
            self.settler.settle(result, outcome)
            self._progress.end(result.pos)
            self._keeper.advance(self.sink.name, self._progress.cursor)
        else:
            self.settler.retried(job.entry, outcome)
        if outcome.status == "stop" and self.settler.at_least_once:
            self._going.clear()
        if job.done is not None:
            job.done.set_result(None)
        self._leave(result)
        if outcome.status in ("stop", "retry") and self.is_held:
            self._give_back_waiting()

    def _give_back_waiting(self) -> None:
        for job in [self._ready.get_nowait() for _ in range(self._ready.qsize())]:
            if job.entry is None:
                self._ready.put_nowait(job)
            else:
                self._give_back(job)
