"""What /health says of each join and window: what could not be evaluated lately, how far behind.

The evaluator's thread notes what each evaluation did; /health reads it on the event loop.
"""

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from litejoin.clock import Clock
from litejoin.engine.engine import Applied
from litejoin.plan.nodes import JoinPlan, WindowPlan
from litejoin.records import rfc3339

SHOWN_MS = 300_000
"""How long a failure makes a join degraded: the key may never be written again, and its result
stays what it was."""

REPEAT_MS = 30_000
"""The same failure of the same join is logged so often: one that waits for a shard comes back with
every flush."""

_KIND = re.compile("^(join|window) ")

log = logging.getLogger("litejoin.joiner")


@dataclass(slots=True)
class _Failing:
    count: int = 0
    last: str = ""
    last_ms: int = 0
    """Wall clock."""
    logged_ms: int = -REPEAT_MS
    """When `last` was logged, on the monotonic clock."""


class JoinHealth:
    """The state of all joins and windows. `note` on the evaluator's thread, the rest on the event
    loop.
    """

    def __init__(
        self, joins: Sequence[JoinPlan], clock: Clock, windows: Sequence[WindowPlan] = ()
    ) -> None:
        self._shown = {join.name: {"strategy": join.strategy} for join in joins} | {
            window.name: {"type": window.type} for window in windows
        }
        self._clock = clock
        self._failing = {name: _Failing() for name in self._shown}
        self._evaluated_ms: int | None = None

    def note(self, applied: Applied) -> None:
        """Log the failures of one evaluation and remember them."""
        now_ms = self._clock.now_ms()
        for failure in applied.failures:
            name, _, what = _KIND.sub("", failure).partition(": ")
            failing = self._failing.get(name)
            if failing is None or not self._is_repeated(failing, what):
                log.error("joiner: %s", failure)
            if failing is not None:
                failing.count, failing.last, failing.last_ms = failing.count + 1, what, now_ms
        self._evaluated_ms = now_ms

    def _is_repeated(self, failing: _Failing, what: str) -> bool:
        monotonic_ms = self._clock.monotonic_ms()
        if what == failing.last and monotonic_ms - failing.logged_ms < REPEAT_MS:
            return True
        failing.logged_ms = monotonic_ms
        return False

    def health(
        self,
        behind: Callable[[], tuple[int, float]],
        figures: Mapping[str, Mapping[str, object]],
    ) -> dict[str, dict[str, object]]:
        """By join or window. `behind`: flushes that wait for the evaluator, and the age of the
        oldest; `figures`: what the engine counts for each.
        """
        flushes, age_s = behind()
        common: dict[str, object] = {"lag_flushes": flushes, "lag_s": round(age_s, 3)}
        if self._evaluated_ms is not None:
            common["last_evaluation"] = rfc3339(self._evaluated_ms)
        return {
            name: {**self._one(name), **common, **figures.get(name, {})} for name in self._shown
        }

    def _one(self, name: str) -> dict[str, object]:
        failing = self._failing[name]
        is_recent = failing.count > 0 and self._clock.now_ms() - failing.last_ms < SHOWN_MS
        shown: dict[str, object] = {
            "status": "degraded" if is_recent else "ok",
            **self._shown[name],
            "failures": failing.count,
        }
        if failing.count:
            shown["reason" if is_recent else "last_error"] = failing.last
            shown["last_failure"] = rfc3339(failing.last_ms)
        return shown
