"""The consumer's thread against a client that does what the tests say; its calls are made here."""

from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, TopicPartition

from litejoin._ext.kafka import Packer
from litejoin.clock import ManualClock
from litejoin.errors import ConfigError
from litejoin.kafka import connection_options, consumer_options
from litejoin.plan.nodes import KafkaSecurity, KafkaSourcePlan, Secret
from litejoin.sources.kafka.consumer import LOOK_EVERY_MS, ConsumerThread
from litejoin.sources.kafka.offsets import StoredOffsets
from litejoin.sources.kafka.topics import Topics

SHARDS = 2


class Client:
    """A consumer of one partition."""

    def __init__(self) -> None:
        self.low, self.high = 0, 100
        self.at: dict[tuple[str, int], int] = {}
        self.paused: set[tuple[str, int]] = set()
        self.committed_now: dict[tuple[str, int], int] = {}
        self.coming: list[Any] = []
        self.topics: dict[str, Any] | None = {"t": None}

    def assign(self, partitions: Sequence[Any]) -> None:
        self.at = {(p.topic, p.partition): p.offset for p in partitions}

    def assignment(self) -> list[Any]:
        return [TopicPartition(*at) for at in self.at]

    def position(self, partitions: list[Any]) -> list[Any]:
        return partitions

    def pause(self, partitions: Sequence[Any]) -> None:
        self.paused |= {(p.topic, p.partition) for p in partitions}

    def resume(self, partitions: Sequence[Any]) -> None:
        self.paused -= {(p.topic, p.partition) for p in partitions}

    def seek(self, partition: Any) -> None:
        self.at[partition.topic, partition.partition] = partition.offset

    def poll(self, timeout: float) -> Any:
        return self.coming.pop(0) if self.coming else None

    def consume(self, count: int, timeout: float) -> list[Any]:
        found, self.coming = self.coming, []
        return found

    def get_watermark_offsets(self, partition: Any, **_: Any) -> tuple[int, int]:
        return self.low, self.high

    def committed(self, partitions: Sequence[Any], timeout: float) -> Sequence[Any]:
        return [SimpleNamespace(offset=-1001)]

    def commit(self, offsets: Sequence[Any], asynchronous: bool) -> None:
        self.committed_now |= {(p.topic, p.partition): p.offset for p in offsets}

    def list_topics(self, timeout: float) -> Any:
        return SimpleNamespace(topics=self.topics)


class Marks:
    """What brokers say of the topic's id."""

    def __init__(self) -> None:
        self.mark = 7

    def of(self, topics: Collection[str]) -> Mapping[str, int]:
        return dict.fromkeys(topics, self.mark)

    def ask(self, topics: Collection[str]) -> None:
        pass

    def answer(self) -> Mapping[str, int]:
        return {"t": self.mark}


def plan(**changes: Any) -> KafkaSourcePlan:
    return KafkaSourcePlan("in", ("t",), ("t",), "127.0.0.1:1", "g", **changes)


class Thread:
    """A thread that is not started, its client, and the batches that it hands over."""

    def __init__(self, **changes: Any) -> None:
        made = plan(**changes)
        self.clock, self.batches = ManualClock(), list[tuple[int, Future[None]]]()
        self.is_durable = True
        topics = Topics(made, [3])
        packer = Packer(
            topics.numbers, (), as_text=False, shards=SHARDS, max_key_bytes=64, max_row_bytes=1000
        )
        state: Any = SimpleNamespace(number=5)
        self.stored = StoredOffsets(state, "g", SHARDS)
        self.it = ConsumerThread(
            made, topics, packer, self.stored, SHARDS, None, self._take, lambda: None, self.clock
        )
        self.client, self.marks = Client(), Marks()
        any_it: Any = self.it
        any_it._consumer.close()
        any_it._consumer, any_it._marks = self.client, self.marks

    def _take(self, batch: bytes, rows: int) -> Future[None]:
        future: Future[None] = Future()
        if self.is_durable:
            future.set_result(None)
        self.batches.append((rows, future))
        return future

    def assign(self, offset: int | None = None) -> None:
        """The group gives us the partition, of which so much is stored."""
        if offset is not None:
            self.it.start_at({("t", 0): [offset] * SHARDS})
            self.stored.marks["t", 0] = 7
        self.it._assigned(self.client, [TopicPartition("t", 0)])

    def come(self, *offsets: int) -> None:
        self.client.coming += [message(offset) for offset in offsets]

    def later(self) -> None:
        """Look after the house once more."""
        self.clock.advance(LOOK_EVERY_MS)
        self.it._step()


