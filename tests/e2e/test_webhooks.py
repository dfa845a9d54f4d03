"""Webhooks into a pipeline: over restarts, and signed by the http sink of another one."""

import json
import time
from typing import Any

from litejoin.signatures import signature
from tests.harness.configs import Listener, http_sink, push_config, sse_sink
from tests.harness.fixtures import Launcher
from tests.harness.ingest import IngestClient, message
from tests.harness.waiting import eventually

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def hook_config(at: Listener, join: str, key_path: Any, topics: list[str]) -> dict[str, Any]:
    """A pipeline that takes signed webhooks and asks everybody else for a token."""
    webhook = {"key_path": key_path, "secret": "${HOOK_SECRET}"}
    source = {"name": "hook", "type": "http", "topics": topics}
    return {
        "server": {"addr": at.addr, "auth": {"tokens": ["a-reader-token"]}},
        "sources": [source | {"config": {"addr": at.addr, "webhook": webhook}}],
        "joins": [{"name": "rows", "query": join, "sink": "out"}],
        "sinks": [sse_sink(at)],
    }


def rows_of(at: Listener) -> dict[str, Any]:
    """The rows of the join by key."""
    with IngestClient(at.url, token="a-reader-token") as reader:
        results = reader.get("/snapshot?join=rows").body
    return {result["key"]: result["rows"] for result in results if result["rows"]}


def test_results_of_one_pipeline_are_signed_rows_of_the_next(launch: Launcher) -> None:
    first, second = Listener(), Listener()
    query = "SELECT key, payload ->> '$.rows[0].n' AS n, payload ->> '$.op' AS op FROM totals"
    launch(
        hook_config(second, query, ["query", "key"], ["totals"]),
        second.health,
        env={"HOOK_SECRET": SECRET},
    )
    hook = http_sink(f"{second.url}/ingest/totals", secret="${HOOK_SECRET}")
    joins = {"orders": "SELECT key, payload ->> '$.n' AS n FROM t"}
    config = push_config(first, joins, topics=["t"], sinks=[hook])
    pipeline = launch(config, first.health, env={"HOOK_SECRET": SECRET})
    with IngestClient(first.url) as client:
        client.send([message("t", f"k{i}", {"n": i}) for i in range(50)])
        client.send(message("t", "k7", {"n": 700}))
        client.send(message("t", "k8", None))

    def expected() -> dict[str, tuple[int | None, str]]:
        found = {f"orders:k{i}": (i, "upsert") for i in range(50)}
        return found | {"orders:k7": (700, "upsert"), "orders:k8": (None, "delete")}

    def delivered() -> dict[str, tuple[int | None, str]]:
        return {key: (rows[0]["n"], rows[0]["op"]) for key, rows in rows_of(second).items()}

    eventually(lambda: delivered() == expected())
    assert SECRET not in pipeline.output()


def test_a_webhook_that_comes_again_after_kill_9_changes_nothing(launch: Launcher) -> None:
    at = Listener()
    config = hook_config(at, "SELECT key, payload FROM orders", "id", [])
    pipeline = launch(config, at.health, env={"HOOK_SECRET": SECRET.removeprefix("whsec_")})

    def offer(event: str, payload: dict[str, Any], key: str = "") -> int:
        body, sent_s = json.dumps(payload).encode(), str(int(time.time()))
        secret = key or SECRET.removeprefix("whsec_")
        made = signature((secret.encode(),), event.encode(), sent_s.encode(), body).decode()
        fields = {"webhook-id": event, "webhook-timestamp": sent_s, "webhook-signature": made}
        with IngestClient(at.url) as client:
            return client.request("POST", "/ingest/orders", body, fields).status

    old, new = {"id": 1, "state": "old"}, {"id": 1, "state": "new"}
    assert [offer("e1", old), offer("e2", new), offer("e1", old)] == [200, 200, 200]
    assert offer("e3", new, "a forged secret") == 401
    pipeline.restart()
    assert [offer("e1", old), offer("e1", new)] == [200, 422]
    eventually(lambda: rows_of(at)["1"][0]["payload"] == json.dumps(new))
    with IngestClient(at.url) as client:
        assert client.offer(message("orders", "1", {})).status == 404  # rows have no path here
