"""Which topic a Kafka topic feeds, where its messages come from, how far behind they are."""

import json
import logging
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from confluent_kafka import Uuid

from litejoin.clock import ManualClock
from litejoin.plan.nodes import KafkaSourcePlan
from litejoin.sources.kafka.lag import SAID_EVERY_MS, Lag
from litejoin.sources.kafka.marks import mark_of
from litejoin.sources.kafka.meta import Meta
from litejoin.sources.kafka.topics import Topics


def topics(*names: str) -> Topics:
    plan = KafkaSourcePlan("in", names, names, "b:1", "g")
    return Topics(plan, list(range(len(names))))


def test_patterns_find_topics_and_names_come_first() -> None:
    found = topics("^shop-", "shop-own", "^s.*9$")
    assert found.named == ("shop-own",)
    assert found.numbers == {"shop-own": 1}
    entries = {name: found.entry(name) for name in ("shop-own", "shop-eu9", "sh9")}
    assert entries == {"shop-own": "shop-own", "shop-eu9": "^shop-", "sh9": "^s.*9$"}
    assert found.numbers == {"shop-own": 1, "shop-eu9": 0, "sh9": 2}
    with pytest.raises(LookupError, match="my-shop"):
        found.entry("my-shop")
    assert found.entries(["my-shop", "shop-own", "shop-eu9"]) == {"shop-own", "^shop-"}


def message(headers: Any) -> Any:
    return SimpleNamespace(
        topic=lambda: "t", partition=lambda: 3, offset=lambda: 9, headers=lambda: headers
    )


ORIGIN = {"topic": "t", "partition": 3, "offset": 9}


@pytest.mark.parametrize(
    ("headers", "shown"),
    [
        (None, {}),
        ([], {}),
        ([("a", b"1"), ("a", b"2"), ("b", None)], {"a": "2", "b": None}),
        ([('q"', "é\n".encode()), ("raw", b"\xff")], {'q"': "é\n", "raw": {"base64": "/w=="}}),
    ],
)
def test_headers_and_origin_become_a_member(headers: Any, shown: dict[str, Any]) -> None:
    add = Meta("meta")
    for value in (b'{"x": [1e400, "u"]}', b' \n{ "x" :1}\t', b"{}", b"{ }"):
        found = json.loads(add(message(headers), value))
        assert found.pop("meta") == {**ORIGIN, "headers": shown}
        assert found == json.loads(value)


def test_values_that_are_no_objects_stay_as_they_are() -> None:
    for value in (b"[1]", b' "{"', b"7"):
        assert Meta("meta")(message(None), value) == value


def test_a_member_of_that_name_is_not_written_over() -> None:
    with pytest.raises(ValueError, match='"meta" already'):
        Meta("meta")(message(None), b'{"a":1,"meta":false}')
    assert Meta("meta")(message(None), b'{"a":{"meta":1}}').endswith(b',"a":{"meta":1}}')


def test_a_header_whose_name_is_no_text_makes_a_bad_message_only() -> None:
    """The client then raises what else means a fault of its own."""

    def headers() -> Any:
        try:
            return b"\xff".decode()
        except UnicodeDecodeError as error:
            raise SystemError("headers returned a result with an exception set") from error

    odd = SimpleNamespace(topic=lambda: "t", partition=lambda: 3, offset=lambda: 9, headers=headers)
    with pytest.raises(ValueError, match="not UTF-8"):
        Meta("meta")(odd, b"{}")


def test_marks_tell_ids_apart_and_zero_is_no_id() -> None:
    def mark(text: str) -> int:
        value = UUID(text).int
        signed = [(half ^ 1 << 63) - (1 << 63) for half in (value >> 64, value & (1 << 64) - 1)]
        return mark_of(Uuid(*signed))

    one, two = "0188bf51-460a-70d0-95ed-cd5c1e046080", "0188bf51-460c-7be3-9bcb-b74aba3d4ab3"
    assert len({mark(one), mark(two)}) == 2
    assert all(0 < mark(each) < 1 << 64 for each in (one, two))
    assert mark_of(None) == mark_of(Uuid(0, 0)) == 0


class Consumer:
    """Two partitions, the first of them behind."""

    def __init__(self, behind: int) -> None:
        self.behind = behind

    def assignment(self) -> list[Any]:
        return [SimpleNamespace(topic="t", partition=n, offset=10) for n in range(2)]

    def position(self, partitions: list[Any]) -> list[Any]:
        return partitions

    def get_watermark_offsets(self, partition: Any, *, cached: bool) -> tuple[int, int]:
        assert cached
        return 0, 10 if partition.partition else 10 + self.behind


def test_the_lag_is_said_every_half_minute_until_it_is_none(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    clock = ManualClock()
    lag = Lag("in", clock)
    for behind in (5, 7, 0, 0):
        lag.measure(Consumer(behind))
        assert lag.partitions == {"t[0]": behind, "t[1]": 0}
        clock.advance(SAID_EVERY_MS)
        lag.measure(Consumer(behind))
    assert [record.getMessage().strip() for record in caplog.records] == [
        "kafka-source in: lag 5 messages t[0]=5",
        "kafka-source in: lag 7 messages t[0]=7",
        "kafka-source in: lag 0 messages",
    ]
