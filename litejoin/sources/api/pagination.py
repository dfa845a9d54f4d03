"""How a walk gets from one page to the next: one small class for each kind of pagination.

Made by `pager_for` for each walk, asked by `walk` after each page. A pager builds drafts and reads
answers; it sends nothing, stores nothing and keeps no more than its position. A walk that cannot
go on although there is more raises Incomplete: then nothing counts as gone.
"""

import re
from collections.abc import Iterator
from typing import Protocol

from litejoin.plan.nodes_api import PagingPlan
from litejoin.sources.api.document import Document
from litejoin.sources.api.request import Draft
from litejoin.sources.api.times import format_time, parse_since
from litejoin.sources.api.transport import Response


class Incomplete(Exception):
    """There is more than the walk may or can fetch; what it fetched stands."""


class Pager(Protocol):
    """The way through the pages of one walk."""

    def first(self, draft: Draft) -> Draft:
        """The request of the first page; `draft` is the request as the config has it."""
        ...

    def next(self, answer: Response, records: int) -> Draft | None:
        """The request of the page after this one, None at the end.

        `records`: how many were in this page. Raises Incomplete and PollError.
        """
        ...


class OnePage:
    """`none`."""

    def first(self, draft: Draft) -> Draft:
        return draft

    def next(self, answer: Response, records: int) -> Draft | None:
        return None


class _Pager:
    """What the others share: the plan, the draft, and the flags that end a walk."""

    def __init__(self, plan: PagingPlan) -> None:
        self._plan = plan

    def first(self, draft: Draft) -> Draft:
        self._draft = draft
        return draft

    def _over(self, document: Document, records: int) -> bool | None:
        """True: the last page. False: the API says there is more. None: it says nothing."""
        plan = self._plan
        if plan.has_more_path:
            more = document.flag(plan.has_more_path)
            if more is not None:
                return not more
        if plan.end_path:
            end = document.flag(plan.end_path)
            if end is not None:
                return end
        return True if plan.stop_after_empty_page and records == 0 else None

    def _with_token(self, token: object) -> Draft:
        plan = self._plan
        return self._draft.with_value(plan.inject, plan.param, token, plan.body_path)

    def _sized(self, draft: Draft) -> Draft:
        """The draft with the size of a page, where the position goes, too."""
        plan = self._plan
        if plan.size is None or not (plan.size_param or plan.size_body_path):
            return draft
        in_path = plan.inject == "path" and f"{{{plan.size_param}}}" in draft.url
        inject = "query" if plan.inject == "path" and not in_path else plan.inject
        return draft.with_value(inject, plan.size_param, plan.size, plan.size_body_path)


class LinkHeader(_Pager):
    """`link_header`: RFC 8288."""

    def next(self, answer: Response, records: int) -> Draft | None:
        url = linked(answer.headers.get("link", ""), self._plan.rel)
        return self._draft.at(url) if url else None


class NextUrl(_Pager):
    """`next_url`: a URL in the body."""

    def next(self, answer: Response, records: int) -> Draft | None:
        document = Document(answer.body, judged=True)
        if over := self._over(document, records):
            return None
        url = document.token(self._plan.path)
        if url is None:
            _expect_end(over)
            return None
        return self._draft.at(str(url))


class HeaderCursor(_Pager):
    """`header_cursor`."""

    def next(self, answer: Response, records: int) -> Draft | None:
        token = answer.headers.get(self._plan.header.lower(), "").strip()
        return self._with_token(token) if token else None


class Cursor(_Pager):
    """`cursor`: a token in the body."""

    def first(self, draft: Draft) -> Draft:
        super().first(draft)
        # A placeholder in the path has no token yet.
        place = f"{{{self._plan.param}}}"
        if self._plan.inject == "path" and place in draft.url:
            return self._with_token("")
        return draft

    def next(self, answer: Response, records: int) -> Draft | None:
        document = Document(answer.body, judged=True)
        if over := self._over(document, records):
            return None
        token = document.token(self._plan.path)
        if token is None:
            _expect_end(over)
            return None
        return self._with_token(token)


class Seek(_Pager):
    """`seek`: a field of the last record; `response_path` is where the records are."""

    def __init__(self, plan: PagingPlan, response_path: str) -> None:
        super().__init__(plan)
        self._response_path = response_path

    def next(self, answer: Response, records: int) -> Draft | None:
        document = Document(answer.body, judged=True)
        over = self._over(document, records)
        if over or records == 0:
            _expect_end(over)
            return None
        token = document.field_of(self._response_path, records - 1, self._plan.path)
        if token is None:
            raise Incomplete(f"the last record has no {self._plan.path} to go on from")
        return self._with_token(token)


