"""What the endpoints that take rows over HTTP share: bodies, answers, counts.

An endpoint is an ASGI handler that the runtime puts on the shared listeners; it may raise
LiteJoinError and the listener makes the documented answer of it. Never opens a socket and never
writes a table.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from litejoin.clock import Clock
from litejoin.errors import LiteJoinError, OverloadedError, RequestError
from litejoin.plan.nodes import ServerLimits
from litejoin.sources.base import Intake
from litejoin.sources.http_body import coding_of, decompress, shape_of

Scope = dict[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Fields = dict[bytes, bytes]
"""Header fields of a request, names in lower case."""
Take = Callable[[Fields, bytes, bool], Awaitable[int]]
"""Makes the rows of a body durable; True: one JSON value a line. Returns their number."""

DECOMPRESS_HERE_BYTES = 4096
"""A compressed body up to this size is unpacked on the event loop; a larger one could hold it up
for tens of milliseconds and goes to a thread."""

JSON_TYPE = (b"content-type", b"application/json")


class PushEndpoint:
    """The base of both kinds of http sources. Lives on the event loop."""

    def __init__(self, name: str, intake: Intake, limits: ServerLimits, clock: Clock) -> None:
        self.name = name
        self.intake = intake
        self.limits = limits
        self.clock = clock
        self._accepted_rows = 0
        self._accepted_requests = 0
        self._accepted_bytes = 0
        self._rejected: Counter[str] = Counter()
        """Refused requests by the code of their answer."""

    async def run(self) -> None:
        """The listener does the work; there is nothing to drive."""
        await asyncio.get_running_loop().create_future()

    def health(self) -> dict[str, object]:
        """Always ok: what cannot be taken in is answered to the one who sent it."""
        return {
            "status": "ok",
            "accepted_rows": self._accepted_rows,
            "accepted_requests": self._accepted_requests,
            "accepted_bytes": self._accepted_bytes,
            "rejected": dict(self._rejected),
        }

    async def answer(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        take: Take,
        check: Callable[[Fields, bytes], None] | None = None,
    ) -> None:
        """Read a body, let `take` make its rows durable, answer their number.

        `check` sees the body as it was sent, before anything is made of it. Raises what the two
        raise, and RequestError 400, 411, 413 and 415.
        """
        try:
            rows = await self._taken(dict(scope["headers"]), receive, take, check)
        except LiteJoinError as error:
            self._rejected[error.code] += 1
            raise
        if rows is None:
            return
        answer = b'{"accepted":%d}' % rows
        headers = [JSON_TYPE, (b"content-length", b"%d" % len(answer))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    async def _taken(
        self,
        fields: Fields,
        receive: Receive,
        take: Take,
        check: Callable[[Fields, bytes], None] | None,
    ) -> int | None:
        """The rows taken in; None when the client went away."""
        lines = shape_of(fields.get(b"content-type")) == "lines"
        encoding = fields.get(b"content-encoding")
        coding = "" if encoding is None else coding_of(encoding)
        body = await read_body(receive)
        if body is None:
            return None
        if not body and b"content-length" not in fields and b"transfer-encoding" not in fields:
            raise RequestError("a body with Content-Length is needed", status=411)
        if check is not None:
            check(fields, body)
        if coding:
            body = await self._decompress(body, coding)
        return await take(fields, body, lines)

    async def _decompress(self, body: bytes, coding: str) -> bytes:
        if len(body) <= DECOMPRESS_HERE_BYTES:
            return decompress(body, coding, self.limits.max_body_bytes)
        return await asyncio.to_thread(decompress, body, coding, self.limits.max_body_bytes)

    async def submit(self, batch: bytes, packed: int, rows: int, size: int) -> None:
        """Wait until a batch of `packed` rows is durable, and count the `rows` and `size` (bytes)
        of the body that it was made of.

        Raises OverloadedError, StorageError.
        """
        if packed:
            await self._submit(batch, packed)
        self._accepted_rows += rows
        self._accepted_requests += 1
        self._accepted_bytes += size

    async def _submit(self, batch: bytes, rows: int) -> None:
        try:
            await self.intake.submit(batch, rows)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise  # we were cancelled, not the rows
            raise OverloadedError("the pipeline is stopping", retry_after_s=5.0) from None


async def read_body(receive: Receive) -> bytes | None:
    """The whole body, bounded by the listener; None when the client went away."""
    message = await receive()
    if message["type"] != "http.request":
        return None
    body: bytes = message.get("body", b"")
    if not message.get("more_body", False):
        return body
    parts = [body]
    while message.get("more_body", False):
        message = await receive()
        if message["type"] != "http.request":
            return None
        parts.append(message.get("body", b""))
    return b"".join(parts)