def message(offset: int, error: Any = None) -> Any:
    return SimpleNamespace(
        topic=lambda: "t", partition=lambda: 0, offset=lambda: offset, error=lambda: error,
        key=lambda: b"k", value=lambda: b"1", timestamp=lambda: (0, -1),
    )  # fmt: skip


@pytest.fixture
def thread() -> Thread:
    return Thread()


AT = ("t", 0)


def test_nothing_is_committed_before_it_is_durable(thread: Thread) -> None:
    thread.assign()
    thread.it._step()
    assert thread.client.committed_now == {AT: 0}, "where it begins, once that is stored"
    thread.is_durable = False
    thread.come(0, 1, 2)
    thread.it._step()
    thread.later()
    assert thread.client.committed_now == {AT: 0}
    thread.batches[-1][1].set_result(None)
    thread.later()
    assert thread.client.committed_now == {AT: 3}


def test_a_batch_that_ends_after_the_partition_has_gone_is_not_committed(thread: Thread) -> None:
    thread.assign(10)
    thread.is_durable = False
    thread.come(10, 11)
    thread.it._step()
    thread.it._lost(thread.client, [TopicPartition("t", 0)])
    thread.batches[-1][1].set_result(None)
    thread.later()
    assert thread.client.committed_now == {}
    thread.is_durable = True
    thread.assign()
    assert thread.client.at == {AT: 12}, "it is durable all the same"


def test_messages_on_hand_when_partitions_come_are_fetched_again(thread: Thread) -> None:
    thread.assign(10)
    thread.come(10, 11)

    def consume(count: int, timeout: float) -> list[Any]:
        thread.assign()
        return [message(11)]

    thread.client.consume = consume  # type: ignore[method-assign]
    before = len(thread.batches)
    thread.it._step()
    assert len(thread.batches) == before
    assert thread.client.at == {AT: 10}


def test_what_comes_while_a_batch_is_written_is_one_batch_after_it(thread: Thread) -> None:
    thread.assign(10)
    thread.is_durable = False
    for offsets in [10], [11], [12, 13]:
        thread.come(*offsets)
        thread.it._step()
    assert [rows for rows, _ in thread.batches] == [1 + SHARDS]
    thread.batches[0][1].set_result(None)
    thread.it._step()
    assert [rows for rows, _ in thread.batches] == [1 + SHARDS, 3 + SHARDS]
    thread.later()
    assert thread.client.committed_now == {AT: 11}
    thread.batches[1][1].set_result(None)
    thread.later()
    assert thread.client.committed_now == {AT: 14}


@pytest.mark.parametrize("how", ["come", "are lost", "are revoked"])
def test_messages_that_wait_when_partitions_change_are_fetched_again(
    thread: Thread, how: str
) -> None:
    thread.assign(10)
    thread.is_durable = False
    for offset in 10, 11:
        thread.come(offset)
        thread.it._step()
    thread.batches[0][1].set_result(None)
    if how == "are lost":
        thread.it._lost(thread.client, [TopicPartition("t", 0)])
    elif how == "are revoked":
        thread.it._revoked(thread.client, [TopicPartition("t", 0)])
    thread.assign()
    thread.later()
    assert thread.client.at == {AT: 11}
    assert len(thread.batches) == 1
    thread.come(11)
    thread.it._step()
    assert [rows for rows, _ in thread.batches] == [1 + SHARDS] * 2


