"""The kafka sink: results become messages of one topic, in log order.

    key       the result's key: a text as it is, anything else as JSON
    value     the result object, or its rows; a delete is a tombstone (no value)
    headers   litejoin-id, litejoin-seq, litejoin-query

An idempotent producer keeps the order of a partition over its own retries; a delivery counts when
every in-sync replica has it. A batch is sent and awaited on one thread of the sink's own.
"""

import logging
from collections.abc import Sequence

from litejoin._ext.producer import Producer
from litejoin.errors import SinkError
from litejoin.kafka import BrokerErrors, connection_options, library_file, redacted
from litejoin.plan.nodes import KafkaSinkPlan
from litejoin.records import Result
from litejoin.sinks.base import DELIVERED, Outcome
from litejoin.sinks.workers import Workers

MAX_BATCH = 2_000
"""Enough to keep the brokers busy, few enough to be read without holding up the event loop."""
GRACE_MS = 5_000
"""How much longer than a message may take the whole batch is waited for."""

log = logging.getLogger("litejoin.sink")


class KafkaSink:
    """One producer. A BatchSink: see litejoin.sinks.base."""

    max_in_flight = 1
    max_batch = MAX_BATCH

    def __init__(self, plan: KafkaSinkPlan) -> None:
        self.name = plan.name
        self._plan = plan
        self._library = library_file()
        self._errors = BrokerErrors(f"kafka-sink {plan.name}")
        self._producer: Producer | None = None
        self._workers: Workers[None, Sequence[Result] | None, list[Outcome]] | None = None

    async def open(self) -> None:
        """Make the producer. Raises SinkError for settings that it does not take."""
        self._producer = self._made()
        self._workers = Workers(f"kafka-{self.name}", 1, lambda: None, self._send)

    def _made(self) -> Producer:
        plan = self._plan
        try:
            return Producer(
                self._library,
                self._options(),
                plan.topic,
                rows_only=plan.value == "rows",
                in_order=plan.guarantee == "at_least_once",
                on_error=self._errors.hear,
            )
        except (ImportError, ValueError) as error:
            text = redacted(str(error), plan.options)
            raise SinkError(f"sink {self.name}: kafka: {text}") from None

    def _options(self) -> dict[str, object]:
        return {
            **connection_options(self._plan.brokers, self._plan.security),
            "enable.idempotence": True,
            "compression.type": self._plan.compression,
            # Waiting for a batch to end sends at once; this is for what comes meanwhile.
            "linger.ms": 5,
            "message.timeout.ms": self._plan.timeout_ms,
            "queue.buffering.max.kbytes": 16_384,
            **self._plan.options,
        }

    def position(self, epoch: str) -> int | None:
        """Nothing is stored at the broker that could be asked."""
        return None

    async def deliver(self, result: Result) -> Outcome:
        """Send one result."""
        return (await self.deliver_batch([result]))[0]

    async def deliver_batch(self, results: Sequence[Result]) -> Sequence[Outcome]:
        """Send results in order; one outcome each."""
        assert self._workers is not None, "open comes first"
        return await self._workers.submit(results)

    async def close(self) -> None:
        """Let the producer go. What was not acknowledged is delivery's to remember."""
        if self._workers is not None:
            self._workers.submit(None)  # on its thread: a batch may still be on its way
            self._workers.stop()

    # -- on the sink's thread

    def _send(self, _: None, results: Sequence[Result] | None) -> list[Outcome]:
        if results is None:
            self._let_go()
            return []
        if self._producer is None:
            self._producer = self._made()
        failed = self._producer.send(results, self._plan.timeout_ms + GRACE_MS)
        outcomes = [DELIVERED] * len(results)
        for at, is_final, text in failed:
            outcomes[at] = Outcome("reject" if is_final else "retry", text)
        if not all(is_final for _, is_final, _ in failed):
            self._renew()
        return outcomes

    def _renew(self) -> None:
        """A producer that has failed may never send again: brokers that came back without what they
        knew of it make it end, or wait for ever. What it had in hand has its outcome already.
        """
        reason = self._producer.fatal() if self._producer is not None else None
        if reason is not None:
            log.warning("kafka-sink %s: starts anew after: %s", self.name, reason)
        self._let_go()

    def _let_go(self) -> None:
        if self._producer is not None:
            self._producer.close()
            self._producer = None
