"""GET /snapshot: the current results as one JSON array, in the order in which they last changed.

Where `from` is so long ago that rows have expired since, the results over hot and archived rows
take their place: those as of `to` that differ from those as of `from`.

`LiteJoin-Position` is the position of the log that the array belongs to: a subscription with it as
Last-Event-ID continues without gap or overlap. `LiteJoin-Truncated: true` says that `limit` cut it.
The array is sent in pages and never held whole; a result that is superseded and trimmed away while
a slow client reads is left out, and its newer version is in the log after the position.
"""

from collections.abc import AsyncIterator, Collection, Sequence
from typing import Protocol

from litejoin.sinks.sse.hub import SseHub
from litejoin.sinks.sse.params import Filter, Scope, SnapshotQuery, parse_snapshot
from litejoin.sinks.sse.subscribe import Receive, Send


class History(Protocol):
    """Results over rows that topics no longer keep."""

    def reaches(self, joins: Collection[str], from_ms: int) -> frozenset[str]:
        """Those of the joins that may have had results then whose rows have expired since."""
        ...

    async def results(
        self,
        joins: Collection[str],
        keys: Collection[str] | None,
        from_ms: int,
        to_ms: int | None,
        limit: int,
    ) -> tuple[list[bytes], bool]:
        """Result objects as JSON, at most `limit`, and whether there are more."""
        ...


class SnapshotApp:
    """The handler, as an ASGI application.

    Raises RequestError (400), OverloadedError (503, storage not ready) and QueryError (500).
    """

    def __init__(self, hub: SseHub, history: History | None = None) -> None:
        """`history`: None without an archive."""
        self._hub, self._history = hub, history

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """Answer once."""
        hub = self._hub
        wire = hub.wire
        query = parse_snapshot(scope, hub.joins)
        past, wanted, head, more = await self._past(query)
        # One more than asked for tells whether there are more.
        room = query.limit - len(past)
        found, now = await hub.positions(wanted, room + 1, query.emitted_ms)
        positions = found[:room]
        headers = [
            (b"content-type", b"application/json"),
            (b"cache-control", b"no-store"),
            (b"litejoin-position", wire.id_of(now if head is None else head).encode()),
        ]
        if more or len(found) > room:
            headers.append((b"litejoin-truncated", b"true"))
        pages = self._pages(positions)
        first = b",\n".join([*past, *filter(None, [await anext(pages, b"")])])
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send(_body(b"[" + first))
        async for page in pages:
            await send(_body(b",\n" + page if page and first else page))
            first = first or page
        await send({"type": "http.response.body", "body": b"]\n"})

    async def _past(self, query: SnapshotQuery) -> tuple[list[bytes], Filter, int | None, bool]:
        """Results over archived rows, what else is wanted, the position before them, and whether
        there are more.
        """
        from_ms, to_ms = query.emitted_ms
        asked, history = query.filter, self._history
        if history is None or from_ms is None:
            return [], asked, None, False
        joins = history.reaches(asked.queries, from_ms)
        if not joins:
            return [], asked, None, False
        # Before the archive is read: what changes meanwhile comes after the position.
        head = self._hub.head
        past, more = await history.results(joins, asked.keys, from_ms, to_ms, query.limit)
        return past, Filter(asked.queries - joins, asked.keys), head, more

    async def _pages(self, positions: Sequence[int]) -> AsyncIterator[bytes]:
        async for results in self._hub.fetch(positions):
            yield b",\n".join(result.body() for result in results)


def _body(part: bytes) -> dict[str, object]:
    return {"type": "http.response.body", "body": part, "more_body": True}
