"""Below HTTP: certificates, proxies, and names that point elsewhere than before."""

import asyncio
import base64
import json
import select
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import urllib3.util.connection

from litejoin.errors import StartRefusedError
from litejoin.plan.nodes import Secret
from litejoin.plan.nodes_api import ApiTlsPlan, TokenAuth
from tests.harness.certificates import Authority
from tests.unit.sources.api_world import World, answer, records, world

RECORDS = [{"id": 1}, {"id": 2}]
TOKEN = TokenAuth("bearer", Secret("h1dden"))


class Handler(BaseHTTPRequestHandler):
    """Answers with two records and notes what it was asked."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        assert isinstance(self.server, Server)
        self.server.asked.append((self.path, dict(self.headers)))
        status = self.server.status
        body = json.dumps(RECORDS).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_CONNECT(self) -> None:
        assert isinstance(self.server, Server)
        self.server.asked.append((self.path, dict(self.headers)))
        if self.server.status != 200:
            self.send_error(self.server.status)
            return
        host, _, port = self.path.rpartition(":")
        with socket.create_connection((host, int(port))) as there:
            self.send_response(200)
            self.end_headers()
            relay(self.connection, there)
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


def relay(here: socket.socket, there: socket.socket) -> None:
    """Carry bytes both ways until one side ends."""
    other = {here: there, there: here}
    while True:
        for ready in select.select(list(other), [], [], 10)[0]:
            data = ready.recv(65536)
            if not data:
                return
            other[ready].sendall(data)


class Server(ThreadingHTTPServer):
    """An API, or a proxy; with `context` behind TLS."""

    daemon_threads = True

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.status = 200
        if context is not None:
            self.socket = context.wrap_socket(self.socket, server_side=True)

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that refused the certificate."""


@contextmanager
def serving(context: ssl.SSLContext | None = None) -> Iterator[Server]:
    server = Server(context)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


def polled(**plan: Any) -> tuple[bool, str]:
    """Whether one poll of this plan succeeds, and what health says."""
    with world(headers={}, auth=TOKEN, **plan) as w:
        ok = asyncio.run(w.source.poll())
        health = w.source.health()
        assert (len(w.store.topic) == len(RECORDS)) is ok
        return ok, str(health.get("reason", health.get("last_error", "")))


def test_a_certificate_must_come_from_whom_the_config_trusts(authority: Authority) -> None:
    with serving(authority.server("localhost")) as api:
        url = f"https://localhost:{api.port}/items"
        trusted = ApiTlsPlan(ca_file=str(authority.ca_file))
        ok, why = polled(url=url)
        assert not ok
        assert "TLS with localhost" in why
        assert "certificate" in why.lower()
        assert api.asked == []
        assert polled(url=url, tls=trusted) == (True, "")
        assert polled(url=url, tls=ApiTlsPlan(verify=False)) == (True, "")


def test_a_certificate_of_another_name_is_refused(authority: Authority) -> None:
    with serving(authority.server("api.example.com")) as api:
        url = f"https://localhost:{api.port}/items"
        ok, why = polled(url=url, tls=ApiTlsPlan(ca_file=str(authority.ca_file)))
        assert not ok
        assert "match" in why
        assert api.asked == []


def test_a_server_that_wants_a_certificate_gets_the_configs(authority: Authority) -> None:
    with serving(authority.server("localhost", asks=True)) as api:
        url = f"https://localhost:{api.port}/items"
        cert_file, key_file = authority.client("litejoin")
        plan = ApiTlsPlan(str(authority.ca_file), str(cert_file), str(key_file))
        ok, why = polled(url=url, tls=ApiTlsPlan(ca_file=str(authority.ca_file)))
        assert not ok
        assert api.asked == []
        assert polled(url=url, tls=plan) == (True, "")


def test_a_certificate_file_that_is_none_is_named_at_the_start(tmp_path: Path) -> None:
    bad = tmp_path / "ca.pem"
    bad.write_text("not a certificate")
    for path in (bad, tmp_path / "missing.pem"):
        with pytest.raises(StartRefusedError, match=r"orders-api: tls\.ca_file cannot be used"):
            polled(url="https://localhost:1/items", tls=ApiTlsPlan(ca_file=str(path)))


