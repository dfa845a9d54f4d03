"""Messages become packed rows: what is taken, what is refused and why, what a shard has already."""

import json
import random
from dataclasses import dataclass
from typing import Any

import pytest

from litejoin._ext.gjson import compile_path
from litejoin._ext.kafka import Packer
from litejoin._ext.route import shard_of
from litejoin.records import Row, RowKind, unpack_rows

NOW_MS = 1_700_000_000_000
CREATE_TIME, NO_TIME = 1, 0


@dataclass
class Message:
    """What the packer asks of a confluent_kafka.Message."""

    given_key: Any
    given_value: Any
    at: int = 0
    name: str = "orders"
    number: int = 0
    stamp: tuple[int, int] = (NO_TIME, -1)

    def topic(self) -> str:
        return self.name

    def partition(self) -> int:
        return self.number

    def offset(self) -> int:
        return self.at

    def key(self) -> Any:
        return self.given_key

    def value(self) -> Any:
        return self.given_value

    def timestamp(self) -> tuple[int, int]:
        return self.stamp


def packer(*paths: str, as_text: bool = False, shards: int = 4, meta: Any = None) -> Packer:
    return Packer(
        {"orders": 3, "users": 7},
        tuple(compile_path(path) for path in paths),
        as_text=as_text,
        shards=shards,
        max_key_bytes=64,
        max_row_bytes=1_000,
        meta=meta,
    )


def pack(
    messages: list[Message], done: dict[tuple[str, int], list[int]] | None = None, **options: Any
) -> tuple[list[Row], dict[tuple[str, int], int], list[tuple[Any, str]]]:
    paths = options.pop("paths", ())
    batch, rows, offsets, faults = packer(*paths, **options).pack(messages, done or {}, NOW_MS)
    found = list(unpack_rows(batch))
    assert len(found) == rows
    return found, offsets, faults


def test_a_message_is_one_row_with_its_own_time() -> None:
    rows, offsets, faults = pack([Message(b"k", b' {"a": 1} ', 41, stamp=(CREATE_TIME, 123))])
    assert rows == [Row(3, RowKind.UPSERT, 123, b"k", b' {"a": 1} ')]
    assert (offsets, faults) == ({("orders", 0): 42}, [])


@pytest.mark.parametrize("stamp", [(NO_TIME, 5), (CREATE_TIME, -1), (2, 5)])
def test_other_times_are_the_time_of_arrival(stamp: tuple[int, int]) -> None:
    rows, _, _ = pack([Message("text key", b"1", stamp=stamp)])
    assert rows == [Row(3, RowKind.UPSERT, NOW_MS, b"text key", b"1")]


@pytest.mark.parametrize("value", [None, b"null", b" null\n"])
def test_no_value_and_null_delete(value: bytes | None) -> None:
    rows, _, _ = pack([Message(b"k", value)])
    assert rows == [Row(3, RowKind.DELETE, NOW_MS, b"k")]


def test_a_text_that_says_null_is_a_text() -> None:
    rows, _, _ = pack([Message(b"k", 'nu"ll\u00e9'.encode())], as_text=True)
    assert json.loads(rows[0].payload) == 'nu"ll\u00e9'


def test_a_key_path_finds_the_key_and_a_tombstone_has_only_its_own() -> None:
    value = b'{"id": 12, "region": "eu"}'
    rows, _, _ = pack([Message(None, value), Message(b"eu:12", None)], paths=("region", "id"))
    assert [row.key for row in rows] == [b"eu:12", b"eu:12"]
    assert rows[1].kind is RowKind.DELETE


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (Message(None, b"1"), "no key"),
        (Message(b"", b"1"), "0 bytes"),
        (Message(b"x" * 65, b"1"), "65 bytes"),
        (Message(b"\xff", b"1"), "not UTF-8"),
        (Message(b"a\0b", b"1"), "NUL"),
        (Message(b"k", b""), "not JSON"),
        (Message(b"k", b"{"), "not JSON"),
        (Message(b"k", b'"\xff"'), "invalid UTF-8"),
        (Message(b"k", b"1 2"), "not JSON"),
        (Message(b"k", b"[" * 65 + b"]" * 65), "nested too deeply"),
        (Message(b"k", b'"' + b"x" * 1_000 + b'"'), "larger than 1000"),
    ],
)
def test_what_cannot_be_a_row_is_named_and_the_rest_is_taken(message: Message, reason: str) -> None:
    message.at = 8
    rows, offsets, faults = pack([Message(b"a", b"1", 7), message, Message(b"b", b"2", 9)])
    assert [row.key for row in rows] == [b"a", b"b"]
    assert [(m.at, reason in text) for m, text in faults] == [(8, True)], faults
    assert offsets == {("orders", 0): 10}


def test_a_key_path_that_finds_nothing_is_a_fault() -> None:
    _, _, faults = pack([Message(b"k", b"{}")], paths=("id",))
    assert len(faults) == 1


def test_a_text_that_is_not_utf_8_is_a_fault() -> None:
    _, _, faults = pack([Message(b"k", b"\xff")], as_text=True)
    assert faults[0][1] == "the value is not UTF-8"


def test_what_a_shard_has_is_not_given_to_it_again() -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    rng = random.Random(seed)
    for _ in range(50):
        shards = rng.randint(1, 8)
        messages = [
            Message(
                b"k%d" % rng.randrange(30), b"%d" % n, n,
                rng.choice(("orders", "users")), rng.randrange(3),
            )
            for n in range(rng.randrange(60))
        ]  # fmt: skip
        done = {
            (name, number): [rng.randrange(60) for _ in range(shards)]
            for name in ("orders", "users") for number in range(3) if rng.random() < 0.5
        }  # fmt: skip
        rows, offsets, faults = pack(messages, done, shards=shards)
        wanted = [
            m for m in messages
            if (m.name, m.number) not in done
            or m.at >= done[m.name, m.number][shard_of(m.given_key, shards)]
        ]  # fmt: skip
        assert [(row.key, row.payload) for row in rows] == [
            (m.given_key, m.given_value) for m in wanted
        ]
        assert offsets == {(m.name, m.number): m.at + 1 for m in messages}
        assert faults == []


def test_null_is_a_delete_where_the_key_comes_from_the_value_too() -> None:
    rows, _, faults = pack([Message("a", b" null"), Message("b", None)], paths=("id",))
    assert not faults
    assert [(r.kind, r.key) for r in rows] == [(RowKind.DELETE, b"a"), (RowKind.DELETE, b"b")]


def test_meta_is_asked_for_values_and_may_refuse_one() -> None:
    def meta(message: Any, value: bytes) -> bytes:
        if message.key() == "bad":
            raise ValueError("not this one")
        return b"[" + value + b"]"

    messages = [Message("a", b"1"), Message("bad", b"2"), Message("c", None)]
    rows, _, faults = pack(messages, meta=meta)
    assert [(row.key, row.payload) for row in rows] == [(b"a", b"[1]"), (b"c", b"")]
    assert faults == [(messages[1], "not this one")]
