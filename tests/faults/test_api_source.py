"""A poll that is anything but a complete list of records changes nothing; the source goes on."""

import asyncio
import gzip
import json
import logging
import random
import re
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from litejoin.errors import StorageFullError
from litejoin.sources.api.words import printable
from tests.unit.sources.api_world import (
    Answer,
    World,
    answer,
    raw,
    records,
    until_closed,
    world,
    zipped,
)

GOOD = [{"id": i, "v": i} for i in range(20)]
BODY = json.dumps(GOOD).encode()
WRAPPED = json.dumps({"data": GOOD}).encode()
OK = b"HTTP/1.1 200 OK\r\n"
BOMB = gzip.compress(b" " * 50_000_000)

BAD: dict[str, tuple[Answer, str]] = {
    "500": (answer(BODY, "500 Internal Server Error"), "HTTP 500 Internal Server Error"),
    "404": (answer(BODY, "404 Not Found"), "HTTP 404 Not Found"),
    "410": (answer(BODY, "410 Gone"), "HTTP 410 Gone"),
    "429": (answer(BODY, "429 Too Many Requests"), "HTTP 429 Too Many Requests"),
    "odd status": (answer(BODY, "799 Strange\x1b[31m"), "HTTP 799"),
    "204": (raw(b"HTTP/1.1 204 No Content\r\n\r\n"), "HTTP 204 No Content"),
    "206": (answer(BODY, "206 Partial Content"), "HTTP 206 Partial Content"),
    "304": (raw(b"HTTP/1.1 304 Not Modified\r\n\r\n"), "HTTP 304 Not Modified"),
    "redirect": (
        answer(b"", "302 Found", ["Location: http://login.example/?token=s3cret"]),
        "HTTP 302 Found to login.example: redirects are not followed",
    ),
    "html": (
        answer(b"<html>maintenance</html>", headers=["Content-Type: text/html"]),
        r"unexpected character at byte 0 \(content type text/html\)",
    ),
    "empty body": (answer(), "the JSON ends too early at byte 0"),
    "empty object": (answer(b"{}"), "the object in the response lacks a usable key"),
    "error object": (answer(b'{"error":"x"}'), "the object in the response lacks a usable key"),
    "null": (answer(b"null"), "neither an array nor an object"),
    "text": (answer(b'"ok"'), "neither an array nor an object"),
    "records without keys": (answer(b'[{"x":1},{"x":2}]'), "every record in the response lacks"),
    "cut by length": (answer(BODY, cut=7), "the connection broke before the response ended"),
    "cut without length": (raw(OK + b"\r\n" + BODY[:-7]), "the JSON ends too early"),
    "cut in a chunk": (
        raw(OK + b"Transfer-Encoding: chunked\r\n\r\nff\r\n" + BODY[:40]),
        "the connection broke before the response ended",
    ),
    "no last chunk": (
        raw(OK + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n" % (len(BODY), BODY)),
        "the connection broke before the response ended",
    ),
    "bad chunk size": (
        raw(OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n[]\r\n0\r\n\r\n"),
        "the connection broke before the response ended",
    ),
    "cut head": (raw(b"HTTP/1.1 200 OK\r\nContent-Le"), "the connection broke|the JSON ends"),
    "no head": (raw(b""), "the connection broke before the response ended"),
    "garbage": (raw(bytes(range(256)) * 4), "the connection broke before the response ended"),
    "two values": (answer(BODY + BODY), "data after the end of the value"),
    "bad utf-8": (answer(b'[{"id":1,"v":"\xff"}]'), "invalid UTF-8 at byte 14"),
    "lone surrogate": (answer(b'[{"id":1,"v":"\\ud800"}]'), "lone surrogate"),
    "nan": (answer(b'[{"id":1,"v":NaN}]'), "unexpected character at byte 13"),
    "nul": (answer(b'[{"id":1}]\0'), "data after the end of the value"),
    "deep": (answer(b"[" * 10_000 + b"]" * 10_000), "nested too deeply at byte 64"),
    "too large": (answer(b"[" + b" " * 1_000_001 + b"]"), "larger than max_response_bytes"),
    "gzip bomb": (
        answer(BOMB, headers=["Content-Encoding: gzip"]),
        r"larger than max_response_bytes \(1,000,000 bytes\)",
    ),
    "cut gzip": (zipped(BODY, cut=9), "the gzip of the response is cut off"),
    "no gzip": (answer(BODY, headers=["Content-Encoding: gzip"]), "not the gzip it says it is"),
    "unasked encoding": (answer(BODY, headers=["Content-Encoding: br"]), "'br' was not asked for"),
}  # fmt: skip


def run(story: Any) -> None:
    asyncio.run(story)


async def settled(w: World) -> dict[bytes, Any]:
    """A good first poll; what must stay as it is."""
    w.upstream.script = [answer(BODY)]
    assert await w.source.poll()
    return dict(w.store.topic)


async def recovers(w: World, before: dict[bytes, Any], caplog: pytest.LogCaptureFixture) -> None:
    """After the fault: nothing changed, and one good poll later nothing has, either."""
    assert w.store.topic == before
    assert w.source.health()["consecutive_failures"] != 0
    w.upstream.script = [answer(BODY)]
    assert await w.source.poll()
    assert w.store.topic == before
    assert w.source.health()["consecutive_failures"] == 0
    assert "s3cret" not in caplog.text
    assert "h1dden" not in caplog.text


@pytest.mark.parametrize("fault", BAD)
def test_a_bad_response_is_a_failed_poll(fault: str, caplog: pytest.LogCaptureFixture) -> None:
    bad, reason = BAD[fault]

    async def story(w: World) -> None:
        before = await settled(w)
        w.upstream.script = [bad]
        for n in (1, 2):
            caplog.clear()
            assert not await w.source.poll()
            (record,) = caplog.records
            assert record.levelno == logging.WARNING
            assert record.name == "litejoin.source"
            line = record.getMessage()
            assert line.startswith(f"api-source orders-api: poll failed ({n}/3): ")
            assert line.isprintable()
            assert re.search(reason, line), line
        await recovers(w, before, caplog)

    with world() as w:
        run(story(w))


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"{}", "nothing at the response path (response_path data)"),
        (b'{"error":{"data":[]}}', "nothing at the response path"),
        (b'{"data":null}', "neither an array nor an object at the response path"),
        (b'{"data":{}}', "the object in the response lacks a usable key"),
        (WRAPPED[:-2], "the JSON ends too early"),
        (b"[]", "nothing at the response path"),
    ],
)
def test_another_shape_than_records_at_the_path_is_a_failed_poll(
    body: bytes, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def story(w: World) -> None:
        w.upstream.script = [answer(WRAPPED)]
        assert await w.source.poll()
        before = dict(w.store.topic)
        w.upstream.script = [answer(body)]
        assert not await w.source.poll()
        assert reason in caplog.text
        assert w.store.topic == before
        w.upstream.script = [answer(WRAPPED)]
        assert await w.source.poll()
        assert w.store.topic == before

    with world(response_path="data") as w:
        run(story(w))


SLOW = {
    "no answer": (b"", b""),
    "a head that trickles": (OK + b"X-Long: ", b"x"),
    "a body of a byte a moment": (OK + b"Content-Length: 9000\r\n\r\n[", b" "),
    "chunks without end": (OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
}


@pytest.mark.parametrize("fault", SLOW)
def test_the_timeout_is_for_the_whole_response(
    fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def story(w: World) -> None:
        before = await settled(w)
        w.upstream.script = [until_closed(*SLOW[fault], w.upstream.released)]
        started = time.monotonic()
        assert not await w.source.poll()
        assert time.monotonic() - started < 3
        assert "within 0.3 s" in caplog.text
        w.upstream.released.set()
        await recovers(w, before, caplog)

    with world(timeout_ms=300) as w:
        run(story(w))


def test_a_stopped_source_leaves_no_thread_behind() -> None:
    async def story(w: World) -> None:
        w.upstream.script = [until_closed(OK, b"", w.upstream.released)]
        task = asyncio.create_task(w.source.run())
        await w.upstream.next_request()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(asyncio.to_thread(w.executor.shutdown), 3)

    with world(timeout_ms=60_000, interval_ms=1) as w:
        run(story(w))


def test_endless_chunks_end_at_the_size_limit(caplog: pytest.LogCaptureFixture) -> None:
    flood = b"10000\r\n" + b" " * 65536 + b"\r\n"

    async def story(w: World) -> None:
        before = await settled(w)
        head = OK + b"Transfer-Encoding: chunked\r\n\r\n" + flood * 20
        w.upstream.script = [until_closed(head, flood, w.upstream.released)]
        assert not await w.source.poll()
        assert "larger than max_response_bytes" in caplog.text
        w.upstream.released.set()
        await recovers(w, before, caplog)

    with world() as w:
        run(story(w))


def test_nobody_listening_is_a_failed_poll(caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    async def story(w: World) -> None:
        assert not await w.source.poll()
        assert f"cannot connect to 127.0.0.1:{port}: Connection refused" in caplog.text
        assert w.source.health()["status"] == "degraded"

    with world(url=f"http://127.0.0.1:{port}/?token=s3cret") as w:
        run(story(w))
    assert "s3cret" not in caplog.text


def test_plain_http_behind_https_is_a_failed_poll(caplog: pytest.LogCaptureFixture) -> None:
    async def story(w: World) -> None:
        w.source.close()
        object.__setattr__(w.plan, "url", w.upstream.url.replace("http:", "https:"))
        w.upstream.script = [raw(b"not tls")]
        assert not await w.restart().poll()
        assert "TLS with 127.0.0.1:" in caplog.text

    with world() as w:
        run(story(w))


def test_a_connection_closed_while_idle_is_opened_again() -> None:
    async def story(w: World) -> None:
        text = OK + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY
        w.upstream.script = [raw(text)]
        for _ in range(3):
            assert await w.source.poll()
        assert w.upstream.connections == 3

    with world() as w:
        run(story(w))


def test_after_max_failures_the_source_backs_off_and_recovers(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)

    async def story(w: World) -> None:
        await settled(w)
        w.upstream.script = [answer(b"", "503 Service Unavailable")]
        caplog.clear()
        for _ in range(5):
            await w.source.poll()
        assert w.source.health()["status"] == "degraded"
        assert w.source.health()["reason"] == "HTTP 503 Service Unavailable"
        w.upstream.script = [answer(BODY)]
        assert await w.source.poll()
        assert w.source.health()["status"] == "ok"

    with world(interval_ms=10_000) as w:
        run(story(w))
    lines = [(record.levelname, record.getMessage()) for record in caplog.records]
    failed, error = "api-source orders-api: poll failed", "api-source orders-api: ERROR"
    why = "HTTP 503 Service Unavailable"
    assert lines == [
        ("WARNING", f"{failed} (1/3): {why}"),
        ("WARNING", f"{failed} (2/3): {why}"),
        ("WARNING", f"{failed} (3/3): {why}"),
        ("ERROR", f"{error} 3 consecutive failures, next poll in 20 s: {why}"),
        ("WARNING", f"{failed} (4/3): {why}"),
        ("ERROR", f"{error} 4 consecutive failures, next poll in 40 s: {why}"),
        ("WARNING", f"{failed} (5/3): {why}"),
        ("ERROR", f"{error} 5 consecutive failures, next poll in 80 s: {why}"),
        ("INFO", "api-source orders-api: recovered after 5 failed polls"),
    ]


def test_text_from_outside_stays_on_one_line() -> None:
    assert printable("a\r\nb\x1b[31m\u202ec") == r"a\r\nb\x1b[31m\u202ec"
    assert len(printable("x" * 10_000)) == 300


@pytest.mark.parametrize("seed", range(12))
def test_over_faulty_histories_the_topic_follows_the_upstream_exactly(seed: int) -> None:
    """Random records, faults, full disks and restarts; quiet polls at the end."""
    print("seed", seed)
    rng = random.Random(seed)

    async def story(w: World) -> None:
        upstream: dict[int, int] = {}
        for _ in range(40):
            for _ in range(rng.randrange(4)):
                upstream[rng.randrange(40)] = rng.randrange(3)
            if rng.random() < 0.3:
                for key in rng.sample(sorted(upstream), min(len(upstream), rng.randrange(25))):
                    del upstream[key]
            rows = [{"id": k, "v": v} for k, v in upstream.items()]
            rng.shuffle(rows)
            w.upstream.script = [
                rng.choice(list(BAD.values()))[0] if rng.random() < 0.3 else records(*rows)
            ]
            if rng.random() < 0.2:
                w.store.failures = [(StorageFullError("full"), 2 * rng.randrange(3))]
            shown = {row["id"] for row in rows}
            before = set(w.store.topic)
            ok = await w.source.poll()
            w.store.failures = []
            if not ok:
                assert set(w.store.topic) <= before | {str(k).encode() for k in shown}
            if rng.random() < 0.2:
                w.restart()
        w.upstream.script = [records(*({"id": k, "v": v} for k, v in upstream.items()))]
        await w.source.poll()
        await w.source.poll()
        assert w.store.values() == {str(k): {"id": k, "v": v} for k, v in upstream.items()}
        assert set(w.store.state) == set(w.store.topic)
        versions: dict[bytes, bytes] = {}
        for row in w.store.log:  # no change is told twice
            assert versions.get(row.key) != row.payload
            versions[row.key] = row.payload

    with world() as w:
        run(story(w))


def test_a_hanging_api_does_not_keep_a_shared_thread_for_ever() -> None:
    async def story(w: World) -> None:
        w.executor.shutdown()
        w.executor = ThreadPoolExecutor(1)
        slow = w.restart()
        fast = World(w.upstream, name="fast", timeout_ms=5000)
        fast.executor.shutdown()
        fast.executor = w.executor
        source = fast.restart()
        w.upstream.script = [
            until_closed(OK, b"", w.upstream.released),
            answer(BODY),
        ]
        first = asyncio.create_task(slow.poll())
        await w.upstream.next_request()
        second = asyncio.create_task(source.poll())
        assert not await first
        assert await second
        source.close()

    with world(timeout_ms=300) as w:
        run(story(w))
