"""From compared pages to durable rows: the records of one api source, in memory and in the store.

Called by `walk`, one walk at a time, on the event loop; native work runs in the executor. Owns the
rule that nothing counts as known before its rows are durable, and the one that decides which
records that a walk did not show are deletes. Never talks HTTP, never logs.
"""

import asyncio
import secrets
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import TypeVar

from litejoin._ext.checksum import xxh64
from litejoin._ext.diff import Page, Snapshot
from litejoin._ext.gjson import compile_path
from litejoin.clock import Clock
from litejoin.errors import JsonError, OverloadedError, PollError
from litejoin.plan.nodes import ApiSourcePlan
from litejoin.records import Row, RowKind, pack_rows
from litejoin.sources.api.notes import is_note
from litejoin.sources.base import Intake, SourceState

T = TypeVar("T")

CHUNK_RECORDS = 1000
CHUNK_BYTES = 4 * 1024 * 1024
"""A first poll is handed over in pieces, so that it never lies in memory twice as a whole."""
CHUNKS_IN_FLIGHT = 4
"""Enough to keep the shards' group commits busy while the next piece is packed."""
GUARD_SHARE = 0.3
GUARD_KEYS = 10
"""More gone than both at once is more likely a fault upstream than so many deletes."""


@dataclass(frozen=True, slots=True)
class PollResult:
    """What one poll came to."""

    records: int = 0
    created: int = 0
    updated: int = 0
    deleted: int = 0
    unchanged: int = 0
    duplicates: int = 0
    keyless: int = 0
    keyless_reason: str = ""
    held: int = 0
    """Records gone that the shrink guard keeps until the next complete poll agrees."""
    waiting: int = 0
    """Records gone once, of a list whose pages shift: deleted when the next walk agrees."""
    pages: int = 0
    incomplete_page: int = 0
    incomplete: str = ""
    """Why the walk did not show everything; empty when it did, or was not meant to."""


