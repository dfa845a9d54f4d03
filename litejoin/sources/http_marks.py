"""Keyed requests over crashes: every shard that took rows of one holds a mark of it.

The rows of a request spread over shards, and each shard commits by itself. So each shard that gets
some also gets, in the same transaction, a mark: a state row whose key is chosen to live in that
shard. A request is answered when all its marks are there. After a crash, a retry is given only to
the shards that have none: nothing is lost, and nothing happens twice.

    key      <digest>/<n>     32 hex digits; n is the first number that lives in the shard
    hash     of the body
    payload  {"at": Unix ms, "rows": of the request, "total": marks, "shard": s, "of": shards,
             "body": hash in hex}

`total` is what a try knew to be needed; after `litejoin reshard` a retry may need another number,
and the largest counts.
"""

import asyncio
import json
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby

from litejoin._ext.route import shard_of, shards_of
from litejoin.clock import Clock
from litejoin.records import Row, RowKind, pack_rows, unpack_rows
from litejoin.sources.base import SourceState
from litejoin.sources.http_keys import (
    FORGET_AT_ONCE,
    KEPT_ANSWERS,
    KEPT_MS,
    KeptAnswer,
    MemoryAnswers,
    Submit,
)


@dataclass(frozen=True, slots=True)
class Mark:
    """That a shard has its rows of a request."""

    n: int
    body_hash: bytes
    at_ms: int
    rows: int
    total: int
    shard: int
    of: int

    def payload(self) -> bytes:
        """As it is stored."""
        fields = {"at": self.at_ms, "rows": self.rows, "total": self.total, "shard": self.shard}
        return json.dumps({**fields, "of": self.of, "body": self.body_hash.hex()}).encode()


