"""One question to the API and its answer: budget, credentials, retries, throttling, redirects.

Used by `walk`, one question at a time, on the event loop; the request runs on a pool thread. Every
attempt waits for the group's budget first and takes its credentials after that wait. Owns what is
known of the API's patience (`throttled_until_ms`); knows nothing of pages or records.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from dataclasses import replace

from litejoin.clock import Clock
from litejoin.errors import PollError
from litejoin.plan.nodes import ApiSourcePlan
from litejoin.records import rfc3339
from litejoin.sources.api.auth import auth_for
from litejoin.sources.api.budget import Budget
from litejoin.sources.api.failures import StopSource, Verdict, judge
from litejoin.sources.api.notes import Notes
from litejoin.sources.api.request import Draft, resolve
from litejoin.sources.api.throttle import seen_limits, wait_ms
from litejoin.sources.api.transport import Request, Response, Transport
from litejoin.sources.api.words import status_text

log = logging.getLogger("litejoin.source")

MAX_REDIRECTS = 5
SHOWN_WAIT_MS = 1000
"""A shorter wait for the budget is not worth a word."""


class Exchange:
    """The way to one API. `ask` is not called again before it returned."""

    def __init__(
        self,
        plan: ApiSourcePlan,
        transport: Transport,
        notes: Notes,
        budget: Budget,
        clock: Clock,
        executor: Executor,
        sleep: Callable[[float], Awaitable[object]],
        *,
        max_wait_ms: int | None = None,
    ) -> None:
        """`max_wait_ms`: a longer wait that the API asks for fails the poll (for `probe`)."""
        self._plan = plan
        self._transport = transport
        self._auth = auth_for(plan.auth, self._send, notes, clock)
        self._budget = budget
        self._clock = clock
        self._executor = executor
        self._sleep = sleep
        self._max_wait_ms = max_wait_ms
        self.requests = 0
        """Sent so far, token requests included."""
        self.limits: dict[str, str] = {}
        """The rate-limit headers of the last answer that had any."""

    @property
    def throttled_until_ms(self) -> int | None:
        """Wall clock, while the API asks all sources of the budget to leave it alone."""
        return self._budget.throttled_until_ms(self._clock.monotonic_ms())

    async def ask(self, draft: Draft, *, conditional: bool = False) -> tuple[Verdict, Response]:
        """USE, IGNORE or UNCHANGED, with the answer. Raises PollError and StopSource."""
        attempt, renewed = 1, False
        while True:
            await self._wait_for_budget()
            request = (await self._auth.apply(draft)).request()
            answer = await self._follow(request)
            self._heed(answer)
            verdict, reason = judge(
                answer, self._plan.response_actions, self._plan.retry, conditional=conditional
            )
            if verdict in (Verdict.USE, Verdict.IGNORE, Verdict.UNCHANGED):
                return verdict, answer
            if verdict is Verdict.RENEW and not renewed and self._auth.renew():
                renewed = True
                continue
            if verdict is Verdict.STOP:
                raise StopSource(reason)
            if verdict is not Verdict.RETRY or attempt >= self._plan.retry.max_attempts:
                raise PollError(reason)
            await self._sleep(self._backoff_ms(attempt) / 1000)
            attempt += 1

    def close(self) -> None:
        """Cut what is running; nothing can be asked after."""
        self._transport.close()

    async def _wait_for_budget(self) -> None:
        now = float(self._clock.monotonic_ms())
        wait = self._budget.reserve(now)
        while wait > 0:
            if self._max_wait_ms is not None and wait > self._max_wait_ms:
                raise PollError(f"throttled for {wait / 1000:.0f} s")
            await self._sleep(wait / 1000)
            # A sleep may end early, and another source may have been told to wait meanwhile.
            now = max(float(self._clock.monotonic_ms()), now + wait)
            wait = self._budget.blocked_ms(now)

    def _heed(self, answer: Response) -> None:
        """Take over what the answer says about limits."""
        limits = seen_limits(answer.headers)
        self.limits = limits or self.limits
        now_ms = self._clock.now_ms()
        wait = wait_ms(answer, now_ms)
        if not wait:
            return
        self._budget.block(self._clock.monotonic_ms() + wait, now_ms + wait)
        if wait >= SHOWN_WAIT_MS:
            log.warning(
                "api-source %s: throttled until %s: %s",
                self._plan.name,
                rfc3339(now_ms + wait),
                status_text(answer.status),
            )

    def _backoff_ms(self, attempt: int) -> float:
        """Doubling, half of it at random; never beyond the next poll, which asks afresh anyway."""
        retry = self._plan.retry
        full = min(retry.backoff_ms * 2.0 ** (attempt - 1), retry.max_backoff_ms)
        return min(full, self._plan.interval_ms) * random.uniform(0.5, 1.0)

    async def _follow(self, request: Request) -> Response:
        for _ in range(MAX_REDIRECTS):
            answer = await self._send(request)
            location = answer.headers.get("location")
            if not self._plan.follow_redirects or location is None:
                return answer
            if answer.status not in (301, 302, 303, 307, 308):
                return answer
            if request.method != "GET" and answer.status not in (307, 308):
                return answer
            try:
                url = resolve(request.url, location)
            except PollError:
                raise PollError(status_text(answer.status, location)) from None
            request = replace(request, url=url)
        raise PollError(f"more than {MAX_REDIRECTS} redirects")

    async def _send(self, request: Request) -> Response:
        loop = asyncio.get_running_loop()
        timer: asyncio.TimerHandle | None = None
        over = False
        self.requests += 1

        def arm() -> None:
            nonlocal timer
            if not over:
                timer = loop.call_later(self._plan.timeout_ms / 1000, self._transport.expire)

        def send() -> Response:
            # Armed when a thread takes the request up: waiting for a thread is not the API's time.
            loop.call_soon_threadsafe(arm)
            return self._transport.send(request)

        try:
            return await loop.run_in_executor(self._executor, send)
        finally:
            over = True
            if timer is not None:
                timer.cancel()