class _ByNumber(_Pager):
    """Pages that are asked for by a number. Where the API tells a total, it is of these numbers."""

    limit: str
    """The option that bounds the number."""
    _total: int | None = None

    def _step(self, records: int) -> int:
        """How much further the next page is, behind one with so many records."""
        raise NotImplementedError

    def _missing(self) -> str:
        """What an empty page before the total means."""
        raise NotImplementedError

    def first(self, draft: Draft) -> Draft:
        plan = self._plan
        self._at, self._total = plan.start, None
        self._draft = self._sized(draft)
        return self._with_token(self._at)

    def next(self, answer: Response, records: int) -> Draft | None:
        plan, document = self._plan, Document(answer.body, judged=True)
        over = self._over(document, records)
        total = document.count(plan.total_path) if plan.total_path else None
        self._total = _same_total(self._total, total)
        self._at += self._step(records)
        if total is not None and self._at - plan.start >= total:
            return None
        if total is not None and records == 0:
            raise Incomplete(f"{plan.total_path} says {total}, {self._missing()}")
        if over or records == 0:
            _expect_end(over)
            return None
        if over is None and total is None and not plan.stop_after_empty_page:
            if plan.size is None or records < plan.size:
                return None
        if plan.most is not None and self._at > plan.most:
            raise Incomplete(f"{self.limit} {plan.most} is reached")
        return self._with_token(self._at)


class Offset(_ByNumber):
    """`offset`: goes on by the records that came, so that a server's own limit skips none."""

    limit = "max_offset"

    def _step(self, records: int) -> int:
        return records

    def _missing(self) -> str:
        return f"{self._at - self._plan.start} came"


class PageNumber(_ByNumber):
    """`page`."""

    limit = "max_page"

    def _step(self, records: int) -> int:
        return 1

    def _missing(self) -> str:
        return f"page {self._at - 1} is empty"


class TimeSlice(_Pager):
    """`time_slice`: one page for each span, the last one ends now."""

    def __init__(self, plan: PagingPlan, now_ms: int) -> None:
        super().__init__(plan)
        self._spans = self._make_spans(parse_since(plan.since, now_ms), now_ms)

    def _make_spans(self, at_ms: int, now_ms: int) -> Iterator[tuple[int, int]]:
        while at_ms < now_ms:
            end_ms = min(at_ms + self._plan.step_ms, now_ms)
            yield at_ms, end_ms
            at_ms = end_ms

    def first(self, draft: Draft) -> Draft:
        self._draft = draft
        return self._span() or draft

    def next(self, answer: Response, records: int) -> Draft | None:
        if linked(answer.headers.get("link", ""), "next"):
            raise Incomplete("a span has more than one page: a shorter step is needed")
        return self._span()

    def _span(self) -> Draft | None:
        span = next(self._spans, None)
        if span is None:
            return None
        plan, draft = self._plan, self._draft
        for name, at_ms in ((plan.from_param, span[0]), (plan.to_param, span[1])):
            draft = draft.with_value("query", name, format_time(at_ms, plan.format))
        return draft


def pager_for(plan: PagingPlan, response_path: str, now_ms: int) -> Pager:
    """A new pager for one walk; not for `auto`, which `auto.guess` turns into another kind."""
    if plan.kind == "seek":
        return Seek(plan, response_path)
    if plan.kind == "time_slice":
        return TimeSlice(plan, now_ms)
    if plan.kind == "none":
        return OnePage()
    return SIMPLE[plan.kind](plan)


SIMPLE: dict[str, type[LinkHeader | NextUrl | HeaderCursor | Cursor | Offset | PageNumber]] = {
    "link_header": LinkHeader,
    "next_url": NextUrl,
    "header_cursor": HeaderCursor,
    "cursor": Cursor,
    "offset": Offset,
    "page": PageNumber,
}

BY_POSITION = frozenset({"offset", "page"})
"""Kinds whose pages shift when records come and go during a walk."""

_LINK = re.compile(r'<([^>]*)>((?:\s*;\s*[\w*!-]+\s*(?:=\s*(?:"(?:[^"\\]|\\.)*"|[^",;\s]+))?)*)')
_REL = re.compile(r';\s*rel\s*=\s*(?:"([^"]*)"|([^",;\s]+))', re.IGNORECASE)


def linked(header: str, rel: str) -> str:
    """The URL of the first link with this relation; empty when there is none."""
    for match in _LINK.finditer(header[: 64 * 1024]):
        relation = _REL.search(match[2])
        names = (relation[1] or relation[2] or "").lower().split() if relation else []
        if rel.lower() in names:
            return match[1].strip()
    return ""


def _same_total(before: int | None, now: int | None) -> int | None:
    if before is not None and now is not None and before != now:
        raise Incomplete(f"the total changed from {before} to {now} during the walk")
    return now if before is None else before


def _expect_end(over: bool | None) -> None:
    """The way ends here; `over` False: the API says there is more."""
    if over is False:
        raise Incomplete("the API says there is more but not how to get it")
