"""The set diff of whole polls: what changed, what is gone, nothing known that is not durable."""

import json
import os
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, note
from hypothesis import strategies as st

from litejoin._ext import diff, gjson
from litejoin.errors import JsonError, PathError
from litejoin.records import Row, RowKind, unpack_rows
from tests.reference import diff as diff_twin
from tests.reference.poll import Poll, Refused


def snapshot(response: str = "@this", *keys: str, ignore: tuple[str, ...] = ()) -> diff.Snapshot:
    programs = [gjson.compile_path(key).program for key in keys or ("id",)]
    return diff.Snapshot(gjson.compile_path(response).program, programs, ignore, seed=11)


def poll(snap: diff.Snapshot, body: bytes) -> diff.Page:
    """A poll whose rows all become durable."""
    snap.begin()
    page = snap.compare(body)
    snap.apply(page, 0, len(page))
    snap.finish()
    return page


def counts(page: diff.Page) -> tuple[int, int, int]:
    return page.created, page.updated, page.unchanged


def dump(value: Any) -> bytes:
    return json.dumps(value).encode()


def test_created_updated_unchanged_and_gone() -> None:
    snap = snapshot()
    assert counts(poll(snap, dump([{"id": i, "v": 0} for i in range(5)]))) == (5, 0, 0)
    page = poll(snap, dump([{"v": 0.0, "id": 3}, {"id": 1, "v": 7}, {"id": 9, "v": 0}]))
    assert counts(page) == (1, 1, 1)
    assert page.changes() == [
        (b"1", False, b'{"id": 1, "v": 7}'),
        (b"9", True, b'{"id": 9, "v": 0}'),
    ]
    assert snap.missing() == (3, 0)
    assert sorted(snap.missing_keys(False)) == [b"0", b"2", b"4"]
    assert snap.missing_keys(True) == []
    snap.hold()
    poll(snap, dump([{"id": 0, "v": 0}]))
    assert snap.missing() == (3, 2)
    assert sorted(snap.missing_keys(True)) == [b"2", b"4"]
    snap.forget([b"2", b"4", b"unknown"])
    assert len(snap) == 4
    assert counts(poll(snap, dump([{"id": 2, "v": 0}]))) == (1, 0, 0)


def test_what_was_not_applied_is_not_known() -> None:
    snap = snapshot()
    body = dump([{"id": 1}, {"id": 2}])
    for _ in range(2):
        snap.begin()
        assert snap.compare(body).created == 2
    assert len(snap) == 0
    page = snap.compare(body)
    assert page.duplicates == 2
    snap.begin()
    page = snap.compare(body)
    snap.apply(page, 0, 1)
    assert len(snap) == 1
    assert counts(poll(snap, body)) == (1, 0, 1)


def test_a_stored_hash_stands_for_its_record() -> None:
    snap = snapshot()
    snap.load([(b"1", diff.record_hash(b'{"id":1,"v":1}')), (b"2", bytes(16))])
    assert len(snap) == 2
    assert counts(poll(snap, b'[{"v":1e0,"id":1},{"id":2}]')) == (0, 1, 1)


def test_of_one_key_the_last_record_stands() -> None:
    snap = snapshot()
    page = poll(snap, b'[{"id":1,"v":1},{"id":2},{"id":1,"v":2}]')
    assert (*counts(page), page.duplicates) == (2, 0, 0, 1)
    assert page.changes() == [(b"2", True, b'{"id":2}'), (b"1", True, b'{"id":1,"v":2}')]
    again = poll(snap, b'[{"id":1,"v":1},{"id":2},{"id":1,"v":2}]')
    assert (*counts(again), again.duplicates) == (0, 0, 2, 1)


def test_records_without_a_key_are_counted() -> None:
    page = poll(snapshot(), b'[{"id":1},{"x":1},{"id":null},{"id":""}]')
    assert (page.records, page.created, page.keyless) == (4, 1, 3)
    assert page.keyless_reason == "the key of record 1 is missing"
    page = poll(snapshot(), b'[{"id":[]}]')
    assert page.keyless_reason == "the key of record 0 is not a string or a number"