def test_a_slow_writer_pauses_and_what_comes_meanwhile_is_fetched_again(
    thread: Thread, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("litejoin.sources.kafka.consumer.PAUSE_AFTER_S", 0.01)
    monkeypatch.setattr("litejoin.sources.kafka.consumer.GATHER_BYTES", 1)
    thread.assign(10)
    thread.is_durable = False
    thread.come(10)
    thread.it._step()
    paused: list[set[tuple[str, int]]] = []
    polls = thread.client.poll

    def poll(timeout: float) -> Any:
        if timeout:
            return polls(timeout)
        paused.append(set(thread.client.paused))
        thread.batches[0][1].set_result(None)
        return message(12)

    thread.client.poll = poll  # type: ignore[method-assign]
    thread.come(11)
    thread.it._step()
    assert paused == [{AT}]
    assert thread.client.paused == set()
    assert thread.client.at == {AT: 12}


def test_an_alarm_that_comes_while_paused_is_heard(
    thread: Thread, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("litejoin.sources.kafka.consumer.PAUSE_AFTER_S", 0.01)
    monkeypatch.setattr("litejoin.sources.kafka.consumer.GATHER_BYTES", 1)
    thread.assign(10)
    thread.is_durable = False
    thread.come(10)
    thread.it._step()
    polls = thread.client.poll

    def poll(timeout: float) -> Any:
        if timeout:
            return polls(timeout)
        thread.batches[0][1].set_result(None)
        return message(-1, KafkaError(KafkaError._AUTO_OFFSET_RESET))

    thread.client.poll = poll  # type: ignore[method-assign]
    thread.come(11)
    thread.it._step()
    assert "that is gone" in thread.it.stopped[AT]
    assert thread.client.paused == {AT}


@pytest.mark.parametrize(("rule", "goes_on"), [("stop", None), ("earliest", 5), ("latest", 100)])
def test_a_position_that_goes_while_it_is_read_follows_the_rule(
    rule: str, goes_on: int | None
) -> None:
    thread = Thread(on_lost_offset=rule)
    thread.assign(10)
    thread.client.low = 5
    thread.client.coming = [message(-1, KafkaError(KafkaError._AUTO_OFFSET_RESET))]
    thread.it._step()
    thread.it._step()
    if goes_on is None:
        assert AT in thread.it.stopped
        assert thread.client.paused == {AT}
    else:
        assert not thread.it.stopped
        assert thread.client.at == {AT: goes_on}


@pytest.mark.parametrize("rule", ["stop", "earliest"])
def test_a_topic_made_anew_while_it_is_read_is_noticed(rule: str) -> None:
    thread = Thread(on_lost_offset=rule)
    thread.assign(10)
    thread.later()
    assert not thread.it.stopped
    thread.marks.mark = 8
    thread.later()
    if rule == "stop":
        assert "made anew" in thread.it.stopped[AT]
        thread.come(11)
        thread.later()
        assert not thread.batches, "nothing of it is taken"
    else:
        assert thread.client.at == {AT: 0}
        assert thread.stored.marks == {AT: 8}
        thread.later()
        assert len(thread.batches) == 1, "it begins once"


def test_an_idle_source_is_well_again_when_its_brokers_are(thread: Thread) -> None:
    thread.assign(10)
    thread.it.broker_error = "_TRANSPORT: refused"
    thread.client.topics = {}
    thread.later()
    assert thread.it.broker_error == "the brokers have no topic t"
    thread.client.topics = {"t": None}
    thread.later()
    assert thread.it.broker_error == ""


def test_offsets_are_ours_alone_and_only_committed_messages_are_read() -> None:
    options = consumer_options(plan())
    wanted = {
        "enable.auto.commit": False, "enable.auto.offset.store": False,
        "auto.offset.reset": "error", "isolation.level": "read_committed",
    }  # fmt: skip
    assert {name: options[name] for name in wanted} == wanted


def test_security_is_given_to_the_client_and_shown_to_nobody() -> None:
    security = KafkaSecurity("sasl_ssl", "SCRAM-SHA-512", "me", Secret("pass-9"))
    assert "pass-9" not in repr(plan(security=security))
    options = connection_options("b:1", security)
    assert (options["sasl.username"], options["sasl.password"]) == ("me", "pass-9")
    assert options["security.protocol"] == "sasl_ssl"
    with pytest.raises(ConfigError, match="isolation.level") as raised:
        Thread(options={"isolation.level": Secret("pass-9")})
    assert "pass-9" not in str(raised.value)


def test_a_batch_that_ends_in_the_moment_of_its_time_out_has_ended(thread: Thread) -> None:
    class JustInTime(Future[None]):
        def result(self, timeout: float | None = None) -> None:
            if not self.done():
                self.set_result(None)
                raise TimeoutError
            return super().result(timeout)

    thread.it._writing = JustInTime(), {}
    assert thread.it._finish_writing(0.1)


def test_a_time_out_of_the_write_itself_is_no_time_out_of_the_wait(thread: Thread) -> None:
    failed: Future[None] = Future()
    failed.set_exception(TimeoutError("disk"))
    thread.it._writing = failed, {}
    with pytest.raises(TimeoutError, match="disk"):
        thread.it._finish_writing(0.1)
