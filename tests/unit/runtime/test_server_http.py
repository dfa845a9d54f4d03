"""The HTTP of the listeners: framing, limits, keep-alive, pipelining, timeouts."""

import dataclasses
import re
import socket
import time
from typing import Any

import pytest

from litejoin.errors import RequestError
from litejoin.plan.nodes import Address
from litejoin.runtime.server import Listeners
from tests.unit.runtime.serving import (
    LIMITS,
    ROW,
    Client,
    ask,
    get,
    plan,
    post,
    serving,
)

QUICK = dataclasses.replace(LIMITS, header_timeout_ms=200, idle_timeout_ms=400)


def handlers(listeners: Listeners) -> None:
    """Handlers that answer in unusual ways."""
    for path, handler in {
        "/echo": echo, "/chunks": chunks, "/nothing": nothing, "/half": half, "/late": late,
        "/raise": raise_after_start, "/deaf": deaf, "/flood": flood, "/twice": twice,
    }.items():  # fmt: skip
        listeners.add(Address("127.0.0.1", 0), "GET", path, handler, None)
        listeners.add(Address("127.0.0.1", 0), "POST", path, handler, None)


async def start(send: Any, *headers: tuple[bytes, bytes]) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": list(headers)})


async def echo(scope: Any, receive: Any, send: Any) -> None:
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body", False):
            break
    assert scope["raw_path"] == scope["path"].encode()
    await start(send)
    await send({"type": "http.response.body", "body": scope["query_string"] + b"|" + body})


