"""Answers to requests that carry an Idempotency-Key: the same key gets the same answer, once.

The http source asks here before it submits a keyed request and records the answer when its rows
are durable, before it is sent. So an answered request is never taken in again, whatever happens to
the process; one that was cut off before its answer may be, as its sender expects.
"""

import asyncio
import json
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Protocol

from litejoin.clock import Clock, SteadyClock
from litejoin.errors import RequestError
from litejoin.records import Row, RowKind, pack_rows
from litejoin.sources.base import Intake, SourceState

KEPT_MS = 24 * 3_600_000
"""How long a key is remembered."""

KEPT_ANSWERS = 65_536
"""Keys of a listener, about 200 bytes each; beyond that the oldest are forgotten early."""

FORGET_AT_ONCE = 100
"""Dropped with one new answer: a day's keys that expire together make no long transaction."""

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

    async def keep(self, digest: bytes, answer: KeptAnswer) -> None:
        """Remember an answer until the process ends."""
        self.add(digest, self.now_ms(), answer)
        self.forget()

    def now_ms(self) -> int:
        """The time answers are dated with."""
        return self._clock.now_ms()

    def add(self, digest: bytes, at_ms: int, answer: KeptAnswer) -> None:
        """Put an answer behind all others."""
        self._answers[digest] = (at_ms, answer)
        self._answers.move_to_end(digest)

    def forget(self) -> list[bytes]:
        """Drop what is too old or too much; the digests that were dropped."""
        dropped: list[bytes] = []
        oldest_ms = self.now_ms() - KEPT_MS
        while self._answers and len(dropped) < FORGET_AT_ONCE:
            digest, (at_ms, _) = next(iter(self._answers.items()))
            if at_ms >= oldest_ms and len(self._answers) <= self._max_answers:
                break
            del self._answers[digest]
            dropped.append(digest)
        return dropped


class StoredAnswers:
    """The same, with a copy in the shards: one state row a key, as api sources keep their state.

        key      hash       payload
        digest   of body    {"at": Unix ms, "rows": n}

    `open_state` blocks on the disk and is called off the event loop, with the first keyed request:
    pipelines without any pay nothing.
    """

    def __init__(self, open_state: Callable[[], SourceState], intake: Intake, clock: Clock) -> None:
        self._open_state = open_state
        self._intake = intake
        self._memory = MemoryAnswers(clock)
        self._state: SourceState | None = None
        self._opening = asyncio.Lock()

    async def find(self, digest: bytes) -> KeptAnswer | None:
        """The answer given within the last 24 hours. Raises CorruptionError, StorageError."""
        await self._open()
        return await self._memory.find(digest)

    async def keep(self, digest: bytes, answer: KeptAnswer) -> None:
        """Remember an answer durably. Raises OverloadedError and StorageFullError: then the request
        counts as not answered.
        """
        state = await self._open()
        now_ms = self._memory.now_ms()
        payload = json.dumps({"at": now_ms, "rows": answer.rows}).encode()
        key = digest.hex().encode()
        kept = Row(state.number, RowKind.STATE_UPSERT, now_ms, key, payload, answer.body_hash)
        forgotten = [
            Row(state.number, RowKind.STATE_DELETE, now_ms, old.hex().encode())
            for old in self._memory.forget()
        ]
        await self._intake.submit(pack_rows((*forgotten, kept)), 1 + len(forgotten))
        self._memory.add(digest, now_ms, answer)

    async def _open(self) -> SourceState:
        async with self._opening:
            if self._state is None:
                state = await asyncio.to_thread(self._open_state)
                await self._load(state)
                self._state = state
            return self._state

    async def _load(self, state: SourceState) -> None:
        hashes = await state.hashes()
        payloads = await state.payloads([key for key, _ in hashes])
        found = [
            (json.loads(payload), key, body_hash)
            for (key, body_hash), payload in zip(hashes, payloads, strict=True)
            if payload is not None
        ]
        for entry, key, body_hash in sorted(found, key=lambda one: one[0]["at"]):
            answer = KeptAnswer(body_hash, entry["rows"])
            self._memory.add(bytes.fromhex(key.decode()), entry["at"], answer)


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
