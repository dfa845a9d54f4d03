"""Bounds of a walk: no loop, no endless list. One `Guard` for each walk, asked by `walk`."""

from litejoin.plan.nodes_api import PagingPlan
from litejoin.sources.api.pagination import Incomplete
from litejoin.sources.api.transport import Request


class Guard:
    """Raises Incomplete when going on would be going round, or further than the config allows."""

    def __init__(self, plan: PagingPlan, max_pages: int | None = None) -> None:
        self._max_pages = plan.max_pages if max_pages is None else min(max_pages, plan.max_pages)
        self._max_records = plan.max_records
        self._asked: set[int] = set()
        self._bodies: set[tuple[int, int]] = set()
        self.pages = 0
        self.records = 0

    def ask(self, request: Request) -> None:
        """A page is about to be asked for."""
        if self.pages and self.pages >= self._max_pages:
            raise Incomplete(f"max_pages {self._max_pages} is reached")
        if self._max_records is not None and self.records >= self._max_records:
            raise Incomplete(f"max_records {self._max_records} is reached")
        mark = hash((request.method, request.url, request.body, *request.headers.items()))
        if mark in self._asked:
            raise Incomplete(f"page {self.pages + 1} is one that was asked for already")
        self._asked.add(mark)

    def came(self, digest: tuple[int, int]) -> None:
        """A page came, not stored yet."""
        if digest in self._bodies:
            raise Incomplete(f"page {self.pages + 1} repeats an earlier one")

    def took(self, records: int, digest: tuple[int, int]) -> None:
        """The page's records are stored. Two empty pages may be alike."""
        self.pages += 1
        self.records += records
        if records:
            self._bodies.add(digest)
