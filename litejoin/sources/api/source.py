"""The api source: polls a REST API and turns the difference between two polls into rows.

Made and run by the runtime, one task a source, on the event loop. Owns when a poll happens
(`pace`), what its outcome means for the next one, and the lines that operators grep for; the poll
itself is `walk`. A poll that fails deletes nothing and is tried again; only a response action of
the config ends the polling.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor

from litejoin.clock import Clock
from litejoin.errors import PollError, ShardQuarantinedError, StartRefusedError, StorageFullError
from litejoin.plan.nodes import ApiSourcePlan
from litejoin.records import rfc3339
from litejoin.sources.api.budget import Budgets
from litejoin.sources.api.exchange import Exchange
from litejoin.sources.api.failures import StopSource
from litejoin.sources.api.notes import DurableNotes
from litejoin.sources.api.pace import Pace
from litejoin.sources.api.records import PollResult, RecordSet
from litejoin.sources.api.request import origin
from litejoin.sources.api.transport import HttpTransport, Transport
from litejoin.sources.api.walk import Walker
from litejoin.sources.api.watermark import Watermark
from litejoin.sources.api.words import cause
from litejoin.sources.base import Intake, SourceState

log = logging.getLogger("litejoin.source")

UNREADABLE = (ValueError, ArithmeticError, LookupError, RecursionError)
"""What an answer can provoke that nobody thought of. It fails the poll: an API must not be able to
end the process, which would ask it again at the next start."""


class ApiSource:
    """One polled API. `run` until cancelled; everything else is for /health and tests."""

    def __init__(
        self,
        plan: ApiSourcePlan,
        intake: Intake,
        state: SourceState,
        clock: Clock,
        executor: Executor,
        *,
        tokens: SourceState | None = None,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        transport: Transport | None = None,
        budgets: Budgets | None = None,
    ) -> None:
        """`executor` runs requests and comparisons; `tokens` is where a rotated token is kept, if
        not in `state`; `sleep` takes seconds and is for tests; `transport` replaces the network
        (replay). Sources that share `budgets` share limits.

        Raises PathError for a response_path, key_path or ignore_fields path that cannot be used.
        """
        self.name = plan.name
        self._plan = plan
        self._clock = clock
        self._sleep = sleep
        kept = DurableNotes(intake, tokens or state, clock)
        budget = (budgets or Budgets()).join(plan.rate, origin(plan.url)[1])
        self._exchange = Exchange(
            plan, transport or network(plan), kept, budget, clock, executor, sleep
        )
        self._records = RecordSet(plan, intake, state, clock, executor)
        watermark = Watermark(plan, DurableNotes(intake, state, clock), clock)
        self._walker = Walker(plan, self._exchange, self._records, watermark, state, clock, sleep)
        self._pace = Pace(
            plan.name,
            plan.interval_ms,
            plan.max_consecutive_failures,
            clock.monotonic_ms(),
            plan.adaptive,
        )
        self._reason = ""
        self._stopped = ""
        self._polled_at_ms: int | None = None
        self._result: PollResult | None = None
        self._polls = self._failed_polls = 0
        self._changes = {"created": 0, "updated": 0, "deleted": 0}
        self._noted = (0, 0)
        self._incomplete = ""

    async def run(self) -> None:
        """Poll for ever; polls never overlap.

        Raises what the store raises when the process cannot go on (StorageIOError, corruption).
        """
        try:
            while not self._stopped:
                await self._sleep(self._pace.wait_ms(self._clock.monotonic_ms()) / 1000)
                await self.poll()
            await asyncio.get_running_loop().create_future()  # stopped: wait to be cancelled
        finally:
            self.close()

    async def poll(self) -> bool:
        """One poll now; False when it failed (logged, counted, nothing deleted)."""
        started_ms = self._clock.monotonic_ms()
        self._polls += 1
        try:
            result = await self._walker.walk()
        except (PollError, StorageFullError, ShardQuarantinedError) as error:
            self._failed(str(error))
            return False
        except UNREADABLE as error:
            self._failed(f"the answer cannot be handled: {cause(error)}")
            return False
        except StopSource as stop:
            self._stopped = str(stop)
            log.error("api-source %s: stopped by response_actions: %s", self.name, stop)
            return False
        self._succeeded(result, self._clock.monotonic_ms() - started_ms)
        return True

    def close(self) -> None:
        """Cut what is running; no further poll succeeds."""
        self._exchange.close()

    def health(self) -> dict[str, object]:
        """For /health: degraded while stopped or backing off, or failing before any success."""
        failing = self._pace.failures >= self._plan.max_consecutive_failures
        if self._pace.failures and self._result is None:
            failing = True
        out: dict[str, object] = {
            "status": "degraded" if failing or self._stopped else "ok",
            "records": len(self._records),
            "consecutive_failures": self._pace.failures,
            "polls": self._polls,
            "failed_polls": self._failed_polls,
            "changes": dict(self._changes),
            "requests": self._exchange.requests,
        }
        if self._pace.failures:
            out["reason" if failing else "last_error"] = self._reason
        if self._stopped:
            out["reason"] = f"stopped by response_actions: {self._stopped}"
        if (until_ms := self._exchange.throttled_until_ms) is not None:
            out["throttled_until"] = rfc3339(until_ms)
        if self._result is not None and self._polled_at_ms is not None:
            out["last_poll"] = rfc3339(self._polled_at_ms)
            out["pages"] = self._result.pages
            out["held_deletes"] = self._result.held
            if self._result.incomplete:
                reason = self._result.incomplete
                out["incomplete"] = f"page {self._result.incomplete_page} incomplete: {reason}"
        return out

    def _failed(self, reason: str) -> None:
        self._reason = reason
        self._failed_polls += 1
        now_ms = self._clock.monotonic_ms()
        backing_off = self._pace.failed(now_ms)
        count, limit = self._pace.failures, self._plan.max_consecutive_failures
        log.warning("api-source %s: poll failed (%d/%d): %s", self.name, count, limit, reason)
        if backing_off:
            wait_s = self._pace.wait_ms(now_ms) / 1000
            log.error(
                "api-source %s: ERROR %d consecutive failures, next poll in %.0f s: %s",
                self.name,
                count,
                wait_s,
                reason,
            )

    def _succeeded(self, result: PollResult, took_ms: int) -> None:
        changed = bool(result.created or result.updated or result.deleted)
        ended = self._pace.succeeded(self._clock.monotonic_ms(), changed=changed)
        if ended:
            log.info("api-source %s: recovered after %d failed polls", self.name, ended)
        first = self._result is None
        self._result = result
        self._polled_at_ms = self._clock.now_ms()
        for operation in self._changes:
            self._changes[operation] += getattr(result, operation)
        log.log(
            logging.INFO if first else logging.DEBUG,
            "api-source %s: %s: %d records in %d %s, %d ms: %d created, %d updated, %d deleted",
            self.name,
            "first poll" if first else "poll",
            result.records,
            result.pages,
            "page" if result.pages == 1 else "pages",
            took_ms,
            result.created,
            result.updated,
            result.deleted,
        )
        self._note_oddities(result)

    def _note_oddities(self, result: PollResult) -> None:
        """Warn of what a user should know, once per change of its extent."""
        if result.held:
            log.warning(
                "api-source %s: %d records are gone from the response at once; kept until the next"
                " complete poll agrees",
                self.name,
                result.held,
            )
        if result.incomplete and result.incomplete != self._incomplete:
            log.warning(
                "api-source %s: page %d incomplete: %s; nothing is deleted",
                self.name,
                result.incomplete_page,
                result.incomplete,
            )
        self._incomplete = result.incomplete
        noted, self._noted = self._noted, (result.keyless, result.duplicates)
        if result.keyless and result.keyless != noted[0]:
            log.warning(
                "api-source %s: %d of %d records skipped: %s",
                self.name,
                result.keyless,
                result.records,
                result.keyless_reason,
            )
        if result.duplicates and result.duplicates != noted[1]:
            log.warning(
                "api-source %s: %d records repeat a key of the same poll; the %s one stands",
                self.name,
                result.duplicates,
                self._plan.on_duplicate_key,
            )


def network(plan: ApiSourcePlan) -> HttpTransport:
    """The network as the plan wants it used. Raises StartRefusedError: its TLS files cannot be."""
    try:
        return HttpTransport(plan.timeout_ms, plan.max_response_bytes, plan.tls, plan.proxy)
    except PollError as error:
        raise StartRefusedError(f"api-source {plan.name}: {error}") from None
