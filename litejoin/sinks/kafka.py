"""The kafka sink: results become messages of one topic, in log order.

    key       the result's key: a text as it is, anything else as JSON
    value     the result object, or its rows; a delete is a tombstone (no value)
    headers   litejoin-id, litejoin-seq, litejoin-query

An idempotent producer keeps the order of a partition over its own retries; a delivery counts when
every in-sync replica has it. A batch is sent and awaited on one thread of the sink's own.
"""

import json
from collections.abc import Sequence
from typing import Any

from litejoin.errors import SinkError
from litejoin.kafka import BrokerErrors, client_log, connection_options, load_client
from litejoin.plan.nodes import KafkaSinkPlan
from litejoin.records import Result, ResultOp
from litejoin.sinks.base import DELIVERED, Outcome
from litejoin.sinks.workers import Workers

MAX_BATCH = 2_000
GRACE_S = 5.0
"""How much longer than a message may take the whole batch is waited for."""


class KafkaSink:
    """One producer. A BatchSink: see litejoin.sinks.base."""

    max_in_flight = 1
    max_batch = MAX_BATCH

    def __init__(self, plan: KafkaSinkPlan) -> None:
        self.name = plan.name
        self._plan = plan
        self._kafka = load_client()
        self._errors = BrokerErrors(f"kafka-sink {plan.name}")
        self._workers: Workers[Any, Sequence[Result], list[Outcome]] | None = None

    async def open(self) -> None:
        """Make the producer. Raises SinkError for settings that it does not take."""
        try:
            producer = self._kafka.Producer(self._options(), logger=client_log)
        except (self._kafka.KafkaException, TypeError, ValueError) as error:
            raise SinkError(f"sink {self.name}: kafka: {error}") from error
        self._workers = Workers(f"kafka-{self.name}", 1, lambda: producer, self._send)

    def _options(self) -> dict[str, object]:
        return {
            **connection_options(self._plan.brokers, self._plan.security),
            "enable.idempotence": True,
            "compression.type": self._plan.compression,
            "linger.ms": 1,
            "message.timeout.ms": self._plan.timeout_ms,
            "queue.buffering.max.kbytes": 16_384,
            "error_cb": self._errors.hear,
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
            self._workers.stop()

    # -- on the sink's thread

    def _send(self, producer: Any, results: Sequence[Result]) -> list[Outcome]:
        outcomes: list[Outcome | None] = [None] * len(results)
        for at, result in enumerate(results):

            def report(error: Any, _message: Any, at: int = at) -> None:
                outcomes[at] = DELIVERED if error is None else self._outcome(error)

            try:
                self._produce(producer, result, report)
            except self._kafka.KafkaException as error:
                outcomes[at] = self._outcome(error.args[0])
        producer.flush(self._plan.timeout_ms / 1000 + GRACE_S)
        silent = Outcome("retry", "the broker did not answer in time")
        return [outcome or silent for outcome in outcomes]

    def _produce(self, producer: Any, result: Result, report: Any) -> None:
        headers = [
            ("litejoin-id", result.id.encode()),
            ("litejoin-seq", b"%d" % result.pos),
            ("litejoin-query", result.query.encode()),
        ]
        message = {
            "key": key_of(result), "value": self._value_of(result), "headers": headers,
            "on_delivery": report,
        }  # fmt: skip
        while True:
            try:
                producer.produce(self._plan.topic, **message)
                return
            except BufferError:
                producer.poll(0.1)  # the producer's own queue is full: let it send

    def _value_of(self, result: Result) -> bytes | None:
        if result.op is ResultOp.DELETE:
            return None
        return result.rows.encode() if self._plan.value == "rows" else result.body()

    def _outcome(self, error: Any) -> Outcome:
        """What a broker's answer means: only what the message itself is at fault for is final."""
        codes = self._kafka.KafkaError
        final = (codes.MSG_SIZE_TOO_LARGE, codes.INVALID_MSG, codes.INVALID_RECORD)
        text = f"{error.name()}: {error.str()}"
        return Outcome("reject" if error.code() in final else "retry", text)


def key_of(result: Result) -> bytes:
    """The message key of a result; all results of a key go to one partition."""
    key = json.loads(result.key)
    return key.encode() if isinstance(key, str) else result.key.encode()
