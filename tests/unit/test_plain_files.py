"""Nothing waits for a pipe or a device where a file should be: each opener says what it found."""

import os
import re
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from litejoin.archive.cloud import CloudSettings, ObjectStore
from litejoin.delivery.ledger import Ledger
from litejoin.errors import ConfigError, SinkError, StartRefusedError
from litejoin.kafka import connection_options
from litejoin.plain_files import check_plain, read_plain
from litejoin.plan.nodes import ClientTls, KafkaSecurity, Secret
from litejoin.plan.nodes_api import ApiTlsPlan
from litejoin.runtime.sockets import tls_context
from litejoin.sinks.http import poster
from litejoin.sources.api.source import network
from tests.unit.config.test_interpolate import load
from tests.unit.sinks.test_http import plan as sink_plan
from tests.unit.sources.api_world import PLAN

PEM = Path(__file__).parent / "runtime" / "localhost.pem"


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "pipe")
    return tmp_path / "pipe"


def test_what_is_no_file_is_told_apart(tmp_path: Path, pipe: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        for path, kind in ((pipe, "a pipe"), (Path("/dev/zero"), "a device"),
                           (tmp_path / "socket", "a socket")):  # fmt: skip
            for opener in (check_plain, lambda path: read_plain(path, 9)):
                with pytest.raises(OSError, match=f"it is {kind}, not a file"):
                    opener(path)
    (tmp_path / "link").symlink_to(pipe)
    with pytest.raises(OSError, match="a pipe"):
        check_plain(None, tmp_path / "none", tmp_path, tmp_path / "link")


def test_files_pass(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"0123456789")
    check_plain(tmp_path / "file", str(tmp_path), tmp_path / "none", None)
    assert read_plain(tmp_path / "file", 4) == b"0123"
    assert read_plain(str(tmp_path / "file"), 99) == b"0123456789"
    with pytest.raises(FileNotFoundError):
        read_plain(tmp_path / "none", 4)
    with pytest.raises(IsADirectoryError):
        read_plain(tmp_path, 4)


def webhook(**tls: Path) -> None:
    poster.tls_context(sink_plan("https://h/", tls=ClientTls(**tls)))  # type: ignore[arg-type]


def api(**tls: str) -> None:
    network(replace(PLAN, tls=ApiTlsPlan(**tls)))  # type: ignore[arg-type]


def brokers(pipe: Path) -> None:
    connection_options("b:1", KafkaSecurity("ssl", "", "", Secret(""), pipe))


def cloud(pipe: Path) -> None:
    ObjectStore(CloudSettings("gcs", "b", "", "", "", {"service_account": str(pipe)}))


OPENERS: dict[str, tuple[type[Exception], Callable[[Path], object]]] = {
    "server.tls": (StartRefusedError, lambda pipe: tls_context(pipe, None)),
    "the key of server.tls": (StartRefusedError, lambda pipe: tls_context(PEM, pipe)),
    "a webhook's authority": (SinkError, lambda pipe: webhook(ca_file=pipe)),
    "a webhook's key": (SinkError, lambda pipe: webhook(cert_file=PEM, key_file=pipe)),
    "an API's authority": (StartRefusedError, lambda pipe: api(ca_file=str(pipe))),
    "an API's key": (StartRefusedError, lambda pipe: api(cert_file=str(PEM), key_file=str(pipe))),
    "the brokers' authority": (ValueError, brokers),
    "the dead-letter queue": (StartRefusedError, lambda pipe: Ledger(pipe, durable=False)),
    "a service account": (ConfigError, cloud),
}


@pytest.mark.parametrize("what", OPENERS)
def test_no_opener_waits_for_a_pipe(what: str, pipe: Path) -> None:
    error, opener = OPENERS[what]
    with pytest.raises(error, match="it is a pipe, not a file"):
        opener(pipe)


def test_an_expansion_does_not_wait_for_a_pipe(pipe: Path) -> None:
    _, findings = load(f"storage: {{data_dir: '${{file:{pipe}}}'}}\n")
    assert [f.code for f in findings] == ["LJ132"]
    assert re.search(r"cannot read .*/pipe: it is a pipe, not a file", findings[0].message)