def test_a_single_object_is_one_record() -> None:
    page = poll(snapshot("data"), b' {"meta":{"data":[]},"data":{"id":7}} ')
    assert (page.single, page.records, page.created) == (True, 1, 1)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("data", b'{"data":[{"id":1}],"data":[{"id":2}]}'), ("a.b", b'{"a":{"b":[{"id":1}]}}'),
        ("a.1.b", b'{"a":[{"b":[]},{"b":[{"id":1}]}]}'), ("d*a", b'{"data":[{"id":1}]}'),
        ("pages.#.items|@flatten", b'{"pages":[{"items":[{"id":1}]},{"items":[]}]}'),
        ('groups.#(name=="x").rows', b'{"groups":[{"name":"x","rows":[{"id":1}]}]}'),
        ("data|@this", b'{"data":[{"id":1}]}'), ("map.@values", b'{"map":{"k":{"id":1}}}'),
    ],
)  # fmt: skip
def test_records_are_found_at_the_response_path(path: str, body: bytes) -> None:
    snap = snapshot(path)
    assert poll(snap, body).changes() == [(b"1", True, b'{"id":1}')]
    assert counts(poll(snap, body)) == (0, 0, 1)


@pytest.mark.parametrize("path", ["data", "data.@this", "data.@reverse", "@this.data"])
@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"{}", "nothing at the response path"), (b'{"error":"x"}', "nothing at the response path"),
        (b"[]", "nothing at the response path"),
        (b'{"data":null}', "neither an array nor an object"),
        (b'{"data":"x"}', "neither an array nor an object"), (b"", "ends too early"),
        (b"<html>", "unexpected character at byte 0"), (b'{"data":[{"id":1},', "ends too early"),
        (b'{"data":[{"id":1}]', "ends too early"), (b'{"data":[{"id":1}]}x', "data after the end"),
        (b'{"data":[{"id":1}],"n":NaN}', "unexpected character"), (b'{"data":[1 2]}', "unexpected"),
        (b'{"data":[{"id":"\\ud800"}]}', "lone surrogate"), (b'{"data":[{"id":"\xff"}]}', "UTF-8"),
        (b'{"data":[' + b"[" * 10_000, "nested too deeply"),
        (b'{"x":' * 10_000, "nested too deeply"),
        (b'{"data":[' + b"[" * 63 + b"]" * 63 + b"]}", "nested too deeply"), (b"\0", "unexpected"),
    ],
)  # fmt: skip
def test_a_body_that_is_not_a_poll_result_is_refused(path: str, body: bytes, reason: str) -> None:
    snap = snapshot(path)
    poll(snap, b'{"data":[{"id":1},{"id":2}]}')
    snap.begin()
    with pytest.raises(JsonError, match=reason):
        snap.compare(body)
    assert len(snap) == 2
    assert counts(poll(snap, b'{"data":[{"id":1},{"id":2}]}')) == (0, 0, 2)


def test_large_and_crowded_records_are_exact_or_refused() -> None:
    snap = snapshot()
    big = b'[{"id":1,"v":"' + b"x" * 10_000_000 + b'"}]'
    assert poll(snap, big).created == 1
    assert counts(poll(snap, big)) == (0, 0, 1)
    assert counts(poll(snap, big.replace(b"xx", b"xy", 1))) == (0, 1, 0)
    snap.begin()
    with pytest.raises(JsonError, match="1,000,000 values"):
        snap.compare(b'[{"id":1,"v":[' + b"0," * 1_000_000 + b"0]}]")


def test_a_number_that_goes_on_is_not_the_number_before() -> None:
    snap = snapshot("@this", "@this")
    assert poll(snap, b"[1,2,3]").created == 3
    page = poll(snap, b"[12,2 ,3]")
    assert [key for key, _, _ in page.changes()] == [b"12"]


