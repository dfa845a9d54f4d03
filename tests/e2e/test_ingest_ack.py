"""What `POST /ingest` accepts, and what its ack means (semantics 1)."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.harness.configs import Listener, push_config
from tests.harness.fixtures import Launcher
from tests.harness.ingest import IngestClient, gzipped, message
from tests.harness.sse import snapshot
from tests.harness.waiting import eventually, never

AT = Listener()
NDJSON = "application/x-ndjson"


@pytest.fixture(scope="module", autouse=True)
def pipeline(launch_shared: Launcher) -> None:
    joins = {"rows": "SELECT key, payload, timestamp, timestamp_ms, op FROM t"}
    launch_shared(push_config(AT, joins, storage={"shard_count": 4}), AT.health)


@pytest.fixture
def client() -> Iterator[IngestClient]:
    with IngestClient(AT.url) as made:
        yield made


def row(key: str) -> dict[str, Any] | None:
    """The row of topic t with this key, None when there is none."""
    answer = snapshot(AT.url, "rows", keys=key)
    assert answer.status == 200, answer
    return answer.results[0]["rows"][0] if answer.results else None


def payload(key: str) -> Any:
    return json.loads(eventually(lambda: row(key))["payload"])


def test_one_object_is_accepted(client: IngestClient) -> None:
    client.send(message("t", "object", {"amount": 45.0}, as_text=True))
    assert payload("object") == {"amount": 45.0}


def test_an_array_is_accepted_and_the_last_message_of_a_key_wins(client: IngestClient) -> None:
    client.send([message("t", "a1", 1), message("t", "a2", [2]), message("t", "a1", {"n": 3})])
    assert payload("a1") == {"n": 3}
    assert payload("a2") == [2]


def test_ndjson_is_accepted(client: IngestClient) -> None:
    rows = [message("t", f"nd{i}", {"i": i}) for i in range(3)]
    body = "\n".join(json.dumps(r) for r in rows).encode() + b"\n"
    answer = client.post(body, content_type=NDJSON)
    assert (answer.status, answer.body["accepted"]) == (200, 3)
    assert payload("nd2") == {"i": 2}


def test_ndjson_with_windows_line_ends_and_blank_lines_is_accepted(client: IngestClient) -> None:
    lines = [json.dumps(message("t", f"crlf{i}", i)).encode() for i in range(2)]
    answer = client.post(b"\r\n\r\n".join(lines) + b"\r\n\n", content_type=NDJSON)
    assert (answer.status, answer.body["accepted"]) == (200, 2)
    assert payload("crlf1") == 1


@pytest.mark.parametrize("content_type", ["application/json", NDJSON])
def test_gzip_bodies_are_accepted(client: IngestClient, content_type: str) -> None:
    body = gzipped(json.dumps(message("t", f"gz-{content_type}", {"z": 1})).encode())
    answer = client.post(body, content_type=content_type, Content_Encoding="gzip")
    assert (answer.status, answer.body["accepted"]) == (200, 1)
    assert payload(f"gz-{content_type}") == {"z": 1}


def test_chunked_bodies_are_accepted(client: IngestClient) -> None:
    body = json.dumps(message("t", "chunked", {"c": "x" * 100_000})).encode()
    answer = client.post(body[i : i + 7000] for i in range(0, len(body), 7000))
    assert (answer.status, answer.body["accepted"]) == (200, 1)
    assert payload("chunked") == {"c": "x" * 100_000}


def test_a_post_by_curl_without_a_json_content_type_is_accepted(client: IngestClient) -> None:
    body = json.dumps(message("t", "curl", 1)).encode()
    answer = client.post(body, content_type="application/x-www-form-urlencoded")
    assert answer.status == 200, answer
    assert payload("curl") == 1


@pytest.mark.parametrize(
    "key", ["ü", "\U0001f600", "O'Hara", 'q"q', "a/b?c&d", " ", "\u0001", "k" * 512]
)
def test_any_text_is_a_key(client: IngestClient, key: str) -> None:
    client.send(message("t", key, {"key": key}))
    assert payload(key) == {"key": key}


@pytest.mark.parametrize(
    "text",
    [
        '{"n": 18446744073709551616,  "e":1e400}',
        '{"a":1,"a":2}',
        '{"pi":3.14159265358979323846264338327950288}',
        '"\\u00fc\\ud83d\\ude00"',
        " [1 , 2.0]",
        "-0.0",
        "true",
        '{"": {"": [[], {}]}}',
    ],
)
def test_payload_text_is_kept_byte_for_byte(client: IngestClient, text: str) -> None:
    as_text, as_value = f"text {text.encode().hex()}", f"value {text.encode().hex()}"  # no commas
    client.send({"topic": "t", "key": as_text, "payload": text})
    assert eventually(lambda: row(as_text))["payload"].strip() == text.strip()
    if not text.startswith('"'):  # in place, a JSON string is the original's form: JSON text
        body = f'{{"topic": "t", "key": "{as_value}", "payload":{text.strip()}}}'
        assert client.post(body.encode()).status == 200
        assert eventually(lambda: row(as_value))["payload"] == text.strip()


def test_a_null_payload_deletes(client: IngestClient) -> None:
    client.send(message("t", "gone", {"x": 1}))
    eventually(lambda: row("gone"))
    client.send(message("t", "gone", None))
    eventually(lambda: row("gone") is None)
    client.send(message("t", "never-there", None))
    never(lambda: row("never-there"), 0.1)


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        (1_700_000_000, 1_700_000_000),
        ("2023-11-14T22:13:20Z", 1_700_000_000),
        ("2023-11-14T23:13:20+01:00", 1_700_000_000),
        ("2023-11-14T22:13:20.750Z", 1_700_000_000),
    ],
)
def test_a_message_may_bring_its_timestamp(client: IngestClient, given: Any, seconds: int) -> None:
    client.send(message("t", f"time-{given}", 1, given))
    assert eventually(lambda: row(f"time-{given}"))["timestamp"] == seconds


def test_without_a_timestamp_the_time_of_ingestion_counts(client: IngestClient) -> None:
    client.send(message("t", "now", 1))
    found = eventually(lambda: row("now"))
    assert found["timestamp"] == found["timestamp_ms"] // 1000
    assert abs(found["timestamp"] - time.time()) < 60


def test_op_tells_created_from_updated(client: IngestClient) -> None:
    client.send(message("t", "op", 1))
    assert eventually(lambda: row("op"))["op"] == "created"
    client.send(message("t", "op", 2))
    eventually(lambda: (row("op") or {})["op"] == "updated")


def test_an_open_source_creates_topics_as_they_come(client: IngestClient) -> None:
    client.send([message(f"brand.new-{i}", "k", i) for i in range(20)])


def test_the_same_idempotency_key_gives_the_same_answer_once(client: IngestClient) -> None:
    body = json.dumps([message("t", "idem", {"v": 1})]).encode()
    first = client.post(body, Idempotency_Key="key-1")
    client.send(message("t", "idem", {"v": 2}))
    again = client.post(body, Idempotency_Key="key-1")
    assert (first.status, first.body) == (again.status, again.body) == (200, {"accepted": 1})
    eventually(lambda: payload("idem") == {"v": 2})
    never(lambda: payload("idem") != {"v": 2}, 0.1)


def test_an_idempotency_key_with_another_body_is_refused(client: IngestClient) -> None:
    assert client.offer(message("t", "idem2", 1), Idempotency_Key="key-2").status == 200
    answer = client.offer(message("t", "idem2", 2), Idempotency_Key="key-2")
    assert answer.status == 422
    assert "key-2" in answer.refusal() or "dempotency" in answer.refusal()
    never(lambda: payload("idem2") != 1, 0.1)


def test_health_says_ok(client: IngestClient) -> None:
    answer = client.get("/health")
    assert (answer.status, answer.body["status"]) == (200, "ok")
