"""The http source: `POST /ingest` takes rows in and answers when they are durable.

An ASGI handler that the runtime puts on the shared listeners; it may raise LiteJoinError and the
listener makes the documented answer of it. From body bytes straight to the native scanner: no
Python object per row. Never opens a socket and never writes a table.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

from litejoin._ext.ingest import RowScanner
from litejoin.clock import Clock
from litejoin.errors import BadRowError, LiteJoinError, OverloadedError, RequestError
from litejoin.plan.nodes import HttpSourcePlan, ServerLimits
from litejoin.sources.base import Intake
from litejoin.sources.http_body import coding_of, decompress, shape_of
from litejoin.sources.http_keys import AnswerStore, KeyedRequests, MemoryAnswers

Scope = dict[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

DECOMPRESS_HERE_BYTES = 4096
"""A compressed body up to this size is unpacked on the event loop; a larger one could hold it up
for tens of milliseconds and goes to a thread."""

JSON_TYPE = (b"content-type", b"application/json")


class HttpSource:
    """All http sources of one address: what one lists as its topics, `POST /ingest` takes."""

    def __init__(
        self,
        plans: Sequence[HttpSourcePlan],
        intake: Intake,
        limits: ServerLimits,
        clock: Clock,
        answers: AnswerStore | None = None,
    ) -> None:
        self.name = ", ".join(plan.name for plan in plans)
        self._intake = intake
        self._clock = clock
        self._max_body_bytes = limits.max_body_bytes
        self._scanner = RowScanner(
            max_rows=limits.max_rows,
            max_depth=limits.max_depth,
            max_key_bytes=limits.max_key_bytes,
            max_row_bytes=limits.max_row_bytes,
        )
        self._any_topic = any(not plan.topics for plan in plans)
        self._topics = dict.fromkeys(topic for plan in plans for topic in plan.topics)
        for topic in self._topics:
            self._scanner.add_topic(topic, intake.topic_number(topic))
        self._keyed = KeyedRequests(self.name, answers or MemoryAnswers(clock))
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

    async def ingest(self, scope: Scope, receive: Receive, send: Send) -> None:
        """`POST /ingest`. Raises BadRowError, RequestError, OverloadedError, StorageError."""
        try:
            await self._ingest(scope, receive, send)
        except LiteJoinError as error:
            self._rejected[error.code] += 1
            raise

    async def _ingest(self, scope: Scope, receive: Receive, send: Send) -> None:
        fields: dict[bytes, bytes] = dict(scope["headers"])
        lines = shape_of(fields.get(b"content-type")) == "lines"
        encoding = fields.get(b"content-encoding")
        coding = "" if encoding is None else coding_of(encoding)
        body = await read_body(receive)
        if body is None:
            return
        if not body and b"content-length" not in fields and b"transfer-encoding" not in fields:
            raise RequestError("a body with Content-Length is needed", status=411)
        if coding:
            body = await self._decompress(body, coding)
        key = fields.get(b"idempotency-key")
        if key is None:
            rows = await self._take(body, lines)
        else:
            rows = await self._keyed.once(key, body, lambda: self._take(body, lines))
        answer = b'{"accepted":%d}' % rows
        headers = [JSON_TYPE, (b"content-length", b"%d" % len(answer))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    async def _decompress(self, body: bytes, coding: str) -> bytes:
        if len(body) <= DECOMPRESS_HERE_BYTES:
            return decompress(body, coding, self._max_body_bytes)
        return await asyncio.to_thread(decompress, body, coding, self._max_body_bytes)

    async def _take(self, body: bytes, lines: bool) -> int:
        """Scan, submit, wait until durable; the number of rows."""
        now_ms = self._clock.now_ms()
        batch, rows, unknown = self._scanner.scan(body, now_ms, lines)
        if unknown is not None:
            self._add_topics(unknown)
            batch, rows, _ = self._scanner.scan(body, now_ms, lines)
        if rows:
            await self._submit(batch, rows)
        self._accepted_rows += rows
        self._accepted_requests += 1
        self._accepted_bytes += len(body)
        return rows

    def _add_topics(self, unknown: dict[str, int]) -> None:
        """Learn the numbers of topics seen for the first time, each with the row that names it.

        Raises BadRowError before any is created when one of them is not taken here.
        """
        if not self._any_topic:
            topic, row = next(iter(unknown.items()))
            message = f'row {row}: topic "{topic}" is not taken here'
            raise BadRowError(message, row=row, hint=f"topics: {', '.join(self._topics)}")
        for topic, row in unknown.items():
            try:
                number = self._intake.topic_number(topic)
            except BadRowError as error:
                raise BadRowError(f"row {row}: {error}", row=row, hint=error.hint) from error
            self._scanner.add_topic(topic, number)

    async def _submit(self, batch: bytes, rows: int) -> None:
        try:
            await self._intake.submit(batch, rows)
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


def by_address(plans: Sequence[HttpSourcePlan]) -> list[list[HttpSourcePlan]]:
    """The http sources that share an address, so that one HttpSource serves them."""
    groups: dict[tuple[str, int], list[HttpSourcePlan]] = {}
    for plan in plans:
        groups.setdefault((plan.addr.host, plan.addr.port), []).append(plan)
    return list(groups.values())