async def chunks(scope: Any, receive: Any, send: Any) -> None:
    await start(send)
    for part in (b"", b"one", b"two"):
        await send({"type": "http.response.body", "body": part, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def nothing(scope: Any, receive: Any, send: Any) -> None:
    """Returns without an answer."""


async def half(scope: Any, receive: Any, send: Any) -> None:
    await start(send, (b"content-length", b"10"))
    await send({"type": "http.response.body", "body": b"12345", "more_body": True})


async def raise_after_start(scope: Any, receive: Any, send: Any) -> None:
    await half(scope, receive, send)
    raise RequestError("too late", status=400)


async def twice(scope: Any, receive: Any, send: Any) -> None:
    await half(scope, receive, send)
    await start(send)


async def late(scope: Any, receive: Any, send: Any) -> None:
    """Streams until the client is gone."""
    await start(send)
    await send({"type": "http.response.body", "body": b"first", "more_body": True})
    await receive()
    message = await receive()
    assert message == {"type": "http.disconnect"}
    GONE.append(message)


GONE: list[Any] = []


async def deaf(scope: Any, receive: Any, send: Any) -> None:
    """Answers without reading the body."""
    await start(send, (b"content-length", b"4"))
    await send({"type": "http.response.body", "body": b"deaf"})


async def flood(scope: Any, receive: Any, send: Any) -> None:
    """Sends without end to a client that may not read."""
    await start(send)
    while True:
        await send({"type": "http.response.body", "body": b"x" * 65_536, "more_body": True})


@pytest.mark.parametrize(
    ("request_bytes", "status", "words"),
    [
        (post(ROW, "Transfer-Encoding: chunked"), 400, "malformed HTTP"),
        (post(ROW, f"Content-Length: {len(ROW)}"), 400, "malformed HTTP"),
        (b"GET /health HTTP/1.1\nHost: localhost\n\n", 400, "malformed HTTP"),
        (b"GET /health HTTP/1.1\r\nHost: localhost\nX: y\r\n\r\n", 400, "malformed HTTP"),
        (b"GET /health HTTP/1.1\r\nHost : localhost\r\n\r\n", 400, "malformed HTTP"),
        (b"GET /health HTTP/1.1\r\nHost: local\0host\r\n\r\n", 400, "malformed HTTP"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "malformed HTTP"),
        (b"GET /health HTTP/3.7\r\n\r\n", 400, "malformed HTTP"),
        (bytes(range(256)) * 8, 400, "malformed HTTP"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\xaa" * 500, 400, "malformed HTTP"),
        (post(b"", "Transfer-Encoding: gzip, chunked").replace(b"Content-Length: 0\r\n", b""),
         501, "transfer encoding"),
        (post(b"0\r\n\r\n", "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked")
         .replace(b"Content-Length: 5\r\n", b""), 400, "more than one Transfer-Encoding"),
        (get("/health", "Host: localhost"), 400, "more than one Host"),
        (get("/health", "Authorization: Bearer a", "Authorization: Bearer b"),
         400, "more than one Authorization"),
        (post(ROW, "Idempotency-Key: a", "Idempotency-Key: b"),
         400, "more than one Idempotency-Key"),
        (post(ROW, "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c"), 400, "with Upgrade"),
        (get("/health", "Expect: miracles"), 417, "Expect"),
        (get("/" + "x" * 8192), 414, "request target"),
        (get("/health", *[f"X-{n}: y" for n in range(100)]), 431, "headers"),
        (get("/health", "X: " + "y" * 33_000), 431, "head over"),
        (b"GET /health HTTP/1.1\r\nX: " + b"y" * 300_000, 431, "head over"),
        (b"GET /" + b"y" * 300_000, 431, "head over"),
        (b"CONNECT localhost:1 HTTP/1.1\r\nHost: localhost\r\n\r\n", 400, "request target"),
        (b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n", 400, "request target"),
        (post(b"", "Transfer-Encoding: chunked").replace(b"Content-Length: 0\r\n", b"") + b"zz\r\n",
         400, "malformed HTTP"),
        (post(b"", "Transfer-Encoding: chunked").replace(b"Content-Length: 0\r\n", b"")
         + b"1;" + b"x" * 300_000, 400, "chunk extensions"),
    ],
)  # fmt: skip
def test_ambiguous_or_oversized_requests_are_refused(
    request_bytes: bytes, status: int, words: str
) -> None:
    with serving() as server, Client(server.port) as client:
        client.send(request_bytes)
        reply = client.reply()
        assert reply.status == status
        assert reply.json()["code"] == "LJ-HTTP"
        assert words in reply.json()["error"]
        assert reply.headers["connection"] == "close"
        assert client.closed()
        assert server.intake.batches == 0
        assert ask(server.port, post(ROW)).status == 200


def test_a_large_head_behind_another_request_is_refused_too() -> None:
    with serving() as server, Client(server.port) as client:
        client.send(get("/health") + get("/health", "X: " + "y" * 40_000))
        assert client.reply().status == 200
        assert client.reply().status == 431


def test_bodies_at_the_limit() -> None:
    size = LIMITS.max_body_bytes
    with serving(add=handlers) as server:
        body = b"x" * size
        assert ask(server.port, post(body, path="/echo")).body == b"|" + body
        reply = ask(server.port, post(body + b"x", path="/echo"))
        assert (reply.status, reply.json()["error"]) == (413, f"body over {size} bytes")


def chunked(*parts: bytes, path: str = "/echo") -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    coded = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
    return head.encode() + coded


def test_chunked_bodies() -> None:
    with serving(add=handlers) as server, Client(server.port) as client:
        client.send(
            chunked(b"a", b"bc", b"d" * 100_000) + b"0\r\nTrailer: x\r\n\r\n" + get("/echo?q")
        )
        assert client.reply().body == b"|abc" + b"d" * 100_000
        assert client.reply().body == b"q|"
        client.send(chunked(*[b"x" * 65_536] * 17))
        assert client.reply().status == 413


def test_an_unsized_answer_is_chunked_or_closes() -> None:
    with serving(add=handlers) as server:
        with Client(server.port) as client:
            client.send(get("/chunks"))
            reply = client.reply()
            assert (reply.headers["transfer-encoding"], reply.body) == ("chunked", b"onetwo")
            client.send(get("/chunks"))
            assert client.reply().body == b"onetwo"
        with Client(server.port) as client:
            client.send(b"GET /chunks HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            assert client.reply().body == b"onetwo"


def test_head_has_no_body() -> None:
    with serving(add=handlers) as server, Client(server.port) as client:
        for path in ("/health", "/deaf", "/chunks"):
            client.send(get(path, method="HEAD"))
            head = client.until(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 OK")
        client.send(get("/deaf"))
        assert client.reply().body == b"deaf"


def test_keep_alive_and_close() -> None:
    with serving(add=handlers) as server:
        with Client(server.port) as client:
            for _ in range(5):
                client.send(post(ROW))
                reply = client.reply()
                assert reply.status == 200
                assert "connection" not in reply.headers
                assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} [\d:]{8} GMT", reply.headers["date"])
            client.send(get("/deaf", "Connection: close"))
            assert client.reply().headers["connection"] == "close"
            assert client.closed()
        with Client(server.port) as client:
            for _ in range(2):
                client.send(b"GET /deaf HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
                assert client.reply().headers["connection"] == "keep-alive"


def test_pipelined_requests_are_answered_in_order() -> None:
    with serving(add=handlers) as server, Client(server.port) as client:
        client.send(b"".join(get(f"/echo?{n}") for n in range(40)))
        assert [client.reply().body for _ in range(40)] == [b"%d|" % n for n in range(40)]
        client.send(post(b"x" * 200_000, path="/echo") + post(b"y" * 200_000, path="/echo"))
        assert client.reply().body == b"|" + b"x" * 200_000
        assert client.reply().body == b"|" + b"y" * 200_000


def test_a_request_byte_by_byte() -> None:
    with serving(add=handlers) as server, Client(server.port) as client:
        client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in post(ROW) + get("/echo?x"):
            client.send(bytes([byte]))
        assert client.reply().json() == {"accepted": 1}
        assert client.reply().body == b"x|"


def test_endless_pipelining_is_cut() -> None:
    with serving(add=handlers) as server, Client(server.port) as client:
        client.send(b"".join(get(f"/echo?{n}") for n in range(2_000)))
        answers = client.rest().count(b"HTTP/1.1 200 OK")
        assert 1 <= answers <= 70


def test_a_fault_behind_good_requests_is_answered_in_its_turn() -> None:
    with serving(add=handlers) as server, Client(server.port) as client:
        client.send(get("/echo?1") + post(ROW) + b"junk\r\n\r\n")
        assert client.reply().body == b"1|"
        assert client.reply().json() == {"accepted": 1}
        assert client.reply().status == 400
        assert client.closed()


def test_expect_continue() -> None:
    with serving() as server, Client(server.port) as client:
        head, _, body = post(ROW, "Expect: 100-continue").partition(b"\r\n\r\n")
        client.send(head + b"\r\n\r\n")
        assert client.reply().status == 100
        client.send(body)
        assert client.reply().json() == {"accepted": 1}
        huge = post(b"", "Expect: 100-continue").replace(b"Length: 0", b"Length: 99999999")
        client.send(huge)
        assert client.reply().status == 413


def test_upgrades_are_ignored() -> None:
    with serving(add=handlers) as server, Client(server.port) as client:
        client.send(get("/deaf", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c"))
        assert client.reply().body == b"deaf"
        assert client.closed()


def test_absolute_and_escaped_targets() -> None:
    with serving() as server:
        assert ask(server.port, get("http://localhost/health?x")).status == 200
        assert ask(server.port, get("/heal%74h")).status == 200
        assert ask(server.port, get("http://localhost")).status == 404
        assert ask(server.port, b"GET /\xff HTTP/1.1\r\nHost: localhost\r\n\r\n").status == 400


def test_a_half_closed_client_is_still_answered() -> None:
    with serving() as server, Client(server.port) as client:
        client.send(post(ROW))
        client.sock.shutdown(socket.SHUT_WR)
        assert client.reply().json() == {"accepted": 1}
        assert client.closed()


def test_half_a_request_changes_nothing() -> None:
    with serving() as server:
        for cut in (1, 20, 60, len(post(ROW)) - 1):
            with Client(server.port) as client:
                client.send(post(ROW)[:cut])
                client.sock.shutdown(socket.SHUT_WR)
                assert client.closed()
        assert server.intake.batches == 0
        assert ask(server.port, post(ROW)).status == 200


def test_a_refused_client_can_read_why_while_it_still_sends() -> None:
    """Closing at once would reset the connection and lose the answer on its way."""
    with serving(add=handlers) as server, Client(server.port) as client:
        client.send(b"POST /deaf HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900000\r\n\r\n")
        for _ in range(9):
            client.send(b"x" * 100_000)
            time.sleep(0.001)
        assert client.reply().body == b"deaf"
        assert client.closed()


@pytest.mark.parametrize("path", ["/nothing", "/half", "/raise", "/twice"])
def test_a_handler_that_gives_up_cuts_the_connection(path: str) -> None:
    with serving(add=handlers) as server:
        with Client(server.port) as client:
            client.send(get(path))
            received = client.rest()
            assert b"too late" not in received
            assert received.count(b"HTTP/1.1") == (path != "/nothing")
        assert ask(server.port, post(ROW)).status == 200


def test_a_stream_sees_that_its_client_left() -> None:
    GONE.clear()
    with serving(add=handlers) as server:
        for leave in (socket.SHUT_WR, socket.SHUT_RDWR):
            with Client(server.port) as client:
                client.send(get("/late"))
                client.until(b"first")
                client.sock.shutdown(leave)
        wait_for(lambda: len(GONE) == 2)


def wait_for(condition: Any, timeout_s: float = 5.0) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.005)


def test_slow_heads_and_bodies_are_refused() -> None:
    with serving(server=plan(limits=QUICK)) as server:
        for cut in (10, len(post(ROW)) - 5):
            with Client(server.port) as client:
                client.send(post(ROW)[:cut])
                reply = client.reply()
                assert (reply.status, reply.json()["code"]) == (408, "LJ-HTTP")
                assert client.closed()
        assert server.intake.batches == 0


def test_a_trickling_client_is_cut() -> None:
    """A byte now and then does not extend the deadline."""
    with serving(server=plan(limits=QUICK)) as server:
        head = b"POST /ingest HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n"
        for prefix in (head, head + b"\r\n"):
            with Client(server.port) as client:
                client.sock.settimeout(0.02)
                client.send(prefix)
                began = time.monotonic()
                while True:
                    client.send(b"x")
                    try:
                        reply = client.reply()
                        break
                    except TimeoutError:
                        assert time.monotonic() - began < 3
                assert reply.status == 408


def test_a_steady_slow_body_is_taken() -> None:
    with serving(server=plan(limits=QUICK), add=handlers) as server, Client(server.port) as client:
        client.send(b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 20000\r\n\r\n")
        for _ in range(20):
            client.send(b"x" * 1000)
            time.sleep(0.025)
        assert client.reply().body == b"|" + b"x" * 20_000


def test_idle_connections_are_closed() -> None:
    with serving(server=plan(limits=QUICK)) as server:
        with Client(server.port) as client:
            assert client.closed()
        with Client(server.port) as client:
            client.send(post(ROW))
            assert client.reply().status == 200
            assert client.closed()


def test_a_client_that_does_not_read_is_cut() -> None:
    with serving(server=plan(limits=QUICK), add=handlers) as server, Client(server.port) as client:
        client.send(get("/flood"))
        wait_for(lambda: server.call(count_connections(server)) == 1)
        wait_for(lambda: server.call(count_connections(server)) == 0)


async def count_connections(server: Any) -> int:
    return sum(len(rules.connections) for rules in server.listeners._all_rules())


def test_connections_are_limited() -> None:
    limits = dataclasses.replace(LIMITS, max_connections=3)
    with serving(server=plan(limits=limits)) as server:
        clients = [Client(server.port) for _ in range(3)]
        for client in clients:
            client.send(post(ROW))
            assert client.reply().status == 200
        with Client(server.port) as extra:
            reply = extra.reply()
            assert (reply.status, reply.json()["code"]) == (503, "LJ-BUSY")
            assert reply.headers["retry-after"] == "1"
            assert extra.closed()
        clients.pop().sock.close()
        wait_for(lambda: ask(server.port, post(ROW)).status == 200)
        for client in clients:
            client.sock.close()
