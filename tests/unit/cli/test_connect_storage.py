"""`validate --connect`: where copies of the data go, against an object store of this machine."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from litejoin.cli import connect_storage
from litejoin.cli.connect import probe
from litejoin.cli.probes import Probe
from litejoin.config import load_config
from litejoin.errors import ConfigError
from tests.harness.object_stores import StoreServer

BASE = """\
sources: [{name: push, type: http, topics: [orders], config: {addr: '127.0.0.1:1'}}]
joins: [{name: j, query: SELECT key FROM orders, sink: out}]
sinks: [{name: out, type: stdout}]
"""
NOBODY = "127.0.0.1:1"


@pytest.fixture(scope="module")
def store() -> Iterator[StoreServer]:
    server = StoreServer("s3")
    yield server
    server.stop()


def last(text: str, folder: Path) -> Probe:
    """What is told of the config's last part; the data directory stays as it was."""
    at = f"storage.data_dir={folder / 'data'}"
    document, findings = load_config(BASE + text, env={}, sets=[at])
    assert document is not None, findings
    assert [finding for finding in findings if finding.level == "error"] == []
    found = probe(document)
    assert len(found) == 3
    assert not (folder / "data").exists()
    return found[-1]


def archive(cloud: dict[str, object], folder: Path) -> Probe:
    return last(f"storage: {{archive: {{enabled: true, cloud: {json.dumps(cloud)}}}}}\n", folder)


def replica(mode: str, url: str, folder: Path) -> Probe:
    text = f"replication: {{enabled: true, mode: {mode}, replica_url: '{url}'}}\n"
    return last(text, folder)


def test_the_archives_bucket_is_read_and_not_written(store: StoreServer, tmp_path: Path) -> None:
    before = len(store.calls)
    found = archive(store.config, tmp_path)
    assert (found.level, found.subject) == ("ok", "archive")
    assert "can be read" in found.text
    assert [method for method, _ in store.calls[before:]] == ["GET"]


def test_a_bucket_that_is_not_there_fails(store: StoreServer, tmp_path: Path) -> None:
    found = archive({**store.config, "bucket": "nobodys"}, tmp_path)
    assert found.level == "fail" and found.text.endswith(": there is no such bucket")
    assert "very-secret-key" not in found.text


def test_a_store_that_does_not_answer_fails_at_once(store: StoreServer, tmp_path: Path) -> None:
    found = archive({**store.config, "endpoint": f"http://{NOBODY}"}, tmp_path)
    assert found.level == "fail" and NOBODY in found.text


def test_what_is_off_is_not_probed() -> None:
    document, _ = load_config(BASE + "storage: {archive: {cloud: {bucket: b}}}\n", env={})
    assert document is not None
    assert [each.subject for each in probe(document)] == ["source push", "sink out"]


@pytest.mark.parametrize("mode", ["sidecar", "embedded"])
def test_a_replica_in_a_directory(mode: str, tmp_path: Path) -> None:
    there, later, file = tmp_path / "replica", tmp_path / "a/b", tmp_path / "file"
    there.mkdir()
    file.touch()
    assert replica(mode, f"file://{there}", tmp_path) == Probe(
        "ok", "replica", f"{there} can be written"
    )
    assert replica(mode, f"file://{later}", tmp_path).text == f"{later} can be created"
    assert replica(mode, f"file://{file}/x", tmp_path).level == "fail"
    assert not later.exists()


def test_a_replica_in_a_bucket_is_asked(
    store: StoreServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "very-secret-key")
    bucket = store.config["bucket"]
    url = f"s3://{bucket}/shop?endpoint={store.endpoint}&region=us-east-1&force-path-style=true"
    found = replica("embedded", url, tmp_path)
    assert found == Probe("ok", "replica", f"s3://{bucket}/shop answers and has no replica")
    found = replica("embedded", url.replace(store.endpoint, f"http://{NOBODY}"), tmp_path)
    assert found.level == "fail"
    assert "very-secret-key" not in found.text


def test_a_sidecars_credentials_may_be_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connect_storage, "has_credentials", lambda url: False)
    found = replica("sidecar", "s3://b/shop", tmp_path)
    assert found.level == "warn" and "no credentials" in found.text


@pytest.mark.parametrize(("mode", "level"), [("sidecar", "warn"), ("embedded", "fail")])
def test_litestream_must_be_where_litejoin_starts_it(
    mode: str, level: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> Path:
        raise ConfigError("replication needs the program litestream", hint="pip install it")

    monkeypatch.setattr(connect_storage, "require_litestream", missing)
    found = replica(mode, "s3://b/shop", tmp_path)
    assert (found.level, found.subject) == (level, "replica")
    assert "needs the program litestream (pip install it)" in found.text
