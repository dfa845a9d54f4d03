"""GET /metrics of a running pipeline: the whole catalogue, on every listener, for admins."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import urllib3
from prometheus_client.parser import text_string_to_metric_families

from litejoin.runtime.metrics.catalogue import ARCHIVE, CATALOGUE
from tests.harness.configs import Listener, http_sink, push_config, sse_sink
from tests.harness.fixtures import Launcher
from tests.harness.ingest import IngestClient, message
from tests.harness.scripted import Reply, Upstream, WebhookReceiver
from tests.harness.sse import Subscriber
from tests.harness.waiting import eventually

ELSEWHERE = {
    "litejoin_source_messages_total",
    "litejoin_source_bad_messages_total",
    "litejoin_source_lag_messages",
    "litejoin_source_partitions",
    "litejoin_source_stopped_partitions",
    "litejoin_source_broker_errors_total",
    *(metric.name for metric in ARCHIVE),
    "litejoin_replication_up",
    "litejoin_replication_behind_seconds",
    "litejoin_replication_restarts_total",
}
"""Need a broker, an archive (tests/e2e/test_archive_cloud.py) or a replica
(tests/faults/test_process_replication.py)."""

LABELS = {metric.name: metric.labels for metric in CATALOGUE}
Sample = Mapping[tuple[str, ...], float]


def scrape(url: str, token: str = "") -> dict[str, Sample]:
    """Values by metric and labels."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    answer = urllib3.request("GET", f"{url}/metrics", headers=headers, retries=False, timeout=10)
    assert answer.status == 200, answer.data
    assert answer.headers["content-type"].startswith("text/plain; version=")
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(answer.data.decode()):
        assert family.documentation
        for sample in family.samples:
            labels = tuple(sample.labels[name] for name in LABELS[sample.name])
            values = found.setdefault(sample.name, {})
            assert labels not in values
            values[labels] = sample.value
    return found


def whole_config(
    push: Listener, stream: Listener, upstream: Upstream, hook: WebhookReceiver
) -> dict[str, Any]:
    """A pipeline in which every kind of part counts something."""
    config = push_config(
        push,
        {"j": {"query": "SELECT key, payload FROM orders", "sinks": ["hook", "out"]}},
        topics=["orders"],
        sinks=[http_sink(hook.url), sse_sink(stream)],
        delivery={"guarantee": "at_least_once", "dlq": {"retry_interval": "20ms"}},
    )
    api = {"url": upstream.url, "interval": "50ms", "key_path": "id", "retry": {"max_attempts": 1}}
    config["sources"].append({"name": "feed", "type": "api", "topic": "items", "api": api})
    config["windows"] = [
        {"name": "w", "type": "tumbling", "topic": "orders", "size": "1h", "sink": "out",
         "query": "SELECT count(*) AS n FROM orders"}
    ]  # fmt: skip
    return config


def test_every_part_counts(launch: Launcher) -> None:
    push, stream = Listener(), Listener()
    with Upstream([{"id": 1}, {"id": 2}]) as upstream, WebhookReceiver() as hook:
        hook.then(Reply(500))
        throttled = Reply(429, headers={"Retry-After": "3600"})
        launch(whole_config(push, stream, upstream, hook), push.health)

        def see(done: Callable[[dict[str, Sample]], bool]) -> dict[str, Sample]:
            seen: dict[str, Sample] = {}

            def look() -> bool:
                seen.clear()
                seen.update(scrape(push.url))
                return done(seen)

            eventually(look, timeout_s=30)
            return seen

        with IngestClient(push.url) as client, Subscriber(stream.url, "j"):
            client.send([message("orders", "o1", {"n": 1}), message("orders", "o2", {"n": 2})])
            assert client.request("POST", "/ingest", b"{").status == 400
            found = see(lambda m: m["litejoin_sink_delivered_total"]["hook",] == 2)
            assert found["litejoin_sink_retries_total"]["hook",] >= 1
            assert found["litejoin_sink_failed_attempts_total"]["hook",] == 1
            assert found["litejoin_ingest_requests_total"]["in",] == 1
            assert found["litejoin_ingest_rows_total"]["in",] == 2
            assert found["litejoin_ingest_bytes_total"]["in",] > 40
            assert found["litejoin_ingest_rejected_total"] == {("in", "LJ-ROW"): 1}
            assert found["litejoin_join_results_total"]["j",] == 2
            assert found["litejoin_sse_clients"]["out",] == 1
            see(lambda m: m["litejoin_sse_events_total"]["out",] == 2)
        upstream.serve([{"id": 1, "v": 1}])
        see(lambda m: m["litejoin_source_changes_total"]["feed", "updated"] == 1)
        upstream.always(throttled)
        found = see(lambda m: "litejoin_source_throttled_until_timestamp_seconds" in m)
        assert found["litejoin_source_changes_total"] == {
            ("feed", "created"): 2, ("feed", "updated"): 1, ("feed", "deleted"): 0
        }  # fmt: skip
        assert found["litejoin_source_polls_total"]["feed",] >= 2
        assert set(found) == {metric.name for metric in CATALOGUE} - ELSEWHERE
        assert found["litejoin_storage_bytes"]["state.db",] > 0
        assert scrape(stream.url).keys() == found.keys()


def test_metrics_need_the_admin_scope(launch: Launcher) -> None:
    at = Listener()
    tokens = [{"token": f"token-of-{scope}", "scopes": [scope]} for scope in ("admin", "ingest")]
    config = push_config(at, {"j": "SELECT key FROM orders"}, server={"auth": {"tokens": tokens}})
    launch(config, at.health)
    assert scrape(at.url, "token-of-admin")["litejoin_up"] == {(): 1.0}
    for token, status in (("", 401), ("token-of-ingest", 403), ("token-of-nobody", 401)):
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        answer = urllib3.request("GET", f"{at.url}/metrics", headers=headers, retries=False)
        assert answer.status == status
        assert "code" in json.loads(answer.data)


@pytest.mark.parametrize(("row_cache", "hits", "misses"), [("1MB", 10, 0), (0, 0, 10)])
def test_the_row_cache_is_as_large_as_the_config_says(
    launch: Launcher, row_cache: str | int, hits: int, misses: int
) -> None:
    """Ten orders of one user, who is in the cache since he was written."""
    at = Listener()
    query = (
        "SELECT o.key, u.payload AS u FROM orders o JOIN users u ON u.key = o.payload ->> 'user'"
    )
    config = push_config(
        at, {"j": query}, topics=["orders", "users"], storage={"row_cache": row_cache}
    )
    launch(config, at.health)
    with IngestClient(at.url) as client, Subscriber(at.url, "j") as subscriber:
        client.send([message("users", "u", {"n": 1})])
        for number in range(10):
            client.send([message("orders", f"o{number}", {"user": "u"})])
            subscriber.wait_results(number + 1)
        found = scrape(at.url)
    assert found["litejoin_row_cache_lookups_total"] == {("hit",): hits, ("miss",): misses}
    assert (found["litejoin_row_cache_bytes"][()] > 0) == (hits > 0)
