"""The two threads of the main path: one writes flushes, one evaluates joins.

    Channel --row batches--> FlushThread --change rows--> EvaluateThread --head--> LogSignal

Both are inside native code without the GIL nearly always. An error that the process must not
survive (an I/O error on commit, corruption) ends them and is handed to `on_fatal` on the event
loop.
"""

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import apsw

from litejoin._ext.route import shard_of
from litejoin.clock import Clock
from litejoin.engine.engine import Applied, Engine
from litejoin.errors import CorruptionError, LiteJoinError, StorageFullError
from litejoin.records import unpack_rows
from litejoin.runtime.channel import Channel, Pending
from litejoin.store.writer import Flush, ShardStore

MAX_PENDING_BYTES = 4 * 1024 * 1024
"""Change rows that may wait for the evaluator; beyond that the flush thread waits, then the channel
fills, then sources are held back."""

GATHER_SHARE = 0.3
"""Of the time that the last flush took: how long the next one waits for those who were answered.
They are there within a fraction of that, and what the wait costs is a third of what it saves: with
4 senders and synced commits a flush holds all four instead of two."""

FULL_DISK_RETRY_S = 1.0
TELL_FULL_EVERY_MS = 10_000
IDLE_TICK_S = 0.2
"""How often an idle evaluator looks for house-keeping that is due."""

WINDOW_TICK_S = 0.05
"""How long a window that is due may wait for its evaluation while nothing else happens."""

TRIM_EVERY_MS = 1_000
TRIM_AGAIN_MS = 20
"""The pause when there is more to trim: results never wait long for house-keeping, and still 50,000
log entries a second can go."""

log = logging.getLogger("litejoin.joiner")
store_log = logging.getLogger("litejoin.store")

OnFatal = Callable[[BaseException], None]


@dataclass(frozen=True, slots=True)
class Mark:
    """Of an instant: how many batches had been put into the channel. Once so many are applied,
    everything that was received before is.
    """

    at_ms: int
    submitted: int


class FlushThread(threading.Thread):
    """Takes what waits in the channel and writes it, one flush after another."""

    def __init__(
        self,
        channel: Channel,
        store: ShardStore,
        evaluator: "EvaluateThread",
        on_fatal: OnFatal,
        clock: Clock,
        longest_wait_ms: int,
        show: Callable[[Sequence[bytes]], None] = lambda _: None,
    ) -> None:
        """`longest_wait_ms`: the most that a row waits for others. `show` gets the change rows of
        each flush, and must not block.
        """
        super().__init__(name="litejoin-flush", daemon=True)
        self._channel, self._store = channel, store
        self._show = show
        self._evaluator, self._on_fatal = evaluator, on_fatal
        self._clock = clock
        self._pause = threading.Event()
        self.last_rows = 0
        """Rows of the newest flush: the monitor's writer-batch."""
        self._batches = self._rows = self._spent_ms = self._took_ms = 0
        self._longest_wait_ms = longest_wait_ms
        self._tell_full_at_ms = 0

    def figures(self) -> dict[str, float]:
        """For /metrics: flushes, their rows and the time they took. Any thread."""
        return {"batches": self._batches, "rows": self._rows, "seconds": self._spent_ms / 1000}

    def run(self) -> None:
        """Until the channel is stopped and empty."""
        while items := self._channel.take(self._gather_s()):
            try:
                self._flush(items)
            except BaseException as error:
                # Nothing is acknowledged: what became of these rows is unknown.
                self._on_fatal(error)
                return

    def _gather_s(self) -> float:
        return min(self._longest_wait_ms, self._took_ms * GATHER_SHARE) / 1000

    def _flush(self, items: list[Pending]) -> None:
        started_ms = self._clock.monotonic_ms()
        try:
            flush = self._store.flush(
                [item.batch for item in items],
                piecewise={place for place, item in enumerate(items) if item.piecewise},
            )
        except StorageFullError as error:
            store_log.error("store: %s; nothing of %d batches was stored", error, len(items))
            self._channel.acknowledge(items, dict.fromkeys(range(len(items)), error))
            self._pause.wait(FULL_DISK_RETRY_S)
            flush = Flush(self._store.last_seq, [], 0, 0, ())
        else:
            # Whole milliseconds: too much as often as too little, so the sum is right.
            self._took_ms = self._clock.monotonic_ms() - started_ms
            self._spent_ms += self._took_ms
            self._batches += 1
            self._rows += flush.rows
            self.last_rows = flush.rows
            failed = self._unstored(items, flush.full_shards)
            if flush.refused:
                failed |= dict.fromkeys(flush.refused, self._store.quarantine.refusal())
            self._channel.acknowledge(items, failed)
        self._show(flush.changes)
        self._evaluator.put(flush, len(items))

    def _unstored(self, items: list[Pending], shards: Sequence[int]) -> dict[int, LiteJoinError]:
        if not shards:
            return {}
        error = StorageFullError(f"no space left for shards {', '.join(map(str, shards))}")
        self._tell_full(str(error))
        count = self._store.shard_count
        return {
            position: error
            for position, item in enumerate(items)
            if any(shard_of(row.key, count) in shards for row in unpack_rows(item.batch))
        }

    def _tell_full(self, text: str) -> None:
        """Every refused push would be a line, on a disk that is full."""
        now_ms = self._clock.monotonic_ms()
        if now_ms >= self._tell_full_at_ms:
            self._tell_full_at_ms = now_ms + TELL_FULL_EVERY_MS
            store_log.error("store: %s; pushes for them are refused", text)