def test_a_proxy_is_asked_with_its_own_credentials() -> None:
    with serving() as proxy:
        address = Secret(f"http://me:p%40ss@127.0.0.1:{proxy.port}")
        assert polled(url="http://api.test/items", proxy=address) == (True, "")
        ((path, headers),) = proxy.asked
        assert path == "http://api.test/items"
        assert headers["Authorization"] == "Bearer h1dden"
        expected = "Basic " + base64.b64encode(b"me:p@ss").decode()
        assert headers["Proxy-Authorization"] == expected


def test_behind_a_tunnel_the_proxy_sees_no_credentials_of_the_api(authority: Authority) -> None:
    with serving() as proxy, serving(authority.server("localhost")) as api:
        tls = ApiTlsPlan(ca_file=str(authority.ca_file))
        url = f"https://localhost:{api.port}/items"
        address = Secret(f"http://me:pass@127.0.0.1:{proxy.port}")
        assert polled(url=url, tls=tls, proxy=address) == (True, "")
        ((path, headers),) = proxy.asked
        assert path == f"localhost:{api.port}"
        assert "Authorization" not in headers
        assert headers["Proxy-Authorization"].startswith("Basic ")
        ((_, headers),) = api.asked
        assert headers["Authorization"] == "Bearer h1dden"
        assert "Proxy-Authorization" not in headers


def test_a_proxy_that_is_away_or_refuses_is_told_without_its_password() -> None:
    with serving() as proxy:
        proxy.status = 407
        address = Secret(f"http://me:s3cret@127.0.0.1:{proxy.port}")
        for url in ("http://api.test/items", "https://api.test/items"):
            ok, why = polled(url=url, proxy=address)
            assert (ok, "407" in why, "s3cret" in why) == (False, True, False)
    ok, why = polled(url="http://api.test/items", proxy=address)
    assert not ok
    assert "proxy" in why
    assert "s3cret" not in why


class Elsewhere(socket.socket):
    """A connection to this machine that says it leads to `peer`."""

    peer: Any = ("203.0.113.7", 80)

    def getpeername(self) -> Any:
        return self.peer


LOCAL = {
    "loopback": ("127.0.0.1", 80),
    "loopback of IPv6": ("::1", 80, 0, 0),
    "loopback as IPv6": ("::ffff:127.0.0.1", 80, 0, 0),
    "link local": ("169.254.169.254", 80),
    "unspecified": ("0.0.0.0", 80),
}


@pytest.mark.parametrize("name", LOCAL)
def test_a_name_that_moves_to_this_machine_gets_no_credentials(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """DNS rebinding: the second connection of the same name leads here."""
    connect = urllib3.util.connection.create_connection

    def elsewhere(*args: Any, **options: Any) -> socket.socket:
        real = connect(*args, **options)
        return Elsewhere(real.family, real.type, real.proto, fileno=real.detach())

    monkeypatch.setattr(urllib3.util.connection, "create_connection", elsewhere)
    monkeypatch.setattr(Elsewhere, "peer", ("203.0.113.7", 80))

    async def story(w: World) -> None:
        closing = answer(json.dumps(RECORDS).encode(), headers=["Connection: close"])
        w.upstream.script = [closing]
        assert await w.source.poll()
        monkeypatch.setattr(Elsewhere, "peer", LOCAL[name])
        assert not await w.source.poll()
        assert "resolved to another machine before" in str(w.source.health()["last_error"])
        assert len(w.upstream.requests) == 1
        assert len(w.store.topic) == len(RECORDS)
        monkeypatch.setattr(Elsewhere, "peer", ("203.0.113.9", 80))
        assert await w.source.poll()

    with world(auth=TOKEN) as w:
        asyncio.run(story(w))


def test_a_local_api_stays_local() -> None:
    async def story(w: World) -> None:
        for _ in range(3):
            w.upstream.script = [records(*RECORDS)]
            assert await w.source.poll()

    with world() as w:
        asyncio.run(story(w))
