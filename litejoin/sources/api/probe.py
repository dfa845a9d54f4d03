"""One poll that stores nothing: what `litejoin poll` shows.

Runs the very walk of a running source over an intake that keeps nothing. What it would create,
update and delete is told against the stored state if the caller hands one in, else against nothing.
"""

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from litejoin.clock import SystemClock
from litejoin.errors import PollError
from litejoin.plan.nodes import ApiSourcePlan
from litejoin.plan.nodes_api import OAuthPlan
from litejoin.records import RowKind, unpack_rows
from litejoin.sources.api.auto import describe
from litejoin.sources.api.budget import Budgets
from litejoin.sources.api.exchange import Exchange
from litejoin.sources.api.failures import StopSource
from litejoin.sources.api.notes import MemoryNotes, is_note
from litejoin.sources.api.records import RecordSet
from litejoin.sources.api.request import origin
from litejoin.sources.api.source import network
from litejoin.sources.api.transport import Request, Response, Transport
from litejoin.sources.api.walk import Walker
from litejoin.sources.api.watermark import Watermark
from litejoin.sources.base import SourceState

MAX_WAIT_MS = 60_000
"""A probe does not sit out a longer wait that the API asks for."""
TOPIC, STATE = 1, 2


@dataclass(frozen=True, slots=True)
class PollReport:
    """What one poll did and would have done. Keys are in the order of the response."""

    pages: int = 0
    records: int = 0
    requests: tuple[tuple[str, str, int], ...] = ()
    """(method, URL without its query, status) of every request, token requests included."""
    body_bytes: int = 0
    """Sum of the bodies, decompressed."""
    pagination: str = "none"
    """Effective: of `auto`, what the answers showed."""
    rate_limits: Mapping[str, str] = field(default_factory=dict)
    created: tuple[str, ...] = ()
    updated: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()
    payloads: Mapping[str, bytes] = field(default_factory=dict)
    """Key -> record as it would be stored, of what was created or updated."""
    unchanged: int = 0
    held: int = 0
    waiting: int = 0
    duplicates: int = 0
    keyless: int = 0
    incomplete: str = ""
    error: str = ""
    """Why the poll failed; what is told beside it happened before."""


def probe(
    plan: ApiSourcePlan,
    max_pages: int | None = None,
    transport: Transport | None = None,
    state: SourceState | None = None,
) -> PollReport:
    """One poll of this source, nothing stored. Blocks until it is over.

    `max_pages` bounds it further than the config; `transport` replaces the network (replay);
    `state` is only read, its watermark too: the poll asks as the next one would. A failed poll is a
    report with `error`, never an exception. A source with a refresh token is refused: the API might
    replace the token, and there is nowhere to keep it.
    """
    if isinstance(plan.auth, OAuthPlan) and plan.auth.refresh_token is not None:
        if transport is None:
            return PollReport(error="a refresh token may be used up by a poll that stores nothing")
    return asyncio.run(_probe(plan, max_pages, transport or network(plan), state))


async def _probe(
    plan: ApiSourcePlan, max_pages: int | None, transport: Transport, state: SourceState | None
) -> PollReport:
    clock, notes = SystemClock(), MemoryNotes(state)
    seen, intake = _Seen(transport), _Nowhere()
    stored = _ReadOnly(state)
    executor = ThreadPoolExecutor(1, thread_name_prefix="litejoin-probe")
    budget = Budgets().join(plan.rate, origin(plan.url)[1])
    exchange = Exchange(
        plan, seen, notes, budget, clock, executor, asyncio.sleep, max_wait_ms=MAX_WAIT_MS
    )
    records = RecordSet(plan, intake, stored, clock, executor)
    walker = Walker(
        plan, exchange, records, Watermark(plan, notes, clock), stored, clock, asyncio.sleep,
        max_pages=max_pages,
    )  # fmt: skip
    error, result = "", None
    try:
        known = {key for key, _ in await stored.hashes()}
        result = await walker.walk()
    except (PollError, StopSource) as failure:
        error = str(failure)
    finally:
        exchange.close()
        executor.shutdown(wait=False)
    changed = [key for key in intake.payloads if key not in intake.deleted]
    return PollReport(
        pages=result.pages if result else 0,
        records=result.records if result else len(changed),
        requests=tuple(seen.requests),
        body_bytes=seen.body_bytes,
        pagination=describe(walker.paging),
        rate_limits=exchange.limits,
        created=tuple(key.decode() for key in changed if key not in known),
        updated=tuple(key.decode() for key in changed if key in known),
        deleted=tuple(key.decode() for key in intake.deleted),
        payloads={key.decode(): intake.payloads[key] for key in changed},
        unchanged=result.unchanged if result else 0,
        held=result.held if result else 0,
        waiting=result.waiting if result else 0,
        duplicates=result.duplicates if result else 0,
        keyless=result.keyless if result else 0,
        incomplete=(
            f"page {result.incomplete_page} incomplete: {result.incomplete}"
            if result and result.incomplete
            else ""
        ),
        error=error,
    )


class _Seen:
    """A transport that remembers what was asked."""

    def __init__(self, inner: Transport) -> None:
        self._inner = inner
        self.requests: list[tuple[str, str, int]] = []
        self.body_bytes = 0

    def send(self, request: Request) -> Response:
        answer = self._inner.send(request)
        self.requests.append((request.method, request.url.partition("?")[0], answer.status))
        self.body_bytes += len(answer.body)
        return answer

    def expire(self) -> None:
        self._inner.expire()

    def close(self) -> None:
        self._inner.close()


class _Nowhere:
    """An intake that only looks at what comes."""

    def __init__(self) -> None:
        self.payloads: dict[bytes, bytes] = {}
        self.deleted: list[bytes] = []

    def topic_number(self, name: str) -> int:
        return TOPIC

    async def submit(self, batch: bytes, rows: int, *, piecewise: bool = False) -> None:
        for row in unpack_rows(batch):
            if row.kind is RowKind.UPSERT:
                self.payloads[row.key] = row.payload
            elif row.kind is RowKind.DELETE:
                self.deleted.append(row.key)

    async def room(self) -> None:
        return None


class _ReadOnly:
    """The stored state, or none, that takes no mark. Everything counts as a change in it."""

    number = STATE

    def __init__(self, state: SourceState | None) -> None:
        self._state = state

    async def hashes(self) -> Sequence[tuple[bytes, bytes]]:
        if self._state is None:
            return []
        return [pair for pair in await self._state.hashes() if not is_note(pair[0])]

    async def payloads(self, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        return [None] * len(keys) if self._state is None else await self._state.payloads(keys)

    async def parents(self, topic: str) -> Sequence[bytes]:
        return [] if self._state is None else await self._state.parents(topic)

    def is_new(self) -> bool:
        return False

    async def mark_started(self) -> None:
        return None
