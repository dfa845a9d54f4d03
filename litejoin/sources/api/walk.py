"""One poll: every page of every target, asked for, compared and stored; then what is gone.

Called by `source` and `probe`, one walk at a time, on the event loop. Owns the order of things and
what makes a walk complete; how to ask is `exchange`, where to go `pagination`, what changed
`records`, what to leave out `watermark`.
"""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from litejoin.clock import Clock
from litejoin.errors import PollError
from litejoin.plan.nodes import ApiSourcePlan
from litejoin.sources.api.auto import describe, guess
from litejoin.sources.api.exchange import Exchange
from litejoin.sources.api.failures import Verdict
from litejoin.sources.api.for_each import Target, targets, with_parent
from litejoin.sources.api.guards import Guard
from litejoin.sources.api.pagination import BY_POSITION, Incomplete, OnePage, Pager, pager_for
from litejoin.sources.api.records import PollResult, RecordSet
from litejoin.sources.api.request import Draft, first_draft, is_position
from litejoin.sources.api.transport import Response
from litejoin.sources.api.watermark import Watermark
from litejoin.sources.base import SourceState

log = logging.getLogger("litejoin.source")
T = TypeVar("T")
LARGE_BODY_BYTES = 256 * 1024
"""A smaller body is read in less time than a pool thread needs to take it up."""


@dataclass(slots=True)
class _Walk:
    """What is known of the running walk."""

    single: bool
    """It has one target, and so far one page."""
    digest: tuple[int, int] | None = None
    begun: bool = False
    pages: int = 0
    incomplete_page: int = 0
    incomplete: str = ""
    shifty: bool = False
    """Pages may have shifted, or one in the middle was empty: only two walks make a delete."""
    unchanged: PollResult | None = None
    """The answer was the one of the last walk, or a 304."""

    def gave_up(self, reason: str) -> None:
        """There is more than the walk saw; the first reason is the one that is told."""
        if not self.incomplete:
            self.incomplete_page, self.incomplete = self.pages + 1, reason


