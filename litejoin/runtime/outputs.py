"""Sinks of a plan as running objects, and the endpoints that SSE sinks share.

Called by `app`. A new kind of sink is added here and in its own module, nowhere else.
"""

from litejoin.clock import Clock
from litejoin.errors import SinkError
from litejoin.plan.nodes import (
    Address,
    CustomSinkPlan,
    FileSinkPlan,
    HttpSinkPlan,
    KafkaSinkPlan,
    Plan,
    PostgresSinkPlan,
    SqliteSinkPlan,
    SseSinkPlan,
    StdoutSinkPlan,
)
from litejoin.runtime.history import History
from litejoin.runtime.server import Listeners
from litejoin.sinks.base import LogReader, LogSignal, Sink
from litejoin.sinks.custom import make_custom_sink
from litejoin.sinks.file import FileSink
from litejoin.sinks.http.sink import HttpBatchSink, HttpSink
from litejoin.sinks.kafka import KafkaSink
from litejoin.sinks.sqlite import SqliteSink
from litejoin.sinks.sse.hub import SseHub
from litejoin.sinks.sse.snapshot import SnapshotApp
from litejoin.sinks.sse.subscribe import SubscribeApp
from litejoin.sinks.stdout import StdoutSink


class Outputs:
    """Makes the sinks and adds /subscribe and /snapshot to the listeners. Event loop only."""

    def __init__(self, plan: Plan, listeners: Listeners, clock: Clock) -> None:
        self.sinks: dict[str, Sink] = {}
        archive = plan.storage.archive
        self._history = History(plan, archive, clock) if archive else None
        self._hubs: dict[tuple[str, ...], SseHub] = {}
        """By the names of the sse sinks of one address."""
        for sink in plan.sinks:
            if isinstance(sink, HttpSinkPlan):
                self.sinks[sink.name] = (HttpBatchSink if sink.max_batch else HttpSink)(sink)
            elif isinstance(sink, KafkaSinkPlan):
                self.sinks[sink.name] = KafkaSink(sink)
            elif isinstance(sink, SqliteSinkPlan):
                self.sinks[sink.name] = SqliteSink(sink, plan)
            elif isinstance(sink, StdoutSinkPlan):
                self.sinks[sink.name] = StdoutSink(sink)
            elif isinstance(sink, FileSinkPlan):
                self.sinks[sink.name] = FileSink(sink, plan)
            elif isinstance(sink, PostgresSinkPlan):
                self.sinks[sink.name] = _postgres_sink(sink, plan)
            elif isinstance(sink, CustomSinkPlan):
                self.sinks[sink.name] = make_custom_sink(sink)
        for address in dict.fromkeys(s.addr for s in plan.sinks if isinstance(s, SseSinkPlan)):
            self._add_hub(plan, listeners, address)

    def _add_hub(self, plan: Plan, listeners: Listeners, address: Address) -> None:
        sinks = [s for s in plan.sinks if isinstance(s, SseSinkPlan) and s.addr == address]
        names = {sink.name for sink in sinks}
        joins = [join for join in plan.joins if names & set(join.sinks)]
        hidden = [join.name for join in joins if join.on_delete == "ignore"]
        shown = [join.name for join in joins]
        shown += [window.name for window in plan.windows if names & set(window.sinks)]
        shown += [window.late_name for window in plan.windows if window.late_sink in names]
        clients, readers = plan.server.limits.max_sse_clients, plan.storage.reader_pool_size
        hub = SseHub(shown, hidden, clients, readers)
        subscribe, snapshot = SubscribeApp(hub), SnapshotApp(hub, self._history)
        listeners.add(address, "GET", "/subscribe", subscribe, "subscribe", query_token=True)
        listeners.add(address, "GET", "/snapshot", snapshot, "subscribe")
        self._hubs[tuple(sink.name for sink in sinks)] = hub

    def open(self, reader: LogReader, signal: LogSignal) -> None:
        """Let subscribers in: the storage is ready."""
        for hub in self._hubs.values():
            hub.open(reader.clone(), signal)

    def health(self) -> dict[str, dict[str, object]]:
        """By sse sink: what its hub does; for those that share an address, under the first name."""
        found: dict[str, dict[str, object]] = {}
        for (first, *others), hub in self._hubs.items():
            found[first] = hub.health()
            more = {"status": found[first]["status"], "served_with": first}
            found |= {name: dict(more) for name in others}
        return found

    async def close(self) -> None:
        """End every stream."""
        for hub in self._hubs.values():
            await hub.close()
        if self._history:
            await self._history.close()


def _postgres_sink(sink: PostgresSinkPlan, plan: Plan) -> Sink:
    try:
        # Imported here: psycopg is an extra, and costs what it costs only who uses it.
        from litejoin.sinks.postgres import PostgresSink
    except ImportError as error:
        raise SinkError(
            f"sink {sink.name}: PostgreSQL needs the package psycopg ({error})",
            hint="pip install 'litejoin[postgres]'",
        ) from None
    return PostgresSink(sink, plan)
