"""Bad requests: 4xx with the row and the reason, nothing written, the process unharmed (semantics
1).
"""

import gzip
import json
import random
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.harness.configs import Listener, push_config
from tests.harness.fixtures import Launcher
from tests.harness.ingest import IngestClient, gzipped, message, raw_exchange, status_of
from tests.harness.process import Pipeline
from tests.harness.sse import snapshot
from tests.harness.waiting import eventually

ANY, LISTED = Listener(), Listener()
NDJSON = "application/x-ndjson"


@pytest.fixture(scope="module")
def pipeline(launch_shared: Launcher) -> Pipeline:
    config = push_config(ANY, {"rows": "SELECT key, payload FROM t"})
    strict = {"name": "listed", "type": "http", "topics": ["t"], "config": {"addr": LISTED.addr}}
    config["sources"].append(strict)
    return launch_shared(config, ANY.health)


@pytest.fixture
def client(pipeline: Pipeline) -> Iterator[IngestClient]:
    """Afterwards the process must still take good rows, and hold no row of a bad batch."""
    with IngestClient(ANY.url) as made:
        yield made
        pipeline.assert_running()
        probe = f"probe-{time.monotonic_ns()}"
        made.send(message("t", probe, 1))
        eventually(lambda: snapshot(ANY.url, "rows", keys=probe).results)
        assert snapshot(ANY.url, "rows", keys="before,after").results == [], "part of a bad batch"


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


GOOD = '{"topic": "t", "key": "before", "payload": 1}'
BAD_ROWS = {
    "no payload": '{"topic": "t", "key": "k"}',
    "no key": '{"topic": "t", "payload": 1}',
    "no topic": '{"key": "k", "payload": 1}',
    "empty object": "{}",
    "null key": '{"topic": "t", "key": null, "payload": 1}',
    "empty key": '{"topic": "t", "key": "", "payload": 1}',
    "key of 513 bytes": f'{{"topic": "t", "key": "{"k" * 513}", "payload": 1}}',
    "key that is an object": '{"topic": "t", "key": {"id": 1}, "payload": 1}',
    "bad topic name": '{"topic": "no spaces!", "key": "k", "payload": 1}',
    "topic of SQLite": '{"topic": "sqlite_master", "key": "k", "payload": 1}',
    "empty topic": '{"topic": "", "key": "k", "payload": 1}',
    "topic that is a number": '{"topic": 5, "key": "k", "payload": 1}',
    "payload text that is no JSON": '{"topic": "t", "key": "k", "payload": "{broken"}',
    "payload text that is empty": '{"topic": "t", "key": "k", "payload": ""}',
    "payload text with a tail": '{"topic": "t", "key": "k", "payload": "{} x"}',
    "NaN in payload text": '{"topic": "t", "key": "k", "payload": "{\\"x\\": NaN}"}',
    "lone surrogate in a key": '{"topic": "t", "key": "\\ud800", "payload": 1}',
    "lone surrogate in a payload": '{"topic": "t", "key": "k", "payload": {"x": "\\udc00"}}',
    "payload deeper than 64": f'{{"topic": "t", "key": "k", "payload": {nested(65)}}}',
    "payload text deeper than 64": f'{{"topic": "t", "key": "k", "payload": "{nested(65)}"}}',
    "row over 1 MiB": f'{{"topic": "t", "key": "k", "payload": "\\"{"x" * 1_100_000}\\""}}',
    "timestamp in words": '{"topic": "t", "key": "k", "payload": 1, "timestamp": "yesterday"}',
    "timestamp that is a list": '{"topic": "t", "key": "k", "payload": 1, "timestamp": []}',
    "number in place of a row": "5",
    "null in place of a row": "null",
}


@pytest.mark.parametrize("bad", BAD_ROWS.values(), ids=BAD_ROWS.keys())
def test_a_bad_row_refuses_its_batch_and_is_named(client: IngestClient, bad: str) -> None:
    answer = client.post(f"[{GOOD}, {GOOD}, {bad}, {GOOD.replace('before', 'after')}]".encode())
    assert answer.status in (400, 413), answer
    assert answer.body.get("row") == 2, answer
    assert len(answer.refusal()) < 1000, "a reason, not the row"


@pytest.mark.parametrize("bad", ["no key", "payload text that is no JSON", "bad topic name"])
def test_a_single_bad_object_is_row_zero(client: IngestClient, bad: str) -> None:
    answer = client.post(BAD_ROWS[bad].encode())
    assert (answer.status, answer.body.get("row")) == (400, 0), answer
    assert answer.refusal()


@pytest.mark.parametrize("bad", ["no key", "number in place of a row", "payload deeper than 64"])
def test_a_bad_ndjson_line_is_named_by_its_row(client: IngestClient, bad: str) -> None:
    body = f"{GOOD}\n{BAD_ROWS[bad]}\n{GOOD}\n".encode()
    answer = client.post(body, content_type=NDJSON)
    assert (answer.status, answer.body.get("row")) == (400, 1), answer
    assert answer.refusal()


