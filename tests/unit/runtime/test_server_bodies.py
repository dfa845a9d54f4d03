"""How much of its clients' bodies the listeners hold: bounded together, and let go at once."""

import gc
from collections.abc import Iterator

import pytest

from litejoin.runtime import http_budget
from litejoin.runtime.http_request import Request
from tests.harness.waiting import eventually
from tests.unit.runtime.serving import LIMITS, ROW, Client, ask, post, serving

HALF = b" " * (LIMITS.max_body_bytes - len(ROW)) + ROW
"""A good body; two of them are all that may be held."""


@pytest.fixture(autouse=True)
def small_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_budget, "LEAST_BYTES", 0)


def unfinished(body: bytes) -> bytes:
    """A request whose last byte does not come."""
    return post(body + b" ")[:-1]


def test_bodies_beyond_the_budget_are_refused_until_one_is_answered() -> None:
    body = HALF[1:]
    with serving() as server, Client(server.port) as first, Client(server.port) as second:
        first.send(unfinished(body))
        second.send(unfinished(body))
        eventually(lambda: server.listeners._bodies.held == 2 * len(body))
        with Client(server.port) as third:
            third.send(post(HALF))
            refused = third.reply()
        assert refused.status == 503
        assert int(refused.headers["retry-after"]) >= 1
        assert server.intake.rows == []
        first.send(b" ")
        assert first.reply().status == 200
        assert ask(server.port, post(HALF)).status == 200
        second.send(b" ")
        assert second.reply().status == 200
        eventually(lambda: server.listeners._bodies.held == 0)  # may follow the answer


def test_a_client_that_leaves_gives_its_share_back() -> None:
    with serving() as server:
        with Client(server.port) as first:
            first.send(unfinished(HALF[1:]))
            eventually(lambda: server.listeners._bodies.held > 0)
        eventually(lambda: server.listeners._bodies.held == 0)


@pytest.fixture
def uncollected() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def test_refused_bodies_do_not_wait_for_the_collector(uncollected: None) -> None:
    """The fault, its traceback and the request once made a cycle with the body in it."""
    others = requests()  # another test's, which something still holds
    with serving() as server:
        for _ in range(3):
            assert ask(server.port, post(HALF + b" ")).status == 413
            assert ask(server.port, chunked(HALF + b" ")).status == 413
            assert ask(server.port, post(b"junk")).status == 400
        eventually(lambda: all(any(one is other for other in others) for one in requests()))


def requests() -> list[Request]:
    return [one for one in gc.get_objects() if isinstance(one, Request)]


def chunked(body: bytes) -> bytes:
    head = b"POST /ingest HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"%x\r\n" % len(body) + body + b"\r\n0\r\n\r\n"
