"""Where a partition starts, and what the shards are said to have."""

import asyncio
import json
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from litejoin import kafka
from litejoin._ext.route import shard_of
from litejoin.clock import ManualClock
from litejoin.errors import ConfigError
from litejoin.plan.nodes import KafkaSourcePlan
from litejoin.records import RowKind
from litejoin.sources.kafka.bad import KEPT_BYTES, bad_row
from litejoin.sources.kafka.offsets import StoredOffsets
from litejoin.sources.kafka.positions import LostPositionError, Positions


def plan(**changes: Any) -> KafkaSourcePlan:
    values: dict[str, Any] = {
        "name": "in", "topics": ("t",), "kafka_topics": ("t",), "brokers": "b:1", "group_id": "g",
        "key_path": (), "value_format": "json", "auto_offset_reset": "earliest",
        "on_bad_message": "skip", "dlq_topic": None, "on_lost_offset": "stop", "security": None,
        "options": {},
    }  # fmt: skip
    return KafkaSourcePlan(**values | changes)


class Broker:
    """What `start_of` asks a consumer."""

    def __init__(self, low: int, high: int, committed: int = -1001) -> None:
        self.low, self.high, self.group_at = low, high, committed

    def get_watermark_offsets(self, partition: Any, timeout: float) -> tuple[int, int]:
        return self.low, self.high

    def committed(self, partitions: Sequence[Any], timeout: float) -> Sequence[Any]:
        return [SimpleNamespace(offset=self.group_at)]


T0 = SimpleNamespace(topic="t", partition=0)


def message(partition: int, offset: int) -> Any:
    return SimpleNamespace(
        error=lambda: None, topic=lambda: "t", partition=lambda: partition, offset=lambda: offset
    )


@pytest.mark.parametrize(
    ("reset", "committed", "start"),
    [
        ("earliest", -1001, 10),
        ("latest", -1001, 90),
        ("earliest", 50, 50),
        ("latest", 50, 50),
    ],
)
def test_a_partition_of_which_nothing_is_stored(reset: str, committed: int, start: int) -> None:
    positions = Positions(plan(auto_offset_reset=reset), shards=2)
    assert positions.start_of(Broker(10, 90, committed), T0, "t") == (start, True)


@pytest.mark.parametrize(("committed", "why"), [(5, "removed"), (95, "made anew")])
def test_what_the_group_has_committed_is_not_jumped_over_either(committed: int, why: str) -> None:
    broker = Broker(10, 90, committed)
    for rule, start in (("earliest", 10), ("latest", 90)):
        assert Positions(plan(on_lost_offset=rule), 2).start_of(broker, T0, "t") == (start, True)
    positions = Positions(plan(), shards=2)
    with pytest.raises(LostPositionError, match=why):
        positions.start_of(broker, T0, "t")
    assert positions.durable(("t", 0)) == committed


def test_what_was_added_later_is_read_from_its_beginning() -> None:
    positions = Positions(plan(auto_offset_reset="latest"), shards=2)
    assert positions.start_of(Broker(0, 90), T0, "t") == (90, True)
    positions.begun = {"t"}
    assert positions.start_of(Broker(0, 90), T0, "t") == (0, True)
    assert positions.start_of(Broker(0, 90), T0, "other") == (90, True)


def test_the_end_of_a_topic_that_is_the_same_is_not_believed() -> None:
    positions = Positions(plan(), shards=2)
    positions.load({("t", 0): [40, 60]})
    assert positions.start_of(Broker(0, 30), T0, "t", is_same=True) == (40, False)
    with pytest.raises(LostPositionError, match="removed"):
        positions.start_of(Broker(50, 90), T0, "t", is_same=True)


def test_a_topic_of_the_same_name_is_not_taken_for_the_one_that_was_read() -> None:
    for rule, start in (("stop", None), ("earliest", 0), ("latest", 90)):
        positions = Positions(plan(on_lost_offset=rule), shards=2)
        positions.load({("t", 0): [40, 60]})
        if start is None:
            with pytest.raises(LostPositionError, match="read up to 40, and then made anew"):
                positions.start_of(Broker(0, 90), T0, "t", lost="then made anew")
        else:
            found = positions.start_of(Broker(0, 90), T0, "t", lost="then made anew")
            assert found == (start, True)


def test_what_is_stored_counts_whatever_the_group_has_committed() -> None:
    positions = Positions(plan(), shards=2)
    positions.load({("t", 0): [40, 60]})
    assert positions.start_of(Broker(10, 90, committed=80), T0, "t") == (40, False)
    assert positions.ahead == {("t", 0): [40, 60]}


@pytest.mark.parametrize(("low", "high"), [(40, 90), (0, 40), (40, 40)])
def test_a_position_at_either_end_of_what_there_is_is_not_lost(low: int, high: int) -> None:
    positions = Positions(plan(), shards=2)
    positions.load({("t", 0): [40, 60]})
    assert positions.start_of(Broker(low, high), T0, "t") == (40, False)