BAD_BODIES = {
    "nothing": b"",
    "spaces": b"   \n ",
    "a word": b"hello",
    "a number": b"5",
    "a string": b'"t"',
    "null": b"null",
    "half an object": GOOD.encode()[:20],
    "half an array": f"[{GOOD}, {GOOD}".encode(),
    "a tail": f"[{GOOD}] x".encode(),
    "two arrays": f"[{GOOD}][{GOOD}]".encode(),
    "trailing comma": f"[{GOOD},]".encode(),
    "single quotes": GOOD.replace('"', "'").encode(),
    "NaN": b'[{"topic": "t", "key": "before", "payload": NaN}]',
    "bad UTF-8": b'[{"topic": "t", "key": "before", "payload": "\\"\xff\xfe\\""}]',
    "UTF-16": GOOD.encode("utf-16"),
    "NUL bytes": b"\0" * 1000,
    "random bytes": random.Random(1).randbytes(10_000),
    "HTML": b"<html><body>hi</body></html>",
    "100,000 open brackets": b"[" * 100_000,
    "10,001 rows": b"[" + b",".join([GOOD.encode()] * 10_001) + b"]",
}


@pytest.mark.parametrize("body", BAD_BODIES.values(), ids=BAD_BODIES.keys())
def test_a_bad_body_is_refused_with_a_reason(client: IngestClient, body: bytes) -> None:
    answer = client.post(body)
    assert answer.status in (400, 411, 413), answer
    assert answer.refusal()


@pytest.mark.parametrize("content_type", ["application/json", NDJSON])
def test_random_bytes_of_any_length_are_refused(client: IngestClient, content_type: str) -> None:
    source = random.Random(2)
    for size in (1, 2, 3, 7, 31, 200, 4096, 70_000):
        answer = client.post(source.randbytes(size), content_type=content_type)
        assert answer.status == 400, (size, answer)
        assert answer.refusal()


def test_damaged_good_bodies_never_harm(client: IngestClient) -> None:
    """Every answer is 200 or 400 when one byte of a good body is lost, doubled or changed."""
    source = random.Random(3)
    good = json.dumps(
        [message("fuzz", f"k{i}", {"v": "ä\n", "n": [1e5, None]}) for i in range(3)]
    ).encode()
    for _ in range(400):
        at = source.randrange(len(good))
        new = source.choice([b"", good[at : at + 1] * 2, source.randbytes(1), b'"', b"\\", b"{"])
        answer = client.post(good[:at] + new + good[at + 1 :])
        assert answer.status in (200, 400), (at, new, answer)
        assert answer.status == 200 or answer.refusal()


@pytest.mark.parametrize(
    "body",
    [b"not gzip", gzipped(GOOD.encode())[:-6], gzipped(GOOD.encode())[:15], b"", b"\x1f\x8b"],
    ids=["plain text", "cut tail", "cut early", "empty", "two bytes"],
)
def test_broken_gzip_is_refused(client: IngestClient, body: bytes) -> None:
    answer = client.post(body, Content_Encoding="gzip")
    assert answer.status in (400, 411), answer
    assert answer.refusal()


def test_an_unknown_content_encoding_is_refused(client: IngestClient) -> None:
    answer = client.post(GOOD.encode(), Content_Encoding="br")
    assert answer.status == 415
    assert answer.refusal()


def test_an_unlisted_topic_is_refused_by_name_and_row(client: IngestClient) -> None:
    with IngestClient(LISTED.url) as strict:
        strict.send(message("t", "listed", 1))
        answer = strict.offer([message("t", "before", 1), message("ordesr", "before", 1)])
    assert answer.status in (400, 404), answer
    assert answer.body["row"] == 1
    assert "ordesr" in answer.refusal()


@pytest.mark.parametrize(
    ("method", "path", "statuses"),
    [("GET", "/ingest", (404, 405)), ("PUT", "/ingest", (404, 405)), ("POST", "/nope", (404,)),
     ("GET", "/../../etc/passwd", (400, 404)), ("DELETE", "/health", (404, 405)),
     ("GET", "/%00", (400, 404))],
)  # fmt: skip
def test_a_wrong_path_or_method_is_refused(
    client: IngestClient, method: str, path: str, statuses: tuple[int, ...]
) -> None:
    request = head("Content-Length: 0", "Connection: close", request=f"{method} {path} HTTP/1.1")
    assert status_of(raw_exchange(ANY.port, request)) in statuses


def head(*lines: str, request: str = "POST /ingest HTTP/1.1", host: str = "") -> bytes:
    return "\r\n".join([request, f"Host: {host or ANY.addr}", *lines, "", ""]).encode()