class StoredAnswers:
    """The `AnswerStore` of a pipeline. Event loop only.

    `open_state` blocks on the disk and is called off the event loop, with the first keyed request:
    pipelines without any pay nothing.
    """

    def __init__(self, open_state: Callable[[], SourceState], shards: int, clock: Clock) -> None:
        self._open_state = open_state
        self._shards = shards
        self._memory = MemoryAnswers(clock)
        self._state: SourceState | None = None
        self._opening = asyncio.Lock()
        self._cut: OrderedDict[bytes, Sequence[Mark]] = OrderedDict()
        """Requests of which some shards have their rows and others have not."""
        self._unsure: OrderedDict[bytes, None] = OrderedDict()
        """Requests that failed in this process: which shards took their rows is to be asked."""
        self._stale: deque[bytes] = deque()
        """Keys of marks that nobody needs any more."""

    async def find(self, digest: bytes) -> KeptAnswer | None:
        """The answer given within the last 24 hours. Raises CorruptionError, StorageError."""
        state = await self._open()
        if digest in self._unsure:
            here = {mark_number(digest, shard, self._shards) for shard in range(self._shards)}
            # Those of before a reshard may have other numbers.
            numbers = sorted(here.union(mark.n for mark in self._cut.get(digest, ())))
            payloads = await state.payloads([mark_key(digest, n) for n in numbers])
            found = zip(numbers, payloads, strict=True)
            self._learn(digest, [_mark(n, payload) for n, payload in found if payload is not None])
            del self._unsure[digest]
        return await self._memory.find(digest)

    async def take(self, digest: bytes, answer: KeptAnswer, batch: bytes, submit: Submit) -> None:
        """Take in what the shards do not have, with a mark in each. Raises what `submit` raises."""
        state = await self._open()
        known = self._cut.get(digest, ())
        cut = [mark for mark in known if mark.body_hash == answer.body_hash]
        count = answer.rows
        if cut:
            batch, count = rest_of(batch, cut)
        shards = shards_of(batch, self._shards) or [0]
        now_ms, total = self._memory.now_ms(), len(cut) + len(shards)
        marks = [
            Mark(
                mark_number(digest, shard, self._shards),
                answer.body_hash,
                now_ms,
                answer.rows,
                total,
                shard,
                self._shards,
            )
            for shard in shards
        ]
        if not cut:  # what another body left behind, and is not replaced
            numbers = {mark.n for mark in marks}
            self._stale.extend(mark_key(digest, old.n) for old in known if old.n not in numbers)
        rows = [*self._forgotten(state.number, now_ms), *_rows(state.number, digest, marks)]
        try:
            await submit(batch + pack_rows(rows), count + len(rows), answer.rows)
        except BaseException:
            self._unsure[digest] = None
            while len(self._unsure) > KEPT_ANSWERS:
                self._unsure.popitem(last=False)
            raise
        self._learn(digest, [*cut, *marks])

    def _forgotten(self, number: int, now_ms: int) -> list[Row]:
        """Deletions of marks that are too old or too many."""
        for digest, answer in self._memory.forget():
            self._stale.extend(mark_key(digest, n) for n in answer.marks)
        keys = [self._stale.popleft() for _ in range(min(len(self._stale), 8 * FORGET_AT_ONCE))]
        return [Row(number, RowKind.STATE_DELETE, now_ms, key) for key in keys]

    async def _open(self) -> SourceState:
        async with self._opening:
            if self._state is None:
                state = await asyncio.to_thread(self._open_state)
                await self._load(state)
                self._state = state
            return self._state

    async def _load(self, state: SourceState) -> None:
        keys = sorted(key for key, _ in await state.hashes())
        payloads = await state.payloads(keys)
        marks = [
            (bytes.fromhex(key[:32].decode()), _mark(int(key[33:]), payload))
            for key, payload in zip(keys, payloads, strict=True)
            if payload is not None
        ]
        requests = [
            (digest, [mark for _, mark in found])
            for digest, found in groupby(marks, lambda one: one[0])
        ]
        for digest, found in sorted(requests, key=lambda one: max(m.at_ms for m in one[1])):
            self._learn(digest, found)

    def _learn(self, digest: bytes, marks: Sequence[Mark]) -> None:
        """Know a request by its marks: as answered, as cut off, or not any more."""
        self._cut.pop(digest, None)
        if not marks:
            return
        newest = max(marks, key=lambda mark: mark.at_ms)
        same = [mark for mark in marks if mark.body_hash == newest.body_hash]
        numbers = tuple(mark.n for mark in marks)
        if len(same) >= max(mark.total for mark in same):
            answer = KeptAnswer(newest.body_hash, newest.rows, numbers)
            self._memory.add(digest, newest.at_ms, answer)
        elif self._memory.now_ms() - newest.at_ms > KEPT_MS:
            self._stale.extend(mark_key(digest, n) for n in numbers)
        else:
            self._cut[digest] = same


def rest_of(batch: bytes, marks: Sequence[Mark]) -> tuple[bytes, int]:
    """The rows of a batch that no marked shard has, and their number."""
    places = {(mark.shard, mark.of) for mark in marks}
    rows = [
        row
        for row in unpack_rows(batch)
        if not any(shard_of(row.key, of) == shard for shard, of in places)
    ]
    return pack_rows(rows), len(rows)


def mark_key(digest: bytes, n: int) -> bytes:
    """The key of a mark."""
    return b"%b/%d" % (digest.hex().encode(), n)


@lru_cache(maxsize=1024)
def mark_number(digest: bytes, shard: int, shards: int) -> int:
    """The first n whose mark lives in a shard; about `shards` are tried."""
    n = 0
    while shard_of(mark_key(digest, n), shards) != shard:
        n += 1
    return n


def _rows(number: int, digest: bytes, marks: Sequence[Mark]) -> list[Row]:
    return [
        Row(
            number,
            RowKind.STATE_UPSERT,
            mark.at_ms,
            mark_key(digest, mark.n),
            mark.payload(),
            mark.body_hash,
        )
        for mark in marks
    ]


def _mark(n: int, payload: bytes) -> Mark:
    stored = json.loads(payload)
    body_hash = bytes.fromhex(stored["body"])
    return Mark(
        n, body_hash, stored["at"], stored["rows"], stored["total"], stored["shard"], stored["of"]
    )
