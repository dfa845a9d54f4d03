"""GET /snapshot: the current results as one JSON array, in the order in which they last changed.

`LiteJoin-Position` is the position of the log that the array belongs to: a subscription with it as
Last-Event-ID continues without gap or overlap. `LiteJoin-Truncated: true` says that `limit` cut it.
The array is sent in pages and never held whole; a result that is superseded and trimmed away while
a slow client reads is left out, and its newer version is in the log after the position.
"""

from collections.abc import Sequence

from litejoin.sinks.sse.hub import READ_ROWS, SseHub
from litejoin.sinks.sse.params import Scope, parse_snapshot
from litejoin.sinks.sse.subscribe import Receive, Send


class SnapshotApp:
    """The handler, as an ASGI application.

    Raises RequestError (400), OverloadedError (503, storage not ready) and QueryError (500).
    """

    def __init__(self, hub: SseHub) -> None:
        self._hub = hub

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """Answer once."""
        hub = self._hub
        wire = hub.wire
        query = parse_snapshot(scope, hub.joins)
        # One more than asked for tells whether there are more.
        found, head = await hub.positions(query.filter, query.limit + 1, query.emitted_ms)
        positions = found[: query.limit]
        headers = [
            (b"content-type", b"application/json"),
            (b"cache-control", b"no-store"),
            (b"litejoin-position", wire.id_of(head).encode()),
        ]
        if len(found) > query.limit:
            headers.append((b"litejoin-truncated", b"true"))
        first = await self._page(positions, 0)
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send(_body(b"[" + first))
        for start in range(READ_ROWS, len(positions), READ_ROWS):
            page = await self._page(positions, start)
            await send(_body(b",\n" + page if page and first else page))
            first = first or page
        await send({"type": "http.response.body", "body": b"]\n"})

    async def _page(self, positions: Sequence[int], start: int) -> bytes:
        results = await self._hub.fetch(positions[start : start + READ_ROWS])
        return b",\n".join(result.body() for result in results)


def _body(part: bytes) -> dict[str, object]:
    return {"type": "http.response.body", "body": part, "more_body": True}