SMUGGLED = b"0\r\n\r\n" + head(f"Content-Length: {len(GOOD)}") + GOOD.encode()
BAD_FRAMES = {
    "length and chunked": head("Content-Length: 5", "Transfer-Encoding: chunked") + SMUGGLED,
    "two lengths": head("Content-Length: 45", "Content-Length: 5") + GOOD.encode(),
    "negative length": head("Content-Length: -1") + GOOD.encode(),
    "length in words": head("Content-Length: five") + GOOD.encode(),
    "bare line feeds": head("Content-Length: 45").replace(b"\r\n", b"\n") + GOOD.encode(),
    "bad chunk size": head("Transfer-Encoding: chunked") + b"zz\r\n" + GOOD.encode(),
    "space before the colon": head("Content-Length : 45") + GOOD.encode(),
    "folded header": head("X-A: 1", " folded", "Content-Length: 45") + GOOD.encode(),
    "long request line": head(request=f"GET /{'x' * 9000} HTTP/1.1"),
    "33 KiB of headers": head(*(f"X-{i}: {'y' * 1000}" for i in range(34))),
    "200 headers": head(*(f"X-{i}: y" for i in range(200))),
    "no HTTP at all": random.Random(4).randbytes(2000),
    "TLS hello": bytes.fromhex("16030100c8010000c40303") + b"\0" * 200,
}


@pytest.mark.parametrize("data", BAD_FRAMES.values(), ids=BAD_FRAMES.keys())
def test_ambiguous_http_is_refused(client: IngestClient, data: bytes) -> None:
    answer = raw_exchange(ANY.port, data, timeout_s=2, half_close=True)
    # Hanging up without an answer is a refusal as well; taking the row is not.
    assert status_of(answer) == 0 or 400 <= status_of(answer) < 500, answer[:300]


@pytest.mark.parametrize(
    "host", ["evil.example.com", "127.0.0.1.evil.example:80", "localhost.evil"]
)
def test_a_foreign_host_header_on_loopback_is_refused(client: IngestClient, host: str) -> None:
    """A page on another site whose name points at loopback must not reach the listener."""
    request = head("Content-Length: 45", "Connection: close", host=host) + GOOD.encode()
    assert 400 <= status_of(raw_exchange(ANY.port, request)) < 500


@pytest.mark.parametrize("size", [10, 60, 100, 140])
def test_half_a_request_writes_nothing(client: IngestClient, size: int) -> None:
    body = f"[{GOOD}]".encode()
    whole = head(f"Content-Length: {len(body)}") + body
    answer = raw_exchange(
        ANY.port, whole[: min(size, len(whole) - 1)], timeout_s=1, half_close=True
    )
    assert status_of(answer) == 0 or 400 <= status_of(answer) < 500, answer[:300]


def test_many_half_requests_do_not_block_good_ones(client: IngestClient) -> None:
    with ExitStack() as stack:
        for i in range(150):
            conn = stack.enter_context(socket.create_connection(("127.0.0.1", ANY.port), timeout=5))
            conn.sendall(
                head("Content-Length: 1000")[: 20 + i]
                if i % 2
                else head("Content-Length: 1000") + b"["
            )
        began = time.monotonic()
        client.send(message("t", "through", 1))
        assert time.monotonic() - began < 5


def test_a_declared_50_mb_body_is_refused_before_it_is_sent(client: IngestClient) -> None:
    answer = raw_exchange(ANY.port, head(f"Content-Length: {50 * 10**6}"), timeout_s=5)
    assert status_of(answer) == 413, answer[:300]


def test_50_mb_bodies_leave_memory_flat(client: IngestClient, pipeline: Pipeline) -> None:
    rows = b'{"topic": "t", "key": "before", "payload": "[' + b"1," * 20_000 + b'1]"},'
    chunk = rows * 16
    client.post(b"[" + rows[:-1] + b"]", content_type="text/plain")  # warm up the path itself
    client.send(message("t", "before", None))
    pipeline.reset_peak_rss()
    before = pipeline.rss_mb()
    total = 50 * 10**6
    for framing in (f"Content-Length: {total}", "Transfer-Encoding: chunked"):
        status = _pour(head(framing), chunk, total, chunked="chunked" in framing)
        assert status in (413, 0), status
    bombs = [gzip.compress(b"[" + b" " * total), gzip.compress(b"\0" * total)]
    for bomb in bombs:
        answer = client.post(bomb, Content_Encoding="gzip")
        assert answer.status == 413, answer
    grown = pipeline.peak_rss_mb() - before
    print(f"50 MB bodies: rss {before:.1f} MB, peak +{grown:.1f} MB")
    assert grown < 40


def _pour(headers: bytes, chunk: bytes, total: int, *, chunked: bool) -> int:
    """Send `total` bytes until the server cuts; the status it answered with, 0 for none."""
    with socket.create_connection(("127.0.0.1", ANY.port), timeout=10) as conn:
        frame = b"%x\r\n%s\r\n" % (len(chunk), chunk) if chunked else chunk
        try:
            conn.sendall(headers)
            for _ in range(total // len(chunk)):
                conn.sendall(frame)
        except OSError:
            pass
        try:
            return status_of(conn.recv(65536))
        except OSError:
            return 0


def test_refusals_are_answers_that_programs_can_read(client: IngestClient) -> None:
    answer = client.offer({"topic": "t"})
    assert answer.headers["Content-Type"].startswith("application/json")
    body: dict[str, Any] = answer.body
    assert {"error", "code", "row"} <= set(body)
