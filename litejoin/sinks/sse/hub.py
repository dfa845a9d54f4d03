"""Reads the results log once for all subscribers of a listener and fans it out.

Clients with the same wishes share a channel: each result is encoded once, and a channel's chunk of
events is built once, however many clients wait for it. A client that is behind reads the log itself
until it has reached the hub's position, and is attached in the same step: no gap, no overlap.

Made by the runtime for each address with an SSE sink. Until `open` requests are refused with 503.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from functools import partial
from typing import TypeVar

from litejoin.errors import OverloadedError
from litejoin.records import Result, ResultOp
from litejoin.sinks.base import LogReader, LogSignal
from litejoin.sinks.sse.client import Client
from litejoin.sinks.sse.events import Wire
from litejoin.sinks.sse.params import Filter
from litejoin.sinks.sse.readers import Readers

READ_ROWS = 256
"""Results of one read on the event loop: about a millisecond."""

HEARTBEAT_S = 15.0

STALL_S = 30.0
"""A client that takes nothing for so long is cut; it may come back and resume."""

PAUSE_PER_CLIENT_S = 50e-6
MAX_PAUSE_S = 0.1
CROWD = 100
"""Above so many clients the hub waits a little between two rounds, so that one write to each
carries several results: what a write costs, for each client, but never longer than MAX_PAUSE_S.
"""

ALL = 1 << 62
"""A limit that is none."""

T = TypeVar("T")

log = logging.getLogger("litejoin.sse")


class Channel:
    """The clients that want the same."""

    def __init__(self, wanted: Filter) -> None:
        self.filter = wanted
        self.clients: set[Client] = set()
        self.pending: list[bytes] = []


class SseHub:
    """The subscribers of one listener. Event loop only; big reads run on a thread of its own."""

    def __init__(
        self,
        joins: Collection[str],
        hidden_deletes: Collection[str],
        max_clients: int,
        reader_count: int = 1,
    ) -> None:
        """`joins`: the names served here; `hidden_deletes`: those with `on_delete: ignore`;
        `reader_count`: snapshots and replays that are read at once.
        """
        self.joins = frozenset(joins)
        self.pos = 0
        """Every attached client has been offered everything up to here."""
        self._hidden_deletes = frozenset(hidden_deletes)
        self._max_clients = max_clients
        self._clients: set[Client] = set()
        self._channels: dict[Filter, Channel] = {}
        self._by_join: dict[str, set[Channel]] = {}
        self._by_key: dict[tuple[str, str], set[Channel]] = {}
        self._moved: asyncio.Future[None] | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._reader_count = reader_count
        self._opened: tuple[LogReader, Readers, LogSignal, Wire] | None = None
        self.delivered = 0
        """Events handed to connections since the start."""

    def open(
        self,
        reader: LogReader,
        signal: LogSignal,
        on_fatal: Callable[[Exception], None] | None = None,
    ) -> None:
        """Serve from now on. `reader` is the hub's from here: read on the event loop, closed with
        it. `on_fatal` is called when the log cannot be read any more.
        """
        self.pos = signal.head
        readers = Readers(reader, self._reader_count)
        self._opened = (reader, readers, signal, Wire(reader.epoch, reader.lost()))
        self._tasks = [asyncio.create_task(self._feed()), asyncio.create_task(self._beat())]

        def ended(task: asyncio.Task[None]) -> None:
            if not task.cancelled() and isinstance(error := task.exception(), Exception):
                log.error("sse: the results log cannot be read: %s", error)
                if on_fatal is not None:
                    on_fatal(error)

        for task in self._tasks:
            task.add_done_callback(ended)

    async def close(self) -> None:
        """End every stream; clients resume when the next process serves them."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for client in self._clients:
            client.end()
        if self._moved is not None and not self._moved.done():
            self._moved.set_result(None)
        if self._opened is not None:
            reader, readers = self._opened[:2]
            self._opened = None
            await readers.close()
            reader.close()

    def health(self) -> dict[str, object]:
        """Clients, how many of them are behind, events handed to their connections."""
        behind = sum(not client.attached for client in self._clients)
        status = "ok" if self._opened is not None else "starting"
        return {
            "status": status,
            "clients": len(self._clients),
            "behind": behind,
            "events": self.delivered,
        }

    def register(self, wanted: Filter) -> Client:
        """A new client, behind for now. Raises OverloadedError when there are too many."""
        if len(self._clients) >= self._max_clients:
            raise OverloadedError(f"{self._max_clients} subscribers already", retry_after_s=5)
        client = Client(wanted)
        self._clients.add(client)
        return client

    def forget(self, client: Client) -> None:
        """The client is gone."""
        self._detach(client)
        self._clients.discard(client)

    @property
    def wire(self) -> Wire:
        """The encoder. Raises OverloadedError (503) before `open`, as everything below."""
        return self._serving()[3]

    @property
    def head(self) -> int:
        """The last position announced."""
        return self._serving()[2].head

    def tail(self) -> int:
        """The oldest position that a client can resume from."""
        return self._serving()[0].tail()

    def catch_up(self, client: Client) -> tuple[list[bytes], int] | None:
        """Events for a client that is behind and the position they reach; None: it is attached now.

        ([], its position): the hub itself has to move first (`moved`).
        """
        reader, _, _, wire = self._serving()
        if client.pos == self.pos:
            self._attach(client)
            return None
        if client.pos > self.pos:
            return [], client.pos
        wanted = client.filter
        results, reached = reader.read(client.pos, READ_ROWS, wanted.queries, upto=self.pos)
        return [wire.event(r) for r in results if wanted.takes(r) and self._shows(r)], reached

    async def moved(self) -> None:
        """Wait until the hub's position changes, or the hub closes."""
        if self._moved is None:
            self._moved = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._moved)

    async def positions(
        self,
        wanted: Filter,
        limit: int = ALL,
        emitted_ms: tuple[int | None, int | None] = (None, None),
    ) -> tuple[Sequence[int], int]:
        """Positions of the current results and the head of then, read on another thread."""
        return await self._serving()[1].run(
            lambda reader: reader.positions(
                wanted.queries, wanted.keys, limit=limit, emitted_ms=emitted_ms
            )
        )

    async def fetch(self, positions: Sequence[int]) -> AsyncIterator[list[Result]]:
        """The results at some positions, a few at a time, read on another thread."""
        start = 0
        while start < len(positions):
            page = positions[start : start + READ_ROWS]
            results, covered = await self._serving()[1].run(partial(_fetch, page))
            start += covered
            yield results

    def _serving(self) -> tuple[LogReader, Readers, LogSignal, Wire]:
        if self._opened is None:
            raise OverloadedError("storage is not ready yet", retry_after_s=1)
        return self._opened

    def _shows(self, result: Result) -> bool:
        return result.op is not ResultOp.DELETE or result.query not in self._hidden_deletes

    async def _feed(self) -> None:
        reader, _, signal, wire = self._serving()
        while True:
            await signal.wait(self.pos)
            if not self._channels:
                self._move(signal.head)
                continue
            results, reached = reader.read(self.pos, READ_ROWS, self.joins, upto=signal.head)
            self._fan_out([r for r in results if self._shows(r)], reached, wire)
            self._move(reached)
            crowd = len(self._clients)
            await asyncio.sleep(
                min(MAX_PAUSE_S, crowd * PAUSE_PER_CLIENT_S) if crowd > CROWD else 0
            )

    def _move(self, pos: int) -> None:
        self.pos = pos
        if self._moved is not None:
            self._moved.set_result(None)
            self._moved = None

    def _fan_out(self, results: Sequence[Result], reached: int, wire: Wire) -> None:
        touched: set[Channel] = set()
        for result in results:
            channels = self._by_join.get(result.query, set())
            if self._by_key:
                channels = channels | self._by_key.get((result.query, result.key), set())
            if channels:
                event = wire.event(result)
                for channel in channels:
                    channel.pending.append(event)
                touched |= channels
        for channel in touched:
            chunk, count = b"".join(channel.pending), len(channel.pending)
            channel.pending.clear()
            self._offer(tuple(channel.clients), chunk, reached)
            self.delivered += count * len(channel.clients)

    def _offer(self, clients: Sequence[Client], chunk: bytes, pos: int) -> None:
        for client in clients:
            if not client.offer(chunk, pos):
                self._detach(client)

    async def _beat(self) -> None:
        loop, wire = asyncio.get_running_loop(), self._serving()[3]
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            attached = [client for client in self._clients if client.attached]
            self._offer(attached, wire.heartbeat(self.pos), self.pos)
            for client in self._clients:
                since = client.sending_since
                if since is not None and loop.time() - since > STALL_S and client.task:
                    log.info("sse: a client took nothing for %g s and is cut", STALL_S)
                    client.end()
                    client.task.cancel()

    def _attach(self, client: Client) -> None:
        client.attached = True
        channel = self._channels.get(client.filter)
        if channel is None:
            channel = self._channels[client.filter] = Channel(client.filter)
            for slot in self._slots(channel.filter):
                slot.add(channel)
        channel.clients.add(client)

    def _detach(self, client: Client) -> None:
        client.attached = False
        channel = self._channels.get(client.filter)
        if channel is None:
            return
        channel.clients.discard(client)
        if not channel.clients:
            del self._channels[client.filter]
            self._unlist(channel)

    def _slots(self, wanted: Filter) -> list[set[Channel]]:
        if wanted.keys is None:
            return [self._by_join.setdefault(name, set()) for name in wanted.queries]
        return [
            self._by_key.setdefault((name, key), set())
            for name in wanted.queries
            for key in wanted.keys
        ]

    def _unlist(self, channel: Channel) -> None:
        for slot in self._slots(channel.filter):
            slot.discard(channel)
        if channel.filter.keys is not None:
            for name in channel.filter.queries:
                for key in channel.filter.keys:
                    if not self._by_key[name, key]:
                        del self._by_key[name, key]


def _fetch(positions: Sequence[int], reader: LogReader) -> tuple[list[Result], int]:
    return reader.fetch(positions)
