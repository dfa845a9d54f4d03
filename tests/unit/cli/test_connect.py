"""`validate --connect`: a line for every source and sink, against sockets of this machine."""

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from litejoin.cli import main as cli
from litejoin.cli.connect import probe
from litejoin.cli.probes import Probe
from litejoin.config import load_config
from tests.harness.broker import Broker

JOIN = "joins:\n  - {name: j, query: SELECT key FROM orders, sink: out}\n"
OUT = "sinks:\n  - {name: out, type: stdout}\n"


class Upstream(BaseHTTPRequestHandler):
    """Answers /STATUS with that status, and with 200 what carries the right credentials."""

    seen: list[str] = []

    def do_GET(self) -> None:
        self.seen.append(self.path)
        status = int(self.path.strip("/").partition("?")[0] or "200")
        if "Bearer good-token" in self.headers.get("Authorization", "") or "k=good" in self.path:
            status = 200
        self.send_response(status)
        self.send_header("Location", "/200")
        self.end_headers()
        self.wfile.write(b"[]")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def upstream() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def closed() -> Iterator[str]:
    """An address where nothing listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"


def probes(text: str) -> list[Probe]:
    document, findings = load_config(text, env={"TOKEN": "good-token", "BAD": "bad-token"})
    assert document is not None, findings
    assert [finding for finding in findings if finding.level == "error"] == []
    return probe(document)


def api(url: str, more: str = "") -> str:
    block = f"{{url: '{url}', interval: 30s, key_path: id{more}}}"
    return f"sources:\n  - {{name: orders, type: api, topic: orders, api: {block}}}\n" + JOIN + OUT


def sink(text: str) -> str:
    push = "{name: push, type: http, topics: [orders], config: {addr: '127.0.0.1:1'}}"
    return f"sources:\n  - {push}\n{JOIN}sinks:\n  - {{name: out, {text}}}\n"


@pytest.mark.parametrize(
    ("path", "more", "level", "told"),
    [
        ("200", "", "ok", ": 200 in "),
        ("304", "", "ok", ": 304 in "),
        ("302", "", "warn", "redirects are not followed"),
        ("401", "", "fail", "not authorized"),
        ("404", "", "fail", ": 404 in "),
        ("429", "", "warn", "it may work later"),
        ("503", "", "warn", "it may work later"),
        ("401", ", headers: {Authorization: 'Bearer ${TOKEN}'}", "ok", ": 200"),
        ("401", ", auth: {type: bearer, token: '${TOKEN}'}", "ok", ": 200"),
        ("401", ", auth: {type: bearer, token: '${BAD}'}", "fail", "not authorized"),
        ("401", ", params: {k: good}", "ok", ": 200"),
        ("401", ", auth: {type: api_key, name: k, value: good-key, in: query}", "ok", ": 200"),
        ("401", ", auth: {type: jwt, key: '${TOKEN}'}", "warn", "jwt is not tried"),
        ("404", ", method: POST", "ok", "POST is not tried"),
    ],
)
def test_an_api_source_is_fetched_once(
    upstream: str, path: str, more: str, level: str, told: str
) -> None:
    source, out = probes(api(f"http://{upstream}/{path}", more))
    assert (source.level, source.subject) == (level, "source orders")
    assert told in source.text
    assert "good-token" not in source.text and "bad-token" not in source.text
    assert out == Probe("ok", "sink out", "standard output")


def test_a_redirect_is_not_followed(upstream: str) -> None:
    Upstream.seen.clear()
    probes(api(f"http://{upstream}/302"))
    assert Upstream.seen == ["/302"]


def test_what_does_not_answer_fails_with_the_reason(upstream: str, closed: str) -> None:
    assert probes(api(f"http://{closed}/"))[0] == Probe(
        "fail", "source orders", f"http://{closed}/: connection refused"
    )
    tls = probes(api(f"https://{upstream}/"))[0]
    assert tls.level == "fail" and "TLS failed" in tls.text
    missing = probes(api(f"https://{upstream}/", ", tls: {ca_file: /nowhere/ca.pem}"))[0]
    assert missing.level == "fail" and "no such file" in missing.text
    device = probes(api(f"https://{upstream}/", ", tls: {ca_file: /dev/zero}"))[0]
    assert device.level == "fail" and "it is a device, not a file" in device.text


def test_secrets_in_urls_are_not_shown(closed: str) -> None:
    shown = probes(api(f"http://user:hunter22hunter@{closed}/?token=hunter22hunter"))[0]
    assert shown.level == "fail"
    assert "hunter22" not in shown.text


def test_sinks_are_reached_and_nothing_is_sent(upstream: str, closed: str) -> None:
    Upstream.seen.clear()
    good = probes(sink(f"type: http, config: {{url: 'http://{upstream}/hook'}}"))[1]
    bad = probes(sink(f"type: http, config: {{url: 'http://{closed}/hook'}}"))[1]
    assert (good.level, bad.level) == ("ok", "fail")
    assert Upstream.seen == []


def test_brokers_and_databases(upstream: str, closed: str) -> None:
    def kafka(brokers: str) -> str:
        return sink(f"type: kafka, config: {{brokers: '{brokers}', topic: t}}")

    found = probes(kafka(upstream))[1]
    assert found.level == "fail" and "do not answer a client" in found.text
    assert probes(kafka(f"{closed},{upstream}"))[1].level == "warn"
    assert probes(kafka(closed))[1].level == "fail"
    broker = Broker()
    try:
        found = probes(kafka(broker.brokers))[1]
        assert found.level == "warn" and "no topic t" in found.text
        broker.create("t")
        assert probes(kafka(broker.brokers))[1].level == "ok"
    finally:
        broker.close()
    host, port = closed.split(":")
    for dsn in (f"postgres://u:hunter22hunter@{closed}/db", f"host={host} port={port}"):
        found = probes(sink(f"type: postgres, config: {{dsn: '{dsn}', table: t}}"))[1]
        assert (found.level, found.text) == ("fail", f"{closed}: connection refused")


def test_files(tmp_path: Path) -> None:
    def sqlite(path: Path) -> Probe:
        return probes(sink(f"type: sqlite, config: {{path: '{path}'}}"))[1]

    assert sqlite(tmp_path / "a.db").level == "ok"
    assert sqlite(tmp_path / "none/a.db").level == "warn"
    assert sqlite(tmp_path).level == "fail"
    assert list(tmp_path.iterdir()) == [], "a probe creates nothing"


def test_listeners(upstream: str) -> None:
    taken = probes(sink(f"type: sse, config: {{addr: '{upstream}'}}"))[1]
    assert taken.level == "warn" and "address already in use" in taken.text


def test_the_command_prints_a_line_each_and_fails_with_a_probe(
    tmp_path: Path, upstream: str, closed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad, broken = (tmp_path / name for name in ("good.yaml", "bad.yaml", "broken.yaml"))
    good.write_text(api(f"http://{upstream}/200"))
    bad.write_text(api(f"http://{closed}/"))
    broken.write_text("sources: 1\n")
    assert cli.main(["validate", "--connect", str(good)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("no findings in 1 file\nok    source orders  GET http://")
    assert out.endswith("ok    sink out       standard output\n")
    assert cli.main(["validate", str(bad), "--connect", "--format", "json", str(good)]) == 1
    out, err = capsys.readouterr()
    assert out == "[]\n"
    assert err.splitlines()[0].startswith(f"{bad}: fail  source orders  ")
    assert cli.main(["validate", "--connect", str(broken)]) == 1
    assert "not probed: the config has errors" in capsys.readouterr().out
    warned = tmp_path / "warned.yaml"
    warned.write_text(api(f"http://{upstream}/503"))
    assert cli.main(["validate", "--connect", str(warned)]) == 0
    assert cli.main(["validate", "--connect", str(warned), "--deny-warnings"]) == 1