@pytest.mark.parametrize(("low", "high", "why"), [(50, 90, "removed"), (0, 30, "made anew")])
def test_a_lost_position_stops_the_partition_unless_told_otherwise(
    low: int, high: int, why: str
) -> None:
    for rule, start in (("stop", None), ("earliest", low), ("latest", high)):
        positions = Positions(plan(on_lost_offset=rule), shards=2)
        positions.load({("t", 0): [40, 60]})
        if start is None:
            with pytest.raises(LostPositionError, match=why):
                positions.start_of(Broker(low, high), T0, "t")
        else:
            assert positions.start_of(Broker(low, high), T0, "t") == (start, True)
            assert positions.begin(("t", 0), start) == [start, start]
            assert positions.durable(("t", 0)) == start
            assert positions.ahead == {}


def test_of_messages_that_came_in_a_pause_the_first_of_each_partition_is_where_to_go_on() -> None:
    positions = Positions(plan(), shards=1)
    for partition, offset in ((0, 7), (1, 3), (0, 8), (1, 4), (0, 9)):
        positions.hold(message(partition, offset))
    positions.hold(None)
    assert positions.held() == {("t", 0): 7, ("t", 1): 3}
    assert positions.held() == {}


def test_shards_that_are_ahead_keep_what_they_have_until_all_have_it() -> None:
    positions = Positions(plan(), shards=2)
    positions.load({("t", 0): [40, 60]})
    assert positions.after({("t", 0): 50}) == {("t", 0): [50, 60]}
    positions.reached({("t", 0): 50})
    assert (positions.durable(("t", 0)), bool(positions.ahead)) == (50, True)
    positions.reached({("t", 0): 60})
    assert (positions.durable(("t", 0)), positions.ahead) == (60, {})
    assert positions.after({("t", 0): 70}) == {("t", 0): [70, 70]}


class State:
    """A SourceState in memory."""

    number = 5

    def __init__(self) -> None:
        self.kept: dict[bytes, bytes] = {}

    async def hashes(self) -> Sequence[tuple[bytes, bytes]]:
        return list(self.kept.items())


def test_offsets_come_back_as_they_were_stored_and_each_in_its_shard() -> None:
    state: Any = State()
    offsets = {("t", 0): [1, 2**40, 0, 7], ("Größe/\x1f", 12): [5, 5, 5, 6]}
    mine, other = StoredOffsets(state, "g", 4), StoredOffsets(state, "h", 4)
    mine.marks["t", 0] = 2**64 - 3
    for row in [*mine.rows(offsets, 1), *other.rows({("t", 0): [9] * 4}, 1)]:
        assert (row.kind, row.table) == (RowKind.STATE_UPSERT, 5)
        state.kept[row.key] = row.extra
    assert len(state.kept) == 12
    for row in mine.rows({("t", 0): [0, 1, 2, 3]}, 1):
        assert shard_of(row.key, 4) == int.from_bytes(row.extra[8:], "big")
    again = StoredOffsets(state, "g", 4)
    assert asyncio.run(again.load()) == offsets
    assert again.marks == {("t", 0): 2**64 - 3, ("Größe/\x1f", 12): 0}


@pytest.mark.parametrize("shard", [0, 1])
def test_a_mark_that_one_shard_has_is_the_topics(shard: int) -> None:
    state: Any = State()
    stored = StoredOffsets(state, "g", 2)
    older = [*stored.rows({("t", 0): [1, 1]}, 1)]
    stored.marks["t", 0] = 77
    newer = [*stored.rows({("t", 0): [2, 2]}, 1)]
    for row in (older[1 - shard], newer[shard]):
        state.kept[row.key] = row.extra
    for kept in (state.kept, dict(reversed(state.kept.items()))):
        state.kept = kept
        again = StoredOffsets(state, "g", 2)
        assert sorted(*asyncio.run(again.load()).values()) == [1, 2]
        assert again.marks == {("t", 0): 77}


def test_a_bad_message_is_kept_with_all_that_can_be_shown() -> None:
    message = SimpleNamespace(
        topic=lambda: "t", partition=lambda: 3, offset=lambda: 9,
        key=lambda: b"\xff", value=lambda: b"x" * (KEPT_BYTES + 1),
    )  # fmt: skip
    row = bad_row(8, message, "no good", 1)
    assert row.key == b"t/3/9"
    payload = json.loads(row.payload)
    assert payload["key_base64"] == "/w=="
    assert (len(payload["value"]), payload["value_bytes"]) == (KEPT_BYTES, KEPT_BYTES + 1)


def test_a_missing_client_is_said_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "confluent_kafka", None)
    with pytest.raises(ConfigError, match="confluent-kafka") as raised:
        kafka.load_client()
    assert "litejoin[kafka]" in raised.value.hint


def test_an_error_that_repeats_is_said_every_half_minute(caplog: pytest.LogCaptureFixture) -> None:
    clock = ManualClock()
    errors = kafka.BrokerErrors("kafka-source in", clock)
    for _ in range(100):
        assert errors.hear("_TRANSPORT", "refused") == "_TRANSPORT: refused"
        errors.hear("_ALL_BROKERS_DOWN", "1/1 are down")
        clock.advance(400)
    assert [record.getMessage() for record in caplog.records] == [
        "kafka-source in: _TRANSPORT: refused",
        "kafka-source in: _ALL_BROKERS_DOWN: 1/1 are down",
    ] * 2
