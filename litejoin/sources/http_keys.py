"""Requests that carry an Idempotency-Key: the same key gets the same answer, and changes once.

Both kinds of http sources run their keyed requests through `KeyedRequests`. What was answered is
kept in memory here; `http_marks` keeps it in the shards as well, in the transactions of the rows.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Protocol

from litejoin.clock import Clock, SteadyClock
from litejoin.errors import RequestError

KEPT_MS = 24 * 3_600_000
"""How long a key is remembered."""

KEPT_ANSWERS = 65_536
"""Keys of a listener, about 200 bytes each; beyond that the oldest are forgotten early."""

FORGET_AT_ONCE = 100
"""Dropped with one new answer: a day's keys that expire together make no long transaction."""

MAX_KEY_BYTES = 255


RowsOf = Callable[[], tuple[bytes, int]]
"""Makes the row batch of a body; and the number of its rows. Raises BadRowError."""

Submit = Callable[[bytes, int, int], Awaitable[None]]
"""Waits until a batch is durable: (batch, rows in it, rows of the request)."""


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """What was answered: the rows taken, and for which body."""

    body_hash: bytes
    rows: int
    marks: tuple[int, ...] = ()
    """What `http_marks` has stored of it."""


class AnswerStore(Protocol):
    """Where answers are kept, by a 16-byte digest of source and key."""

    async def find(self, digest: bytes) -> KeptAnswer | None:
        """The answer given within the last 24 hours."""
        ...

    async def take(self, digest: bytes, answer: KeptAnswer, batch: bytes, submit: Submit) -> None:
        """Take the rows of a request in and remember its answer, for as long and as surely as the
        store does. Raises what `submit` raises; then the request counts as not answered.
        """
        ...


class MemoryAnswers:
    """The newest answers, until the process ends."""

    def __init__(self, clock: Clock, max_answers: int = KEPT_ANSWERS) -> None:
        self._clock = SteadyClock(clock)
        self._max_answers = max_answers
        self._answers: OrderedDict[bytes, tuple[int, KeptAnswer]] = OrderedDict()

    async def find(self, digest: bytes) -> KeptAnswer | None:
        """The answer given within the last 24 hours."""
        kept = self._answers.get(digest)
        if kept is None or self.now_ms() - kept[0] > KEPT_MS:
            return None
        return kept[1]

    async def take(self, digest: bytes, answer: KeptAnswer, batch: bytes, submit: Submit) -> None:
        """Take the rows in, and remember the answer until the process ends."""
        await submit(batch, answer.rows, answer.rows)
        self.add(digest, self.now_ms(), answer)
        self.forget()

    def now_ms(self) -> int:
        """The time answers are dated with."""
        return self._clock.now_ms()

    def add(self, digest: bytes, at_ms: int, answer: KeptAnswer) -> None:
        """Put an answer behind all others."""
        self._answers[digest] = (at_ms, answer)
        self._answers.move_to_end(digest)

    def forget(self) -> list[tuple[bytes, KeptAnswer]]:
        """Drop what is too old or too much; what was dropped."""
        dropped: list[tuple[bytes, KeptAnswer]] = []
        oldest_ms = self.now_ms() - KEPT_MS
        while self._answers and len(dropped) < FORGET_AT_ONCE:
            digest, (at_ms, answer) = next(iter(self._answers.items()))
            if at_ms >= oldest_ms and len(self._answers) <= self._max_answers:
                break
            del self._answers[digest]
            dropped.append((digest, answer))
        return dropped


class KeyedRequests:
    """Runs a keyed request once, however often and however concurrently it is sent."""

    def __init__(self, source: str, store: AnswerStore) -> None:
        self._source = source
        self._store = store
        self._running: dict[bytes, tuple[bytes, asyncio.Task[int]]] = {}

    async def once(self, key: bytes, body: bytes, rows_of: RowsOf, submit: Submit) -> int:
        """The rows of a body that are taken in, now or when this key came first.

        Raises RequestError 400 for a bad key, 422 for a key that came with another body, and what
        the two callables raise; a failed request is not remembered, its retry is a new one.
        """
        if not 0 < len(key) <= MAX_KEY_BYTES:
            raise RequestError(f"Idempotency-Key must have 1 to {MAX_KEY_BYTES} bytes", status=400)
        digest = blake2b(self._source.encode() + b"\0" + key, digest_size=16).digest()
        body_hash = blake2b(body, digest_size=16).digest()
        running = self._running.get(digest)
        if running is None:
            # A task of its own: a sender that goes away does not leave its rows half way in, while
            # its retry is on the way.
            task = asyncio.ensure_future(self._first(digest, body_hash, rows_of, submit))
            self._running[digest] = running = (body_hash, task)
            task.add_done_callback(lambda done: self._ended(digest, done))
        check_body(running[0], body_hash)
        return await asyncio.shield(running[1])

    @property
    def running(self) -> int:
        """Requests that are being taken in."""
        return len(self._running)

    async def _first(self, digest: bytes, body_hash: bytes, rows_of: RowsOf, submit: Submit) -> int:
        kept = await self._store.find(digest)
        if kept is not None:
            check_body(kept.body_hash, body_hash)
            return kept.rows
        batch, rows = rows_of()
        await self._store.take(digest, KeptAnswer(body_hash, rows), batch, submit)
        return rows

    def _ended(self, digest: bytes, task: asyncio.Task[int]) -> None:
        del self._running[digest]
        if not task.cancelled():
            task.exception()  # mark it seen: the sender may be gone


def check_body(known: bytes, given: bytes) -> None:
    """Raises RequestError 422 when a key is used again for something else."""
    if known != given:
        raise RequestError(
            "this Idempotency-Key came with another body before",
            status=422,
            hint="use a new key for a new request",
        )
