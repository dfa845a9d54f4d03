"""What happens to a result after a sink has answered: counted, dropped, queued, retried or parked.

One Settler a sink, used by its dispatcher. Decides and remembers (through the keeper); never sends.

    outcome     best_effort         at_least_once
    delivered   done                done; older entries of the key in the queue are superseded
    retry       logged, dropped     queued with a retry time
    reject      logged, dropped     queued without one (parked)
    stop        as reject, and the sink stops: the rest is dropped, or waits in the log

A receiver that says when it may be asked again (Retry-After) is left alone until then by the whole
sink: what is new waits in the log.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random

from litejoin.clock import SteadyClock
from litejoin.delivery.backoff import retry_delay_ms
from litejoin.delivery.keeper import Keeper
from litejoin.delivery.ledger import Enqueue, Entry, Remove, Reschedule, Supersede
from litejoin.plan.nodes import DlqPlan
from litejoin.records import Result, rfc3339
from litejoin.sinks.base import Outcome

THROTTLE_LOOK_S = 0.25
"""How often a throttled sink looks at the clock, which may have been moved."""

log = logging.getLogger("litejoin.delivery")


@dataclass(slots=True)
class SinkStats:
    """Counters of one sink since the start, for /health, /metrics and the monitor line."""

    delivered: int = 0
    failed: int = 0
    """Attempts that were not taken."""
    retries: int = 0
    """Further attempts of entries of the queue."""
    dropped: int = 0
    enqueued: int = 0
    expired: int = 0
    exceeded: int = 0
    """Entries that ran out of retries."""
    failing: int = 0
    """Failed attempts since the last success."""
    last_success_ms: int | None = None
    last_error: str = ""
    stopped: str = ""
    """Why the sink takes nothing any more: the answer that stopped it."""
    throttled_until_ms: int | None = None
    """Until when the receiver asked to be left alone (Retry-After)."""
    held_at_ms: int = 0
    """When it last said either."""


class Settler:
    """Books the outcomes of one sink. Event loop only."""

    def __init__(
        self,
        sink: str,
        at_least_once: bool,
        plan: DlqPlan,
        keeper: Keeper,
        clock: SteadyClock,
        random: Random,
    ) -> None:
        self.stats = SinkStats()
        self.on_enqueue: Callable[[], None] = lambda: None
        self._sink = sink
        self.at_least_once = at_least_once
        self._plan = plan
        self._keeper = keeper
        self._clock = clock
        self._random = random

    def settle(self, result: Result, outcome: Outcome) -> None:
        """Book the first attempt of a result."""
        if outcome.status == "delivered":
            self.settle_delivered((result,))
            return
        self._failed(result, outcome, attempts=1)
        if self.at_least_once:
            self._outdate(result, outcome)
            self._enqueue(result, outcome)
        else:
            self.stats.dropped += 1

    def skip(self, result: Result) -> None:
        """Book a result that is not sent because the sink has stopped (best_effort only)."""
        self.stats.dropped += 1
        log.debug("joiner: sink %s has stopped; dropped %s", self._sink, result.id)

    def stop(self, outcome: Outcome) -> None:
        """The receiver wants no more of anything."""
        if not self.stats.stopped:
            log.error(
                "joiner: sink %s is stopped: %s; it goes on after a restart, or after"
                " `litejoin dlq retry --sink %s`", self._sink, outcome.error, self._sink,
            )  # fmt: skip
            self.stats.held_at_ms = self._clock.now_ms()
        self.stats.stopped = outcome.error or "the receiver asked for it"

    def resume(self) -> None:
        """Somebody asked for another attempt."""
        if self.is_held:
            log.info("joiner: sink %s goes on", self._sink)
        self.stats.stopped, self.stats.throttled_until_ms = "", None

    def held(self, result: Result, outcome: Outcome, attempts: int) -> None:
        """Book a failed attempt of a batch sink that will be offered the result again."""
        self._failed(result, outcome, attempts)

    def throttled_s(self) -> float:
        """How long the receiver still asks to be left alone (Retry-After)."""
        until_ms = self.stats.throttled_until_ms
        return 0.0 if until_ms is None else max(0, until_ms - self._clock.now_ms()) / 1000

    @property
    def is_held(self) -> bool:
        """The receiver wants nothing: at all, or for some time."""
        return bool(self.stats.stopped) or self.throttled_s() > 0

    def retried(self, entry: Entry, outcome: Outcome) -> None:
        """Book another attempt of an entry of the queue."""
        self.stats.retries += 1
        if outcome.status == "delivered":
            self._keeper.push(Remove(self._sink, entry.result.id))
            self.settle_delivered((entry.result,))
            return
        attempts = entry.attempts + 1
        self._outdate(entry.result, outcome)
        self._failed(entry.result, outcome, attempts)
        due = self._due_ms(attempts, outcome) if outcome.status == "retry" else None
        if due is not None and 0 < self._plan.max_retries < attempts:
            self.stats.exceeded += 1
            log.error(
                "dlq: entry exceeded max retries: sink %s, join %s, key %s, id %s, %d attempts: %s;"
                " parked, send it again with: litejoin dlq retry",
                self._sink, entry.result.query, entry.result.key, entry.result.id, attempts,
                outcome.error,
            )  # fmt: skip
            due = None
        changed = replace(entry, attempts=attempts, next_retry_at_ms=due, error=outcome.error)
        self._keeper.push(Reschedule(changed))

    def _outdate(self, result: Result, outcome: Outcome) -> None:
        """The receiver may have taken the result: to send an older one now would put it back, and
        the result itself, when it comes again, may be dropped there as a repetition.
        """
        if outcome.uncertain and self._keeper.has_entries(self._sink):
            self._keeper.push(Supersede(self._sink, result, itself=False))

    def settle_delivered(self, results: Sequence[Result]) -> None:
        """Book results that were all delivered at the first attempt."""
        self.stats.delivered += len(results)
        self.stats.last_success_ms = self._clock.now_ms()
        if self.stats.failing:
            log.info("joiner: sink %s takes results again", self._sink)
            self.stats.failing = 0
        if not self.throttled_s():  # else it was sent before the receiver said so
            self.stats.throttled_until_ms = None
        if self._keeper.has_entries(self._sink):
            for result in results:
                self._keeper.push(Supersede(self._sink, result))

    def _failed(self, result: Result, outcome: Outcome, attempts: int) -> None:
        self.stats.failed += 1
        self.stats.failing += 1
        self.stats.last_error = outcome.error
        if outcome.retry_after_s is not None:
            self._throttle(min(outcome.retry_after_s, self._plan.ttl_ms / 1000))
        if outcome.status == "stop":
            self.stop(outcome)
        level = logging.WARNING if self.at_least_once else logging.ERROR
        log.log(
            level,
            "joiner: FAILED sink send: sink %s, join %s, key %s, id %s, attempt %d: %s%s",
            self._sink, result.query, result.key, result.id, attempts, outcome.error,
            "" if self.at_least_once else "; dropped (best_effort)",
        )  # fmt: skip

    def _throttle(self, wait_s: float) -> None:
        now_ms = self._clock.now_ms()
        until_ms = now_ms + int(wait_s * 1000)
        if until_ms > (self.stats.throttled_until_ms or now_ms):
            log.info("joiner: sink %s waits until %s, as its receiver asks",
                     self._sink, rfc3339(until_ms))  # fmt: skip
            self.stats.throttled_until_ms, self.stats.held_at_ms = until_ms, now_ms

    def _enqueue(self, result: Result, outcome: Outcome) -> None:
        due = self._due_ms(1, outcome) if outcome.status == "retry" else None
        entry = Entry(self._sink, result, 1, self._clock.now_ms(), due, outcome.error)
        self._keeper.push(Enqueue(entry))
        self.stats.enqueued += 1
        log.info(
            "dlq: enqueued result for sink %s: join %s, key %s, id %s, %s",
            self._sink, result.query, result.key, result.id,
            "parked" if due is None else f"retry in {(due - entry.created_at_ms) / 1000:g} s",
        )  # fmt: skip
        self.on_enqueue()

    def _due_ms(self, attempts: int, outcome: Outcome) -> int:
        delay = retry_delay_ms(self._plan, attempts, outcome.retry_after_s, self._random)
        return self._clock.now_ms() + delay
