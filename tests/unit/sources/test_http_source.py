"""POST /ingest: what is accepted, what is refused and how, and what a repeated key does."""

import asyncio
import gzip
import json
import threading
import zlib
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest
import zstandard

from litejoin.clock import ManualClock
from litejoin.errors import (
    BadRowError,
    CorruptionError,
    OverloadedError,
    StorageFullError,
    StorageIOError,
)
from litejoin.plan.nodes import Address, HttpSourcePlan
from litejoin.records import Row, RowKind
from litejoin.sources import http_body, http_keys
from litejoin.sources.http import HttpSource, by_address
from tests.unit.runtime.serving import LIMITS, ROW, Client, FakeIntake, Serving, ask, post, serving


def raising(error: BaseException) -> Callable[[], Awaitable[None]]:
    async def outcome() -> None:
        raise error

    return outcome


def test_an_accepted_row_is_what_was_sent() -> None:
    with serving() as server:
        reply = ask(server.port, post(ROW))
        assert (reply.status, reply.json()) == (200, {"accepted": 1})
        assert reply.headers["content-type"] == "application/json"
        assert server.intake.rows == [
            Row(1, RowKind.UPSERT, server.clock.now_ms(), b"o1", b'{"amount":45.0}')
        ]


@pytest.mark.parametrize(
    ("content_type", "body", "rows"),
    [
        ("application/json", b"[" + ROW + b"," + ROW + b"]", 2),
        ("application/json; charset=UTF-8", ROW, 1),
        ("application/vnd.shop.v1+json", ROW, 1),
        ("application/x-www-form-urlencoded", ROW, 1),
        ("application/x-ndjson", ROW + b"\n" + ROW + b"\n", 2),
        ("application/jsonl", ROW, 1),
        ("application/json", b"[]", 0),
    ],
)
def test_content_types_that_are_taken(content_type: str, body: bytes, rows: int) -> None:
    with serving() as server:
        reply = ask(server.port, post(body, f"Content-Type: {content_type}"))
        assert (reply.status, reply.json()) == (200, {"accepted": rows})
        assert len(server.intake.rows) == rows


@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain",
        "application/xml",
        "multipart/form-data; boundary=x",
        "",
        "application/json; charset=latin1",
    ],
)
def test_content_types_that_are_not(content_type: str) -> None:
    with serving() as server:
        reply = ask(server.port, post(ROW, f"Content-Type: {content_type}"))
        assert reply.status == 415
        assert reply.json()["code"] == "LJ-HTTP"
        assert "application/x-ndjson" in reply.headers["accept"]
        assert server.intake.batches == 0


def test_compressed_bodies() -> None:
    bodies = {
        "gzip": gzip.compress(ROW),
        "x-gzip": gzip.compress(b"") + gzip.compress(ROW[:9]) + gzip.compress(ROW[9:]),
        "zstd": zstandard.compress(ROW[:9]) + zstandard.compress(ROW[9:]),
        "identity": ROW,
    }
    with serving() as server:
        for encoding, body in bodies.items():
            reply = ask(server.port, post(body, f"Content-Encoding: {encoding}"))
            assert (encoding, reply.status) == (encoding, 200)
        large = b"[" + b",".join([ROW] * 9_000) + b"]"
        packed = gzip.compress(large, compresslevel=0)
        assert len(packed) > 4096
        assert ask(server.port, post(packed, "Content-Encoding: gzip")).json() == {
            "accepted": 9_000
        }
        assert len(server.intake.rows) == 4 + 9_000


@pytest.mark.parametrize(
    ("encoding", "body", "status", "words"),
    [
        ("gzip", gzip.compress(ROW, mtime=0)[:-9], 400, "ends too early"),
        ("gzip", ROW, 400, "not valid gzip"),
        ("gzip", gzip.compress(ROW, mtime=0) + b"junk", 400, "not valid gzip"),
        ("zstd", zstandard.compress(ROW)[:-2], 400, "ends too early"),
        ("zstd", ROW, 400, "not valid zstd"),
        (
            "gzip",
            gzip.compress(b"0" * ((1 << 20) + 1), mtime=0),
            413,
            "over 1048576 bytes when decompressed",
        ),
        (
            "zstd",
            zstandard.compress(b"0" * (50 << 20)),
            413,
            "over 1048576 bytes when decompressed",
        ),
        ("br", ROW, 415, "content encoding"),
        ("gzip, gzip", ROW, 415, "content encoding"),
        ("gzip", b"", 400, "the body is empty"),
    ],
)
def test_bad_compression(encoding: str, body: bytes, status: int, words: str) -> None:
    with serving() as server:
        reply = ask(server.port, post(body, f"Content-Encoding: {encoding}"))
        assert reply.status == status
        assert words in reply.json()["error"]
        assert server.intake.batches == 0
        if status == 415:
            assert reply.headers["accept-encoding"] == "gzip, zstd"