def test_programs_are_checked() -> None:
    good = gjson.compile_path("a.#(b==1)#.c").program
    with pytest.raises(PathError):
        diff.Snapshot(good, [])
    rng = random.Random(5)
    for _ in range(500):
        bad = bytearray(good)
        bad[rng.randrange(len(bad))] = rng.randrange(256)
        cut = bytes(bad[: rng.choice([len(bad), rng.randrange(len(bad))])])
        try:
            snap = diff.Snapshot(cut, [cut])
        except PathError:
            continue
        snap.begin()
        try:
            snap.compare(b'{"a":[{"b":1,"c":{"id":2}}]}')
        except JsonError:
            continue


def rows(packed: tuple[bytes, int, int]) -> list[Row]:
    out = list(unpack_rows(packed[0]))
    assert len(out) == packed[1]
    return out


def test_rows_of_a_change_lie_together() -> None:
    snap = snapshot(ignore=("t",))
    poll(snap, b'[{"id":1,"v":1},{"id":2,"t":1}]')
    snap.begin()
    page = snap.compare(b'[{"id":3},{"id":1,"v":2},{"id":2,"t":2}]')
    assert page.updated_keys(0, len(page)) == [b"1"]
    how: dict[str, Any] = {"topic": 4, "state": 9, "timestamp_ms": 77}
    packed = page.pack(
        0, len(page), **how, keep_records=True, emit=True, befores=[b'{"id":1,"v":1}']
    )
    hash3, hash1 = diff.record_hash(b'{"id":3}'), diff.record_hash(b'{"id":1,"v":2}')
    assert rows(packed) == [
        Row(4, RowKind.UPSERT, 77, b"3", b'{"id":3}', b""),
        Row(9, RowKind.STATE_UPSERT, 77, b"3", b'{"id":3}', hash3),
        Row(4, RowKind.UPSERT, 77, b"1", b'{"id":1,"v":2}', b'{"$.v":[1,2]}', known=True),
        Row(9, RowKind.STATE_UPSERT, 77, b"1", b'{"id":1,"v":2}', hash1),
    ]
    hashed = rows(page.pack(1, 2, **how, keep_records=False, emit=True))
    assert [(row.kind, row.payload, row.extra) for row in hashed] == [
        (RowKind.UPSERT, b'{"id":1,"v":2}', b""), (RowKind.STATE_UPSERT, b"", hash1)
    ]  # fmt: skip
    silent = rows(page.pack(0, 1, **how, keep_records=True, emit=False))
    assert [row.kind for row in silent] == [RowKind.STATE_UPSERT]
    replay = page.pack(1, 2, **how, keep_records=True, emit=True, befores=[b'{"v":2,"id":1}'])
    assert [row.kind for row in rows(replay)] == [RowKind.STATE_UPSERT]
    assert replay[2] == 1
    lost = rows(page.pack(1, 2, **how, keep_records=True, emit=True, befores=[None]))
    assert [row.extra for row in lost] == [b"", hash1]
    with pytest.raises(ValueError, match="one stored record"):
        page.pack(0, 2, **how, keep_records=True, emit=True, befores=[])


def test_chunks_are_bounded_and_cover_everything() -> None:
    page = poll(snapshot(), dump([{"id": i, "v": "x" * 100} for i in range(50)]))
    at, sizes = 0, []
    while at < len(page):
        stop = page.chunk(at, 1000, 20)
        sizes.append(stop - at)
        at = stop
    assert sum(sizes) == 50
    assert max(sizes) <= 9
    assert page.chunk(0, 10**9, 20) == 20
    assert page.chunk(3, 1, 20) == 4


def test_entries_of_gone_records_are_given_back() -> None:
    snap = snapshot()
    for generation in range(6):
        poll(snap, dump([{"id": f"{generation}-{i}"} for i in range(2000)]))
        snap.forget(snap.missing_keys(False))
        assert len(snap) == 2000
    snap.begin()
    assert snap.memory_bytes < 2000 * 400
    assert counts(poll(snap, dump([{"id": f"5-{i}"} for i in range(2000)]))) == (0, 0, 2000)