class RecordSet:
    """The diff state of one source and the way of its changes to the intake.

    A walk: `begin`, `take` each page, `finish` after the last. One that is not finished is
    forgotten by the next `begin`; what its pages brought stands.
    """

    def __init__(
        self,
        plan: ApiSourcePlan,
        intake: Intake,
        state: SourceState,
        clock: Clock,
        executor: Executor,
    ) -> None:
        self._plan = plan
        self._intake = intake
        self._state = state
        self._clock = clock
        self._executor = executor
        whole = plan.for_each is not None and plan.for_each.include
        self._response = compile_path("@this" if whole else plan.response_path or "@this")
        self._keys = [compile_path(path) for path in plan.key_path]
        self._snapshot = self._empty()
        self._loaded = False
        self._known = 0
        self._digest = (0, 0)
        self._last: tuple[tuple[int, int], PollResult] | None = None
        """((length, XXH64), result) of the only body of the last walk, if nothing was held."""
        self._result = PollResult()

    def __len__(self) -> int:
        """Records known upstream."""
        return len(self._snapshot)

    async def known(self) -> int:
        """Records known upstream, also before the first walk."""
        if not self._loaded:
            await self._load()
        return len(self._snapshot)

    async def begin(self) -> None:
        """A walk starts."""
        if not self._loaded:
            await self._load()
        self._known = len(self._snapshot)
        self._last = None  # what this walk stores, if it breaks off, is not what the last one saw
        self._result = PollResult()
        self._snapshot.begin()

    async def digest(self, body: bytearray) -> tuple[int, int]:
        """What tells one body from another."""
        return len(body), await self.run(xxh64, body)

    def same_as_last(self, digest: tuple[int, int]) -> PollResult | None:
        """The result of the last walk, if this was its only body."""
        if self._loaded and self._last is not None and self._last[0] == digest:
            return self._last[1]
        return None

    async def take(self, body: bytearray, content_type: str = "") -> int:
        """Compare one page and make what changed durable; returns the records in it.

        `content_type` is for the message when the body is not JSON.

        Raises PollError when the body is no page of records; then nothing of it was stored. What
        `submit` raises goes through: the durable state is read again before the next walk then.
        """
        page = await self.run(self._compare, body, content_type)
        try:
            await self._take_in(page)
        except BaseException:
            self._loaded = False
            raise
        return page.records

    async def finish(
        self, *, complete: bool, twice: bool, digest: tuple[int, int] | None
    ) -> PollResult:
        """The walk is over. `complete`: it showed everything there is. `twice`: only what two
        complete walks missed is gone. `digest`: of its only body, None when there were more.
        """
        try:
            result = await self._finish(complete, twice)
        except BaseException:
            self._loaded = False
            raise
        settled = complete and digest is not None and not (result.held or result.waiting)
        self._last = (digest, _settled(result)) if settled and digest is not None else None
        return result

    async def _finish(self, complete: bool, twice: bool) -> PollResult:
        result = self._result
        if complete:
            self._snapshot.finish()
            if self._plan.detect_deletes and not result.keyless:
                result = await self._settle_missing(result, twice)
        if self._state.is_new():
            await self._state.mark_started()
        return result

    def _empty(self) -> Snapshot:
        return Snapshot(
            self._response.program,
            [key.program for key in self._keys],
            self._plan.ignore_fields,
            seed=secrets.randbits(64),
            first_wins=self._plan.on_duplicate_key == "first",
        )

    async def _load(self) -> None:
        """Start from what is durable; the first time, and after a submit of unknown outcome."""
        self._last = None
        self._snapshot = self._empty()
        pairs = [pair for pair in await self._state.hashes() if not is_note(pair[0])]
        await self.run(self._snapshot.load, pairs)
        self._loaded = True

    async def run(self, call: Callable[..., T], *args: object) -> T:
        """The result of a call on a pool thread."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, call, *args)

    def _compare(self, body: bytearray, content_type: str) -> Page:
        """The page, judged; on a pool thread."""
        try:
            page = self._snapshot.compare(body)
        except JsonError as error:
            raise PollError(f"{error}{self._context(error, content_type)}") from None
        if page.keyless and page.keyless == page.records:
            what = "the object" if page.single else "every record"
            path = ", ".join(self._plan.key_path)
            raise PollError(f"{what} in the response lacks a usable key at key_path {path}")
        if page.keyless and self._plan.on_missing_key == "error":
            raise PollError(
                f"{page.keyless} of {page.records} records lack a usable key: {page.keyless_reason}"
            )
        if page.duplicates and self._plan.on_duplicate_key == "error":
            raise PollError(f"{page.duplicates} records repeat a key of the same poll")
        return page

    def _context(self, error: JsonError, content_type: str) -> str:
        """What helps to understand why a body is no poll result."""
        if "JSON" in str(error):
            return f" (content type {content_type})" if content_type else ""
        return f" (response_path {self._response.text})" if self._plan.response_path else ""

    async def _take_in(self, page: Page) -> None:
        emit = self._plan.initial_snapshot or not self._state.is_new()
        same = await self._store_changes(page, emit)
        r = self._result
        self._result = replace(
            r,
            records=r.records + page.records,
            created=r.created + (page.created if emit else 0),
            updated=r.updated + (page.updated - same if emit else 0),
            unchanged=r.unchanged + page.unchanged + same,
            duplicates=r.duplicates + page.duplicates,
            keyless=r.keyless + page.keyless,
            keyless_reason=r.keyless_reason or page.keyless_reason,
            pages=r.pages + 1,
        )

    async def _store_changes(self, page: Page, emit: bool) -> int:
        """Hand over all changes; returns how many updates the state had already (a replay)."""
        now_ms = self._clock.now_ms()
        in_flight: deque[tuple[int, int, asyncio.Task[None]]] = deque()
        at = same = 0
        try:
            while at < len(page) or in_flight:
                if at < len(page) and len(in_flight) < CHUNKS_IN_FLIGHT:
                    stop = page.chunk(at, CHUNK_BYTES, CHUNK_RECORDS)
                    batch, rows, replayed = await self._pack(page, at, stop, now_ms, emit)
                    same += replayed
                    task = asyncio.ensure_future(self._submit(batch, rows))
                    in_flight.append((at, stop, task))
                    at = stop
                    continue
                start, stop, task = in_flight[0]
                await task
                self._snapshot.apply(page, start, stop)
                in_flight.popleft()
        finally:
            for _, _, task in in_flight:
                task.cancel()
            await asyncio.gather(*(task for _, _, task in in_flight), return_exceptions=True)
        return same

    async def _pack(
        self, page: Page, start: int, stop: int, now_ms: int, emit: bool
    ) -> tuple[bytes, int, int]:
        diff = self._plan.change_detection == "diff"
        topic = self._intake.topic_number(self._plan.topic)
        keys = page.updated_keys(start, stop) if diff and emit else []
        befores = list(await self._state.payloads(keys)) if keys else None

        def pack() -> tuple[bytes, int, int]:
            return page.pack(
                start,
                stop,
                topic=topic,
                state=self._state.number,
                timestamp_ms=now_ms,
                keep_records=diff,
                emit=emit,
                befores=befores,
            )

        return await self.run(pack)

    async def _submit(self, batch: bytes, rows: int) -> None:
        """Queue a batch, waiting for room as often as it takes, and wait until it is durable."""
        while rows:
            try:
                # A key's diff state is in its own shard, so that what one shard does not take is
                # found again by the next poll.
                return await self._intake.submit(batch, rows, piecewise=True)
            except OverloadedError:
                await self._intake.room()

    async def _settle_missing(self, result: PollResult, twice: bool) -> PollResult:
        """Delete what this complete walk did not show, or hold it back."""
        fresh, agreed = self._snapshot.missing()
        missing = fresh + agreed
        suspicious = missing > GUARD_KEYS and missing > GUARD_SHARE * self._known
        suspicious = bool(missing) and (suspicious or result.records == 0)
        keys = self._snapshot.missing_keys(suspicious or twice)
        kept = missing - len(keys)
        if kept:
            self._snapshot.hold()
        await self._delete(keys)
        return replace(
            result,
            deleted=len(keys),
            held=kept if suspicious else 0,
            waiting=0 if suspicious else kept,
        )

    async def _delete(self, keys: list[bytes]) -> None:
        now_ms = self._clock.now_ms()
        topic = self._intake.topic_number(self._plan.topic)
        for at in range(0, len(keys), CHUNK_RECORDS):
            chunk = keys[at : at + CHUNK_RECORDS]
            rows = [
                Row(table, kind, now_ms, key)
                for key in chunk
                for table, kind in (
                    (topic, RowKind.DELETE),
                    (self._state.number, RowKind.STATE_DELETE),
                )
            ]
            await self._submit(await self.run(pack_rows, rows), len(rows))
            self._snapshot.forget(chunk)


def _settled(result: PollResult) -> PollResult:
    """What a poll with the very same body comes to."""
    unchanged = result.records - result.duplicates - result.keyless
    return replace(result, created=0, updated=0, deleted=0, unchanged=unchanged)