def test_many_members_cost_no_more_than_their_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    copied = 0

    class Member:
        def __init__(self, wbits: int) -> None:
            self._member = zlib.decompressobj(wbits)

        def decompress(self, data: bytes, most: int) -> bytes:
            nonlocal copied
            out = self._member.decompress(data, most)
            copied += len(self._member.unused_data)
            return out

        def __getattr__(self, name: str) -> Any:
            return getattr(self._member, name)

    monkeypatch.setattr(http_body, "zlib", SimpleNamespace(decompressobj=Member, error=zlib.error))
    members = 20_000
    assert http_body.decompress(gzip.compress(b"x") * members, "gzip", 1 << 20) == b"x" * members
    assert copied < members * 32 * 1024


@pytest.mark.timeout(60)
def test_eight_mib_of_empty_zstd_frames_are_nothing() -> None:
    """Quadratic in the number of frames this took minutes."""
    frame = zstandard.compress(b"")
    assert http_body.decompress(frame * ((8 << 20) // len(frame)), "zstd", 1 << 20) == b""


def test_without_zstandard_zstd_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_body, "find_zstandard", lambda: None)
    with serving() as server:
        reply = ask(server.port, post(ROW, "Content-Encoding: zstd"))
        assert (reply.status, reply.headers["accept-encoding"]) == (415, "gzip")


def test_a_bad_row_refuses_the_batch() -> None:
    with serving() as server:
        reply = ask(server.port, post(b"[" + ROW + b',{"topic":"orders","key":5,"payload":1}]'))
        assert reply.status == 400
        assert reply.json() == {
            "error": "row 1: key must be a string, at byte 81",
            "code": "LJ-ROW",
            "row": 1,
        }
        assert (server.intake.batches, server.intake.topics) == (0, {})


def test_a_request_without_a_body_is_told_so() -> None:
    with serving() as server:
        reply = ask(server.port, b"POST /ingest HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (reply.status, reply.json()["code"]) == (411, "LJ-HTTP")
        assert ask(server.port, post(b"")).status == 400


def test_a_bad_body_has_no_row() -> None:
    with serving() as server:
        reply = ask(server.port, post(b"hello"))
        assert reply.status == 400
        assert "row" not in reply.json()


def test_any_topic_is_created_when_none_is_listed() -> None:
    body = b'[{"topic":"a","key":"k","payload":1},{"topic":"b","key":"k","payload":null}]'
    with serving() as server:
        assert ask(server.port, post(body)).status == 200
        assert server.intake.topics == {"a": 1, "b": 2}
        assert [(row.table, row.kind) for row in server.intake.rows] == [(1, 1), (2, 2)]
        assert ask(server.port, post(body)).status == 200
        assert server.intake.topics == {"a": 1, "b": 2}


def test_only_listed_topics_are_taken() -> None:
    body = b"[" + ROW + b',{"topic":"other","key":"k","payload":1}]'
    with serving(topics=("orders", "users")) as server:
        assert server.intake.topics == {"orders": 1, "users": 2}
        assert ask(server.port, post(ROW)).status == 200
        reply = ask(server.port, post(body))
        assert (reply.status, reply.json()["row"]) == (400, 1)
        assert reply.json()["error"] == 'row 1: topic "other" is not taken here'
        assert reply.json()["hint"] == "topics: orders, users"
        assert server.intake.batches == 1


def test_a_topic_that_the_pipeline_refuses_names_the_row() -> None:
    with serving(intake=FakeIntake(allowed=frozenset({"orders"}))) as server:
        reply = ask(server.port, post(b"[" + ROW + b',{"topic":"other","key":"k","payload":1}]'))
        assert (reply.status, reply.json()["row"]) == (400, 1)
        assert "row 1: topic 'other' does not exist" in reply.json()["error"]
        assert server.intake.batches == 0


def test_a_refused_request_leaves_no_topics_behind() -> None:
    body = b'[{"topic":"a","key":"k","payload":1},{"topic":"b","key":"k","payload":1}]'
    with serving(topics=(), intake=FakeIntake(allowed=frozenset({"a"}))) as server:
        reply = ask(server.port, post(body))
        assert (reply.status, reply.json()["row"]) == (400, 1)
        assert (server.intake.batches, server.intake.topics) == (0, {})


@pytest.mark.parametrize(
    ("error", "code", "pause"),
    [
        (OverloadedError("the channel is full", retry_after_s=2.5), "LJ-BUSY", "3"),
        (OverloadedError("the channel is full", retry_after_s=0.01), "LJ-BUSY", "1"),
        (StorageFullError("no space left"), "LJ-FULL", "2"),
        (StorageIOError("I/O error"), "LJ-IO", "2"),
        (CorruptionError("shard 3 is quarantined", shard=3), "LJ-CORRUPT", "2"),
        (asyncio.CancelledError(), "LJ-BUSY", "5"),
    ],
)
def test_what_is_not_durable_is_not_acknowledged(
    error: BaseException, code: str, pause: str
) -> None:
    with serving(intake=FakeIntake(outcome=raising(error))) as server:
        reply = ask(server.port, post(ROW))
        assert (reply.status, reply.json()["code"]) == (503, code)
        assert reply.headers["retry-after"] == pause
        server.intake.outcome = None
        assert ask(server.port, post(ROW)).status == 200


def test_an_unexpected_error_shows_nothing_of_itself(caplog: pytest.LogCaptureFixture) -> None:
    with serving(intake=FakeIntake(outcome=raising(KeyError("secret-detail")))) as server:
        reply = ask(server.port, post(ROW))
        assert (reply.status, reply.json()) == (500, {"error": "internal error", "code": "LJ-ERR"})
        assert "POST /ingest failed" in caplog.text
        server.intake.outcome = None
        assert ask(server.port, post(ROW)).status == 200


class Gate:
    """Holds every submit until it is opened; opened from the test's thread."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self._opened = threading.Event()

    async def __call__(self) -> None:
        self.reached.set()
        await asyncio.to_thread(self._opened.wait, 10)

    def open(self) -> None:
        self._opened.set()


def test_the_answer_waits_until_the_rows_are_durable() -> None:
    gate = Gate()
    with serving(intake=FakeIntake(outcome=gate)) as server, Client(server.port) as client:
        client.send(post(ROW))
        assert gate.reached.wait(5)
        client.sock.settimeout(0.1)
        with pytest.raises(TimeoutError):
            client.reply()
        gate.open()
        client.sock.settimeout(10)
        assert client.reply().status == 200


def keyed(server: Serving, body: bytes, key: str = "k-1") -> tuple[int, Any]:
    reply = ask(server.port, post(body, f"Idempotency-Key: {key}"))
    return reply.status, reply.json()


def test_the_same_key_gives_the_same_answer_and_no_second_change() -> None:
    with serving() as server:
        assert keyed(server, ROW) == (200, {"accepted": 1})
        assert keyed(server, ROW) == (200, {"accepted": 1})
        assert server.intake.batches == 1
        status, answer = keyed(server, ROW + b" ")
        assert (status, answer["code"]) == (422, "LJ-HTTP")
        assert keyed(server, ROW + b" ", "k-2") == (200, {"accepted": 1})
        assert server.intake.batches == 2


def test_a_key_is_forgotten_after_24_hours() -> None:
    with serving() as server:
        assert keyed(server, ROW)[0] == 200
        server.clock.advance(24 * 3_600_000)
        assert keyed(server, ROW)[0] == 200
        assert server.intake.batches == 1
        server.clock.advance(1)
        assert keyed(server, ROW + b" ")[0] == 200
        assert server.intake.batches == 2


def test_a_wall_clock_jump_forgets_no_key() -> None:
    with serving() as server:
        assert keyed(server, ROW)[0] == 200
        server.clock.jump(48 * 3_600_000)
        assert keyed(server, ROW)[0] == 200
        assert server.intake.batches == 1


def test_a_failed_request_is_not_remembered() -> None:
    with serving(intake=FakeIntake(outcome=raising(OverloadedError("full")))) as server:
        assert keyed(server, ROW)[0] == 503
        assert keyed(server, b"junk")[0] == 400
        server.intake.outcome = None
        assert keyed(server, ROW)[0] == 200
        assert len(server.intake.rows) == 1


@pytest.mark.parametrize("key", ["", "x" * 256])
def test_a_bad_key_is_refused(key: str) -> None:
    with serving() as server:
        assert keyed(server, ROW, key)[0] == 400


def test_concurrent_requests_of_one_key_run_once() -> None:
    gate = Gate()
    with (
        serving(intake=FakeIntake(outcome=gate)) as server,
        Client(server.port) as first,
        Client(server.port) as second,
        Client(server.port) as third,
    ):
        first.send(post(ROW, "Idempotency-Key: k"))
        assert gate.reached.wait(5)
        second.send(post(ROW, "Idempotency-Key: k"))
        third.send(post(b"[]", "Idempotency-Key: k"))
        assert third.reply().status == 422
        gate.open()
        assert [first.reply().json(), second.reply().json()] == [{"accepted": 1}] * 2
        assert server.intake.batches == 1


def test_a_waiting_duplicate_sees_the_first_ones_failure() -> None:
    gate = Gate()

    async def fail() -> None:
        await gate()
        raise OverloadedError("full")

    with (
        serving(intake=FakeIntake(outcome=fail)) as server,
        Client(server.port) as first,
        Client(server.port) as second,
    ):
        first.send(post(ROW, "Idempotency-Key: k"))
        assert gate.reached.wait(5)
        second.send(post(ROW, "Idempotency-Key: k"))
        gate.open()
        assert [first.reply().status, second.reply().status] == [503, 503]
        assert server.intake.batches == 1


def test_kept_answers_are_bounded() -> None:
    async def durable(_batch: bytes, _packed: int, _rows: int) -> None: ...

    async def scenario() -> list[bool]:
        store = http_keys.MemoryAnswers(ManualClock(), max_answers=2)
        for digest in (b"a", b"b", b"a", b"c"):
            await store.take(digest, http_keys.KeptAnswer(b"", 1), b"", durable)
        return [await store.find(digest) is not None for digest in (b"a", b"b", b"c")]

    assert asyncio.run(scenario()) == [True, False, True]


def test_health_counts() -> None:
    async def scenario() -> dict[str, object]:
        source = HttpSource(
            (HttpSourcePlan("in", (), Address("127.0.0.1", 1)),),
            FakeIntake(),
            LIMITS,
            ManualClock(),
        )
        messages = iter([{"type": "http.request", "body": ROW[:5], "more_body": True},
                         {"type": "http.request", "body": ROW[5:]}])  # fmt: skip

        async def receive() -> Any:
            return next(messages)

        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        await source.ingest({"headers": []}, receive, send)
        assert json.loads(sent[1]["body"]) == {"accepted": 1}
        messages = iter([{"type": "http.request", "body": b"{"}])
        with pytest.raises(BadRowError):
            await source.ingest({"headers": []}, receive, send)
        return source.health()

    assert asyncio.run(scenario()) == {
        "status": "ok",
        "accepted_rows": 1,
        "accepted_requests": 1,
        "accepted_bytes": len(ROW),
        "rejected": {"LJ-ROW": 1},
    }


@pytest.mark.parametrize("before", [0, 1])
def test_a_client_that_leaves_gets_no_answer_and_changes_nothing(before: int) -> None:
    async def scenario() -> int:
        intake = FakeIntake()
        source = HttpSource(
            (HttpSourcePlan("in", (), Address("127.0.0.1", 1)),), intake, LIMITS, ManualClock()
        )
        messages = [{"type": "http.request", "body": ROW, "more_body": True}] * before

        async def receive() -> Any:
            return messages.pop() if messages else {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            raise AssertionError(message)

        await source.ingest({"headers": []}, receive, send)
        return intake.batches

    assert asyncio.run(scenario()) == 0


def test_sources_of_one_address_are_one_endpoint() -> None:
    here, there = Address("", 8080), Address("127.0.0.1", 9000)
    plans = [
        HttpSourcePlan("a", ("x",), here),
        HttpSourcePlan("b", ("y",), there),
        HttpSourcePlan("c", ("z",), here),
    ]
    assert by_address(plans) == [[plans[0], plans[2]], [plans[1]]]
    intake = FakeIntake()
    source = HttpSource(by_address(plans)[0], intake, LIMITS, ManualClock())
    assert source.name == "a, c"
    assert list(intake.topics) == ["x", "z"]