def test_pages_are_only_made_by_a_snapshot() -> None:
    with pytest.raises(TypeError):
        diff.Page()
    with pytest.raises(ValueError, match="not a page"):
        diff.Page.__new__(diff.Page).pack(
            0, 1, topic=1, state=1, timestamp_ms=0, keep_records=True, emit=True
        )
    page = poll(snapshot(), b"[]")
    with pytest.raises(ValueError, match="another snapshot"):
        snapshot().apply(page, 0, 0)


def test_memory_is_given_back() -> None:
    """Good and bad input over and over; a leak of one part in a hundred would show."""

    def round_of_calls() -> None:
        body = dump([{"id": i, "v": "x" * 1000, "\\n": [i]} for i in range(500)])
        snap = snapshot("pages.#.items|@flatten", ignore=("v",))
        page = poll(snap, b'{"pages":[{"items":%s}]}' % body)
        befores: list[bytes | None] = []
        page.pack(
            0, 500, topic=1, state=1, timestamp_ms=0, keep_records=True, emit=True, befores=befores
        )
        with pytest.raises(JsonError):
            snap.compare(b'{"pages":[{"items":%s}]' % body)
        diff.changes(body, body.replace(b"x", b"y"))
        for bad in (body[:-1], b"[" * 100):
            with pytest.raises(JsonError):
                diff.equal(body, bad)
            with pytest.raises(JsonError):
                gjson.compile_path("#.v").get(bad)
        gjson.compile_path("#(id>3)#.v|@reverse").get(body)

    def resident_bytes() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    for _ in range(10):
        round_of_calls()
    before = resident_bytes()
    for _ in range(100):
        round_of_calls()
    assert resident_bytes() - before < 8_000_000


RECORDS = st.lists(
    st.tuples(st.integers(0, 12), st.integers(0, 2), st.integers(0, 9), st.booleans()), max_size=14
)
TAILS = st.sampled_from([b"", b"", b"", b"", b"x", b",{}"])


def body_of(records: list[tuple[int, int, int, bool]], tail: bytes) -> bytes:
    """Records with a value, a noise field that is ignored, in one of two spellings."""
    texts = [
        b'{ "at":%d, "v":%d.0, "id":"%d"}' % (noise, value, key) if odd
        else b'{"id":"%d","v":%d,"at":%d}' % (key, value, noise)
        for key, value, noise, odd in records
    ]  # fmt: skip
    return b'{"d":[' + b", ".join(texts) + b"]}" + tail


@given(
    st.lists(st.tuples(RECORDS, TAILS, st.sampled_from(["all", "all", "half", "none"])), max_size=7)
)
def test_native_and_twin_agree_over_histories(
    history: list[tuple[list[tuple[int, int, int, bool]], bytes, str]],
) -> None:
    snap, twin = snapshot("d", ignore=("at",)), Poll("d", ["id"], ["at"])
    for records, tail, durable in history:
        body = body_of(records, tail)
        note(repr((body, durable)))
        snap.begin()
        twin.begin()
        try:
            expected, total, duplicates, keyless = twin.compare(body)
        except (Refused, diff_twin.scan.JsonError):
            with pytest.raises(JsonError):
                snap.compare(body)
            continue
        page = snap.compare(body)
        found = {key: (created, record) for key, created, record in page.changes()}
        assert found == expected
        assert (page.records, page.duplicates, page.keyless) == (total, duplicates, keyless)
        stop = {"all": len(page), "half": len(page) // 2, "none": 0}[durable]
        snap.apply(page, 0, stop)
        kept = page.updated_keys(0, stop)
        if durable == "all":
            twin.apply(expected)
            snap.finish()
            assert set(snap.missing_keys(False)) == twin.missing()
            gone = sorted(twin.missing())[::2]
            snap.forget(gone)
            twin.forget(gone)
        else:
            before = set(twin.known)
            now = set(snap.missing_keys(False))
            assert now == before - twin.seen
            applied = {k: v for k, v in expected.items() if k in kept}
            count = len(snap) - len(before)
            created = [k for k, c, _ in page.changes() if c]
            twin.apply(applied | {k: expected[k] for k in created[:count]})
        assert len(snap) == len(twin.known)