class EvaluateThread(threading.Thread):
    """Hands change rows to the engine and announces the new head of the results log."""

    def __init__(
        self,
        engine: Engine,
        store: ShardStore,
        channel: Channel,
        loop: asyncio.AbstractEventLoop,
        publish: Callable[[int], None],
        low_watermark: Callable[[], int],
        on_fatal: OnFatal,
        clock: Clock,
        note: Callable[[Applied], None],
        *,
        has_windows: bool,
    ) -> None:
        super().__init__(name="litejoin-evaluate", daemon=True)
        self._clock = clock
        self._note = note
        self._put_at_ms: deque[int] = deque()
        """When each flush that is not evaluated yet was queued."""
        self._engine, self._store, self._loop = engine, store, loop
        self._publish, self._low_watermark, self._on_fatal = publish, low_watermark, on_fatal
        self._pause = threading.Event()
        self._channel = channel
        self._tick_s = WINDOW_TICK_S if has_windows else IDLE_TICK_S
        self._mark = Mark(clock.now_ms(), 0)
        self._written_ms = 0
        self._taken_batches = self._applied_batches = self._waiting_batches = 0
        self._waiting: list[Flush] = []
        self._bytes = 0
        self._changed = threading.Condition()
        self._stopped = False
        self._wake_in_ms: int | None = None
        self._trim_at_ms = 0

    @property
    def pending(self) -> int:
        """Flushes that wait to be evaluated."""
        return len(self._waiting)

    def behind(self) -> tuple[int, float]:
        """Flushes that are not evaluated yet, and for how many seconds the oldest has waited."""
        try:
            oldest_ms = self._put_at_ms[0]
        except IndexError:
            return 0, 0.0
        return len(self._put_at_ms), (self._clock.monotonic_ms() - oldest_ms) / 1000

    def figures(self) -> dict[str, float]:
        """For /metrics. Any thread."""
        pending, lag_s = self.behind()
        return {"pending": pending, "lag_s": lag_s}

    def put(self, flush: Flush, batches: int) -> None:
        """Queue a flush of some batches of the channel; blocks while too many change rows wait.
        Called by the flush thread.
        """
        size = sum(map(len, flush.changes)) + sum(map(len, flush.messages))
        with self._changed:
            while self._bytes > MAX_PENDING_BYTES and not self._stopped:
                self._changed.wait()
            self._waiting.append(flush)
            self._waiting_batches += batches
            self._put_at_ms.append(self._clock.monotonic_ms())
            self._bytes += size
            self._changed.notify_all()

    def stop(self) -> None:
        """Evaluate what waits, then end."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def run(self) -> None:
        """Until stopped and empty."""
        try:
            while True:
                flushes = self._take()
                if flushes is None:
                    return
                self._work(flushes)
        except BaseException as error:
            self.stop()
            self._on_fatal(error)

    def _take(self) -> list[Flush] | None:
        """The flushes that wait; [] when something else is due; None at the end."""
        if not self._waiting:
            # At once, so that checkpoints can start the write-ahead logs again: the flush thread
            # may be waiting for that, and nothing comes from it meanwhile.
            self._engine.release_snapshot()
        with self._changed:
            if not self._waiting and not self._stopped:
                self._changed.wait(self._patience())
            if not self._waiting:
                return None if self._stopped else []
            taken, self._waiting, self._bytes = self._waiting, [], 0
            self._taken_batches += self._waiting_batches
            self._waiting_batches = 0
            self._changed.notify_all()
            return taken

    def _patience(self) -> float:
        most = self._tick_s
        return most if self._wake_in_ms is None else min(most, self._wake_in_ms / 1000)

    def _work(self, flushes: list[Flush]) -> None:
        self._engine.leave_out(self._store.quarantine.shards)
        if flushes:
            applied = self._apply_all(flushes)
            if applied is None:
                return
            self._done(applied)
            for _ in flushes:
                self._put_at_ms.popleft()
        elif self._wake_in_ms is not None:
            self._idle()
        self._applied_batches = self._taken_batches
        self._fire()
        self._trim()

    def _apply_all(self, flushes: list[Flush]) -> Applied | None:
        """Apply these flushes, and those that were committed meanwhile where the engine asks for
        them; None when one of them was never handed over: the process is ending.
        """
        while True:
            changes = [chunk for flush in flushes for chunk in flush.changes]
            messages = [chunk for flush in flushes for chunk in flush.messages]
            applied = self._apply(changes, flushes[-1].seq, messages)
            if not applied.is_early:
                return applied
            more = self._take()
            if more is None:
                return None
            flushes += more

    def _idle(self) -> None:
        """Do what was put off; on a full disk it stays put off."""
        try:
            self._done(self._engine.idle())
        except CorruptionError as error:
            self._store.quarantine.take(error)  # what was due is due again, without the shard
        except StorageFullError as error:
            log.error("joiner: %s; results wait until there is room", error)
            self._pause.wait(FULL_DISK_RETRY_S)

    def _fire(self) -> None:
        """Let the windows that are due close."""
        try:
            fired = self._engine.fire_windows(self._written_upto_ms())
        except CorruptionError as error:
            self._store.quarantine.take(error)  # as in `_idle`
            return
        except StorageFullError as error:
            log.error("windows: %s; results wait until there is room", error)
            self._pause.wait(FULL_DISK_RETRY_S)
            return
        if fired is not None:
            self._done(fired)

    def _written_upto_ms(self) -> int:
        """The wall time before which every message that was received has been applied."""
        if self._applied_batches >= self._mark.submitted:
            self._written_ms = self._mark.at_ms
            self._mark = Mark(self._clock.now_ms(), self._channel.submitted)
        return self._written_ms

    def _apply(self, changes: Sequence[bytes], seq: int, messages: Sequence[bytes]) -> Applied:
        while True:
            try:
                applied = self._engine.apply(changes, seq, messages)
            except CorruptionError as error:
                self._store.quarantine.take(error)
                self._engine.leave_out(self._store.quarantine.shards)
                continue
            except StorageFullError as error:
                log.error("joiner: %s; results wait until there is room", error)
                self._pause.wait(FULL_DISK_RETRY_S)
                continue
            if applied.is_early:
                return applied
            shards = range(self._store.shard_count)
            self._store.trim_batches(dict.fromkeys(shards, seq))
            return applied

    def _done(self, applied: Applied) -> None:
        self._wake_in_ms = applied.wake_in_ms
        self._note(applied)
        if applied.results:
            self._loop.call_soon_threadsafe(self._publish, applied.head)

    def _trim(self) -> None:
        now_ms = self._clock.monotonic_ms()
        if now_ms >= self._trim_at_ms:
            try:
                more = self._engine.trim(self._low_watermark())
            except apsw.FullError:
                more = False  # what it would write frees no space now, so it can wait
            self._trim_at_ms = now_ms + (TRIM_AGAIN_MS if more else TRIM_EVERY_MS)
