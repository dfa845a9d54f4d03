"""The webhook sink: every answer of a receiver becomes the right outcome, and nothing hangs."""

import asyncio
import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from litejoin.clock import SystemClock
from litejoin.errors import SinkError
from litejoin.plan.nodes import HttpSinkPlan, Secret
from litejoin.records import Result, ResultOp
from litejoin.sinks.base import Outcome
from litejoin.sinks.http.reader import RESPONSE_BYTES
from litejoin.sinks.http.sink import HttpSink
from tests.unit.sinks.receiver import Answer, Receiver, Request


def plan(url: str, **changes: Any) -> HttpSinkPlan:
    values: dict[str, Any] = {
        "name": "crm", "guarantee": "at_least_once", "url": url, "method": "POST",
        "timeout_ms": 2_000, "headers": {}, "max_in_flight": 1,
    }  # fmt: skip
    return HttpSinkPlan(**(values | changes))


def result(pos: int = 1) -> Result:
    rows = f'[{{"order_id":"a{pos}","amount":45.0}}]'
    return Result(pos, "orders", f'"a{pos}"', rows, ResultOp.UPSERT, 1_700_000_000_000, "p/e")


def send(sink_plan: HttpSinkPlan, *results: Result) -> list[Outcome]:
    async def story() -> list[Outcome]:
        sink = HttpSink(sink_plan, SystemClock())
        await sink.open()
        outcomes = [await sink.deliver(r) for r in results or (result(),)]
        await sink.close()
        return outcomes

    return asyncio.run(story())


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


def test_the_body_and_the_id_arrive_as_documented(receiver: Receiver) -> None:
    headers = {"Authorization": Secret("Bearer abcdefgh"), "X-Env": Secret("test")}
    assert send(plan(receiver.url, headers=headers))[0].status == "delivered"
    request = receiver.requests[0]
    assert request.body == result().body()
    assert request.headers["webhook-id"] == request.headers["Idempotency-Key"] == result().id
    assert request.headers["Content-Type"] == "application/json"
    assert request.headers["Authorization"] == "Bearer abcdefgh"
    assert request.headers["User-Agent"].startswith("litejoin/")


def test_one_connection_is_kept_for_many_results(receiver: Receiver) -> None:
    send(plan(receiver.url), *(result(n) for n in range(20)))
    assert len({request.port for request in receiver.requests}) == 1


@pytest.mark.parametrize(
    ("status", "outcome"),
    [(200, "delivered"), (202, "delivered"), (204, "delivered"), (301, "reject"), (307, "reject"),
     (400, "reject"), (401, "reject"), (404, "reject"), (410, "stop"), (408, "retry"),
     (425, "retry"), (429, "retry"), (500, "retry"), (503, "retry")],
)  # fmt: skip
def test_every_status_has_its_class(receiver: Receiver, status: int, outcome: str) -> None:
    body = b"" if status == 204 else b"because"
    receiver.answer = lambda _: Answer(status, (("Location", "/elsewhere"),), body)
    got = send(plan(receiver.url))[0]
    assert got.status == outcome
    assert len(receiver.requests) == 1, "neither repeated nor redirected"
    if outcome != "delivered":
        assert f"HTTP {status}" in got.error


@pytest.mark.parametrize(
    ("value", "low_s", "high_s"),
    [("7", 7, 7), ("Wed, 01 Jan 2200 00:00:00 GMT", 1e9, 1e10),
     ("Wed, 01 Jan 2020 00:00:00 GMT", 0, 0), ("soon", None, None)],
)  # fmt: skip
def test_retry_after_is_understood(
    receiver: Receiver, value: str, low_s: float | None, high_s: float | None
) -> None:
    receiver.answer = lambda _: Answer(429, (("Retry-After", value),))
    retry_after_s = send(plan(receiver.url))[0].retry_after_s
    if low_s is None or high_s is None:
        assert retry_after_s is None
    else:
        assert retry_after_s is not None
        assert low_s <= retry_after_s <= high_s


def test_secrets_do_not_reach_error_texts(receiver: Receiver) -> None:
    receiver.answer = lambda r: Answer(400, body=f"bad {r.headers['Authorization']}".encode())
    headers = {"Authorization": Secret("Bearer abcdefgh")}
    assert send(plan(receiver.url, headers=headers))[0].error == "HTTP 400: bad ***"
    receiver.answer = lambda _: Answer(raw=b"")
    assert "s3cr3t" not in send(plan(receiver.url))[0].error


def test_nobody_listening_is_a_retry() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    outcome = send(plan(f"http://127.0.0.1:{port}/x?token=s3cr3t"))[0]
    assert outcome.status == "retry"
    assert f"127.0.0.1:{port}" in outcome.error
    assert "refused" in outcome.error
    assert "s3cr3t" not in outcome.error


def test_an_answer_that_never_comes_is_a_timeout(receiver: Receiver) -> None:
    release = threading.Event()

    def hang(_: Request) -> Answer:
        release.wait(10)
        return Answer()

    receiver.answer = hang
    outcome = send(plan(receiver.url, timeout_ms=100))[0]
    release.set()
    assert outcome.status == "retry"
    assert "no answer within 0.1 s" in outcome.error


def test_a_request_without_an_answer_is_sent_once(receiver: Receiver) -> None:
    """Also on a kept connection: what became of it is unknown, and when to try again is not ours
    to say.
    """
    release = threading.Event()

    def answer(request: Request) -> Answer:
        if json.loads(request.body)["seq"] == 2:
            release.wait(10)
        return Answer()

    receiver.answer = answer
    outcomes = send(plan(receiver.url, timeout_ms=100), result(1), result(2))
    release.set()
    assert [(o.status, o.uncertain) for o in outcomes] == [("delivered", False), ("retry", True)]
    assert [json.loads(request.body)["seq"] for request in receiver.requests] == [1, 2]


