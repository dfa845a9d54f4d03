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
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import apsw

from litejoin import __version__
from litejoin.clock import Clock, SteadyClock
from litejoin.delivery.delivery import Delivery
from litejoin.engine.engine import Engine
from litejoin.errors import ConfigError, LiteJoinError
from litejoin.plan.nodes import ApiSourcePlan, HttpSourcePlan, KafkaSourcePlan, Plan
from litejoin.runtime.channel import Channel
from litejoin.runtime.expiry import expire_forever
from litejoin.runtime.join_health import JoinHealth
from litejoin.runtime.monitor import Health, Monitor
from litejoin.runtime.outputs import Outputs
from litejoin.runtime.plan_view import PlanApp
from litejoin.runtime.server import Listeners
from litejoin.runtime.threads import EvaluateThread, FlushThread
from litejoin.sources.api import ApiSource
from litejoin.sources.api.budget import Budgets
from litejoin.sources.api.transport import Transport
from litejoin.sources.base import Source
from litejoin.sources.http import HttpSource, by_address
from litejoin.sources.http_keys import StoredAnswers
from litejoin.sources.kafka.source import KafkaSource
from litejoin.store.log import ResultLog
from litejoin.store.signal import LogSignal
from litejoin.store.writer import ShardStore

EXIT_CLEAN = 0
EXIT_FAILED = 1

