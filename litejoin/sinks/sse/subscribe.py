"""GET /subscribe: a stream of results, resumable with Last-Event-ID.

request                                 what comes
nothing more                            changes from now on
replay=true                             the current results, replay_complete, then changes
Last-Event-ID: <id of a result>         every change after that result
Last-Event-ID too old, another epoch,   reset, the current results, replay_complete, changes
lost by a restore
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from litejoin.sinks.sse.client import Client
from litejoin.sinks.sse.events import RETRY
from litejoin.sinks.sse.hub import SseHub
from litejoin.sinks.sse.params import Scope, Subscription, parse_subscription

PIECE_BYTES = 64 * 1024
"""Written at a time to a client that is behind: bounds what its connection buffers."""

HEADERS = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # nginx would hold events back
]

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class SubscribeApp:
    """The handler, as an ASGI application. Raises RequestError (400) and OverloadedError (503)."""

    def __init__(self, hub: SseHub) -> None:
        self._hub = hub

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Stream until the client goes, the hub closes, or the client is cut."""
        hub = self._hub
        hub.wire  # noqa: B018 - 503 while the storage is not ready, before the request is judged
        subscription = parse_subscription(scope, hub.joins)
        client = hub.register(subscription.filter)
        client.task = asyncio.current_task()
        watcher = asyncio.ensure_future(until_gone(receive, client.end))
        try:
            await _Stream(hub, client, send, is_head=scope["method"] == "HEAD").run(subscription)
        except asyncio.CancelledError:
            if not client.ended:
                raise
        finally:
            watcher.cancel()
            await asyncio.gather(watcher, return_exceptions=True)
            hub.forget(client)


async def until_gone(receive: Receive, end: Callable[[], None]) -> None:
    """Call `end` when the client of a stream is gone."""
    try:
        while (await receive())["type"] != "http.disconnect":
            pass
    finally:  # also when the rest of its request cannot be read
        end()


class _Stream:
    """One client's stream."""

    def __init__(self, hub: SseHub, client: Client, send: Send, *, is_head: bool) -> None:
        self._hub = hub
        self._wire = hub.wire
        self._client = client
        self._asgi_send = send
        self._is_head = is_head

    async def run(self, subscription: Subscription) -> None:
        await self._asgi_send({"type": "http.response.start", "status": 200, "headers": HEADERS})
        if not self._is_head:
            await self._start(subscription)
            while not self._client.ended:
                await self._catch_up()
                await self._live()
        await self._asgi_send({"type": "http.response.body", "body": b""})

    async def _start(self, subscription: Subscription) -> None:
        """Decide where the client begins; sets its position."""
        hub, client, wire = self._hub, self._client, self._wire
        asked = subscription.last_event_id
        if asked is not None:
            await self._resume(asked)
        elif subscription.replay:
            await self._send(RETRY)
            await self._replay()
        else:
            client.pos = hub.pos
            # The id lets a browser resume even if it is cut before its first event.
            await self._send(RETRY + wire.mark(client.pos))

    async def _resume(self, asked: str) -> None:
        pos = self._wire.position_of(asked)
        if pos is None:
            await self._reset("the position belongs to another epoch of the data directory")
        elif self._wire.is_lost(pos):
            await self._reset("the results at the position were lost with the data files")
        elif pos > self._hub.head:
            await self._reset("the position is ahead of the results log")
        else:
            self._client.pos = pos
            await self._send(RETRY + self._wire.mark(pos))

    async def _reset(self, reason: str) -> None:
        await self._send(RETRY + self._wire.reset(reason))
        await self._replay()

    async def _replay(self) -> None:
        """Send the current results and go on from the position they belong to."""
        positions, head = await self._hub.positions(self._client.filter)
        async for results in self._hub.fetch(positions):
            await self._send_events([self._wire.replayed(result) for result in results])
            if self._client.ended:
                return
        self._client.pos = head
        await self._send(self._wire.replay_complete(head))

    async def _catch_up(self) -> None:
        """Read the log until the hub takes over."""
        hub, client = self._hub, self._client
        while not client.ended:
            before = client.pos
            step = hub.catch_up(client)
            if step is None:
                return
            events, reached = step
            if before < hub.tail():
                # Entries after `before` were trimmed: what was read may have holes.
                await self._reset("the position is older than what the results log keeps")
                continue
            client.pos = reached
            if events:
                await self._send_events(events)
            elif reached == before:
                await hub.moved()
            else:
                await asyncio.sleep(0)

    async def _live(self) -> None:
        """Send what the hub offers until the client falls behind or ends."""
        client = self._client
        while client.attached and not client.ended:
            if piece := client.take():
                await self._send(piece)
            else:
                await client.news()

    async def _send_events(self, events: list[bytes]) -> None:
        piece, size = list[bytes](), 0
        for event in events:
            piece.append(event)
            size += len(event)
            if size >= PIECE_BYTES:
                await self._send(b"".join(piece))
                piece, size = [], 0
        if piece:
            await self._send(b"".join(piece))

    async def _send(self, body: bytes) -> None:
        self._client.sending_since = asyncio.get_running_loop().time()
        await self._asgi_send({"type": "http.response.body", "body": body, "more_body": True})
        self._client.sending_since = None
