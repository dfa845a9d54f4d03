"""Listeners start where they were told or say why not, and stop without losing answers."""

import asyncio
import logging
import socket
import ssl
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from litejoin.errors import StartRefusedError
from litejoin.plan.nodes import Address
from litejoin.runtime import sockets
from litejoin.runtime.server import Bound, Listeners
from tests.unit.runtime.serving import (
    ROW,
    TOKENS,
    Client,
    FakeIntake,
    ask,
    get,
    plan,
    post,
    serving,
)


async def say_ok(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})


def started(listeners: Listeners) -> list[Bound]:
    async def run() -> list[Bound]:
        bounds = await listeners.start()
        await listeners.stop(1.0)
        return bounds

    return asyncio.run(run())


def listening() -> tuple[socket.socket, int]:
    taken = socket.create_server(("127.0.0.1", 0))
    return taken, taken.getsockname()[1]


def test_a_taken_address_of_the_config_refuses_the_start() -> None:
    taken, port = listening()
    address = Address("127.0.0.1", port)
    with taken, pytest.raises(StartRefusedError, match=f"cannot listen on {address}") as error:
        started(Listeners(plan(addr=address), dict))
    assert "change the address" in error.value.hint


def test_a_refused_start_leaves_nothing_open() -> None:
    taken, port = listening()
    free = Address("127.0.0.1", free_port())
    listeners = Listeners(plan(addr=free), dict)
    listeners.add(Address("127.0.0.1", port), "GET", "/x", say_ok, None)
    with taken, pytest.raises(StartRefusedError):
        started(listeners)
    socket.create_server((free.host, free.port)).close()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def test_a_taken_default_address_gives_way(caplog: pytest.LogCaptureFixture) -> None:
    taken, port = listening()
    with taken:
        (bound,) = started(Listeners(plan(addr=Address("127.0.0.1", port, explicit=False)), dict))
    assert bound.wanted.port == port
    assert bound.actual.port not in (port, 0)
    assert bound.url == f"http://127.0.0.1:{bound.actual.port}"
    assert f"127.0.0.1:{port}, the default address, is taken" in caplog.text


@pytest.mark.parametrize("host", ["203.0.113.7", "no-such-host.invalid"])
def test_an_address_that_is_not_ours_refuses_the_start(host: str) -> None:
    with pytest.raises(StartRefusedError, match=f"cannot listen on {host}:0"):
        started(Listeners(plan(addr=Address(host, 0)), dict))


def test_one_listener_for_everything_on_one_address() -> None:
    port = free_port()
    listeners = Listeners(plan(addr=Address("127.0.0.1", port, explicit=False)), dict)
    listeners.add(Address("", port), "GET", "/subscribe", say_ok, None)
    listeners.add(Address("", port), "GET", "/snapshot", say_ok, None)
    listeners.add(Address("127.0.0.1", 0), "POST", "/ingest", say_ok, None)
    first, second = started(listeners)
    assert first.actual == Address("", port, explicit=True)
    assert first.paths == ("/snapshot", "/subscribe", "/health")
    assert second.paths == ("/ingest", "/health")


def test_start_says_where_and_warns_of_public_addresses(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    (bound,) = started(Listeners(plan(), dict))
    assert f"http: listening on {bound.url} (/health)" in caplog.text
    assert "WARNING" not in caplog.text
    started(Listeners(plan(addr=Address("", 0), tokens=TOKENS), dict))
    assert "WARNING" not in caplog.text
    started(Listeners(plan(addr=Address("", 0)), dict))
    assert "without a token (server.auth sets one)" in caplog.text


def test_localhost_answers_on_every_family() -> None:
    with serving(server=plan(addr=Address("localhost", 0))) as server:
        assert ask(server.port, get("/health")).status == 200


def test_all_interfaces_answer_on_loopback() -> None:
    with serving(server=plan(addr=Address("", 0))) as server:
        assert ask(server.port, get("/health")).status == 200


def test_without_ipv6_all_interfaces_are_those_of_ipv4(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: False)
    (sock,) = sockets.bind(Address("", 0))
    assert sock.family == socket.AF_INET
    sock.close()


class Slow:
    """A submit that takes until it is released."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.release = asyncio.Event()

    async def __call__(self) -> None:
        self.reached.set()
        await self.release.wait()


def test_stop_lets_running_requests_end() -> None:
    slow = Slow()
    with serving(intake=FakeIntake(outcome=slow)) as server:
        with Client(server.port) as busy, Client(server.port) as idle:
            idle.send(post(b"[]"))
            assert idle.reply().status == 200
            busy.send(post(ROW))
            assert slow.reached.wait(5)
            stopping = threading.Thread(target=server.call, args=(server.listeners.stop(10.0),))
            stopping.start()
            assert idle.closed()
            server.loop.call_soon_threadsafe(slow.release.set)
            reply = busy.reply()
            assert (reply.status, reply.json()) == (200, {"accepted": 1})
            assert reply.headers["connection"] == "close"
            assert busy.closed()
            stopping.join(5)
            assert not stopping.is_alive()
        with pytest.raises(ConnectionRefusedError):
            Client(server.port)


def test_stop_cuts_what_does_not_end() -> None:
    slow = Slow()
    with serving(intake=FakeIntake(outcome=slow)) as server, Client(server.port) as client:
        client.send(post(ROW))
        assert slow.reached.wait(5)
        began = time.monotonic()
        server.call(server.listeners.stop(0.2))
        assert 0.15 < time.monotonic() - began < 3
        assert client.closed()
        assert server.intake.rows == []


CERTIFICATE = Path(__file__).with_name("localhost.pem")
"""Self-signed for localhost, with its key, for tests only; valid for a hundred years from 2026."""


def test_tls() -> None:
    trust = ssl.create_default_context(cafile=str(CERTIFICATE))
    with serving(server=plan(tls_cert_file=CERTIFICATE)) as server:
        assert server.bounds[0].url.startswith("https://")
        with Client(server.port) as client:
            client.sock = trust.wrap_socket(client.sock, server_hostname="localhost")
            client.send(post(ROW) + post(b"[" + b",".join([ROW] * 3_000) + b"]"))
            assert client.reply().json() == {"accepted": 1}
            assert client.reply().json() == {"accepted": 3_000}
        assert ask_tls(server.port, trust, get("/health")) == 200
        # A client of plain HTTP gets nothing and harms nobody.
        with Client(server.port) as client:
            client.send(post(ROW))
            assert b"accepted" not in client.rest()
        assert ask_tls(server.port, trust, get("/health")) == 200


def test_old_tls_is_refused() -> None:
    context = sockets.tls_context(CERTIFICATE, None)
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2


def ask_tls(port: int, trust: ssl.SSLContext, request: bytes) -> int:
    with Client(port) as client:
        client.sock = trust.wrap_socket(client.sock, server_hostname="localhost")
        client.send(request)
        return client.reply().status


def test_a_bad_certificate_refuses_the_start(tmp_path: Path) -> None:
    broken = tmp_path / "cert.pem"
    broken.write_text("not a certificate")
    for cert in (broken, tmp_path / "missing.pem"):
        with pytest.raises(StartRefusedError, match="cannot use the certificate"):
            started(Listeners(plan(tls_cert_file=cert), dict))
