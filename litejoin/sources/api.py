"""The api source: polls a REST API and turns the difference between two polls into rows.

Made and run by the runtime, one task a source, on the event loop. Owns the order of a poll: wait
(`api_pace`), fetch (`api_fetch`, on a pool thread), compare and store (`api_store`), and the lines
that operators grep for. A poll that fails changes nothing and is tried again; nothing that the API
does ends the source.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor

from litejoin.clock import Clock
from litejoin.errors import PollError, StorageFullError
from litejoin.plan.nodes import ApiSourcePlan
from litejoin.records import rfc3339
from litejoin.sources.api_fetch import Fetcher
from litejoin.sources.api_pace import Pace
from litejoin.sources.api_store import ApiStore, PollResult
from litejoin.sources.base import Intake, SourceState

log = logging.getLogger("litejoin.source")


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
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        """`executor` runs requests and comparisons; `sleep` takes seconds and is for tests.

        Raises PathError for a response_path, key_path or ignore_fields path that cannot be used.
        """
        self.name = plan.name
        self._plan = plan
        self._clock = clock
        self._executor = executor
        self._sleep = sleep
        self._fetcher = Fetcher(plan)
        self._store = ApiStore(plan, intake, state, clock, executor)
        now_ms = clock.monotonic_ms()
        self._pace = Pace(plan.name, plan.interval_ms, plan.max_consecutive_failures, now_ms)
        self._reason = ""
        self._polled_at_ms: int | None = None
        self._result: PollResult | None = None
        self._noted = (0, 0)

    async def run(self) -> None:
        """Poll for ever; polls never overlap.

        Raises what the store raises when the process cannot go on (StorageIOError, corruption).
        """
        try:
            while True:
                await self._sleep(self._pace.wait_ms(self._clock.monotonic_ms()) / 1000)
                await self.poll()
        finally:
            self._fetcher.close()

    async def poll(self) -> bool:
        """One poll now; False when it failed (logged, counted, nothing changed)."""
        started_ms = self._clock.monotonic_ms()
        try:
            body, content_type = await self._fetch()
            result = await self._store.take(body, content_type)
        except (PollError, StorageFullError) as error:
            self._failed(str(error))
            return False
        self._succeeded(result, self._clock.monotonic_ms() - started_ms)
        return True

    def health(self) -> dict[str, object]:
        """For /health: degraded while backing off, or failing before any poll succeeded."""
        failing = self._pace.failures >= self._plan.max_consecutive_failures
        if self._pace.failures and self._result is None:
            failing = True
        out: dict[str, object] = {
            "status": "degraded" if failing else "ok",
            "records": len(self._store),
            "consecutive_failures": self._pace.failures,
        }
        if self._pace.failures:
            out["reason" if failing else "last_error"] = self._reason
        if self._result is not None and self._polled_at_ms is not None:
            out["last_poll"] = rfc3339(self._polled_at_ms)
            out["held_deletes"] = self._result.held
        return out

    async def _fetch(self) -> tuple[bytearray, str]:
        loop = asyncio.get_running_loop()
        timer: asyncio.TimerHandle | None = None
        over = False

        def arm() -> None:
            nonlocal timer
            if not over:
                timer = loop.call_later(self._plan.timeout_ms / 1000, self._fetcher.expire)

        def fetch() -> tuple[bytearray, str]:
            # Armed when a thread takes the request up: waiting for a thread is not the API's time.
            loop.call_soon_threadsafe(arm)
            return self._fetcher.fetch()

        try:
            return await loop.run_in_executor(self._executor, fetch)
        finally:
            over = True
            if timer is not None:
                timer.cancel()

    def _failed(self, reason: str) -> None:
        self._reason = reason
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
        ended = self._pace.succeeded(self._clock.monotonic_ms())
        if ended:
            log.info("api-source %s: recovered after %d failed polls", self.name, ended)
        first = self._result is None
        self._result = result
        self._polled_at_ms = self._clock.now_ms()
        log.log(
            logging.INFO if first else logging.DEBUG,
            "api-source %s: %s: %d records in 1 page, %d ms: %d created, %d updated, %d deleted",
            self.name,
            "first poll" if first else "poll",
            result.records,
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
                "api-source %s: %d records repeat a key of the same poll; the last one stands",
                self.name,
                result.duplicates,
            )
