"""The main path: from a plan to a running pipeline and back to a closed one.

    source -> Channel -> FlushThread (shards) -> EvaluateThread (joins, log) -> delivery -> sinks

Called by `litejoin run`. The only place that wires the parts, starts threads and tasks, and decides
the order in which they start and stop.
"""

import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack

import apsw

from litejoin import __version__
from litejoin.clock import Clock, SteadyClock
from litejoin.delivery.delivery import Delivery
from litejoin.engine.engine import Applied, Engine
from litejoin.engine.restored import NEWER, moment_of, note_restored
from litejoin.errors import ConfigError, CorruptionError, LiteJoinError
from litejoin.plan.nodes import Plan
from litejoin.runtime.archiving import Archiving, require_archive
from litejoin.runtime.channel import Channel
from litejoin.runtime.expiry import expire_forever
from litejoin.runtime.inputs import Inputs
from litejoin.runtime.join_health import JoinHealth
from litejoin.runtime.memory import settle_allocator
from litejoin.runtime.metrics.app import MetricsApp
from litejoin.runtime.metrics.figures import Figures
from litejoin.runtime.metrics.process import ProcessFigures, build_figures, file_figures
from litejoin.runtime.monitor import Health, Monitor
from litejoin.runtime.outputs import Outputs
from litejoin.runtime.page import PageApp
from litejoin.runtime.plan_view import PlanApp
from litejoin.runtime.replication import Replication
from litejoin.runtime.server import Listeners
from litejoin.runtime.storage_care import StorageCare
from litejoin.runtime.tap import Tap
from litejoin.runtime.threads import EvaluateThread, FlushThread
from litejoin.sources.api.transport import Transport
from litejoin.store.log import ResultLog
from litejoin.store.signal import LogSignal
from litejoin.store.writer import ShardStore

EXIT_CLEAN = 0
EXIT_FAILED = 1

ONE_REQUEST_MS = 200
"""Signals that follow each other faster are one request to stop: `timeout` and some supervisors
send theirs to the process and then to its group. Nobody presses Ctrl-C twice in that time.
"""

FILES, FILES_A_SHARD, FILES_A_PART = 256, 16, 16
"""Open at most, generously: by the process itself, for a shard (six while nothing is checked), for
a source or sink (connections of its own)."""

THREAD_SWITCH_S = 0.0001
"""How long a thread may keep the GIL while another asks for it: a commit is announced to the event
loop that much later at worst. Python's default of 5 ms would be most of the latency of an idle
pipeline."""

log = logging.getLogger("litejoin.app")


def refuse_unsupported(plan: Plan) -> None:
    """Raises ConfigError naming every feature of the config that this version does not run."""
    if plan.unsupported:
        places = [
            f"{each.feature} ({plan.file}:{each.place.line}:{each.place.column})"
            for each in plan.unsupported
        ]
        raise ConfigError(
            f"not supported yet: {', '.join(places)}", hint="`validate` and `plan` understand it"
        )


