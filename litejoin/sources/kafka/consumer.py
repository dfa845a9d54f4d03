"""The thread of a kafka source: fetches messages, packs them, and commits what is durable.

    fetch -> pack (native) -> hand over -> wait until durable -> commit to the broker

While one batch is being written the next one is fetched and packed, up to GATHER_BYTES: that bounds
memory, keeps the order, and lets batches grow with a backlog, so that its syncs are for many. When
writing takes long, the partitions are paused and the group is kept alive.
Every method but `stop`, `lag` and the counters runs on this thread; it never touches SQLite.
"""

import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from litejoin._ext.kafka import Packer
from litejoin.clock import Clock
from litejoin.errors import ConfigError
from litejoin.kafka import BrokerErrors, client_log, consumer_options, load_client, redacted
from litejoin.plan.nodes import KafkaSourcePlan
from litejoin.records import Row, pack_rows
from litejoin.sources.kafka.bad import bad_row
from litejoin.sources.kafka.gathered import Gathered
from litejoin.sources.kafka.lag import Lag
from litejoin.sources.kafka.marks import Marks
from litejoin.sources.kafka.offsets import Partition, StoredOffsets
from litejoin.sources.kafka.positions import LostPositionError, Positions
from litejoin.sources.kafka.topics import Topics

FETCH_MESSAGES = 2_000
WAIT_S = 0.2
"""How long an idle fetch waits; a message that comes ends it at once."""

GATHER_BYTES = 1024 * 1024
"""Packed rows on hand, beside the batch that is written, from which on no more are fetched."""

PAUSE_AFTER_S = 1.0
"""Writing that takes longer pauses the partitions, so that the client's buffer stays bounded."""

COMMIT_EVERY_MS = 1_000
LOOK_EVERY_MS = 5_000
"""At the lag, at brokers that were in trouble, and whether topics are still the same."""

LOOK_S = 1.0
"""How long brokers that were in trouble may take to answer, and how long that holds up others."""

CLOSE_S = 3.0
"""How long the last batch is waited for at the end and before partitions are given away."""

log = logging.getLogger("litejoin.source")

HandOver = Callable[[bytes, int], "Future[None]"]
"""Takes a row batch and its number of rows; the future ends when every row is durable."""


