"""One stream of messages (a topic by a time path) and the windows that share its buffer."""

from collections.abc import Sequence

from litejoin.engine.windows.buffer import MessageBuffer, Refused
from litejoin.engine.windows.faults import LeftOut
from litejoin.engine.windows.watermark import MAX_AHEAD_MS, Progress
from litejoin.engine.windows.window import Window


class Stream:
    """Feeds its windows and keeps what they still need. One thread; the caller's transaction."""

    def __init__(
        self, buffer: MessageBuffer, progress: Sequence[Progress], windows: Sequence[Window]
    ) -> None:
        """`progress`: of each window, since each says itself when the stream is idle."""
        self._buffer, self._progress = buffer, progress
        self.windows = windows
        self.refused = 0
        """Messages without a usable event time."""

    def take(self, chunks: Sequence[bytes], now_ms: int, monotonic_ms: int) -> list[Refused]:
        """Take the messages of one or more flushes in; returns those without a usable time."""
        fresh = self._buffer.read(chunks, now_ms + MAX_AHEAD_MS)
        self.refused += len(fresh.refused)
        if fresh.rows:
            unplaced = [
                LeftOut(each.key, each.payload, each.ingested_ms, each.reason)
                for each in fresh.unplaced
            ]
            for window in self.windows:
                if window.plan.partition_by is not None:
                    window.results.leave_out(unplaced)
                window.take(fresh.oldest_ms)
            self._buffer.keep(self._needs_from())
            for progress in self._progress:
                progress.take(self._buffer.newest_ms, monotonic_ms)
        return fresh.refused

    def tick(self, written_upto_ms: int | None, monotonic_ms: int) -> None:
        """See `Progress.tick`."""
        for progress in self._progress:
            progress.tick(written_upto_ms, monotonic_ms)

    def fire(self) -> bool:
        """Evaluate what is due; True when there is more to do at once."""
        return any(
            [
                window.fire(progress.time_ms - window.plan.allowed_lateness_ms)
                for window, progress in zip(self.windows, self._progress, strict=True)
            ]
        )

    def trim(self) -> bool:
        """Remove messages that no window needs; True when there are more."""
        for window in self.windows:
            window.trim()
        needs_from_ms = self._needs_from()
        first_ms = self._buffer.first_from(0)
        if first_ms is None or first_ms >= needs_from_ms:
            return False
        for window in self.windows:
            window.keep_progress()
        return self._buffer.trim(needs_from_ms)

    def _needs_from(self) -> int:
        return min(window.needs_from() for window in self.windows)

    def rolled_back(self) -> None:
        """The caller's transaction is undone."""
        self._buffer.forget_fresh()
        for window in self.windows:
            window.rolled_back()

    @property
    def buffer_id(self) -> int:
        """The number of the buffer."""
        return self._buffer.id
