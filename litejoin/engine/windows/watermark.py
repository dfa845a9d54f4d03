"""How far time has come on a stream of messages.

Pure: the caller passes the clock's readings in. The watermark of a window is `time_ms` of its
stream less its allowed lateness; a window closes when its watermark reaches its end.

Ingestion time follows the wall clock, held back while messages are on their way: a message is
stamped before it is written. Event time follows the newest message; when none has come for
`idle_ms`, the wall clock.
"""

from dataclasses import dataclass

from litejoin.plan.nodes import WindowPlan

INGESTION_GRACE_MS = 100
"""Between a message's stamp and its place in the channel: the reading of one request."""

MAX_AHEAD_MS = 3_600_000
"""An event time further ahead of the wall clock than this is a mistake of its sender: believed, it
would close every window. Clocks of senders are off by seconds or, at a wrong zone, by hours."""

NEVER_MS = -(2**62)


@dataclass(slots=True)
class Progress:
    """The time that a stream has reached for one of its windows; never goes back."""

    event_time: bool
    idle_ms: int
    newest_ms: int = NEVER_MS
    """The newest event time seen."""
    time_ms: int = NEVER_MS
    _heard_ms: int | None = None
    """Monotonic time of the last message, or of the start."""

    @classmethod
    def of(cls, plan: WindowPlan, newest_ms: int) -> "Progress":
        """At the start, with the newest event time that the stream has seen before."""
        event_time = plan.time_path is not None
        time_ms = newest_ms if event_time else NEVER_MS
        return cls(event_time, plan.idle_timeout_ms, newest_ms, time_ms)

    def take(self, newest_ms: int, monotonic_ms: int) -> None:
        """Messages came, the newest with this time."""
        self.newest_ms = max(self.newest_ms, newest_ms)
        self._heard_ms = monotonic_ms
        if self.event_time:
            self.time_ms = max(self.time_ms, self.newest_ms)

    def tick(self, written_upto_ms: int | None, monotonic_ms: int) -> None:
        """Time passes. `written_upto_ms`: the wall time before which everything that was received
        is written; None when that is not known, or the wall clock is not to be believed.
        """
        if self._heard_ms is None:
            self._heard_ms = monotonic_ms
        if written_upto_ms is None:
            return
        if self.event_time:
            if monotonic_ms - self._heard_ms < self.idle_ms:
                return
        else:
            written_upto_ms -= INGESTION_GRACE_MS
        self.time_ms = max(self.time_ms, written_upto_ms)