MAX_POLL_THREADS = 16
"""Polls that can wait for the network at once; a source never has more than one."""

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
        self._join_health = JoinHealth(plan.joins, clock)
        self._tasks: list[asyncio.Task[None]] = []
        self._stop = asyncio.Event()

    async def run(self) -> int:
        """Start, serve until a signal, drain. Returns the exit code of a clean drain; every other
        end leaves the process at once.

        Raises ConfigError, DataDirInUseError and StartRefusedError when it cannot start.
        """
        self._loop = asyncio.get_running_loop()
        sys.setswitchinterval(THREAD_SWITCH_S)
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._signalled)
        started_ms = self._clock.monotonic_ms()
        await self._open()
        try:
            await self._start()
            # What start-up made lives until the end: full collections need not look at it again.
            gc.collect()
            gc.freeze()
            log.info("litejoin: ready in %d ms", self._clock.monotonic_ms() - started_ms)
            await self._stop.wait()
        finally:
            await self._close()
        return EXIT_CLEAN

    # -- start

    async def _open(self) -> None:
        plan = self._plan
        refuse_unsupported(plan)
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
        )
        for notice in self._store.notices:
            log.warning("store: %s", notice)

    async def _start(self) -> None:
        plan, store = self._plan, self._store
        self._channel = Channel(self._loop, store.topic_number)
        self._listeners = Listeners(plan.server, self._health, self._clock)
        self._outputs = Outputs(plan, self._listeners)
        self._add_ingest()
        shown = PlanApp(self._plan_json)
        self._listeners.add(plan.server.addr, "GET", "/plan", shown, "admin")
        await self._listeners.start()
        # From before the engine's start: a join that is computed there may run away as well.
        self._run(self._watch_queries())
        await asyncio.to_thread(self._open_engine)
        reader = ResultLog(store.layout.state, plan.name, store.epoch)
        self._signal = LogSignal(self._engine.state.head)
        self._delivery = Delivery(
            plan, reader, self._signal, self._clock, self._outputs.sinks, on_fatal=self._fatal
        )
        await self._delivery.start()
        self._outputs.open(reader, self._signal)
        self._start_threads()
        self._start_sources()
        self._describe_health()
        self._channel.open()
        self._health.phase = "ok"

    def _open_engine(self) -> None:
        plan, store = self._plan, self._store
        started_ms = self._clock.monotonic_ms()
        numbers = {topic.name: store.create_topic(topic.name) for topic in plan.topics}
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
        )
        store.keep_messages({numbers[window.topic] for window in plan.windows})
        applied = engine.start(store)
        store.skip_to(engine.state.applied)
        self._join_health.note(applied)
        log.info(
            "store: %d shards in %s, %d joins, %d results at start, key maps %.1f MB, %d ms",
            store.shard_count, plan.storage.data_dir, len(plan.joins), applied.results,
            engine.memory_bytes() / 1e6, self._clock.monotonic_ms() - started_ms,
        )  # fmt: skip

    def _add_ingest(self) -> None:
        plans = [s for s in self._plan.sources if isinstance(s, HttpSourcePlan)]
        limits = self._plan.server.limits
        self._sources: list[Source] = []
        for here in by_address(plans):
            source = HttpSource(here, self._channel, limits, self._clock, self._answers(here))
            self._listeners.add(here[0].addr, "POST", "/ingest", source.ingest, "ingest")
            self._sources.append(source)

    def _answers(self, plans: Sequence[HttpSourcePlan]) -> StoredAnswers:
        name = min(plan.name for plan in plans)  # whatever their order in the config
        return StoredAnswers(lambda: self._store.source_state(name), self._channel, self._clock)

    def _start_threads(self) -> None:
        self._evaluator = EvaluateThread(
            self._engine,
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
            self._channel, self._store, self._evaluator, self._fatal_from_thread
        )
        self._evaluator.start()
        self._flusher.start()
        monitor = Monitor(
            self._channel, self._flusher, self._evaluator, lambda: self._store.last_seq
        )
        self._run(monitor.run())

    def _start_sources(self) -> None:
        apis = [s for s in self._plan.sources if isinstance(s, ApiSourcePlan)]
        self._polls = ThreadPoolExecutor(
            max(1, min(MAX_POLL_THREADS, len(apis))), thread_name_prefix="litejoin-poll"
        )
        budgets = Budgets()
        for plan in apis:
            state = self._store.source_state(plan.name)
            transport = self._transports.get(plan.name)
            self._sources.append(
                ApiSource(
                    plan, self._channel, state, self._clock, self._polls,
                    transport=transport, budgets=budgets,
                )
            )  # fmt: skip
        self._sources += [
            self._kafka_source(s) for s in self._plan.sources if isinstance(s, KafkaSourcePlan)
        ]
        for source in self._sources:
            self._run(source.run())
        if any(topic.retention_ms for topic in self._plan.topics):
            clock = SteadyClock(self._clock)
            self._run(expire_forever(self._plan, self._store, self._channel, clock))

    def _kafka_source(self, plan: KafkaSourcePlan) -> KafkaSource:
        store, limits = self._store, self._plan.server.limits
        state = store.source_state(plan.name)
        return KafkaSource(plan, self._channel, state, store.shard_count, limits, self._clock)

    def _describe_health(self) -> None:
        health = self._health
        health.config_hash = self._plan.config_hash
        health.sources = self._sources
        health.sinks = lambda: {**self._delivery.health(), **self._outputs.health()}
        health.shards = self._store.stats
        health.joins = lambda: {
            **self._join_health.health(self._evaluator.behind),
            **self._engine.windows_health(),
        }

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
            if hasattr(self, "_engine") and self._engine.interrupt_if_overdue():
                log.error("joiner: a query ran past its deadline and was interrupted")

    def _signalled(self) -> None:
        if self._stop.is_set():
            log.warning("litejoin: second signal, exiting at once")
            _exit_now(EXIT_FAILED)
        log.info("litejoin: stopping, at most %g s", self._graceful_timeout_s)
        if hasattr(self, "_engine"):
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

    def _now_s(self) -> float:
        return self._clock.monotonic_ms() / 1000

    # -- stop

    async def _close(self) -> None:
        """Sources stop, what they handed over is written, evaluated and delivered; then all is
        closed.
        """
        self._health.phase = "draining"
        deadline = self._now_s() + self._graceful_timeout_s
        if hasattr(self, "_channel"):
            self._channel.refuse("draining")
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if hasattr(self, "_flusher"):
            await self._drain(deadline)
        if hasattr(self, "_listeners"):
            await self._listeners.stop(max(0.0, min(2.0, deadline - self._now_s())))
        if hasattr(self, "_engine"):
            self._engine.close()
        await asyncio.to_thread(self._store.close)
        log.info("litejoin: stopped")

    async def _drain(self, deadline: float) -> None:
        self._channel.stop()
        await asyncio.to_thread(self._flusher.join, max(0.1, deadline - self._now_s()))
        self._evaluator.stop()
        await asyncio.to_thread(self._evaluator.join, max(0.1, deadline - self._now_s()))
        if self._flusher.is_alive() or self._evaluator.is_alive():
            log.warning(
                "litejoin: the backlog was not evaluated in time; the next start goes on with it"
            )
            _exit_now(EXIT_FAILED)
        self._signal.publish(self._engine.state.head)
        left = await self._delivery.drain(max(0.1, deadline - self._now_s() - 1.0))
        for sink, count in left.items():
            log.warning("litejoin: %d results for sink %s are left for the next start", count, sink)
        await self._delivery.close()
        await self._outputs.close()
        self._polls.shutdown(wait=False, cancel_futures=True)


def _exit_now(code: int) -> None:
    sys.stdout.flush()
    logging.shutdown()
    os._exit(code)
