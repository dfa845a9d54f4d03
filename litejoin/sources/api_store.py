"""From a compared poll to durable rows: the state of one api source, in memory and in the store.

Called by `litejoin.sources.api`, one poll at a time, on the event loop; native work runs in the
executor. Owns the rule that nothing counts as known before its rows are durable, and the one that
decides which records that a poll did not show are deletes. Never talks HTTP, never logs.
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

    records: int
    created: int
    updated: int
    deleted: int
    unchanged: int
    duplicates: int = 0
    keyless: int = 0
    keyless_reason: str = ""
    held: int = 0
    """Records gone that the shrink guard keeps until the next complete poll agrees."""


class ApiStore:
    """The diff state of one source and the way of its changes to the intake."""

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
        self._response = compile_path(plan.response_path or "@this")
        self._keys = [compile_path(path) for path in plan.key_path]
        self._snapshot = self._empty()
        self._loaded = False
        self._last: tuple[int, int, PollResult] | None = None
        """(length, XXH64, result) of the last body that was taken in without anything held."""

    def __len__(self) -> int:
        """Records known upstream."""
        return len(self._snapshot)

    async def take(self, body: bytearray, content_type: str = "") -> PollResult:
        """Compare one complete response and make what changed durable.

        `content_type` is for the message when the body is not JSON.

        Raises PollError when the body is no poll result; then nothing was changed. What `submit`
        raises goes through: the durable state is read again before the next poll then.
        """
        if not self._loaded:
            await self._load()
        known = len(self._snapshot)
        page, length, digest = await self._run(self._compare, body, content_type)
        if page is None:
            assert self._last is not None
            return self._last[2]
        try:
            result = await self._take_in(page, known)
        except BaseException:
            self._loaded = False
            raise
        self._last = None if result.held else (length, digest, _settled(result))
        return result

    def _empty(self) -> Snapshot:
        return Snapshot(
            self._response.program,
            [key.program for key in self._keys],
            self._plan.ignore_fields,
            seed=secrets.randbits(64),
        )

    async def _load(self) -> None:
        """Start from what is durable; the first time, and after a submit of unknown outcome."""
        self._last = None
        self._snapshot = self._empty()
        pairs = await self._state.hashes()
        await self._run(self._snapshot.load, pairs)
        self._loaded = True

    async def _run(self, call: Callable[..., T], *args: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, call, *args)

    def _compare(self, body: bytearray, content_type: str) -> tuple[Page | None, int, int]:
        """The page, or None when the body is byte for byte the one before; on a pool thread."""
        length, digest = len(body), xxh64(body)
        if self._last is not None and self._last[:2] == (length, digest):
            return None, length, digest
        self._snapshot.begin()
        try:
            page = self._snapshot.compare(body)
        except JsonError as error:
            raise PollError(f"{error}{self._context(error, content_type)}") from None
        if page.keyless and page.keyless == page.records:
            what = "the object" if page.single else "every record"
            path = ", ".join(self._plan.key_path)
            raise PollError(f"{what} in the response lacks a usable key at key_path {path}")
        return page, length, digest

    def _context(self, error: JsonError, content_type: str) -> str:
        """What helps to understand why a body is no poll result."""
        if "JSON" in str(error):
            return f" (content type {content_type})" if content_type else ""
        return f" (response_path {self._response.text})" if self._plan.response_path else ""

    async def _take_in(self, page: Page, known: int) -> PollResult:
        emit = self._plan.initial_snapshot or not self._state.is_new()
        same = await self._store_changes(page, emit)
        self._snapshot.finish()
        deleted, held = 0, 0
        if self._plan.detect_deletes and not page.keyless:
            deleted, held = await self._settle_missing(page.records, known)
        if self._state.is_new():
            await self._state.mark_started()
        return PollResult(
            records=page.records,
            created=page.created if emit else 0,
            updated=page.updated - same if emit else 0,
            deleted=deleted,
            unchanged=page.unchanged + same,
            duplicates=page.duplicates,
            keyless=page.keyless,
            keyless_reason=page.keyless_reason,
            held=held,
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

        return await self._run(pack)

    async def _submit(self, batch: bytes, rows: int) -> None:
        """Queue a batch, waiting for room as often as it takes, and wait until it is durable."""
        while rows:
            try:
                return await self._intake.submit(batch, rows)
            except OverloadedError:
                await self._intake.room()

    async def _settle_missing(self, records: int, known: int) -> tuple[int, int]:
        """(deleted, held): what this complete walk did not show. `known` counts before the walk."""
        fresh, agreed = self._snapshot.missing()
        missing = fresh + agreed
        suspicious = missing > GUARD_KEYS and missing > GUARD_SHARE * known
        if not missing or not (suspicious or records == 0):
            agreed_only, held = False, 0
        else:
            agreed_only, held = True, fresh
        keys = self._snapshot.missing_keys(agreed_only)
        if held:
            self._snapshot.hold()
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
            await self._submit(await self._run(pack_rows, rows), len(rows))
            self._snapshot.forget(chunk)
        return len(keys), held


def _settled(result: PollResult) -> PollResult:
    """What a poll with the very same body comes to."""
    unchanged = result.records - result.duplicates - result.keyless
    return replace(result, created=0, updated=0, deleted=0, unchanged=unchanged)