def test_a_connection_that_is_cut_is_a_retry(receiver: Receiver) -> None:
    receiver.answer = lambda _: Answer(raw=b"")
    outcome = send(plan(receiver.url))[0]
    assert outcome.status == "retry"
    assert "closed the connection" in outcome.error
    assert len(receiver.requests) == 1, "on a new connection it was not closed before"


def test_garbage_is_a_retry(receiver: Receiver) -> None:
    receiver.answer = lambda _: Answer(raw=b"\x00\xff\xfe not http\r\n\r\n")
    assert send(plan(receiver.url))[0].status == "retry"


def test_a_success_whose_answer_is_cut_is_sent_again(receiver: Receiver) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nonly this"
    receiver.answer = lambda _: Answer(raw=head)
    outcomes = send(plan(receiver.url), result(1), result(2))
    cut = Outcome("retry", "HTTP 200, but the answer was cut", uncertain=True)
    assert outcomes == [cut] * 2


def test_a_huge_answer_is_not_read(receiver: Receiver) -> None:
    receiver.answer = lambda _: Answer(body=b"x" * (RESPONSE_BYTES * 200))
    outcomes = send(plan(receiver.url), result(1), result(2))
    assert [o.status for o in outcomes] == ["delivered", "delivered"]
    assert len({request.port for request in receiver.requests}) == 2, "not kept alive after that"


def test_a_kept_connection_that_the_receiver_closed_is_replaced(receiver: Receiver) -> None:
    receiver.answer = lambda _: Answer(close=True)
    outcomes = send(plan(receiver.url), *(result(n) for n in range(10)))
    assert {o.status for o in outcomes} == {"delivered"}


def test_a_request_dropped_on_a_kept_connection_is_sent_once_more() -> None:
    ids: list[bytes] = []
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        ok = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
        for answers in (1, 0):
            connection, _ = server.accept()
            for n in range(answers + 1):
                head = connection.recv(65536)
                while head and b'"id":"' not in head:
                    head += connection.recv(65536)
                ids.append(head.split(b'"id":"')[-1][:24])
                if n < answers or not answers:
                    connection.sendall(ok)
            connection.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{server.getsockname()[1]}/"
    outcomes = send(plan(url), result(1), result(2))
    thread.join()
    server.close()
    assert [o.status for o in outcomes] == ["delivered", "delivered"]
    assert ids[:3] == [result(n).id.encode() for n in (1, 2, 2)], "same id both times"


def drip(server: socket.socket, start: bytes, stop: threading.Event) -> None:
    connection, _ = server.accept()
    with connection, contextlib.suppress(OSError):
        connection.recv(65536)
        connection.sendall(start)
        while not stop.wait(0.05):
            connection.sendall(b"x")


@pytest.mark.parametrize(
    ("start", "status"),
    [(b"HTTP/1.1 200", "retry"), (b"HTTP/1.1 200 OK\r\nX-Slow: ", "retry"),
     (b"HTTP/1.1 200 OK\r\n\r\n", "retry")],
)  # fmt: skip
def test_an_answer_that_drips_is_cut(start: bytes, status: str) -> None:
    server, stop = socket.create_server(("127.0.0.1", 0)), threading.Event()
    thread = threading.Thread(target=drip, args=(server, start, stop), daemon=True)
    thread.start()
    started = time.monotonic()
    url = f"http://127.0.0.1:{server.getsockname()[1]}/"
    outcome = send(plan(url, timeout_ms=200))[0]
    stop.set()
    thread.join()
    server.close()
    assert outcome.status == status, "an answer counts when it is complete"
    assert time.monotonic() - started < 5


def test_closing_does_not_wait_for_a_hung_receiver(receiver: Receiver) -> None:
    release, arrived = threading.Event(), threading.Event()

    def hang(_: Request) -> Answer:
        arrived.set()
        release.wait(10)
        return Answer()

    receiver.answer = hang

    async def story() -> float:
        sink = HttpSink(plan(receiver.url, timeout_ms=60_000), SystemClock())
        await sink.open()
        sending = asyncio.ensure_future(sink.deliver(result()))
        await asyncio.to_thread(arrived.wait, 5)
        sending.cancel()
        started = time.monotonic()
        await sink.close()
        return time.monotonic() - started

    assert asyncio.run(story()) < 1
    release.set()


@pytest.mark.parametrize("url", ["ftp://x/", "/relative", "http://", "http://[::1", "not a url"])
def test_a_url_that_can_never_work_refuses_the_start(url: str) -> None:
    with pytest.raises(SinkError, match="crm"):
        send(plan(url))


def test_a_header_that_can_never_be_sent_refuses_the_start(receiver: Receiver) -> None:
    with pytest.raises(SinkError, match="X-Bad"):
        send(plan(receiver.url, headers={"X-Bad": Secret("a\r\nHost: b")}))


def test_a_user_and_password_in_the_url_are_basic_auth(receiver: Receiver) -> None:
    send(plan(receiver.url.replace("http://", "http://me:pw@")))
    assert receiver.requests[0].headers["Authorization"] == "Basic bWU6cHc="


def test_the_body_is_json_a_stranger_can_read(receiver: Receiver) -> None:
    send(plan(receiver.url))
    parsed = json.loads(receiver.requests[0].body)
    assert parsed["query"] == "orders"
    assert parsed["rows"] == [{"order_id": "a1", "amount": 45.0}]
