"""What operators set up around a pipeline: tokens, TLS, retention, JSON logs, compressed pushes."""

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
import urllib3
import zstandard

from tests.harness.configs import Listener, push_config, sse_sink
from tests.harness.fixtures import Launcher
from tests.harness.ingest import IngestClient, message
from tests.harness.process import LITEJOIN
from tests.harness.sse import Subscriber, snapshot
from tests.harness.waiting import eventually, never

CERTIFICATE = Path(__file__).resolve().parents[1] / "unit" / "runtime" / "localhost.pem"
ROWS = {"rows": "SELECT key, payload FROM t"}


def test_each_token_opens_what_its_scopes_say(launch: Launcher) -> None:
    at = Listener()
    tokens = [
        {"token": "${PUSHER}", "scopes": ["ingest"]},
        {"token": "reader-token", "scopes": ["subscribe"]},
        "master-token",
    ]
    config = push_config(at, ROWS, server={"auth": {"tokens": tokens}})
    pipeline = launch(config, at.health, env={"PUSHER": "pusher-token"})

    def statuses(token: str) -> list[int]:
        with IngestClient(at.url, token=token) as client:
            return [
                client.offer(message("t", "k", 1)).status,
                client.get("/snapshot?join=*").status,
            ]

    assert statuses("pusher-token") == [200, 403]
    assert statuses("reader-token") == [403, 200]
    assert statuses("master-token") == [200, 200]
    assert statuses("") == statuses("master-toke") == statuses("${PUSHER}") == [401, 401]
    with IngestClient(at.url) as anyone, IngestClient(at.url, token="master-token") as admin:
        assert set(anyone.get("/health").body) <= {"status", "version"}
        assert "sinks" in admin.get("/health").body
    assert "pusher-token" not in pipeline.output()
    assert "master-token" not in pipeline.output()


def test_every_listener_speaks_tls(tmp_path: Path, launch: Launcher) -> None:
    at = Listener()
    files = {"cert_file": str(CERTIFICATE), "key_file": str(CERTIFICATE)}
    config = push_config(at, ROWS, server={"tls": files})
    pipeline = launch.prepare(config).spawn()
    url = f"https://localhost:{at.port}"
    with urllib3.PoolManager(ca_certs=str(CERTIFICATE), retries=False, timeout=5) as trusting:

        def healthy() -> bool:
            pipeline.assert_running()
            try:
                return trusting.request("GET", f"{url}/health").status == 200
            except urllib3.exceptions.HTTPError:
                return False

        eventually(healthy, 20)
        body = json.dumps(message("t", "k", 1)).encode()
        headers = {"Content-Type": "application/json"}
        assert trusting.request("POST", f"{url}/ingest", body=body, headers=headers).status == 200
        eventually(lambda: trusting.request("GET", f"{url}/snapshot?join=rows").json() != [])
    with (
        urllib3.PoolManager(retries=False, timeout=5) as plain,
        pytest.raises(urllib3.exceptions.HTTPError),
    ):
        plain.request("GET", at.health)
    assert pipeline.stop() == 0


def test_rows_expire_and_their_results_are_deleted(launch: Launcher) -> None:
    at = Listener()
    joins = ROWS | {"kept": "SELECT key, payload FROM stays"}
    config = push_config(at, joins, topics=["t", "stays"], retention={"clean_interval": "100ms"})
    launch(config | {"topics": {"t": {"retention": "1s"}}}, at.health)
    with IngestClient(at.url) as client:
        client.send([message("t", "old", 1), message("stays", "old", 1)])
        eventually(lambda: keys(at, "rows") == {"old"})
        eventually(lambda: keys(at, "rows") == set())
        client.send(message("t", "new", 2))
        eventually(lambda: keys(at, "rows") == {"new"})
    never(lambda: keys(at, "kept") != {"old"}, 0.2)


def keys(at: Listener, join: str) -> set[str]:
    return {str(result["key"]) for result in snapshot(at.url, join).results}


def test_json_logs_are_one_object_a_line_with_the_same_text(launch: Launcher) -> None:
    at = Listener()
    pipeline = launch(push_config(at, ROWS), at.health, args=["--log-format", "json"])
    with IngestClient(at.url) as client:
        client.send(message("t", "k", 1))
    assert pipeline.stop() == 0
    lines: list[dict[str, Any]] = [json.loads(line) for line in pipeline.log().splitlines()]
    assert all({"time", "level", "logger", "msg"} <= set(line) for line in lines)
    texts = [line["msg"] for line in lines]
    assert any(text.startswith("http: listening on") for text in texts)
    assert texts[-1] == "litejoin: stopped"
    assert pipeline.errors() == ""


def test_a_zstd_body_is_taken_and_a_bomb_is_not(launch: Launcher) -> None:
    at = Listener()
    launch(push_config(at, ROWS), at.health)
    good = json.dumps([message("t", f"k{n}", n) for n in range(500)]).encode()
    with IngestClient(at.url) as client:
        answer = client.post(zstandard.compress(good), Content_Encoding="zstd")
        assert (answer.status, answer.body) == (200, {"accepted": 500})
        bomb = zstandard.compress(b" " * (64 << 20))
        assert client.post(bomb, Content_Encoding="zstd").status == 413
    eventually(lambda: len(snapshot(at.url, "rows").results) == 500)


def test_health_names_each_sse_sink(launch: Launcher) -> None:
    at, other = Listener(), Listener()
    sinks = [sse_sink(at, "live"), sse_sink(at, "board"), sse_sink(other, "far")]
    launch(push_config(at, {"rows": "SELECT key, payload FROM t"}, sinks=sinks), at.health)
    with IngestClient(at.url) as client, Subscriber(at.url, "rows"):
        eventually(lambda: client.get("/health").body["sinks"]["live"]["clients"] == 1)
        shown = client.get("/health").body["sinks"]
    assert shown["board"] == {"status": "ok", "served_with": "live"}
    assert (shown["far"]["status"], shown["far"]["clients"]) == ("ok", 0)


@pytest.mark.parametrize(("redirected", "said"), [
    (">&-", ""),
    ("> /dev/full", "litejoin: the log cannot be written: No space left on device\n"),
])  # fmt: skip
def test_a_pipeline_goes_on_without_its_log(launch: Launcher, redirected: str, said: str) -> None:
    at = Listener()
    run = f"exec {shlex.join(LITEJOIN)} run -c pipeline.yaml {redirected}"
    pipeline = launch(push_config(at, ROWS), at.health, command=("sh", "-c", run))
    with IngestClient(at.url) as client:
        client.send([message("t", "k", 1)])
    eventually(lambda: len(snapshot(at.url, "rows").results) == 1)
    assert pipeline.stop() == 0
    assert (pipeline.log(), pipeline.errors()) == ("", said)
