"""GET /tap: what happens in a running pipeline, one JSON object a line, while somebody watches.

A line is a change of a topic (`{"topic", "key", "op", ...}`), a result as sinks get it (`{"query",
...}`), or `{"skipped": n}` for what came faster than it could be shown: a watcher never slows the
pipeline down. Answered by the admin listener. The flush thread hands over change rows only while
somebody watches a topic; results are read from the log.
"""

import asyncio
import json
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from urllib.parse import parse_qs

from litejoin.errors import OverloadedError, RequestError
from litejoin.plan.nodes import Plan
from litejoin.runtime.http_answers import Receive, Scope, Send
from litejoin.sinks.base import LogReader, LogSignal
from litejoin.sinks.sse.events import one_line
from litejoin.sinks.sse.subscribe import until_gone
from litejoin.store.changes import Change, count_changes, unpack_changes

MAX_WATCHERS = 8
MAX_WAITING_BYTES = 4 * 1024 * 1024
"""Lines kept for a watcher that reads slowly; what is older is counted as skipped."""

SHOWN_A_FLUSH = 200
"""Change rows of one shard and flush that are made into lines: it is done on the flush thread."""

READ_RESULTS = 256
MAX_BEHIND = 10_000
"""Results that a watcher may be behind the log before it is moved to the head."""

BEAT_S = 15.0
"""An empty line so often shows both sides that the other is there."""

HEADERS = [(b"content-type", b"application/x-ndjson"), (b"cache-control", b"no-store")]
PIPELINE_HEADER = b"litejoin-pipeline"
"""Names the pipeline: at the default address may be another one than a watcher thinks."""


class Watcher:
    """One who watches. `offer` on the flush thread, the rest on the event loop."""

    def __init__(self, topics: frozenset[str] | None, queries: frozenset[str] | None) -> None:
        """The names to show; None: all."""
        self.topics, self.queries = topics, queries
        self.ended = False
        self._lines: deque[bytes] = deque()
        self._bytes = self._skipped = 0
        self._lock = threading.Lock()
        self._news = asyncio.Event()

    def offer(self, lines: Sequence[bytes], skipped: int) -> None:
        """Keep these lines, and forget the oldest beyond MAX_WAITING_BYTES."""
        with self._lock:
            self._lines.extend(lines)
            self._bytes += sum(map(len, lines))
            self._skipped += skipped
            while self._bytes > MAX_WAITING_BYTES:
                self._bytes -= len(self._lines.popleft())
                self._skipped += 1

    def take(self) -> list[bytes]:
        """Everything that waits."""
        with self._lock:
            lines, skipped = list(self._lines), self._skipped
            self._lines.clear()
            self._bytes = self._skipped = 0
        return [b'{"skipped":%d}' % skipped, *lines] if skipped else lines

    def wake(self) -> None:
        self._news.set()

    def end(self) -> None:
        self.ended = True
        self.wake()

    async def news(self) -> bool:
        """Wait for `wake`; False after BEAT_S without one."""
        try:
            async with asyncio.timeout(BEAT_S):
                await self._news.wait()
        except TimeoutError:
            return False
        self._news.clear()
        return True


