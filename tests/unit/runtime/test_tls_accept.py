"""TLS clients that do not finish their handshake are bounded, and keep nobody else out."""

import dataclasses
import errno
import select
import socket
import ssl
from contextlib import AbstractContextManager, ExitStack

import pytest

from litejoin.plan.nodes import Address
from litejoin.runtime import server as listeners
from litejoin.runtime import tls_accept
from litejoin.runtime.tls_accept import REFUSED_AT_ONCE
from tests.unit.runtime.serving import LIMITS, Client, Serving, get, plan, serving
from tests.unit.runtime.test_server_http import wait_for
from tests.unit.runtime.test_server_lifecycle import CERTIFICATE

TRUST = ssl.create_default_context(cafile=str(CERTIFICATE))


def serving_tls(**limits: int) -> AbstractContextManager[Serving]:
    wanted = dataclasses.replace(LIMITS, **limits)
    return serving(server=plan(tls_cert_file=CERTIFICATE, limits=wanted))


def handshakes(server: Serving) -> int:
    async def count() -> int:
        return sum(len(rules.handshakes) for rules in server.listeners._all_rules())

    return int(server.call(count()))


def is_cut(client: Client) -> bool:
    """Without waiting: the server has closed it."""
    return bool(select.select([client.sock], [], [], 0)[0]) and client.read() == b""


def secured(stack: ExitStack, server: Serving) -> Client:
    client = stack.enter_context(Client(server.port))
    client.sock = TRUST.wrap_socket(client.sock, server_hostname="localhost")
    return client


def answered(client: Client) -> int:
    client.send(get("/health"))
    return client.reply().status


@pytest.mark.parametrize("begins", [False, True])
def test_the_oldest_handshake_gives_way(begins: bool) -> None:
    with serving_tls(max_connections=20) as server, ExitStack() as stack:
        silent = []
        for number in range(30):
            silent.append(stack.enter_context(Client(server.port)))
            if begins:
                silent[-1].send(b"\x16\x03\x01\x02\x00")  # of a ClientHello that never comes
            wait_for(lambda: handshakes(server) == min(len(silent), 20))
            assert not is_cut(silent[number])
        wait_for(lambda: [is_cut(client) for client in silent] == [True] * 10 + [False] * 20)
        assert answered(secured(stack, server)) == 200
        wait_for(lambda: handshakes(server) == 19)
        assert is_cut(silent[10])


def test_who_comes_when_all_connections_are_taken_is_told_so() -> None:
    with serving_tls(max_connections=3) as server, ExitStack() as stack:
        for _ in range(3):
            assert answered(secured(stack, server)) == 200
        silent = [stack.enter_context(Client(server.port)) for _ in range(REFUSED_AT_ONCE)]
        wait_for(lambda: handshakes(server) == REFUSED_AT_ONCE)
        extra = secured(stack, server)
        reply = extra.reply()
        assert (reply.status, reply.json()["code"]) == (503, "LJ-BUSY")
        assert [is_cut(client) for client in silent] == [True] + [False] * (REFUSED_AT_ONCE - 1)


def test_a_handshake_that_fails_or_takes_too_long_is_over() -> None:
    with serving_tls(header_timeout_ms=200) as server, ExitStack() as stack:
        wrong = stack.enter_context(Client(server.port))
        wrong.send(b"GET / HTTP/1.1\r\n\r\n")
        slow = stack.enter_context(Client(server.port))
        wrong.rest()
        assert slow.read() == b""
        wait_for(lambda: handshakes(server) == 0)
        gone = stack.enter_context(Client(server.port))
        gone.sock.close()
        wait_for(lambda: handshakes(server) == 0)


def test_a_stop_does_not_wait_for_handshakes() -> None:
    with serving_tls() as server, ExitStack() as stack:
        silent = [stack.enter_context(Client(server.port)) for _ in range(3)]
        wait_for(lambda: handshakes(server) == 3)
        server.call(server.listeners.stop(0.0))
        assert handshakes(server) == 0
        assert [client.read() for client in silent] == [b""] * 3


class Full(socket.socket):
    """A listening socket of a process that has no file left, the first time."""

    refused = 0

    def accept(self) -> tuple[socket.socket, object]:
        if not self.refused:
            self.refused += 1
            raise OSError(errno.EMFILE, "Too many open files")
        return super().accept()


def test_it_accepts_again_when_there_are_files(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bind = listeners.bind
    made: list[Full] = []

    def bound(address: Address) -> list[socket.socket]:
        made.extend(Full(fileno=sock.detach()) for sock in bind(address))
        return list(made)

    monkeypatch.setattr(listeners, "bind", bound)
    monkeypatch.setattr(tls_accept, "PAUSE_S", 0.01)
    with serving_tls() as server, ExitStack() as stack:
        assert answered(secured(stack, server)) == 200
    assert [sock.refused for sock in made] == [1]
    assert "Too many open files; accepts again in" in caplog.text
