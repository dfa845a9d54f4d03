"""A request body becomes one row batch or is refused whole, as the plain-Python twin says."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from litejoin._ext.ingest import RowScanner
from litejoin.errors import BadRowError
from litejoin.records import Row, RowKind, unpack_rows
from tests.reference import ingest as twin

NOW_MS = 1_763_900_000_000
TOPICS = {"orders": 3, "users": 7, "_x.y-z": 65_535}
DEFAULTS = twin.Limits()
SMALL = twin.Limits(max_rows=4, max_depth=3, max_key_bytes=8, max_row_bytes=40)


def scanner(limits: twin.Limits = DEFAULTS, topics: dict[str, int] = TOPICS) -> RowScanner:
    made = RowScanner(
        max_rows=limits.max_rows,
        max_depth=limits.max_depth,
        max_key_bytes=limits.max_key_bytes,
        max_row_bytes=limits.max_row_bytes,
    )
    for name, number in topics.items():
        made.add_topic(name, number)
    return made


def one(body: bytes, **more: Any) -> Row:
    batch, rows, unknown = scanner(**more).scan(body, NOW_MS)
    assert (rows, unknown) == (1, None)
    (row,) = unpack_rows(batch)
    return row


def refusal(body: bytes, lines: bool = False, limits: twin.Limits = DEFAULTS) -> BadRowError:
    with pytest.raises(BadRowError) as caught:
        scanner(limits).scan(body, NOW_MS, lines)
    return caught.value


def assert_same(body: bytes, lines: bool, limits: twin.Limits) -> None:
    """Native and twin agree: the same rows, or the same refusal at the same byte of a row."""
    try:
        expected = twin.read_body(body, NOW_MS, lines, limits)
    except twin.Refused as refused:
        error = refusal(body, lines, limits)
        assert error.row == refused.row
        assert refused.words in str(error)
        assert int(re.findall(r"byte (\d+)", str(error))[-1]) == refused.offset
        return
    batch, rows, unknown = scanner(limits).scan(body, NOW_MS, lines)
    assert rows == len(expected)
    missing: dict[str, int] = {}
    for index, row in enumerate(expected):
        if row.topic not in TOPICS:
            missing.setdefault(row.topic, index)
    if missing:
        assert (batch, unknown) == (b"", missing)
        batch, _, unknown = scanner(limits, TOPICS | missing).scan(body, NOW_MS, lines)
    assert unknown is None
    assert list(unpack_rows(batch)) == [
        Row(
            (TOPICS | missing)[row.topic],
            RowKind.DELETE if row.payload is None else RowKind.UPSERT,
            row.timestamp_ms,
            row.key,
            row.payload or b"",
        )
        for row in expected
    ]


def test_the_documented_row() -> None:
    body = rb'{"topic": "orders", "key": "order_123", "payload": "{\"amount\": 45.0}"}'
    assert one(body) == Row(3, RowKind.UPSERT, NOW_MS, b"order_123", b'{"amount": 45.0}')


@pytest.mark.parametrize(
    ("payload", "stored"),
    [
        (b'{"a" : 1.0, "b":[1e400,18446744073709551616]}', None),
        (b"12.50", None),
        (b"[]", None),
        (b"true", None),
        (rb'{"\u0061":"\u00e9"}', None),
        (rb'"[1,\n 2]"', b"[1,\n 2]"),
        (rb'"\"text\""', b'"text"'),
        (b'"null"', b"null"),
        (rb'"{\"\ud83d\ude00\":1}"', '{"😀":1}'.encode()),
        (b'" 1 "', b" 1 "),
    ],
)
def test_payload_bytes_are_stored_as_sent(payload: bytes, stored: bytes | None) -> None:
    row = one(b'{"payload": %b ,"key":"k","topic":"users"}' % payload)
    assert row.payload == (payload if stored is None else stored)


def test_null_deletes() -> None:
    row = one(b'{"topic":"orders","key":"k","payload":null}')
    assert (row.kind, row.payload) == (RowKind.DELETE, b"")


@pytest.mark.parametrize(
    ("timestamp", "ms"),
    [
        ("1763900000", 1763900000000),
        ("1763900000.1239", 1763900000123),
        ("0", 0),
        ("-1.5", -1500),
        ("1.7639e9", 1763900000000),
        ("1763900000001", 1763900000001),
        ("99999999999", 99999999999000),
        ("100000000000", 100000000000),
        ("1763900000001.9", 1763900000001),
        ("1e-400", 0),
        ("0e400", 0),
        ("-62135596800", twin.MIN_MS),
        ("253402300799999", twin.MAX_MS),
        ("0.00000000000000000000000000001", 0),
        ("-0", 0),
        ("null", NOW_MS),
        ('"2026-11-23T12:00:00Z"', 1795435200000),
        ('"2026-11-23 13:00:00.5+01:00"', 1795435200500),
        ('"2026-11-23t10:30:00.123456789-01:30"', 1795435200123),
        ('"0001-01-01T00:00:00Z"', twin.MIN_MS),
        ('"9999-12-31T23:59:59.999z"', twin.MAX_MS),
        ('"2024-02-29T00:00:00Z"', 1709164800000),
        ('"2016-12-31T23:59:60Z"', 1483228800000),
        (r'"2026-11-23\u005412:00:00Z"', 1795435200000),
    ],
)
def test_timestamps(timestamp: str, ms: int) -> None:
    body = f'{{"topic":"orders","key":"k","payload":1,"timestamp":{timestamp}}}'.encode()
    assert one(body).timestamp_ms == ms
    assert twin.read_body(body, NOW_MS, False, DEFAULTS)[0].timestamp_ms == ms


@pytest.mark.parametrize(
    "timestamp",
    [
        "1e400",
        "253402300800000",
        "-62135596800001",
        "18446744073709551616",
        "true",
        "[]",
        "{}",
        '""',
        '"2026-11-23"',
        '"2026-11-23T12:00:00"',
        '"2026-02-30T12:00:00Z"',
        '"2023-02-29T00:00:00Z"',
        '"2026-13-01T12:00:00Z"',
        '"2026-11-23T24:00:00Z"',
        '"2026-11-23T12:60:00Z"',
        '"2026-11-23T12:00:61Z"',
        '"2026-11-23T12:00:00+24:00"',
        '"2026-11-23T12:00:00.Z"',
        '"2026-11-23T12:00:00+0100"',
        '"0000-01-01T00:00:00Z"',
        '"0001-01-01T00:00:00+01:00"',
        '"9999-12-31T23:59:59-00:01"',
        '"1763900000"',
        '"2026-11-23T12:00:00.' + "1" * 60 + 'Z"',
        '"２026-11-23T12:00:00Z"',
    ],
)
def test_bad_timestamps_are_refused(timestamp: str) -> None:
    body = f'{{"topic":"orders","key":"k","payload":1,"timestamp":{timestamp}}}'.encode()
    assert "timestamp" in str(refusal(body))
    assert_same(body, False, DEFAULTS)


@pytest.mark.parametrize(
    ("body", "row", "words"),
    [
        (b"", None, "the body is empty, at byte 0"),
        (b" \n", None, "the body is empty, at byte 2"),
        (b"12", None, "the body must be a row object or an array of them, at byte 0"),
        (b"\x1f\x8b\x08", None, "the body must be a row object"),
        (b"{}", 0, 'row 0: field "topic" is missing, at byte 0'),
        (b'{"topic":"orders"}', 0, 'field "key" is missing'),
        (b'{"topic":"orders","key":"k"}', 0, 'field "payload" is missing'),
        (b"[1]", 0, "row 0: a row must be a JSON object, at byte 1"),
        (
            b'[{"topic":"orders","key":"k","payload":1},',
            1,
            "row 1: the JSON ends too early at byte 42",
        ),
        (b'[{"topic":"orders","key":"k","payload":1},]', 1, "row 1: a row must be a JSON object"),
        (b'{"topic":1,"key":"k","payload":1}', 0, "topic must be a string, at byte 9"),
        (b'{"topic":"a b","key":"k","payload":1}', 0, "topic is not a valid name"),
        (b'{"topic":"","key":"k","payload":1}', 0, "topic is not a valid name"),
        (b'{"topic":"%b","key":"k","payload":1}' % (b"x" * 129), 0, "topic is not a valid name"),
        (b'{"topic":"orders","key":5,"payload":1}', 0, "key must be a string"),
        (b'{"topic":"orders","key":"","payload":1}', 0, "key is empty"),
        (b'{"topic":"orders","key":"a\\u0000","payload":1}', 0, "NUL"),
        (
            b'{"topic":"orders","key":"\\ud800","payload":1}',
            0,
            "lone surrogate in a string at byte 25",
        ),
        (b'{"topic":"orders","key":"\xff","payload":1}', 0, "invalid UTF-8 at byte 25"),
        (b'{"topic":"orders","key":"k","payload":NaN}', 0, "unexpected character 'N' at byte 38"),
        (
            b'{"topic":"orders","key":"k","payload":"a b"}',
            0,
            "is not JSON: unexpected character at byte 0",
        ),
        (b'{"topic":"orders","key":"k","payload":""}', 0, "is not JSON: the JSON ends too early"),
        (
            b'{"topic":"orders","key":"k","payload":"1 2"}',
            0,
            "data after the end of the value at byte 2",
        ),
        (b'{"topic":"orders","key":"k","payload":1,"x\x1b":1}', 0, "raw control character"),
        (
            b'{"topic":"orders","key":"k","payload":1,"\xc3\xa9":1}',
            0,
            r"unknown field '\xe9', at byte 40",
        ),
        (
            b'{"topic":"orders","key":"k","payload":1,"key":"k"}',
            0,
            "field 'key' appears twice, at byte 40",
        ),
        (
            b'{"topic":"orders","key":"k","payload":1}{',
            None,
            "data after the end of the JSON value",
        ),
    ],
)
def test_refusals_name_row_reason_and_byte(body: bytes, row: int | None, words: str) -> None:
    error = refusal(body)
    assert error.row == row
    assert words in str(error)
    assert_same(body, False, DEFAULTS)


def test_limits_are_inclusive() -> None:
    def row(key: str, payload: str) -> bytes:
        return f'{{"topic":"orders","key":"{key}","payload":{payload}}}'.encode()

    assert one(row("k" * 8, "1"), limits=SMALL).key == b"k" * 8
    assert "key is longer than 8 bytes" in str(refusal(row("k" * 9, "1"), limits=SMALL))
    assert one(row("k", "1" * 39), limits=SMALL)
    assert "larger than 40 bytes" in str(refusal(row("k", "1" * 40), limits=SMALL))
    assert one(row("k", "[[[1]]]"), limits=SMALL)
    assert "nested too deeply" in str(refusal(row("k", "[[[[1]]]]"), limits=SMALL))
    assert "nested too deeply" in str(refusal(row("k", '"[[[[1]]]]"'), limits=SMALL))
    rows = b",".join([row("k", "1")] * 4)
    assert scanner(SMALL).scan(b"[" + rows + b"]", NOW_MS)[1] == 4
    error = refusal(b"[" + rows + b"," + row("k", "1") + b"]", limits=SMALL)
    assert (error.row, "more than 4 rows" in str(error)) == (4, True)


def test_an_empty_array_is_no_row() -> None:
    assert scanner().scan(b" [ ] ", NOW_MS) == (b"", 0, None)


def test_lines() -> None:
    line = b'{"topic":"orders","key":"k","payload":1}'
    for body in (line, line + b"\n", b"\n\n" + line + b" \r\n\r\n" + line + b"\t\n"):
        assert scanner().scan(body, NOW_MS, True)[1] == body.count(b"{")
    error = refusal(line + b" " + line, lines=True)
    assert (error.row, "data after the object on its line" in str(error)) == (1, True)
    assert refusal(b"[" + line + b"]", lines=True).row == 0


def test_unknown_topics_are_named_and_can_be_added() -> None:
    body = b"".join(
        b'{"topic":"%b","key":"k","payload":1}\n' % name
        for name in (b"orders", b"new", b"new", b"users", b"ne\\u0077er", b"new")
    )
    made = scanner()
    assert made.scan(body, NOW_MS, True) == (b"", 6, {"new": 1, "newer": 4})
    made.add_topic("new", 100)
    made.add_topic("newer", 101)
    batch, rows, unknown = made.scan(body, NOW_MS, True)
    assert (rows, unknown) == (6, None)
    assert [row.table for row in unpack_rows(batch)] == [3, 100, 100, 7, 101, 100]


def test_a_bad_row_is_reported_before_unknown_topics() -> None:
    assert refusal(b'[{"topic":"new","key":"k","payload":1},{}]').row == 1


def test_topic_table_holds_many_names() -> None:
    topics = {f"topic-{n}": n for n in range(5_000)}
    made = scanner(topics=topics)
    body = (
        b"["
        + b",".join(b'{"topic":"%b","key":"k","payload":1}' % name.encode() for name in topics)
        + b"]"
    )
    batch, rows, unknown = made.scan(body, NOW_MS)
    assert (rows, unknown) == (5_000, None)
    assert [row.table for row in unpack_rows(batch)] == list(range(5_000))


@pytest.mark.parametrize("name", ["", "1a", "a b", "é", "a\0", "x" * 129, "\ud800"])
def test_bad_topic_names_are_not_added(name: str) -> None:
    with pytest.raises(ValueError, match="not a topic name"):
        scanner().add_topic(name, 1)


@pytest.mark.parametrize("number", [-1, 65_536])
def test_bad_topic_numbers_are_not_added(number: int) -> None:
    with pytest.raises(ValueError, match="not a topic number"):
        scanner().add_topic("a", number)


def test_the_shortest_rows_fit_their_buffer() -> None:
    row = b'{"topic":"t","key":"k","payload":1}'
    made = scanner(topics={"t": 1})
    for count in (1, 2, 3, 100, 10_000):
        body = b"[" + b",".join([row] * count) + b"]"
        assert len(made.scan(body, NOW_MS)[0]) == 40 * count
        assert len(made.scan(b"\n".join([row] * count), NOW_MS, True)[0]) == 40 * count


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)
TIMESTAMPS = (
    st.integers(-(10**16), 10**16)
    | st.floats(-1e15, 1e15)
    | st.datetimes().map(lambda t: t.isoformat() + "Z")
    | st.none()
    | st.sampled_from(["2026-11-23T12:00:00+01:00", True, "now"])
)
ROWS = st.fixed_dictionaries(
    {
        "topic": st.sampled_from([*TOPICS, "new", "other"]) | st.text(max_size=4),
        "key": st.text(max_size=9) | st.sampled_from(["k", 1, None]),
        "payload": JSON_VALUES | JSON_VALUES.map(json.dumps),
    },
    optional={"timestamp": TIMESTAMPS, "extra": st.just(1)},
)


def encode(rows: list[dict[str, Any]], shape: str, ascii_only: bool) -> bytes:
    texts = [json.dumps(row, ensure_ascii=ascii_only, allow_nan=True) for row in rows]
    joined = {"lines": "\n".join(texts), "array": "[" + ",".join(texts) + "]", "object": texts[0]}[
        shape
    ]
    return joined.encode("utf-8", "surrogatepass")


@given(
    st.lists(ROWS, min_size=1, max_size=5),
    st.sampled_from(["lines", "array", "object"]),
    st.booleans(),
    st.booleans(),
)
@example([{"topic": "orders", "key": "k", "payload": {}}], "lines", True, True)
def test_rows_equal_the_twins(
    rows: list[dict[str, Any]], shape: str, ascii_only: bool, small: bool
) -> None:
    body = encode(rows, shape, ascii_only)
    assert_same(body, shape == "lines", SMALL if small else DEFAULTS)


@given(st.lists(ROWS, min_size=1, max_size=3), st.sampled_from(["lines", "array"]), st.data())
def test_mutated_bodies_get_the_twins_verdict(
    rows: list[dict[str, Any]], shape: str, data: st.DataObject
) -> None:
    body = bytearray(encode(rows, shape, data.draw(st.booleans())))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(body)))
        end = at + data.draw(st.integers(0, 8))
        body[at:end] = data.draw(
            st.binary(max_size=3)
            | st.sampled_from(
                [b'"', b"\\", b"{", b"}", b"]", b",", b":", b"null", b'"key":', b"\n", b"1e9"]
            )
        )
    assert_same(bytes(body), shape == "lines", data.draw(st.sampled_from([SMALL, twin.Limits()])))


@given(st.binary(max_size=60), st.booleans())
def test_garbage_gets_the_twins_verdict(body: bytes, lines: bool) -> None:
    assert_same(body, lines, DEFAULTS)
    assert_same(b'[{"topic":' + body, lines, DEFAULTS)


def test_large_bodies_scan_the_same_without_the_gil() -> None:
    row = b'{"topic":"orders","key":"o%07d","payload":{"n":%d}}'
    body = b"[" + b",".join(row % (n, n) for n in range(9_999)) + b"]"
    batch, rows, _ = scanner().scan(body, NOW_MS)
    assert rows == 9_999
    assert [row.payload for row in unpack_rows(batch)] == [b'{"n":%d}' % n for n in range(9_999)]
    assert refusal(body[:-1] + b",{}]").row == 9_999


def test_scans_leak_nothing() -> None:
    made = scanner()
    bodies = [
        b'[{"topic":"orders","key":"k","payload":"1"}]' * 1,
        b'[{"topic":"new","key":"k","payload":1}]',
        b"[{",
        b'{"topic":"orders","key":"k","payload":"%b"}' % (b"1" * 20_000),
    ]

    def run(times: int) -> int:
        for _ in range(times):
            for body in bodies:
                try:
                    made.scan(body, NOW_MS)
                except BadRowError:
                    continue
        return resident_kib()

    run(200)
    before = run(200)
    assert run(1_000) - before < 512


def resident_kib() -> int:
    status = Path("/proc/self/status").read_text("ascii")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
