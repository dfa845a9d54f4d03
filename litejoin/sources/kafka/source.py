"""The kafka source as the runtime sees it: made by `app`, run as one task beside its thread."""

import asyncio
import logging
from concurrent.futures import Future

from litejoin._ext.gjson import compile_path
from litejoin._ext.kafka import Packer
from litejoin.clock import Clock
from litejoin.errors import OverloadedError, ShardQuarantinedError, StorageFullError
from litejoin.plan.nodes import KafkaSourcePlan, ServerLimits
from litejoin.sources.base import Intake, SourceState
from litejoin.sources.kafka.consumer import ConsumerThread
from litejoin.sources.kafka.meta import Meta
from litejoin.sources.kafka.offsets import StoredOffsets
from litejoin.sources.kafka.topics import Topics

RETRY_S = 1.0
"""Between attempts to hand a batch over while the disk is full or the pipeline busy."""

log = logging.getLogger("litejoin.source")


class KafkaSource:
    """One consumer group member. Raises ConfigError when the client library is not installed or
    does not take its settings.
    """

    def __init__(
        self,
        plan: KafkaSourcePlan,
        intake: Intake,
        state: SourceState,
        shards: int,
        limits: ServerLimits,
        clock: Clock,
    ) -> None:
        self.name = plan.name
        self._plan = plan
        self._intake = intake
        self._stored = StoredOffsets(state, plan.group_id, shards)
        self._loop = asyncio.get_running_loop()
        topics = Topics(plan, [intake.topic_number(topic) for topic in plan.topics])
        packer = Packer(
            topics.numbers,
            tuple(compile_path(path) for path in plan.key_path),
            as_text=plan.value_format == "text",
            shards=shards,
            max_key_bytes=limits.max_key_bytes,
            max_row_bytes=limits.max_row_bytes,
            meta=Meta(plan.meta) if plan.meta else None,
        )
        dlq = None
        if plan.on_bad_message == "dlq":
            dlq = intake.topic_number(plan.dlq_topic or f"{plan.name}.dlq")
        self._thread = ConsumerThread(
            plan, topics, packer, self._stored, shards, dlq, self._hand_over, self._end, clock
        )
        self._ended = asyncio.Event()

    async def run(self) -> None:
        """Consume until cancelled. Raises what the store raises when the process cannot go on."""
        await self._intake.room()
        self._thread.start_at(await self._stored.load())
        self._thread.start()
        try:
            await self._ended.wait()
        finally:
            self._thread.stop()
            # Batches that were handed over are still written: the store closes after the sources.
            await self._ended.wait()
        if self._thread.failure is not None:
            raise self._thread.failure

    def health(self) -> dict[str, object]:
        """For /health: degraded while the brokers cannot be reached or a partition is stopped."""
        thread = self._thread
        reasons = list(thread.stopped.values())
        if thread.broker_error:
            reasons.append(thread.broker_error)
        out: dict[str, object] = {
            "status": "degraded" if reasons else "ok",
            "messages": thread.messages,
            "bad_messages": thread.bad,
            "lag": thread.lag.partitions,
            "partitions": thread.partitions,
            "stopped_partitions": len(thread.stopped),
            "broker_errors": thread.broker_errors,
            "state": "joining" if thread.partitions is None else "reading",
        }
        return {**out, "reason": "; ".join(reasons)} if reasons else out

    def _end(self) -> None:
        """Called on the consumer's thread."""
        self._loop.call_soon_threadsafe(self._ended.set)

    def _hand_over(self, batch: bytes, rows: int) -> "Future[None]":
        """Called on the consumer's thread."""
        return asyncio.run_coroutine_threadsafe(self._submit(batch, rows), self._loop)

    async def _submit(self, batch: bytes, rows: int) -> None:
        """Durable when it returns; waits as long as it takes."""
        while True:
            await self._intake.room()
            try:
                await self._intake.submit(batch, rows)
                return
            except OverloadedError:
                await asyncio.sleep(RETRY_S)
            except (StorageFullError, ShardQuarantinedError) as error:
                log.error("kafka-source %s: %s; waits", self.name, error)
                await asyncio.sleep(RETRY_S)
