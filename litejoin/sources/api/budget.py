"""Budgets of requests that sources share, and waits that APIs ask for.

`Budgets` is made once a pipeline; each `exchange` asks its group's budget before every request, on
the event loop. Arithmetic over monotonic milliseconds; sleeps and logs nothing.
"""

from litejoin.plan.nodes_api import RatePlan


class Budget:
    """One group of sources. The strictest limit that any of them names holds for all."""

    def __init__(self) -> None:
        self._gates: dict[str, _Gate] = {}
        self._blocked_until_ms = 0
        self._blocked_until_wall_ms = 0

    def limit(self, rate: RatePlan) -> None:
        """A source of the group with these limits joins."""
        if rate.per_second is not None:
            self._gate("second").restrict(1000 / rate.per_second, rate.burst)
        if rate.per_minute is not None:
            # A burst is taken out of the minute: no minute sees more than its limit.
            burst = max(1, min(rate.burst, int(rate.per_minute)))
            left = max(rate.per_minute - burst + 1, min(rate.per_minute, 1))
            self._gate("minute").restrict(60_000 / left, burst)

    def _gate(self, name: str) -> "_Gate":
        return self._gates.setdefault(name, _Gate())

    def reserve(self, now_ms: float) -> float:
        """Take the next free place; returns the milliseconds until it comes."""
        at_ms = max([float(now_ms), *(gate.next_ms(now_ms) for gate in self._gates.values())])
        for gate in self._gates.values():
            gate.take(at_ms)
        return max(at_ms, self._blocked_until_ms) - now_ms

    def blocked_ms(self, now_ms: float) -> float:
        """Milliseconds for which the API asked not to be asked."""
        return max(0.0, self._blocked_until_ms - now_ms)

    def block(self, until_ms: float, wall_ms: int = 0) -> None:
        """No request of the group before this time; `wall_ms` is what to call it."""
        if until_ms > self._blocked_until_ms:
            self._blocked_until_ms, self._blocked_until_wall_ms = int(until_ms), wall_ms

    def throttled_until_ms(self, now_ms: float) -> int | None:
        """Wall clock until when the API asked not to be asked, by whatever source of the group;
        None when it does not.
        """
        return self._blocked_until_wall_ms if self.blocked_ms(now_ms) else None


class _Gate:
    """GCRA: requests at `interval_ms`, of which `burst` may come at once."""

    def __init__(self) -> None:
        self._interval_ms = 0.0
        self._burst = 0
        self._due_ms = 0.0

    def restrict(self, interval_ms: float, burst: int) -> None:
        self._interval_ms = max(self._interval_ms, interval_ms * (1 + 1e-9))
        self._burst = min(self._burst or burst, burst)

    def next_ms(self, now_ms: float) -> float:
        return self._due_ms - (self._burst - 1) * self._interval_ms

    def take(self, at_ms: float) -> None:
        self._due_ms = max(self._due_ms, at_ms) + self._interval_ms


class Budgets:
    """The budgets of one pipeline, by group."""

    def __init__(self) -> None:
        self._groups: dict[str, Budget] = {}

    def join(self, rate: RatePlan, host: str) -> Budget:
        """The budget of a source: its group, or the host of its URL."""
        budget = self._groups.setdefault(f"group {rate.group}" if rate.group else host, Budget())
        budget.limit(rate)
        return budget