class App:
    """One pipeline in one process. `run` is called once."""

    def __init__(
        self,
        plan: Plan,
        clock: Clock,
        graceful_timeout_s: float,
        plan_json: Callable[[], str],
        transports: Mapping[str, Transport] | None = None,
    ) -> None:
        """`plan_json` makes the answer to GET /plan: the plan as `litejoin plan` prints it.
        `transports` replace the network of api sources, by name (`run --replay`).
        """
        self._plan, self._clock = plan, clock
        self._plan_json = plan_json
        self._transports = transports or {}
        self._graceful_timeout_s = graceful_timeout_s
        self._health = Health(clock)
        self._figures = Figures(self._health)
        self._join_health = JoinHealth(plan.joins, clock, plan.windows)
        self._replication = (
            Replication(plan, plan.replication, clock) if plan.replication is not None else None
        )
        self._engine: Engine | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._stop = asyncio.Event()
        self._deadline_s: float | None = None
        self._signalled_ms: int | None = None

    async def run(self) -> int:
        """Start, serve until a signal, drain. Returns the exit code of a clean drain; every other
        end leaves the process at once.

        Raises ConfigError, DataDirInUseError and StartRefusedError when it cannot start.
        """
        self._loop = asyncio.get_running_loop()
        sys.setswitchinterval(THREAD_SWITCH_S)
        settle_allocator()
        stops = [signal.SIGTERM, signal.SIGINT]
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as nohup leaves it
            stops.append(signal.SIGHUP)
        for number in stops:
            self._loop.add_signal_handler(number, self._signalled)
        started_ms = self._clock.monotonic_ms()
        async with AsyncExitStack() as closing:
            await self._open(closing)
            await self._start(closing)
            # What start-up made lives until the end: full collections need not look at it again.
            gc.collect()
            gc.freeze()
            log.info("litejoin: ready in %d ms", self._clock.monotonic_ms() - started_ms)
            await self._stop.wait()
        return EXIT_CLEAN

    # -- start: each part says how it is closed; closing goes the other way round

    async def _open(self, closing: AsyncExitStack) -> None:
        plan = self._plan
        refuse_unsupported(plan)
        require_archive(plan)
        log.info(
            "litejoin %s (sqlite %s, python %s) starting pipeline %s, config %s",
            __version__, apsw.sqlite_lib_version(), sys.version.split()[0], plan.name,
            plan.config_hash,
        )  # fmt: skip
        retained = {t.name.lower() for t in plan.topics if t.retention_ms}
        self._store = await asyncio.to_thread(
            ShardStore.open,
            plan.storage.data_dir,
            pipeline=plan.name,
            shard_count=plan.storage.shard_count,
            synchronous=plan.storage.synchronous,
            has_time_index=lambda topic: topic.lower() in retained,
            is_replicated=self._replication is not None,
            prepare=self._replication.prepare if self._replication else lambda layout: None,
        )
        closing.push_async_callback(self._close_store)
        closing.push_async_callback(self._close_replication)
        for notice in self._store.notices:
            log.warning("store: %s", notice)

    async def _start(self, closing: AsyncExitStack) -> None:
        plan, store = self._plan, self._store
        self._channel = Channel(self._loop, store.topic_numbers)
        parts = len(plan.sources) + len(plan.sinks)
        self._listeners = Listeners(
            plan.server,
            self._health,
            self._clock,
            other_files=FILES + FILES_A_SHARD * plan.storage.shard_count + FILES_A_PART * parts,
        )
        self._outputs = Outputs(plan, self._listeners, self._clock)
        self._inputs = Inputs(
            plan, self._channel, store, self._listeners, self._clock, self._transports
        )
        self._listeners.add_everywhere("GET", "/metrics", MetricsApp(self._figures), "admin")
        shown = PlanApp(self._plan_json)
        self._listeners.add(plan.server.addr, "GET", "/plan", shown, "admin")
        self._tap = Tap(plan, store.topics)
        self._listeners.add(plan.server.addr, "GET", "/tap", self._tap, "admin")
        self._listeners.add(plan.server.addr, "GET", "/", PageApp(), None)
        await self._listeners.start()
        closing.push_async_callback(self._close_listeners)
        closing.push_async_callback(self._cancel_tasks)
        # From before the engine's start: a join that is computed there may run away as well.
        self._run(self._watch_queries())
        engine = await asyncio.to_thread(self._open_engine)
        closing.callback(engine.close)
        reader = ResultLog(store.layout.state, plan.name, store.epoch)
        self._signal = LogSignal(engine.state.head)
        self._delivery = Delivery(
            plan, reader, self._signal, self._clock, self._outputs.sinks, on_fatal=self._fatal
        )
        await self._delivery.start()
        self._outputs.open(reader, self._signal)
        self._tap.open(reader.clone(), self._signal)
        self._start_threads(engine)
        closing.push_async_callback(self._drain, engine)
        await self._start_replication()
        self._start_sources()
        self._start_expiry(closing)
        closing.push_async_callback(self._cancel_tasks)
        self._care = StorageCare(plan.storage, store, self._channel, self._clock)
        self._care.start()
        closing.push_async_callback(self._care.close)
        self._run(self._care.watch())
        self._describe_health(engine)
        self._show_figures(engine)
        self._channel.open()
        closing.callback(self._begin_draining)
        self._health.phase = "ok"

    def _open_engine(self) -> Engine:
        plan, store = self._plan, self._store
        started_ms = self._clock.monotonic_ms()
        numbers = {topic.name: store.create_topic(topic.name) for topic in plan.topics}
        store.keep_messages({numbers[window.topic] for window in plan.windows})
        if plan.storage.archive:
            kept = {topic.name for topic in plan.topics if topic.retention_ms is not None}
            store.keep_deletes({numbers[name] for name in kept})
        engine, applied = self._start_engine(numbers)
        store.skip_to(engine.state.applied)
        self._join_health.note(applied)
        log.info(
            "store: %d shards in %s, %d joins, %d results at start, key maps %.1f MB, %d ms",
            store.shard_count, plan.storage.data_dir, len(plan.joins), applied.results,
            engine.memory_bytes() / 1e6, self._clock.monotonic_ms() - started_ms,
        )  # fmt: skip
        return engine

    def _start_engine(self, numbers: Mapping[str, int]) -> tuple[Engine, Applied]:
        """Start the engine, again without each shard that turns out to be damaged."""
        plan, store = self._plan, self._store
        state, shards = store.layout.state, store.shard_count
        moment = "" if store.quarantine.shards else moment_of(state, store, shards)
        if moment:
            now_ms = self._clock.now_ms()
            note_restored(state, lost_positions=not moment.startswith(NEWER), least=now_ms)
            log.warning(
                "store: %s is %s: every join is computed anew; what came in between may"
                " be missing in open windows", state.name, moment,
            )  # fmt: skip
        while True:
            self._engine = engine = Engine(
                plan.topics,
                plan.joins,
                numbers,
                store.open_readers(),
                store.layout.state,
                plan.storage.synchronous,
                store.commit_gate,
                self._clock,
                plan.windows,
                row_cache_bytes=plan.storage.row_cache_bytes,
                is_replicated=store.is_replicated,
            )
            try:
                engine.state.belong_to(store.epoch, store.layout.state)
                engine.leave_out(store.quarantine.shards)
                return engine, engine.start(store)
            except CorruptionError as error:
                engine.close()
                store.quarantine.take(error)
            except BaseException:
                engine.close()  # or closing the store would fail, and that would be told
                raise

    def _start_threads(self, engine: Engine) -> None:
        self._evaluator = EvaluateThread(
            engine,
            self._store,
            self._channel,
            self._loop,
            self._signal.publish,
            self._delivery.low_watermark,
            self._fatal_from_thread,
            self._clock,
            self._join_health.note,
            has_windows=bool(self._plan.windows),
        )
        self._flusher = FlushThread(
            self._channel,
            self._store,
            self._evaluator,
            self._fatal_from_thread,
            self._clock,
            self._plan.storage.flush_interval_ms,
            self._tap.offer,
        )
        self._evaluator.start()
        self._flusher.start()
        monitor = Monitor(
            self._channel, self._flusher, self._evaluator, lambda: self._store.last_seq
        )
        self._run(monitor.run())

    async def _start_replication(self) -> None:
        if self._replication is not None:
            await self._replication.start()
            self._health.replication = self._replication.health
            self._figures.add("replicated", self._replication.figures)
            self._run(self._replication.watch())

    def _start_sources(self) -> None:
        self._inputs.open()
        for source in self._inputs.sources:
            self._run(source.run())

    def _start_expiry(self, closing: AsyncExitStack) -> None:
        """Rows that are too old are deleted, or archived first."""
        plan, clock = self._plan, SteadyClock(self._clock)
        if plan.storage.archive is not None:
            archiving = Archiving(plan, plan.storage.archive, self._store, self._channel, clock)
            closing.push_async_callback(archiving.close)
            self._health.archive = archiving.health
            self._run(archiving.run())
        elif any(topic.retention_ms for topic in plan.topics):
            self._run(expire_forever(plan, self._store, self._channel, clock))

    def _describe_health(self, engine: Engine) -> None:
        health = self._health
        health.config_hash = self._plan.config_hash
        health.sources = self._inputs.sources
        health.sinks = lambda: {**self._delivery.health(), **self._outputs.health()}
        health.shards = self._care.health
        health.joins = lambda: self._join_health.health(
            self._evaluator.behind, {**engine.join_figures(), **engine.windows_health()}
        )

    def _show_figures(self, engine: Engine) -> None:
        """What /metrics shows beside what /health says."""
        layout, dlq = self._store.layout, self._plan.delivery.dlq.path
        shards = [layout.shard(number) for number in range(self._store.shard_count)]
        show = self._figures.add
        show("channel", self._channel.figures)
        show("writer", self._flusher.figures)
        show("evaluator", lambda: {"changes": engine.changes, **self._evaluator.figures()})
        show("row_cache", engine.row_cache_figures)
        show("listeners", self._listeners.figures)
        show("files", lambda: file_figures([*shards, layout.state, dlq]))
        show("storage", self._care.figures)
        show("process", ProcessFigures())
        show("build", build_figures)

    # -- while running

    def _run(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        task.add_done_callback(self._ended)
        self._tasks.append(task)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fatal(error)

    async def _watch_queries(self) -> None:
        while True:
            await asyncio.sleep(1)
            if self._engine is not None and self._engine.interrupt_if_overdue():
                log.error("joiner: a query ran past its deadline and was interrupted")

    def _signalled(self) -> None:
        now_ms, before_ms = self._clock.monotonic_ms(), self._signalled_ms
        if before_ms is not None and now_ms - before_ms < ONE_REQUEST_MS:
            return
        self._signalled_ms = now_ms
        if self._stop.is_set():
            log.warning("litejoin: second signal, exiting at once")
            _exit_now(EXIT_FAILED)
        log.info("litejoin: stopping, at most %g s", self._graceful_timeout_s)
        if self._engine is not None:
            self._engine.stop_full()
        self._stop.set()

    def _fatal_from_thread(self, error: BaseException) -> None:
        self._loop.call_soon_threadsafe(self._fatal, error)

    def _fatal(self, error: BaseException) -> None:
        """What is on disk is consistent and what was acknowledged is on disk: end, and let the next
        start recover. Draining would write through a store that has just failed.
        """
        code = error.code if isinstance(error, LiteJoinError) else type(error).__name__
        log.critical("litejoin: fatal: %s: %s", code, error, exc_info=error)
        _exit_now(EXIT_FAILED)

    # -- stop: sources first; what they handed over is written, evaluated and delivered

    def _left_s(self) -> float:
        """What is left of the graceful timeout, which begins with the first question."""
        now_s = self._clock.monotonic_ms() / 1000
        if self._deadline_s is None:
            self._deadline_s = now_s + self._graceful_timeout_s
        return self._deadline_s - now_s

    def _begin_draining(self) -> None:
        self._left_s()
        self._health.phase = "draining"
        self._channel.refuse("draining")

    async def _cancel_tasks(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    async def _drain(self, engine: Engine) -> None:
        self._channel.stop()
        await asyncio.to_thread(self._flusher.join, max(0.1, self._left_s()))
        self._evaluator.stop()
        await asyncio.to_thread(self._evaluator.join, max(0.1, self._left_s()))
        if self._flusher.is_alive() or self._evaluator.is_alive():
            log.warning(
                "litejoin: the backlog was not evaluated in time; the next start goes on with it"
            )
            _exit_now(EXIT_FAILED)
        self._signal.publish(engine.state.head)
        kept_s = self._replication.reserve_s(self._graceful_timeout_s) if self._replication else 0.0
        left = await self._delivery.drain(max(0.1, self._left_s() - 1.0 - kept_s))
        for sink, count in left.items():
            log.warning("litejoin: %d results for sink %s are left for the next start", count, sink)
        await self._delivery.close()
        await self._outputs.close()
        self._tap.close()
        self._inputs.close()

    async def _close_listeners(self) -> None:
        await self._listeners.stop(max(0.0, min(2.0, self._left_s())))

    async def _close_replication(self) -> None:
        if self._replication is not None:
            await self._replication.close(max(1.0, self._left_s()))

    async def _close_store(self) -> None:
        await asyncio.to_thread(self._store.close)
        log.info("litejoin: stopped")


def _exit_now(code: int) -> None:
    sys.stdout.flush()
    logging.shutdown()
    os._exit(code)
