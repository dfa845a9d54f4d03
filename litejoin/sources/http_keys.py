"""Answers to requests that carry an Idempotency-Key: the same key gets the same answer, once.

The http source asks here before it submits a keyed request and records the answer when its rows
are durable. `AnswerStore` is what a durable store has to be; `MemoryAnswers` keeps them until the
process ends, so a retry after a restart is taken in again (its rows overwrite themselves: same
keys, same values).
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Protocol

from litejoin.clock import Clock
from litejoin.errors import RequestError

KEPT_MS = 24 * 3_600_000
"""How long a key is remembered."""

KEPT_ANSWERS = 65_536
"""Keys in memory, about 200 bytes each; beyond that the oldest are forgotten early."""

MAX_KEY_BYTES = 255


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """What was answered: the rows taken, and for which body."""

    body_hash: bytes
    rows: int


class AnswerStore(Protocol):
    """Where answers are kept, by a 16-byte digest of source and key."""

    async def find(self, digest: bytes) -> KeptAnswer | None:
        """The answer given within the last 24 hours."""
        ...

    async def keep(self, digest: bytes, answer: KeptAnswer) -> None:
        """Remember an answer; done when it would survive what the store promises to survive."""
        ...


class MemoryAnswers:
    """Keeps the newest answers in memory."""

    def __init__(self, clock: Clock, max_answers: int = KEPT_ANSWERS) -> None:
        self._clock = clock
        self._max_answers = max_answers
        self._answers: OrderedDict[bytes, tuple[int, KeptAnswer]] = OrderedDict()

    async def find(self, digest: bytes) -> KeptAnswer | None:
        """The answer given within the last 24 hours."""
        kept = self._answers.get(digest)
        if kept is None or self._clock.monotonic_ms() - kept[0] > KEPT_MS:
            return None
        return kept[1]

    async def keep(self, digest: bytes, answer: KeptAnswer) -> None:
        """Remember an answer until the process ends."""
        self._answers[digest] = (self._clock.monotonic_ms(), answer)
        self._answers.move_to_end(digest)
        while len(self._answers) > self._max_answers:
            self._answers.popitem(last=False)


class KeyedRequests:
    """Runs a keyed request once, however often and however concurrently it is sent."""

    def __init__(self, source: str, store: AnswerStore) -> None:
        self._source = source
        self._store = store
        self._running: dict[bytes, tuple[bytes, asyncio.Future[int]]] = {}

    async def once(self, key: bytes, body: bytes, submit: Callable[[], Awaitable[int]]) -> int:
        """The rows that `submit` took in, now or when this key came first.

        Raises RequestError 400 for a bad key, 422 for a key that came with another body, and what
        `submit` raises; a failed request is not remembered, its retry is a new one.
        """
        if not 0 < len(key) <= MAX_KEY_BYTES:
            raise RequestError(f"Idempotency-Key must have 1 to {MAX_KEY_BYTES} bytes", status=400)
        digest = blake2b(self._source.encode() + b"\0" + key, digest_size=16).digest()
        body_hash = blake2b(body, digest_size=16).digest()
        running = self._running.get(digest)
        if running is not None:
            check_body(running[0], body_hash)
            return await asyncio.shield(running[1])
        outcome: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._running[digest] = (body_hash, outcome)
        try:
            rows = await self._first(digest, body_hash, submit)
        except BaseException as error:
            outcome.set_exception(as_retry(error))
            outcome.exception()  # mark it seen: mostly nobody else waits
            raise
        else:
            outcome.set_result(rows)
            return rows
        finally:
            del self._running[digest]

    async def _first(
        self, digest: bytes, body_hash: bytes, submit: Callable[[], Awaitable[int]]
    ) -> int:
        kept = await self._store.find(digest)
        if kept is not None:
            check_body(kept.body_hash, body_hash)
            return kept.rows
        rows = await submit()
        await self._store.keep(digest, KeptAnswer(body_hash, rows))
        return rows


def check_body(known: bytes, given: bytes) -> None:
    """Raises RequestError 422 when a key is used again for something else."""
    if known != given:
        raise RequestError(
            "this Idempotency-Key came with another body before",
            status=422,
            hint="use a new key for a new request",
        )


def as_retry(error: BaseException) -> Exception:
    """The failure of a request as another one that waited for it sees it."""
    if isinstance(error, Exception):
        return error
    return RequestError("the first request of this Idempotency-Key was cut off", status=503)
