"""GET /snapshot with a `from` older than retention: results over archived rows, too."""

import json
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest
import urllib3

from tests.e2e.test_archive import HOUR_S, children, health, tiered
from tests.harness.fixtures import Launcher
from tests.harness.ingest import IngestClient, message
from tests.harness.ports import free_port
from tests.harness.process import LITEJOIN, Pipeline
from tests.harness.sse import snapshot
from tests.harness.waiting import eventually

QUERY = (
    "SELECT o.key AS id, u.payload ->> '$.name' AS name, o.payload ->> '$.n' AS n"
    " FROM orders o JOIN users u ON o.payload ->> '$.user' = u.key"
)
COUNT = "SELECT payload ->> '$.user' AS user, count(*) AS orders FROM orders GROUP BY 1"


@pytest.fixture
def pipeline(launch: Launcher) -> Iterator[Pipeline]:
    """Orders 0..9 are archived, 10..14 are hot; users stay."""
    port = free_port()
    config = tiered(port)
    config["sources"][0]["topics"] = ["orders", "users"]
    config["topics"] = {"users": {"retention": "10000h"}}
    config["joins"] = [
        {"name": "named", "query": QUERY, "sink": "live"},
        {"name": "counted", "query": COUNT, "sink": "live"},
        {"name": "dialled", "query": "SELECT key FROM users", "sink": "live"},
    ]
    url = f"http://127.0.0.1:{port}"
    pipeline = launch(config, f"{url}/health")
    now_s = int(time.time())
    with IngestClient(url) as client:
        client.send([message("users", f"u{n}", {"name": f"N{n}"}, now_s - 9 * HOUR_S)
                     for n in range(3)])  # fmt: skip
        client.send([order(n, now_s - (4 if n < 5 else 2) * HOUR_S) for n in range(10)])
        eventually(lambda: health(pipeline).get("archive", {}).get("rows") == 10, 30)
        client.send([order(n, now_s) for n in range(10, 15)])
    eventually(lambda: len(snapshot(url).results) == 5 + 3 + 3)
    yield pipeline


def order(number: int, at_s: int) -> dict[str, Any]:
    return message("orders", f"o{number}", {"user": f"u{number % 3}", "n": number}, at_s)


def ask(pipeline: Pipeline, query: str) -> tuple[list[dict[str, Any]], dict[str, str]]:
    url = pipeline.health_url.replace("/health", f"/snapshot?{query}")
    answer = urllib3.request("GET", url, retries=False, timeout=60)
    assert answer.status == 200, answer.data
    return json.loads(answer.data), {k.lower(): v for k, v in answer.headers.items()}


def ids(results: list[dict[str, Any]]) -> list[str]:
    return sorted(result["key"] for result in results)


def test_results_of_expired_rows_come_back(pipeline: Pipeline) -> None:
    now_s = int(time.time())
    recent, _ = ask(pipeline, f"join=named&from={now_s - HOUR_S // 2}")
    assert ids(recent) == sorted(f"o{n}" for n in range(10, 15))
    results, headers = ask(pipeline, f"join=named&from={now_s - 5 * HOUR_S}")
    assert ids(results) == sorted(f"o{n}" for n in range(15))
    assert "litejoin-position" in headers
    by_key = {result["key"]: result for result in results}
    assert by_key["o7"] == {
        "query": "named", "key": "o7", "rows": [{"id": "o7", "name": "N1", "n": 7}],
        "emit_at": by_key["o7"]["emit_at"], "op": "upsert", "archived": True,
    }  # fmt: skip
    # A result that is still current is the one that was delivered.
    (current,) = [result for result in recent if result["key"] == "o12"]
    assert by_key["o12"] == current


def test_from_and_to_bound_when_results_changed(pipeline: Pipeline) -> None:
    now_s = int(time.time())
    results, _ = ask(pipeline, f"join=named&from={now_s - 3 * HOUR_S}")
    assert ids(results) == sorted(f"o{n}" for n in range(5, 15))
    span = f"from={now_s - 5 * HOUR_S}&to={now_s - 3 * HOUR_S}"
    assert ids(ask(pipeline, f"join=named&{span}")[0]) == sorted(f"o{n}" for n in range(5))


def test_a_row_that_was_deleted_since_is_not_among_them(pipeline: Pipeline) -> None:
    now_s = int(time.time())
    with IngestClient(pipeline.health_url.removesuffix("/health")) as client:
        client.send([message("orders", f"o{n}", None) for n in (3, 12)])
    eventually(lambda: "o12" not in ids(ask(pipeline, f"join=named&from={now_s}")[0]))
    left = sorted(f"o{n}" for n in range(15) if n not in (3, 12))
    assert ids(ask(pipeline, f"join=named&from={now_s - 5 * HOUR_S}")[0]) == left
    command = [
        *LITEJOIN,
        "query",
        "SELECT key FROM orders",
        "-c",
        pipeline.file,
        "--format",
        "json",
    ]
    answer = subprocess.run(command, cwd=pipeline.work_dir, check=True, capture_output=True)
    assert sorted(row["key"] for row in json.loads(answer.stdout)) == left
    # It was there then.
    span = f"from={now_s - 5 * HOUR_S}&to={now_s - 3 * HOUR_S}"
    assert "o3" in ids(ask(pipeline, f"join=named&{span}")[0])


def test_groups_are_counted_over_all_rows(pipeline: Pipeline) -> None:
    now_s = int(time.time())
    results, _ = ask(pipeline, f"join=counted&from={now_s - 5 * HOUR_S}&keys=u0,u1,nobody")
    assert {r["key"]: r["rows"][0]["orders"] for r in results} == {"u0": 5, "u1": 5}


def test_joins_whose_rows_are_kept_are_answered_as_ever(pipeline: Pipeline) -> None:
    now_s = int(time.time())
    assert len(ask(pipeline, f"join=dialled&from={now_s - 5 * HOUR_S}")[0]) == 3
    before = children(pipeline)
    everything, headers = ask(pipeline, f"join=*&from={now_s - 5 * HOUR_S}")
    assert len(everything) == 15 + 3 + 3
    assert "litejoin-truncated" not in headers
    assert len(children(pipeline)) == len(before) + 1
    some, headers = ask(pipeline, f"join=*&from={now_s - 5 * HOUR_S}&limit=7")
    assert len(some) == 7
    assert headers["litejoin-truncated"] == "true"
    assert pipeline.stop() == 0


def test_a_damaged_file_is_an_error_and_no_partial_answer(pipeline: Pipeline) -> None:
    (file, *_) = (pipeline.work_dir / "data/archive").glob("t*/*/*.parquet")
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    url = pipeline.health_url.replace("/health", f"/snapshot?join=named&from={time.time() - 20000}")
    answer = urllib3.request("GET", url, retries=False)
    assert answer.status == 500
    assert b"not what was written" in answer.data
    pipeline.assert_running()