class Walker:
    """The walks of one source."""

    def __init__(
        self,
        plan: ApiSourcePlan,
        exchange: Exchange,
        records: RecordSet,
        watermark: Watermark,
        state: SourceState,
        clock: Clock,
        sleep: Callable[[float], Awaitable[object]],
        *,
        max_pages: int | None = None,
    ) -> None:
        """`max_pages` bounds a walk further than the config does (for `probe`)."""
        self._plan = plan
        self._exchange = exchange
        self._records = records
        self._watermark = watermark
        self._state = state
        self._clock = clock
        self._sleep = sleep
        self._max_pages = max_pages
        self._draft = first_draft(plan)
        self._last = PollResult()
        self.paging = plan.paging
        """The effective pagination: of `auto`, what the answers showed."""

    async def walk(self) -> PollResult:
        """Raises PollError (what earlier pages brought stands), StopSource, and what the store
        raises.
        """
        await self._watermark.start()
        walk = _Walk(single=self._plan.for_each is None)
        async for target in self._targets():
            try:
                await self._pages(walk, target)
            except Incomplete as error:
                walk.gave_up(str(error))
        result = walk.unchanged or await self._finish(walk)
        self._last = result
        return result

    async def _finish(self, walk: _Walk) -> PollResult:
        if not walk.begun:  # no parents: nothing was asked
            await self._records.begin()
        full = self._watermark.full and not _is_rolling(self._plan)
        result = await self._records.finish(
            complete=full and not walk.incomplete,
            twice=walk.shifty or self.paging.kind in BY_POSITION,
            digest=walk.digest if walk.single else None,
        )
        if not walk.incomplete:
            waits = result.held or result.waiting
            await self._watermark.commit(single=walk.single and not waits)
        return replace(result, incomplete_page=walk.incomplete_page, incomplete=walk.incomplete)

    async def _targets(self) -> AsyncIterator[Target]:
        for_each = self._plan.for_each
        if for_each is None:
            yield Target(self._watermark.apply(self._draft))
            return
        for target in targets(for_each, self._draft, await self._state.parents(for_each.topic)):
            yield replace(target, draft=self._watermark.apply(target.draft, target.value))

    async def _pages(self, walk: _Walk, target: Target) -> None:
        guard = Guard(self._plan.paging, self._max_pages)
        pager = self._pager()
        draft: Draft | None = pager.first(target.draft)
        while draft is not None:
            guard.ask(draft.request())
            if guard.pages and self._plan.paging.delay_ms:
                await self._sleep(self._plan.paging.delay_ms / 1000)
            try:
                draft, pager = await self._page(walk, target, guard, pager, draft)
            except PollError as error:
                if walk.pages == 0:
                    raise
                raise PollError(f"page {walk.pages + 1} incomplete: {error}") from None

    async def _page(
        self, walk: _Walk, target: Target, guard: Guard, pager: Pager, draft: Draft
    ) -> tuple[Draft | None, Pager]:
        """One page; the draft of the next, and the pager that made it."""
        first = walk.single and walk.pages == 0
        conditional = first and self._watermark.asked_conditionally
        asked = self._watermark.condition(draft) if first else draft
        verdict, answer = await self._exchange.ask(asked, conditional=conditional)
        if verdict is Verdict.UNCHANGED:
            known = await self._records.known()
            walk.unchanged = PollResult(records=known, unchanged=known, pages=1)
            return None, pager
        if verdict is Verdict.IGNORE:
            walk.gave_up("it was ignored")
            return None, pager
        digest = await self._records.digest(answer.body)
        if first and (same := self._records.same_as_last(digest)) is not None:
            following, pager = await self._next(pager, target, answer, same.records)
            if following is None:
                await self._read(answer, self._watermark.see, answer)
                await self._watermark.commit(single=True)
                walk.unchanged = same
                return None, pager
            await self._take(walk, target, guard, answer, digest)
            return following, pager
        records = await self._take(walk, target, guard, answer, digest)
        following, pager = await self._next(pager, target, answer, records)
        if following is not None and self.paging.kind != "time_slice":
            walk.shifty = walk.shifty or records == 0 or is_position(following.url)
        return following, pager

    async def _take(
        self, walk: _Walk, target: Target, guard: Guard, answer: Response, digest: tuple[int, int]
    ) -> int:
        guard.came(digest)
        if not walk.begun:
            await self._watermark.doubt()
            await self._records.begin()
            walk.begun = True
        body = answer.body
        if target.copied or (self._plan.for_each and self._plan.for_each.include):
            body = with_parent(body, self._plan.response_path, target)
        records = await self._records.take(body, answer.content_type)
        await self._read(answer, self._watermark.see, answer)
        guard.took(records, digest)
        walk.pages += 1
        walk.digest = digest
        walk.single = walk.single and walk.pages == 1
        return records

    def _pager(self) -> Pager:
        if self.paging.kind == "auto":
            return OnePage()
        return pager_for(self.paging, self._plan.response_path, self._clock.now_ms())

    async def _next(
        self, pager: Pager, target: Target, answer: Response, records: int
    ) -> tuple[Draft | None, Pager]:
        if self.paging.kind == "auto":
            found = await self._read(answer, guess, self.paging, answer, records)
            if found is None:
                return None, pager
            self.paging = found
            log.info("api-source %s: pagination is %s", self._plan.name, describe(found))
            pager = self._pager()
            pager.first(target.draft)
        return await self._read(answer, pager.next, answer, records), pager

    async def _read(self, answer: Response, call: Callable[..., T], *args: object) -> T:
        """The result of a call that reads the answer: of a large one not on the event loop."""
        if len(answer.body) < LARGE_BODY_BYTES:
            return call(*args)
        return await self._records.run(call, *args)


def _is_rolling(plan: ApiSourcePlan) -> bool:
    """The walk's span moves with the clock: what leaves it is not gone."""
    return plan.paging.kind == "time_slice" and not plan.paging.since[4:5] == "-"
