"""The webhook sinks: one result a request (HttpSink), or several as a JSON array (HttpBatchSink).

`max_in_flight` threads, each with one kept-alive connection. Every request carries its id as
`webhook-id` and `Idempotency-Key`: the receiver can tell a repetition from a new result. See
`answers` for what becomes of a result, `request` for signatures.
"""

import asyncio
from collections.abc import Sequence
from hashlib import blake2b

from litejoin.clock import Clock, SystemClock
from litejoin.plan.nodes import HttpSinkPlan
from litejoin.records import Result
from litejoin.sinks.base import Outcome
from litejoin.sinks.http.poster import Delivery, Poster, tls_context
from litejoin.sinks.http.request import target_of
from litejoin.sinks.workers import Workers

GRACE_MS = 1_000
"""An answer that drips in is cut this long after the timeout."""

LONGEST_WATCH_S = 1.0
"""How often overdue requests are looked for, at most."""


class HttpSink:
    """A webhook receiver that takes one result a request."""

    def __init__(self, plan: HttpSinkPlan, clock: Clock | None = None) -> None:
        self.name = plan.name
        self.max_in_flight = plan.max_in_flight
        self._plan = plan
        self._clock = clock or SystemClock()
        self._posters: list[Poster] = []
        self._workers: Workers[Poster, Delivery, Outcome] | None = None
        self._watch: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Raises SinkError for a URL, header, secret or certificate that can never be used."""
        target = target_of(self._plan)
        tls = tls_context(self._plan) if target.url.scheme == "https" else None

        def add_poster() -> Poster:
            poster = Poster(self._plan, target, tls, self._clock)
            self._posters.append(poster)
            return poster

        self._workers = Workers(
            f"lj-sink-{self.name}", self.max_in_flight, add_poster, Poster.post, Poster.close
        )
        self._watch = asyncio.create_task(self._watch_forever())

    async def deliver(self, result: Result) -> Outcome:
        """Send one result."""
        return await self._send(result.named_body())

    async def _send(self, delivery: Delivery) -> Outcome:
        assert self._workers is not None
        return await self._workers.submit(delivery)

    async def _watch_forever(self) -> None:
        """Cut overdue requests: the timeout bounds each read, so an answer that drips byte by byte
        could last for ever.
        """
        grace_ms = min(GRACE_MS, self._plan.timeout_ms)
        while True:
            await asyncio.sleep(min(LONGEST_WATCH_S, self._plan.timeout_ms / 2000))
            now_ms = self._clock.monotonic_ms()
            for poster in self._posters:
                if 0 < poster.overdue_ms <= now_ms - grace_ms:
                    poster.abort()

    async def close(self) -> None:
        """Cut what is in flight and let the threads go."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        if self._workers is not None:
            self._workers.stop()
        for poster in self._posters:
            poster.abort()


class HttpBatchSink(HttpSink):
    """A webhook receiver that takes a JSON array of results a request, in log order.

    One request is in flight. What the receiver cannot take now is held, with everything behind it;
    a batch that it refuses for good is sent again one by one, so that only what it refuses then is
    parked.
    """

    def __init__(self, plan: HttpSinkPlan, clock: Clock | None = None) -> None:
        super().__init__(plan, clock)
        self.max_in_flight = 1
        self.max_batch = plan.max_batch

    def position(self, epoch: str) -> int | None:
        """Nothing is stored here."""
        return None

    async def deliver(self, result: Result) -> Outcome:
        """Send a parked result again, as an array of one."""
        return await self._send(batch_of([result]))

    async def deliver_batch(self, results: Sequence[Result]) -> Sequence[Outcome]:
        """Send results as one request."""
        outcome = await self._send(batch_of(results))
        if outcome.status != "reject" or len(results) == 1:
            return [outcome] * len(results)
        outcomes: list[Outcome] = []
        for result in results:
            outcomes.append(await self.deliver(result))
            if outcomes[-1].status in ("retry", "stop"):
                break
        return [*outcomes, *[outcomes[-1]] * (len(results) - len(outcomes))]


def batch_of(results: Sequence[Result]) -> Delivery:
    """A batch's id and body. Equal results make an equal batch, whichever attempt sends it."""
    digest = blake2b(digest_size=12)
    for result in results:
        digest.update(result.id.encode())
    return digest.hexdigest(), b"[" + b",\n".join(result.body() for result in results) + b"]"