class Tap:
    """The ASGI application, and the place where flushes are shown to it."""

    def __init__(self, plan: Plan, names: Callable[[], Mapping[str, int]]) -> None:
        """`names`: the topics there are now, with their numbers."""
        queries = [join.name for join in plan.joins]
        queries += [name for w in plan.windows for name in (w.name, w.late_name)]
        self._queries = frozenset(queries)
        self._topics = frozenset(topic.name for topic in plan.topics)
        self._names = names
        self._headers = [*HEADERS, (PIPELINE_HEADER, plan.name.encode())]
        self._watchers: tuple[Watcher, ...] = ()
        self._reader: LogReader | None = None
        self._signal: LogSignal | None = None
        self._loop = asyncio.get_running_loop()

    def open(self, reader: LogReader, signal: LogSignal) -> None:
        """The storage is ready: watchers may come."""
        self._reader, self._signal = reader, signal

    def close(self) -> None:
        """End every stream."""
        for watcher in self._watchers:
            watcher.end()

    def offer(self, chunks: Sequence[bytes]) -> None:
        """Show the change rows of a flush. Called on the flush thread; costs nothing unwatched."""
        watchers = [each for each in self._watchers if each.topics != frozenset()]
        if not watchers:
            return
        names = {number: name for name, number in self._names().items()}
        for chunk in chunks:
            rows = islice(unpack_changes(chunk), SHOWN_A_FLUSH)
            shown = [(names.get(change.topic, "?"), change) for change in rows]
            skipped = count_changes(chunk) - len(shown)
            for watcher in watchers:
                watcher.offer(list(_lines(shown, watcher.topics)), skipped)
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        for watcher in self._watchers:
            watcher.wake()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Stream until the client goes or the pipeline stops. Raises RequestError (400) and
        OverloadedError (503).
        """
        watcher = self._watcher(scope)
        if self._reader is None or self._signal is None:
            raise OverloadedError("the storage is not ready yet")
        if len(self._watchers) >= MAX_WATCHERS:
            raise OverloadedError(f"{MAX_WATCHERS} are watching already")
        self._watchers = (*self._watchers, watcher)
        tasks = [
            asyncio.ensure_future(until_gone(receive, watcher.end)),
            asyncio.ensure_future(_follow(self._signal, watcher)),
        ]
        head = self._signal.head
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self._headers})
            if scope["method"] != "HEAD":
                await _Stream(watcher, self._reader, send).run(head)
            await send({"type": "http.response.body", "body": b""})
        finally:
            self._watchers = tuple(each for each in self._watchers if each is not watcher)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _watcher(self, scope: Scope) -> Watcher:
        """What `?name=` (a topic, join or window, repeatable) asks for; nothing: everything."""
        fields = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        if unknown := set(fields) - {"name"}:
            raise RequestError(f"no parameter {min(unknown)[:64]!r}; there is: name", status=400)
        wanted = fields.get("name", [])
        if not wanted or "*" in wanted:
            return Watcher(None, None)
        topics, queries = self._topics | set(self._names()), self._queries
        for name in wanted:
            if name not in topics | queries:
                known = ", ".join(sorted(topics | queries))
                problem = f"no topic, join or window {name[:128]!r}; there are: {known}"
                raise RequestError(problem, status=400)
        return Watcher(topics.intersection(wanted), queries.intersection(wanted))


class _Stream:
    """The lines of one watcher."""

    def __init__(self, watcher: Watcher, reader: LogReader, send: Send) -> None:
        self._watcher, self._reader, self._send = watcher, reader, send

    async def run(self, pos: int) -> None:
        """From log position `pos` until the watcher ends. The first line is empty: it watches."""
        await self._write([b""])
        while not self._watcher.ended:
            before = pos
            lines = self._watcher.take()
            results, pos = self._results(pos)
            if lines or results:
                await self._write([*lines, *results])
            elif pos == before and not await self._watcher.news():
                await self._write([b""])

    def _results(self, pos: int) -> tuple[list[bytes], int]:
        """The next results after `pos`, and the position that they reach."""
        if self._watcher.queries == frozenset():
            return [], pos
        behind = self._reader.head() - pos
        if behind > MAX_BEHIND:
            self._watcher.offer((), behind)
            return [], pos + behind
        results, pos = self._reader.read(pos, READ_RESULTS, self._watcher.queries)
        return [one_line(result.body()) for result in results], pos

    async def _write(self, lines: Collection[bytes]) -> None:
        body = b"".join(line + b"\n" for line in lines)
        await self._send({"type": "http.response.body", "body": body, "more_body": True})


def _lines(changes: Sequence[tuple[str, Change]], wanted: frozenset[str] | None) -> Iterator[bytes]:
    for topic, change in changes:
        if wanted is None or topic in wanted:
            yield _line(topic, change)


def _line(topic: str, change: Change) -> bytes:
    """A change as JSON text; the payload as its own bytes."""
    new = change.new
    head = {"topic": topic, "key": change.key.decode("utf-8", "replace"), "op": "deleted"}
    if new is None:
        return json.dumps(head, ensure_ascii=False).encode()
    head["op"] = "updated" if new.updated else "created"
    text = json.dumps({**head, "timestamp_ms": new.timestamp_ms}, ensure_ascii=False).encode()
    changes = b"" if new.changes is None else b', "changes": ' + one_line(new.changes)
    return b'%b%b, "payload": %b}' % (text[:-1], changes, one_line(new.payload))


async def _follow(signal: LogSignal, watcher: Watcher) -> None:
    """Wake the watcher whenever the results log has grown."""
    head = signal.head
    while True:
        head = await signal.wait(head)
        watcher.wake()