class ConsumerThread(threading.Thread):
    """One consumer, until `stop`. Raises nothing: what ends it early is in `failure`.

    Making it raises ConfigError for settings that the client does not take.
    """

    def __init__(
        self,
        plan: KafkaSourcePlan,
        topics: Topics,
        packer: Packer,
        stored: StoredOffsets,
        shards: int,
        dlq_number: int | None,
        hand_over: HandOver,
        on_end: Callable[[], None],
        clock: Clock,
    ) -> None:
        super().__init__(name=f"litejoin-kafka-{plan.name}", daemon=True)
        self._plan, self._packer, self._stored, self._clock = plan, packer, stored, clock
        self._topics = topics
        self._dlq_number = dlq_number
        self._hand_over, self._on_end = hand_over, on_end
        self._kafka = load_client()
        self._errors = BrokerErrors(f"kafka-source {plan.name}", clock)
        self._positions = Positions(plan, shards)
        self._mine: set[Partition] = set()
        self._stopping = threading.Event()
        self._generation = 0
        """Rises when partitions are given or taken: what was fetched before is fetched again."""
        self._writing: tuple[Future[None], Mapping[Partition, int]] | None = None
        self._gathered = Gathered()
        """What comes after it. Given up when partitions come or go: it is fetched again."""
        self._gone: dict[Partition, str] = {}
        """Partitions of which the broker has said that it has not what we asked for."""
        self._durable: dict[Partition, int] = {}
        """Next offsets that are durable here and not committed to the broker yet."""
        self._commit_at_ms = self._look_at_ms = 0
        self.stopped: dict[Partition, str] = {}
        """Partitions that are not read any more, and why."""
        self.broker_error = ""
        self.failure: BaseException | None = None
        self.messages = 0
        self.bad = 0
        self.lag = Lag(plan.name, clock)
        self._consumer: Any = self._made()
        self._marks = Marks(consumer_options(plan))

    @property
    def broker_errors(self) -> int:
        """How often the client has complained of brokers."""
        return self._errors.heard

    @property
    def partitions(self) -> int | None:
        """How many are ours; None: this member of the group waits to be told."""
        return len(self._mine) if self._generation else None

    def start_at(self, stored: Mapping[Partition, list[int]]) -> None:
        """What the shards have stored; before `start`."""
        self._positions.load(stored)
        self._positions.begun = self._topics.entries(topic for topic, _ in stored)

    def stop(self) -> None:
        """End after the batch that is being written. Any thread."""
        self._stopping.set()

    def run(self) -> None:
        """Consume until stopped; a consumer that fails is made anew after a pause."""
        try:
            self._run()
        finally:
            self._on_end()

    def _run(self) -> None:
        pause_s = 1.0
        while not self._stopping.is_set():
            try:
                generation = self._generation
                self._consume()
            except self._kafka.KafkaException as error:
                self.broker_error = str(error.args[0])
                if self._generation != generation:
                    pause_s = 1.0  # it has worked in between
                log.warning(
                    "kafka-source %s: %s, again in %g s", self._plan.name, error.args[0], pause_s
                )
                self._stopping.wait(pause_s)
                pause_s = min(30.0, pause_s * 2)
            except BaseException as error:
                self.failure = error
                return

    def _made(self) -> Any:
        options = {**consumer_options(self._plan), "error_cb": self._heard_error}
        try:
            return self._kafka.Consumer(options, logger=client_log)
        except (self._kafka.KafkaException, TypeError, ValueError) as error:
            text = redacted(str(error.args[0]), self._plan.options)
            raise ConfigError(f"kafka-source {self._plan.name}: {text}") from None

    def _consume(self) -> None:
        consumer = self._consumer = self._consumer or self._made()
        try:
            consumer.subscribe(
                list(self._plan.kafka_topics),
                on_assign=self._assigned,
                on_revoke=self._revoked,
                on_lost=self._lost,
            )
            while not self._stopping.is_set():
                self._step()
        finally:
            self._finish_writing(CLOSE_S)
            try:
                self._commit(wait=True)
            finally:
                self._consumer = None
                consumer.close()

    def _step(self) -> None:
        """One fetch. Partitions may come and go in every call into the client."""
        generation = self._generation
        messages = self._fetch()
        if messages and generation == self._generation:
            self._gather(messages)
        if self._gathered.offsets and (not messages or self._gathered.bytes >= GATHER_BYTES):
            self._await_writing()
        if generation != self._generation:
            self._gathered = Gathered()
            if messages:
                self._rewind()
        elif self._finish_writing(0.0) and not self._stopping.is_set():
            self._write()
        self._keep_house()

    def _fetch(self) -> list[Any]:
        # consume() alone would wait for a full batch or the whole timeout.
        first = self._consumer.poll(0.0 if self._gathered.offsets else WAIT_S)
        if first is None:
            return []
        return [first, *self._consumer.consume(FETCH_MESSAGES - 1, timeout=0)]

    # -- messages

    def _readable(self, found: list[Any]) -> list[Any]:
        """The messages that are no news of errors, of partitions that are read."""
        for message in found:
            if message.error() is not None:
                self._heard_about_partition(message)
        return [
            message
            for message in found
            if message.error() is None
            and (not self.stopped or (message.topic(), message.partition()) not in self.stopped)
        ]

    def _gather(self, found: list[Any]) -> None:
        """Pack the messages, and the bad ones if they are kept."""
        messages = self._readable(found)
        if messages:
            self.broker_error = ""
        now_ms = self._clock.now_ms()
        batch, rows, offsets, faults = self._packer.pack(messages, self._positions.ahead, now_ms)
        if faults and self._plan.on_bad_message == "stop":
            messages = self._stop_before(faults, messages)
            batch, rows, offsets, _ = self._packer.pack(messages, self._positions.ahead, now_ms)
            faults = []
        if not offsets:
            return
        self.messages += len(messages)
        bad = list(self._bad_rows(faults, now_ms))
        self._gathered.add(batch + pack_rows(bad), rows + len(bad), offsets)

    def _bad_rows(self, faults: Iterable[tuple[Any, str]], now_ms: int) -> Iterable[Row]:
        for message, reason in faults:
            self.bad += 1
            log.warning(
                "kafka-source %s: bad message at %s[%d] offset %d: %s",
                self._plan.name, message.topic(), message.partition(), message.offset(), reason,
            )  # fmt: skip
            if self._dlq_number is not None:
                yield bad_row(self._dlq_number, message, reason, now_ms)

    def _stop_before(self, faults: list[tuple[Any, str]], messages: list[Any]) -> list[Any]:
        """Stop the partitions at fault; the messages that come before the faults."""
        first: dict[Partition, int] = {}
        for message, reason in faults:
            partition = (message.topic(), message.partition())
            if partition not in first:
                first[partition] = message.offset()
                self.bad += 1
                self._stop_partition(partition, f"bad message at {message.offset()}: {reason}")
        return [m for m in messages if m.offset() < first.get((m.topic(), m.partition()), 1 << 63)]

    def _stop_partition(self, partition: Partition, reason: str) -> None:
        topic, number = partition
        if partition in self.stopped:
            return
        self.stopped[partition] = reason
        self._consumer.pause([self._kafka.TopicPartition(topic, number)])
        log.error("kafka-source %s: %s[%d] stopped: %s", self._plan.name, topic, number, reason)

    # -- writing

    def _write(self) -> None:
        """Hand over what was gathered, with rows that say how far each shard is then."""
        ready, self._gathered = self._gathered, Gathered()
        if ready.offsets:
            kept = list(
                self._stored.rows(self._positions.after(ready.offsets), self._clock.now_ms())
            )
            batch = ready.batch() + pack_rows(kept)
            self._writing = self._hand_over(batch, ready.rows + len(kept)), ready.offsets

    def _await_writing(self) -> None:
        """Wait for the batch before; the group is kept alive meanwhile."""
        if self._finish_writing(PAUSE_AFTER_S):
            return
        paused = self._reading()
        self._consumer.pause(paused)
        while not self._finish_writing(0.1) and not self._stopping.is_set():
            message = self._consumer.poll(0)
            if message is not None and message.error() is not None:
                self._heard_about_partition(message)
            else:
                self._positions.hold(message)
        held = self._positions.held()
        if len(self._reading()) == len(paused):
            self._consumer.resume(paused)
            for (topic, number), offset in held.items():
                self._consumer.seek(self._kafka.TopicPartition(topic, number, offset))

    def _reading(self) -> list[Any]:
        return [
            p for p in self._consumer.assignment() if (p.topic, p.partition) not in self.stopped
        ]

    def _rewind(self) -> None:
        """Go back to what is durable: partitions were given or taken while messages were on hand,
        and nobody can tell of a message whether it came before or after.
        """
        self._finish_all_writing()
        partitions = self._consumer.assignment()
        for each in partitions:
            each.offset = self._positions.durable((each.topic, each.partition))
        self._consumer.assign(partitions)
        self._set_pauses(partitions)

    def _set_pauses(self, partitions: list[Any]) -> None:
        """After `assign`: those that wait for a batch go on, those that stopped do not."""
        halted = [p for p in partitions if (p.topic, p.partition) in self.stopped]
        self._consumer.resume(partitions)
        if halted:
            self._consumer.pause(halted)

    def _finish_all_writing(self) -> None:
        while not self._finish_writing(1.0) and not self._stopping.is_set():
            pass

    def _finish_writing(self, timeout_s: float) -> bool:
        """True when no batch is being written any more; raises what became of it."""
        if self._writing is None:
            return True
        future, offsets = self._writing
        try:
            future.result(timeout_s)
        except TimeoutError:
            if not future.done():
                return False
            future.result()  # it ended just now, or this is how it ended
        self._writing = None
        self._positions.reached(offsets)
        self._durable.update({p: offset for p, offset in offsets.items() if p in self._mine})
        return True

    # -- the broker's side

    def _keep_house(self) -> None:
        now_ms = self._clock.monotonic_ms()
        if self._durable and now_ms >= self._commit_at_ms:
            self._commit_at_ms = now_ms + COMMIT_EVERY_MS
            self._commit(wait=False)
        if now_ms >= self._look_at_ms:
            self._look_at_ms = now_ms + LOOK_EVERY_MS
            self.lag.measure(self._consumer)
            if self.broker_error:
                self._look_for_brokers()
            self._look_at_topics()

    def _commit(self, *, wait: bool) -> None:
        """Tell the broker how far we are: for its tools and for groups that move; never needed."""
        if not self._durable:
            return
        offsets = [self._kafka.TopicPartition(t, p, o) for (t, p), o in self._durable.items()]
        self._durable.clear()
        try:
            self._consumer.commit(offsets=offsets, asynchronous=not wait)
        except self._kafka.KafkaException as error:
            log.debug("kafka-source %s: commit: %s", self._plan.name, error.args[0])

    def _look_for_brokers(self) -> None:
        """An idle topic brings no message that would end what was said of brokers in trouble."""
        try:
            found = self._consumer.list_topics(timeout=LOOK_S).topics
        except self._kafka.KafkaException:
            return
        missing = [name for name in self._topics.named if name not in found]
        self.broker_error = f"the brokers have no topic {', '.join(missing)}" if missing else ""

    def _look_at_topics(self) -> None:
        """Whether one was made anew while we read it, with more messages than we have read."""
        now = self._marks.answer()
        self._marks.ask({topic for topic, _ in self._mine})
        if any(self._is_same(p, now) is False for p in self._mine if p not in self.stopped):
            self._assigned(self._consumer, self._consumer.assignment())

    def _is_same(self, partition: Partition, marks: Mapping[str, int]) -> bool | None:
        """Whether a topic is the one that was read; None: nobody knows."""
        known, now = self._stored.marks.get(partition), marks.get(partition[0])
        return known == now if known and now else None

    # -- partitions come and go

    def _turn(self) -> None:
        """What was fetched before is not written any more."""
        self._generation += 1
        self._gathered = Gathered()

    def _assigned(self, consumer: Any, partitions: list[Any]) -> None:
        """Start each partition where its shards are. Raises KafkaException when it is unknown."""
        self._turn()
        self._finish_all_writing()  # what is being written counts as read
        self._mine = {(p.topic, p.partition) for p in partitions}
        fresh = self._start(consumer, partitions)
        if fresh:
            rows = list(self._stored.rows(fresh, self._clock.now_ms()))
            begun = {partition: offsets[0] for partition, offsets in fresh.items()}
            self._writing = self._hand_over(pack_rows(rows), len(rows)), begun
            self._finish_all_writing()
        consumer.assign(partitions)
        self._set_pauses(partitions)
        log.info(
            "kafka-source %s: reads %s", self._plan.name,
            ", ".join(f"{p.topic}[{p.partition}]@{p.offset}" for p in partitions) or "nothing",
        )  # fmt: skip

    def _start(self, consumer: Any, partitions: Sequence[Any]) -> dict[Partition, list[int]]:
        """Give each its offset; what has to be stored before reading begins."""
        marks = self._marks.of({p.topic for p in partitions})
        fresh: dict[Partition, list[int]] = {}
        for each in partitions:
            partition = (each.topic, each.partition)
            entry, is_same = self._topics.entry(each.topic), self._is_same(partition, marks)
            lost = "then made anew" if is_same is False else self._gone.pop(partition, "")
            try:
                each.offset, is_new = self._positions.start_of(
                    consumer, each, entry, lost=lost, is_same=is_same is True
                )
            except LostPositionError as lost:
                each.offset = lost.at
                if self.stopped.get(partition) != str(lost):
                    log.error("kafka-source %s: %s", self._plan.name, lost)
                self.stopped[partition] = str(lost)
                continue
            if is_new:
                fresh[partition] = self._positions.begin(partition, each.offset)
            self._stored.marks[partition] = marks.get(
                each.topic, self._stored.marks.get(partition, 0)
            )
            self.stopped.pop(partition, None)
        self._positions.begun.update(self._topics.entry(p.topic) for p in partitions)
        return fresh

    def _revoked(self, consumer: Any, partitions: list[Any]) -> None:
        """Partitions go to another member: what is being written is finished and committed."""
        self._turn()
        if self._finish_writing(CLOSE_S):
            self._commit(wait=True)
        self._forget(partitions)

    def _lost(self, consumer: Any, partitions: list[Any]) -> None:
        """Partitions went away while we were silent: nothing may be committed for them."""
        self._turn()
        self._durable.clear()
        self._forget(partitions)

    def _forget(self, partitions: list[Any]) -> None:
        for each in partitions:
            self.stopped.pop((each.topic, each.partition), None)
            self._durable.pop((each.topic, each.partition), None)
            self._mine.discard((each.topic, each.partition))

    def _heard_about_partition(self, message: Any) -> None:
        error, partition = message.error(), (message.topic(), message.partition())
        if error.code() == self._kafka.KafkaError._AUTO_OFFSET_RESET:
            if partition not in self.stopped:
                self._gone[partition] = f"that is gone ({error.str()})"
                self._assigned(self._consumer, self._consumer.assignment())
        elif error.code() != self._kafka.KafkaError._PARTITION_EOF:
            self._heard_error(error)

    def _heard_error(self, error: Any) -> None:
        """What librdkafka says of the connection; it goes on trying by itself."""
        self.broker_error = self._errors.hear(error.name(), error.str())
        if error.fatal():
            raise self._kafka.KafkaException(error)
